//! The log of state changes: one line for each change, and none for an attempt.

use crate::store::{AuditLine, Effects, StateChange};

/// Logs the changes of a batch after its commit.
pub fn log(effects: &Effects) {
    for AuditLine { action, target, request_id, key_id } in &effects.audit {
        tracing::info!(request_id, %key_id, target_id = target, "{action}");
    }
    for StateChange { webhook_id, delivery, kind, reason } in &effects.state_changes {
        match delivery {
            Some((event_id, delivery_id)) => {
                tracing::warn!(%webhook_id, %event_id, %delivery_id, reason, "{kind}");
            }
            None if *kind == "webhook.recovered" => tracing::info!(%webhook_id, reason, "{kind}"),
            None => tracing::warn!(%webhook_id, reason, "{kind}"),
        }
    }
}
