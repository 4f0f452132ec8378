//! The routes of the poller, and those that erase several messages.

use crate::api::doc::{answer, ok};
use crate::api::media::BodyRule;
use crate::api::route::{Route, RouteMethod};

use super::expunge::{self, SvixExpunged};
use super::permissions::*;
use super::poller::{self, SvixPolled, SvixSought};
use super::routes::route;
use super::tasks::SvixTask;
use super::{docs, query};
use crate::api::dialects::doc::doc;

pub const POLL: Route = route(
    RouteMethod::Get,
    "/api/v1/app/{app_id}/poller/{sink_id}",
    events_read(poller::poll),
    BodyRule::None,
    doc("svixPoll", "Fetch the messages of an endpoint", &[ok::<SvixPolled>("Messages, oldest first.")]),
)
.with_query(&[query::LIMIT, query::ITERATOR, query::EVENT_TYPE, query::CHANNEL, query::AFTER])
.with_segments(&[docs::SEG_APP_ID, docs::SEG_SINK_ID]);

pub const POLL_AS_CONSUMER: Route = route(
    RouteMethod::Get,
    "/api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}",
    events_read(poller::poll_as_consumer),
    BodyRule::None,
    doc(
        "svixPollAsConsumer",
        "Fetch the messages that a consumer has not taken",
        &[ok::<SvixPolled>("Messages, oldest first. `iterator` says that they were taken.")],
    ),
)
.with_query(&[query::LIMIT, query::ITERATOR, query::EVENT_TYPE, query::CHANNEL])
.with_segments(&[docs::SEG_APP_ID, docs::SEG_SINK_ID, docs::SEG_CONSUMER_ID])
.acts();

pub const SEEK: Route = route(
    RouteMethod::Post,
    "/api/v1/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek",
    events_read(poller::seek),
    BodyRule::AnyType,
    doc("svixSeekConsumer", "Set the position of a consumer", &[ok::<SvixSought>("The iterator of the position.")])
        .takes("SvixSeekIn"),
)
.with_segments(&[docs::SEG_APP_ID, docs::SEG_SINK_ID, docs::SEG_CONSUMER_ID]);

pub const EXPUNGE_SOME: Route = route(
    RouteMethod::Post,
    "/api/v1/app/{app_id}/msg/bulk-expunge",
    org_events_write(expunge::some),
    BodyRule::AnyType,
    doc("svixBulkExpunge", "Erase the payloads of some messages", &[ok::<SvixExpunged>("The outcome of each.")])
        .takes("SvixBulkExpungeIn"),
)
.with_segments(&[docs::SEG_APP_ID]);

pub const EXPUNGE_ALL: Route = route(
    RouteMethod::Post,
    "/api/v1/app/{app_id}/msg/expunge-all-contents",
    org_events_write(expunge::all),
    BodyRule::None,
    doc("svixExpungeAllContents", "Erase the payloads of all messages", &[answer::<SvixTask>(202, "It begins.")]),
)
.with_segments(&[docs::SEG_APP_ID]);
