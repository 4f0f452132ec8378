//! Operational notices: messages in Svix's form about the endpoints and messages of all apps of an organization
//! (docs.svix.com/incoming-webhooks, `server/svix-server/src/core/operational_webhooks.rs` of svix-server 1.100).
//!
//! They are events of the organization's operational app, which only a key of the whole organization reaches.
//!
//! Invariant: a notice is made only if a webhook of that app wants it, and none is made about that app's own webhooks.

use serde_json::{Value, json};

use crate::model::webhook::{DisabledReason, Webhook};
use crate::model::{App, Attempt, Event, Time, ksuid};

use crate::store::apply::system_events::may_want;
use crate::store::command::{EventInput, PartitionCommand, WriteRequest};
use crate::store::registry::Registry;

/// Failed attempts of a message at an endpoint after which `message.attempt.failing` is sent.
pub(in crate::store) const FAILURES_TO_NOTICE: u32 = 4;

/// An occurrence at a webhook.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Occurrence<'a> {
    Created,
    Updated,
    Deleted,
    /// `None` if a caller disabled it. Otherwise the first failure since the last success.
    Disabled(DisabledReason, Option<Time>),
    /// The last attempt of a message failed.
    Exhausted(&'a Attempt),
    /// The fourth attempt of a message failed, and another is planned.
    Failing(&'a Attempt),
    /// A message arrived after four failed attempts.
    Recovered(&'a Attempt),
}

impl<'a> Occurrence<'a> {
    /// Svix's name of the event type.
    pub(in crate::store) fn event_type(self) -> &'static str {
        match self {
            Occurrence::Created => "endpoint.created",
            Occurrence::Updated => "endpoint.updated",
            Occurrence::Deleted => "endpoint.deleted",
            Occurrence::Disabled(..) => "endpoint.disabled",
            Occurrence::Exhausted(_) => "message.attempt.exhausted",
            Occurrence::Failing(_) => "message.attempt.failing",
            Occurrence::Recovered(_) => "message.attempt.recovered",
        }
    }

    fn attempt(self) -> Option<&'a Attempt> {
        match self {
            Occurrence::Exhausted(attempt) | Occurrence::Failing(attempt) | Occurrence::Recovered(attempt) => {
                Some(attempt)
            }
            _ => None,
        }
    }
}

/// The operational app of the webhook's organization, if a webhook of it wants this type.
fn listening_app<'a>(registry: &'a Registry, webhook: &Webhook, event_type: &str) -> Option<&'a App> {
    let id = registry.organization(webhook.org_id)?.operational_app_id?;
    let app = registry.app_by_id(id).filter(|app| app.id != webhook.app_id)?;
    registry.webhooks_of(app.id).any(|one| may_want(one, event_type)).then_some(app.as_ref())
}

/// Whether a webhook wants a notice of the occurrence.
pub(in crate::store) fn is_wanted(registry: &Registry, webhook: &Webhook, occurrence: Occurrence<'_>) -> bool {
    listening_app(registry, webhook, occurrence.event_type()).is_some()
}

/// The request that publishes a notice of an occurrence. `None` if no webhook wants it. `event` is the message of an
/// attempt.
pub(in crate::store) fn about(
    registry: &Registry,
    webhook: &Webhook,
    occurrence: Occurrence<'_>,
    event: Option<&Event>,
) -> Option<WriteRequest> {
    let event_type = occurrence.event_type();
    let app = listening_app(registry, webhook, event_type)?;
    let data = json!({ "type": event_type, "data": data_of(registry, webhook, occurrence, event) });
    let mut input = EventInput::new(event_type.to_owned(), data.to_string());
    input.app = Some(app.id);
    // A name of the occurrence, so that publishing it twice stores it once.
    let name = match occurrence.attempt() {
        Some(attempt) => format!("{event_type}_{}", attempt.id),
        None => format!("{event_type}_{}_{}", webhook.id, webhook.version),
    };
    input.attributes.event_id = Some(name);
    Some(WriteRequest::internal(PartitionCommand::Publish(vec![input])))
}

fn data_of(registry: &Registry, webhook: &Webhook, occurrence: Occurrence<'_>, event: Option<&Event>) -> Value {
    let app = registry.app_by_id(webhook.app_id);
    let mut data = json!({
        "appId": id("app_", webhook.app_id.as_u128()),
        "appUid": app.and_then(|app| app.uid.as_deref()),
        "endpointId": id("ep_", webhook.id.as_u128()),
    });
    match (occurrence, occurrence.attempt()) {
        (_, Some(attempt)) => {
            data["msgId"] = id("msg_", attempt.event_id.as_u128()).into();
            data["msgEventId"] = event.and_then(|event| event.attributes.event_id.as_deref()).into();
            data["lastAttempt"] = json!({
                "id": id("atmpt_", attempt.id.as_u128()),
                "responseStatusCode": attempt.made.status_code.unwrap_or(0),
                "timestamp": attempt.made.started_at.to_string(),
            });
        }
        (occurrence, None) => {
            data["endpointUid"] = webhook.uid.as_deref().into();
            if let Occurrence::Disabled(reason, since) = occurrence {
                data["failSince"] = since.map(|since| since.to_string()).into();
                data["trigger"] = if reason == DisabledReason::Manual { "manual" } else { "automatic" }.into();
            }
        }
    }
    data
}

/// An id as Svix writes it.
fn id(prefix: &str, id: u128) -> String {
    format!("{prefix}{}", ksuid::encode(id))
}
