//! Dfns: a webhook event is one attempt, and what is not there is left out (docs.dfns.co, "Webhooks").

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::ask::Ask;
use crate::api::auth::{self, Principal};
use crate::api::call::{Call, Reply};
use crate::api::context::Context;
use crate::api::cursor::{self, Kind};
use crate::api::fault::Fault;
use crate::api::media::Body;
use crate::api::native::replays;
use crate::api::params;
use crate::api::route::{Occasion, Route, Verb};
use crate::api::step::{Step, Trial};
use crate::model::{Attempt, Scope, Time, Webhook};
use crate::rules::dfns_id;
use crate::store::{AttemptFacts, AttemptFilter, AttemptQuery, Registry, Window};

use std::sync::Arc;

use super::derived::{self, ok};
use super::{Dialect, change, get};

pub static DIALECT: Dialect = Dialect { name: "dfns", prefix: "/webhooks", routes: ROUTES, identify, render };

static ROUTES: &[Route] = &[
    get("/webhooks", may_read, list, &["limit", "paginationToken"]),
    get("/webhooks/{id}", may_read, read, &[]),
    get("/webhooks/{id}/events", may_read_events, events, &["deliveryFailed", "kind", "limit", "paginationToken"]),
    get("/webhooks/{id}/events/{event}", may_read_events, event, &[]),
    change(Verb::Post, "/webhooks/{id}/ping", may_ping, ping, Body::OptionalJson),
];

/// Rows of a page where `limit` is not given, and at the most.
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;
/// What a ping sends.
const PING_TYPE: &str = "postrider.test";
const PING_DATA: &[u8] = br#"{"test":true}"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookEvent<'a> {
    id: String,
    kind: &'a str,
    date: Time,
    delivery_failed: bool,
    delivery_attempt: u32,
    timestamp_sent: i64,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_date: Option<Time>,
    /// `null` once erased.
    data: Option<&'a RawValue>,
}

impl<'a> WebhookEvent<'a> {
    fn new(facts: &'a AttemptFacts) -> Result<Self, Fault> {
        let attempt = &facts.attempt;
        Ok(WebhookEvent {
            id: dfns_id::event(attempt.id),
            kind: &facts.event.event_type,
            date: facts.event.occurred_at,
            delivery_failed: !attempt.success,
            delivery_attempt: attempt.number,
            timestamp_sent: attempt.signed_at,
            status: status(attempt),
            error: attempt.error.as_deref(),
            retry_of: attempt.retry_of.map(dfns_id::event),
            next_attempt_date: derived::next_retry(attempt, &facts.delivery),
            data: derived::data(facts.data.as_deref())?,
        })
    }
}

/// The status code, or how it ended without one.
fn status(attempt: &Attempt) -> String {
    attempt.status_code.map_or_else(|| attempt.outcome.as_str().to_owned(), |code| code.to_string())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookView<'a> {
    id: String,
    url: &'a str,
    events: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    status: &'static str,
    date_created: Time,
    date_updated: Time,
}

impl<'a> WebhookView<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let events: Vec<&str> = webhook.event_types.iter().map(String::as_str).collect();
        WebhookView {
            id: dfns_id::webhook(webhook.id),
            url: &webhook.url,
            events: if events.is_empty() { vec!["*"] } else { events },
            description: webhook.description.as_deref(),
            status: if derived::is_active(webhook) { "Enabled" } else { "Disabled" },
            date_created: webhook.created_at,
            date_updated: webhook.updated_at,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<T> {
    items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// The webhook in the path: 400 for what is no webhook's id, 404 for one that is not there.
fn in_path(context: &Context<'_>, ask: &Ask<'_>) -> Result<Arc<Webhook>, Fault> {
    let id = dfns_id::parse_webhook(ask.path.get("id")).ok_or_else(|| bad_id("webhookId"))?;
    context.registry.webhook(ask.reach(), id).cloned().ok_or_else(|| Fault::not_found("webhook"))
}

fn bad_id(name: &str) -> Fault {
    Fault::bad_request("invalid_id", format!("{name} is invalid"))
}

/// `limit` and `paginationToken`.
fn window(ask: &Ask<'_>, kind: Kind) -> Result<Window, Fault> {
    let token = |text| cursor::read(kind, text).ok_or_else(|| params::wrong("paginationToken", "is invalid"));
    Ok(Window {
        from: None,
        to: None,
        before: ask.query.text("paginationToken").map(token).transpose()?,
        limit: ask.query.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT) as usize,
    })
}

/// `GET /webhooks/{webhookId}/events/{webhookEventId}`.
fn event(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let id = dfns_id::parse_event(ask.path.get("event")).ok_or_else(|| bad_id("webhookEventId"));
    let (webhook, id) = (in_path(context, ask)?, id?);
    let found = context.store.attempt_facts(ask.reach(), id, context.now)?;
    let found = found.filter(|facts| facts.attempt.webhook_id == webhook.id);
    ok(&WebhookEvent::new(&found.ok_or_else(|| Fault::not_found("webhook event"))?)?)
}

/// `GET /webhooks/{webhookId}/events`.
fn events(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let query = AttemptQuery {
        reach: ask.reach(),
        webhook: Some(in_path(context, ask)?.id),
        delivery: None,
        event: None,
        success: ask.query.boolean("deliveryFailed")?.map(|failed| !failed),
        status: None,
        event_type: ask.query.text("kind").map(str::to_owned),
        status_code: None,
        search: None,
        window: window(ask, Kind::Attempts)?,
    };
    let page = context.store.attempts_facts(&query, &AttemptFilter::default(), context.now)?;
    let items = page.rows.iter().map(WebhookEvent::new).collect::<Result<_, _>>()?;
    ok(&List { items, next_page_token: page.next.map(|next| cursor::write(Kind::Attempts, next)) })
}

/// `GET /webhooks`.
fn list(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let Window { before, limit, .. } = window(ask, Kind::Webhooks)?;
    let after = |webhook: &&Arc<Webhook>| before.is_none_or(|before| webhook.id.as_u128() < before);
    let mut rows: Vec<_> = context.registry.webhooks_within(ask.reach()).filter(after).take(limit + 1).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| more);
    let next_page_token = last.map(|webhook| cursor::write(Kind::Webhooks, webhook.id.as_u128()));
    ok(&List { items: rows.iter().map(|webhook| WebhookView::new(webhook)).collect(), next_page_token })
}

/// `GET /webhooks/{webhookId}`.
fn read(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    ok(&WebhookView::new(&*in_path(context, ask)?))
}

/// `POST /webhooks/{webhookId}/ping`: one signed request now, nothing stored.
fn ping(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    #[derive(Serialize)]
    struct Pong<'a> {
        status: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    let webhook = in_path(context, ask)?;
    ask.no_fields()?;
    if let Some(kept) = replays::kept(context, ask)? {
        return Ok(Step::Reply(kept));
    }
    let give = replays::keeping(ask)?;
    let trial = Trial { webhook, event_type: PING_TYPE.to_owned(), data: Bytes::from_static(PING_DATA) };
    Ok(Step::Test {
        trial: Box::new(trial),
        then: Box::new(move |attempt| {
            let pong = Pong { status: status(&attempt), error: attempt.error.as_deref() };
            Ok(give(Reply::json(StatusCode::OK, &pong)))
        }),
    })
}

/// `Authorization: Bearer`; `X-DFNS-APPID` and the signature of user actions are not looked at.
fn identify(call: &Call, registry: &Registry, now: Time) -> Result<Principal, Fault> {
    auth::by_bearer(call, registry, now)
}

fn may_read(principal: &Principal) -> Result<(), Fault> {
    may(principal, Scope::WebhooksRead, "Webhooks:Read")
}

fn may_read_events(principal: &Principal) -> Result<(), Fault> {
    may(principal, Scope::EventsRead, "Webhooks:Events:Read")
}

fn may_ping(principal: &Principal) -> Result<(), Fault> {
    may(principal, Scope::WebhooksWrite, "Webhooks:Ping")
}

fn may(principal: &Principal, scope: Scope, permission: &str) -> Result<(), Fault> {
    if principal.key.may(scope) {
        return Ok(());
    }
    let name = &principal.key.name;
    Err(Fault::forbidden("scope_missing", format!("{name} is not authorized to perform operation ({permission})")))
}

/// `{error: {message}}`.
fn render(fault: &Fault, _: &Occasion<'_>) -> Reply {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: Message<'a>,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        message: &'a str,
    }
    let message = match fault.status {
        StatusCode::UNAUTHORIZED => "Not Authorized.",
        StatusCode::INTERNAL_SERVER_ERROR => "Internal Server Error",
        _ => &fault.detail,
    };
    Reply::json(fault.status, &Envelope { error: Message { message } })
}
