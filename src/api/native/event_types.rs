//! `GET /v1/event-types`: the types of the events that were received within the retention, and the registered ones.
//!
//! Invariant: names rise from page to page, and none is skipped.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::doc::{doc, ok};
use crate::api::error::ApiError;
use crate::api::params::{LIMIT, Param, ParamValues};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::{EventType, Scope, Time};
use crate::rules::patterns;
use crate::store::{EventTypeCount, EventTypePage};

use super::registered_types::{DefinitionView, is_shown};
use super::routes::get;
use super::stats::narrowed;
use super::webhooks::APP_ID;

pub const EVENT_TYPES: Route = get(
    "/v1/event-types",
    Needs(Scope::EventsRead, list),
    doc(
        "listEventTypes",
        "events",
        "List the event types that were seen within the retention, with counts of 24 hours, and the registered ones",
        &[ok::<EventTypeListView>("By name.")],
    ),
)
.with_query(FILTERS);

const CURSOR: Param = Param::new("cursor", ParamValues::EventType, "The `next_cursor` of the page before.");
const REGISTERED: Param =
    Param::new("registered", ParamValues::Boolean, "`true`: only registered types; `false`: only types that are not.");
const FILTERS: &[Param] = &[APP_ID, REGISTERED, LIMIT, CURSOR];

/// A type of events that were received, or that is registered.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeRow")]
struct EventTypeView<'a> {
    r#type: &'a str,
    /// Events of the last 24 hours.
    last_24h_events: u64,
    /// The minute of the latest event. Null for a registered type of which no event is kept.
    last_seen: Option<Time>,
    /// The registry's entry. Null for a type that is not registered.
    definition: Option<DefinitionView<'a>>,
}

/// Event types by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeList")]
pub struct EventTypeListView<'a> {
    data: Vec<EventTypeView<'a>>,
    next_cursor: Option<String>,
    /// In a store of an earlier version: types that were seen only before this time are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    indexed_from: Option<Time>,
}

/// The sightings and the registration of one name.
#[derive(Default, Clone, Copy)]
struct KnownType<'a> {
    seen: Option<&'a EventTypeCount>,
    registered: Option<&'a EventType>,
}

impl<'a> EventTypeView<'a> {
    fn new(name: &'a str, known: KnownType<'a>) -> Self {
        EventTypeView {
            r#type: name,
            last_24h_events: known.seen.map_or(0, |seen| seen.last_24h),
            last_seen: known.seen.map(|seen| seen.last_seen),
            definition: known.registered.map(DefinitionView::new),
        }
    }
}

/// Up to `limit` names of both lists, and the last one if more follow. `seen` may end early, behind `seen.next`.
fn merged<'a>(
    seen: &'a EventTypePage,
    registered: &[&'a EventType],
    limit: usize,
) -> (BTreeMap<&'a str, KnownType<'a>>, Option<String>) {
    let mut known: BTreeMap<&str, KnownType<'_>> = BTreeMap::new();
    for row in &seen.rows {
        known.entry(&row.event_type).or_default().seen = Some(row);
    }
    for event_type in registered {
        let name = event_type.definition.name.as_str();
        if seen.next.as_deref().is_none_or(|last| name <= last) {
            known.entry(name).or_default().registered = Some(event_type);
        }
    }
    let has_more = known.len() > limit || seen.next.is_some();
    let known: BTreeMap<_, _> = known.into_iter().take(limit).collect();
    let next = known.last_key_value().map(|(name, _)| (*name).to_owned()).filter(|_| has_more);
    (known, next)
}

/// `GET /v1/event-types`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = narrowed(context, request)?;
    let after = request.query.text(&CURSOR);
    if after.is_some_and(|after| !patterns::is_type(after)) {
        return Err(crate::api::params::wrong(CURSOR.name, "is not the cursor of this list"));
    }
    let (limit, only) = (request.query.limit()?, request.query.boolean(&REGISTERED)?);
    let shown = context.registry.event_types(tenant.org, after).filter(|known| is_shown(request, known));
    let registered: Vec<&EventType> = shown.take(limit + 1).map(|known| &**known).collect();
    let seen = match only {
        Some(true) => {
            let names: Vec<&str> = registered.iter().map(|known| known.definition.name.as_str()).collect();
            let rows = context.store.event_types_named(tenant, &names, context.now)?;
            EventTypePage { rows, next: None, indexed_from: None }
        }
        _ => context.store.event_types(tenant, after, limit, context.now)?,
    };
    let (known, next_cursor) = merged(&seen, &registered, limit);
    let wanted = |known: &KnownType<'_>| only.is_none_or(|only| only == known.registered.is_some());
    let rows = known.into_iter().filter(|(_, known)| wanted(known));
    let view = EventTypeListView {
        data: rows.map(|(name, known)| EventTypeView::new(name, known)).collect(),
        next_cursor,
        indexed_from: seen.indexed_from,
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event_type::EventTypeDefinition;
    use crate::model::{Id, Time};

    fn registered(name: &str) -> EventType {
        let definition = EventTypeDefinition { name: name.to_owned(), ..EventTypeDefinition::default() };
        EventType { org_id: Id::MIN, created_at: Time(1), updated_at: Time(1), definition }
    }

    fn seen(names: &[&str], next: Option<&str>) -> EventTypePage {
        let row = |name: &&str| EventTypeCount { event_type: (*name).to_owned(), last_24h: 1, last_seen: Time(0) };
        EventTypePage { rows: names.iter().map(row).collect(), next: next.map(str::to_owned), indexed_from: None }
    }

    #[test]
    fn no_name_is_skipped_or_shown_twice_where_either_list_ends_early() {
        let types = ["a", "c", "e"].map(registered);
        let all: Vec<&EventType> = types.iter().collect();
        let page = |seen: &EventTypePage, registered: &[&EventType], limit| {
            let (known, next) = merged(seen, registered, limit);
            (known.into_keys().collect::<Vec<_>>().join(","), next)
        };
        assert_eq!(page(&seen(&["b", "c"], None), &all, 10), ("a,b,c,e".to_owned(), None));
        // More seen types follow "c", perhaps "d": "e" is not of this page.
        assert_eq!(page(&seen(&["b", "c"], Some("c")), &all, 2), ("a,b".to_owned(), Some("b".to_owned())));
        assert_eq!(page(&seen(&["b", "c"], Some("c")), &all, 9), ("a,b,c".to_owned(), Some("c".to_owned())));
        assert_eq!(page(&seen(&[], None), &all, 2), ("a,c".to_owned(), Some("c".to_owned())));
        assert_eq!(page(&seen(&[], None), &[], 2), (String::new(), None));
    }
}
