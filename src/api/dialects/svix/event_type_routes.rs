//! The routes of event types.

use crate::api::doc::{answer, done, ok};
use crate::api::media::BodyRule;
use crate::api::route::{Route, RouteMethod};

use super::event_types::{self, SvixEventType};
use super::list::SvixList;
use super::permissions::*;
use super::routes::route;
use super::{docs, query};
use crate::api::dialects::doc::doc;

pub const LIST: Route = route(
    RouteMethod::Get,
    "/api/v1/event-type",
    webhooks_read(event_types::list),
    BodyRule::None,
    doc("svixListEventTypes", "List event types by name", &[ok::<SvixList<SvixEventType>>("A page.")]),
)
.with_query(&[query::LIMIT, query::ITERATOR, query::ORDER, query::INCLUDE_ARCHIVED, query::WITH_CONTENT]);

pub const CREATE: Route = route(
    RouteMethod::Post,
    "/api/v1/event-type",
    org_webhooks_write(event_types::create),
    BodyRule::AnyType,
    doc(
        "svixCreateEventType",
        "Create an event type, or an archived one anew",
        &[answer::<SvixEventType>(201, "The event type.")],
    )
    .takes("SvixEventTypeIn"),
);

pub const GET: Route = route(
    RouteMethod::Get,
    "/api/v1/event-type/{event_type_name}",
    webhooks_read(event_types::get),
    BodyRule::None,
    doc("svixGetEventType", "Read an event type", &[ok::<SvixEventType>("The event type.")]),
)
.with_segments(&[docs::SEG_EVENT_TYPE_NAME]);

pub const REPLACE: Route = route(
    RouteMethod::Put,
    "/api/v1/event-type/{event_type_name}",
    org_webhooks_write(event_types::replace),
    BodyRule::AnyType,
    doc(
        "svixUpdateEventType",
        "Replace an event type, or create it",
        &[ok::<SvixEventType>("The event type."), answer::<SvixEventType>(201, "The new event type.")],
    )
    .takes("SvixEventTypeUpdate"),
)
.with_segments(&[docs::SEG_EVENT_TYPE_NAME]);

pub const PATCH: Route = route(
    RouteMethod::Patch,
    "/api/v1/event-type/{event_type_name}",
    org_webhooks_write(event_types::patch),
    BodyRule::AnyType,
    doc("svixPatchEventType", "Change an event type", &[ok::<SvixEventType>("The event type.")])
        .takes("SvixEventTypePatch"),
)
.with_segments(&[docs::SEG_EVENT_TYPE_NAME]);

pub const REMOVE: Route = route(
    RouteMethod::Delete,
    "/api/v1/event-type/{event_type_name}",
    org_webhooks_write(event_types::remove),
    BodyRule::None,
    doc("svixDeleteEventType", "Archive an event type, or remove it for good", &[done("It is archived or gone.")]),
)
.with_query(&[query::EXPUNGE])
.with_segments(&[docs::SEG_EVENT_TYPE_NAME]);
