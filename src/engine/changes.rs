//! The log's lines about what has changed its state: one for each change, none for an attempt.

use crate::store::{Effects, Noted, Told};

/// Says what a batch changed, after it is durable.
pub fn log(effects: &Effects) {
    for Noted { action, target, request_id, key_id } in &effects.noted {
        tracing::info!(request_id, %key_id, target_id = target, "{action}");
    }
    for Told { webhook_id, delivery, kind, reason } in &effects.told {
        match delivery {
            Some((event_id, delivery_id)) => {
                tracing::warn!(%webhook_id, %event_id, %delivery_id, reason, "{kind}");
            }
            None if *kind == "webhook.recovered" => tracing::info!(%webhook_id, reason, "{kind}"),
            None => tracing::warn!(%webhook_id, reason, "{kind}"),
        }
    }
}
