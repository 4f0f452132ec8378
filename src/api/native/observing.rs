//! Routes of the native table that observe the daemon and its attempts.

use crate::api::doc::{AnswerDoc, doc, ok};
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::model::Scope;

use super::routes::get;
use super::{attempt_request, attempt_stream, event_types};
use super::{replication, system};

pub const SYSTEM: Route = get(
    "/v1/system",
    Needs(Scope::Admin, system::read),
    doc(
        "getSystem",
        "daemon",
        "The daemon and its machine: disk, files, queues, commits, followers, clock",
        &[ok::<system::SystemView>("As they are now.")],
    ),
);

pub const REPLICATION: Route = get(
    "/v1/replication",
    Needs(Scope::Replicate, replication::read),
    doc(
        "getReplication",
        "daemon",
        "The owner of the store; with `Upgrade: postrider-replication/1` its stream for a standby",
        &[
            ok::<replication::ReplicationView>("Without `Upgrade`."),
            AnswerDoc {
                status: 101,
                schema: None,
                media_types: &[],
                description: "The connection is the stream. Its frames are for a standby of this version or the next.",
            },
        ],
    ),
)
.with_query(replication::QUERY)
.inline();

pub const ATTEMPTS: Route = get(
    "/v1/attempts",
    Needs(Scope::EventsRead, attempt_stream::list),
    doc(
        "followAttempts",
        "deliveries",
        "Follow attempts to all webhooks in commit order, waiting for new ones",
        &[ok::<attempt_stream::AttemptStreamView>("Consumes nothing: go on from `next_cursor`.")],
    ),
)
.with_query(attempt_stream::FILTERS)
.waits_for_attempts();

pub const ATTEMPT_REQUEST: Route = get(
    "/v1/attempts/{id}/request",
    Needs(Scope::EventsRead, attempt_request::read),
    doc(
        "getAttemptRequest",
        "deliveries",
        "Read the request of an attempt: its headers and its body, rendered again",
        &[ok::<attempt_request::AttemptRequestView>("Credentials are masked.")],
    ),
);

pub const EVENT_TYPES: Route = get(
    "/v1/event-types",
    Needs(Scope::EventsRead, event_types::list),
    doc(
        "listEventTypes",
        "events",
        "List the event types that were seen within the retention, with counts of 24 hours, and the registered ones",
        &[ok::<event_types::EventTypeListView>("By name.")],
    ),
)
.with_query(event_types::FILTERS);
