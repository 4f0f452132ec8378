//! System events: the events that Postrider publishes about its own webhooks (`postrider.*`).
//!
//! Invariant: the `event_id` identifies the occurrence, so publishing it twice stores it once.

use crate::model::webhook::Webhook;
use crate::rules::patterns;

use crate::store::command::{EventInput, PartitionCommand, WriteRequest};

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
