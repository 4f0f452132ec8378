//! System events: the events that Postrider publishes about its own webhooks (`postrider.*`).
//!
//! Invariant: the `event_id` identifies the occurrence, so publishing it twice stores it once.

use crate::model::webhook::{Webhook, WebhookStatus};
use crate::rules::patterns;

use crate::store::command::{EventInput, PartitionCommand, WriteRequest};
use crate::store::registry::Registry;

/// The request that publishes an event of type `postrider.<kind>` about a webhook. `ids` name the other objects
/// concerned.
pub(in crate::store) fn about(
    webhook: &Webhook,
    kind: &str,
    reason: &str,
    event_id: &str,
    ids: &[(&str, String)],
) -> WriteRequest {
    let mut data = serde_json::Map::new();
    data.insert("webhook_id".into(), webhook.id.to_string().into());
    data.insert("webhook_name".into(), webhook.name.clone().into());
    data.insert("url".into(), webhook.url.clone().into());
    data.insert("reason".into(), reason.into());
    for (name, value) in ids {
        data.insert((*name).into(), value.clone().into());
    }
    let event_type = format!("{}{kind}", patterns::SYSTEM_PREFIX);
    let mut event = EventInput::new(event_type, serde_json::Value::Object(data).to_string());
    event.app = Some(webhook.app_id);
    event.attributes.event_id = Some(event_id.to_owned());
    event.attributes.metadata.insert("webhook_id".to_owned(), webhook.id.to_string());
    WriteRequest::internal(PartitionCommand::Publish(vec![event]))
}

/// The request that publishes a change of a webhook, if another webhook of its app wants that.
pub(in crate::store) fn about_change(
    registry: &Registry,
    webhook: &Webhook,
    kind: &str,
    reason: &str,
    event_id: &str,
) -> Option<WriteRequest> {
    let event_type = format!("{}{kind}", patterns::SYSTEM_PREFIX);
    let mut others = registry.webhooks_of(webhook.app_id).filter(|other| other.id != webhook.id);
    others.any(|other| may_want(other, &event_type)).then(|| about(webhook, kind, reason, event_id, &[]))
}

/// Whether a webhook gets events of this type without a channel, if its filter lets them pass.
pub(in crate::store) fn may_want(webhook: &Webhook, event_type: &str) -> bool {
    webhook.status != WebhookStatus::Disabled
        && webhook.channels.is_empty()
        && patterns::wants(&webhook.event_types, event_type)
}
