//! Creates, changes and removes webhooks.
//!
//! Invariant: every change raises the version of the webhook, and its row is sealed.

use std::sync::Arc;

use serde_json::json;

use crate::model::Time;
use crate::model::id::{AppId, WebhookId};
use crate::model::webhook::{DeliveryOrder, DisabledReason, SigningSecret, Webhook, WebhookState, WebhookStatus};
use crate::rules::circuit;

use crate::kv::tables::{self, Table};
use crate::store::apply::apps::is_another;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::{conflict, uid_taken};
use crate::store::apply::operational::{self, Occurrence};
use crate::store::apply::state::StateBatch;
use crate::store::apply::{ApplyResult, ordered_queues, system_events};
use crate::store::command::{Caller, Receipt, Rejection};

/// Maximum secrets of a webhook that sign at the same time: the current one and ten old ones.
const LIVE_SECRETS_MAX: usize = 11;

impl StateBatch<'_> {
    pub(super) fn create_webhook(
        &mut self,
        by: Option<&Caller>,
        new: &Webhook,
        of_app_max: Option<usize>,
    ) -> ApplyResult<Receipt> {
        let mut webhook = new.clone();
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        let organization =
            self.registry.organizations.get(&by.tenant.org).ok_or(Rejection::NotFound("organization"))?;
        if webhook.app_id == AppId::MIN {
            webhook.app_id = by.tenant.app.unwrap_or(organization.default_app_id);
        }
        if self.registry.app(by.tenant, webhook.app_id).is_none() {
            return Err(Rejection::Invalid { pointer: "/app_id".into(), detail: "no such app".into() }.into());
        }
        if let Some(max) = of_app_max
            && self.registry.webhooks_of(webhook.app_id).count() >= max
        {
            let detail = format!("the app has {max} webhooks, which is the most: delete one first");
            return Err(conflict("too_many_webhooks", &detail));
        }
        self.check_webhook_names(&webhook)?;
        webhook.id = self.inputs.id();
        webhook.org_id = by.tenant.org;
        webhook.created_at = self.inputs.now;
        webhook.updated_at = self.inputs.now;
        webhook.status_since = Some(self.inputs.now);
        webhook.disabled_reason = by_hand(webhook.status, webhook.disabled_reason);
        webhook.version = 1;
        for secret in &mut webhook.secrets {
            secret.created_at = self.inputs.now;
        }
        let webhook = self.put_webhook(webhook);
        self.note(
            Some(by),
            AuditSubject::webhook(&webhook),
            "webhook.create",
            &webhook.id.to_string(),
            json!({ "url": webhook.url, "name": webhook.name }),
        );
        self.publish_notice(&webhook, Occurrence::Created, "created");
        Ok(Receipt::Webhook(webhook))
    }

    pub(super) fn update_webhook(&mut self, by: Option<&Caller>, new: &Webhook) -> ApplyResult<Receipt> {
        let old = self.webhook_within(by, new.id)?;
        if old.version != new.version {
            return Err(Rejection::Stale.into());
        }
        self.check_webhook_names(new)?;
        if is_another(old.alias.as_deref(), new.alias.as_deref()) {
            return Err(conflict("alias_taken", "the webhook has another alias already"));
        }
        let mut webhook = Webhook { version: old.version + 1, updated_at: self.inputs.now, ..new.clone() };
        let reason_before = old.disabled_reason.filter(|_| old.status == WebhookStatus::Disabled);
        webhook.disabled_reason = by_hand(webhook.status, reason_before);
        webhook.status_since = if webhook.status == old.status { old.status_since } else { Some(self.inputs.now) };
        let restarted = old.status == WebhookStatus::Disabled && webhook.status != WebhookStatus::Disabled;
        let changes = changed_fields(&old, &webhook);
        if old.ordered != DeliveryOrder::No && webhook.ordered == DeliveryOrder::No {
            self.follow.extend(ordered_queues::dissolve_all(self.partition_set, webhook.id)?);
        }
        if old.ordered != DeliveryOrder::No && webhook.ordered != old.ordered {
            self.effects.due.push((webhook.id, self.inputs.now));
        }
        let webhook = self.put_webhook(webhook);
        // After a new URL, or after enabling, the state of the old configuration does not count.
        if restarted || old.url != webhook.url {
            self.reset_state(webhook.id);
        }
        if old.status != WebhookStatus::Disabled && webhook.status == WebhookStatus::Disabled {
            let event_id = format!("webhook.disabled:{}:by-hand-{}", webhook.id, webhook.version);
            self.follow.push(system_events::about(&webhook, "webhook.disabled", "disabled by hand", &event_id, &[]));
            let manually = Occurrence::Disabled(DisabledReason::Manual, None);
            self.follow.extend(operational::about(&self.registry, &webhook, manually, None));
        }
        self.publish_notice(&webhook, Occurrence::Updated, &format!("changed: {}", names_of(&changes)));
        self.note(by, AuditSubject::webhook(&webhook), "webhook.update", &webhook.id.to_string(), changes);
        Ok(Receipt::Webhook(webhook))
    }

    fn check_webhook_names(&self, webhook: &Webhook) -> ApplyResult<()> {
        let holder = webhook.uid.as_deref().and_then(|uid| self.registry.webhook_by_uid(webhook.app_id, uid));
        if holder.is_some_and(|holder| holder.id != webhook.id) {
            return Err(uid_taken("another webhook of the app has this uid"));
        }
        let holder = webhook.alias.as_deref().and_then(|alias| self.registry.webhook_by_alias(webhook.app_id, alias));
        match holder.is_some_and(|holder| holder.id != webhook.id) {
            true => Err(conflict("alias_taken", "another webhook of the app has this alias")),
            false => Ok(()),
        }
    }

    /// Pauses or resumes. To resume also ends the wait for a probe and the hold by `Retry-After`.
    pub(super) fn set_status(
        &mut self,
        by: Option<&Caller>,
        id: WebhookId,
        status: WebhookStatus,
    ) -> ApplyResult<Receipt> {
        let old = self.webhook_within(by, id)?;
        if old.status == WebhookStatus::Disabled {
            return Err(conflict("webhook_disabled", "the webhook is disabled: enable it first (`status`: `enabled`)"));
        }
        let is_released = status == WebhookStatus::Enabled && self.release(id);
        if old.status == status && !is_released {
            return Ok(Receipt::Webhook(old));
        }
        let is_changed = old.status != status;
        let webhook = if is_changed { self.put_webhook(with_status(&old, status, self.inputs.now)) } else { old };
        if is_changed {
            self.publish_notice(&webhook, Occurrence::Updated, "changed: status");
        }
        let action = if status == WebhookStatus::Paused { "webhook.pause" } else { "webhook.resume" };
        self.note(by, AuditSubject::webhook(&webhook), action, &id.to_string(), json!({}));
        Ok(Receipt::Webhook(webhook))
    }

    pub(super) fn auto_disable(
        &mut self,
        id: WebhookId,
        reason: DisabledReason,
        seen_at: Time,
    ) -> ApplyResult<Receipt> {
        let old = self.webhook_within(None, id)?;
        if old.status == WebhookStatus::Disabled || old.updated_at > seen_at {
            return Ok(Receipt::Done);
        }
        let disabled = with_status(&old, WebhookStatus::Disabled, self.inputs.now);
        let webhook = Webhook { disabled_reason: Some(reason), ..disabled };
        let webhook = self.put_webhook(webhook);
        let since = self.state(id).failing_since;
        let occurrence = Occurrence::Disabled(reason, since);
        self.follow.extend(operational::about(&self.registry, &webhook, occurrence, None));
        self.note(
            None,
            AuditSubject::webhook(&webhook),
            "webhook.disable",
            &id.to_string(),
            json!({ "reason": reason }),
        );
        Ok(Receipt::Done)
    }

    pub(super) fn remove_webhook(&mut self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Receipt> {
        let webhook = self.webhook_within(by, id)?;
        self.drop_webhook(id)?;
        self.write_batch.put(Table::RemovedOfApp, tables::pair(webhook.app_id, id), &self.inputs.now);
        self.publish_notice(&webhook, Occurrence::Deleted, "deleted");
        self.note(
            by,
            AuditSubject::webhook(&webhook),
            "webhook.delete",
            &id.to_string(),
            json!({ "url": webhook.url }),
        );
        Ok(Receipt::Done)
    }

    /// Removes a webhook, and leaves a tombstone. From then on its open deliveries read as cancelled. `CancelRemoved`
    /// rewrites them in slices.
    pub(super) fn drop_webhook(&mut self, id: WebhookId) -> ApplyResult<()> {
        self.forget_consumers(id)?;
        self.write_batch.remove(Table::Webhooks, tables::one(id));
        self.write_batch.put(Table::Tombstones, tables::one(id), &self.inputs.now);
        self.registry.remove_webhook(id);
        self.removed.insert(id, self.inputs.now);
        self.effects.registry_changed = true;
        Ok(())
    }

    pub(super) fn rotate_secret(
        &mut self,
        by: Option<&Caller>,
        id: WebhookId,
        secret: &SigningSecret,
        overlap_s: u32,
    ) -> ApplyResult<Receipt> {
        let old = self.webhook_within(by, id)?;
        let now = self.inputs.now;
        let end = now.plus_ms(i64::from(overlap_s) * 1_000);
        let mut secrets = vec![SigningSecret { text: secret.text.clone(), created_at: now, expires_at: None }];
        for past in old.live_secrets(now).filter(|past| past.text != secret.text) {
            let expires_at = Some(past.expires_at.map_or(end, |own| own.min(end)));
            secrets.push(SigningSecret { expires_at, ..past.clone() });
        }
        secrets.retain(|s| s.expires_at.is_none_or(|end| end > now));
        if secrets.len() > LIVE_SECRETS_MAX {
            let detail = "ten old secrets sign already: wait until one has ended, or end them all with an overlap of 0";
            return Err(conflict("too_many_secrets", detail));
        }
        let webhook = Webhook { secrets, version: old.version + 1, updated_at: now, ..Webhook::clone(&old) };
        let webhook = self.put_webhook(webhook);
        self.publish_notice(&webhook, Occurrence::Updated, "changed: secrets");
        self.note(
            by,
            AuditSubject::webhook(&webhook),
            "webhook.rotate_secret",
            &id.to_string(),
            json!({ "overlap_s": overlap_s }),
        );
        Ok(Receipt::Webhook(webhook))
    }

    pub(super) fn read_secret(&mut self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Receipt> {
        let webhook = self.webhook_within(by, id)?;
        self.note(by, AuditSubject::webhook(&webhook), "webhook.read_secret", &id.to_string(), json!({}));
        Ok(Receipt::Webhook(webhook))
    }

    pub(super) fn webhook_within(&self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Arc<Webhook>> {
        let found = match by {
            Some(by) => self.registry.webhook(by.tenant, id),
            None => self.registry.webhooks.get(&id),
        };
        Ok(found.cloned().ok_or(Rejection::NotFound("webhook"))?)
    }

    /// Publishes that a webhook was created, changed or deleted, where a webhook wants that.
    fn publish_notice(&mut self, webhook: &Webhook, occurrence: Occurrence<'_>, reason: &str) {
        let kind = match occurrence {
            Occurrence::Created => "webhook.created",
            Occurrence::Deleted => "webhook.deleted",
            _ => "webhook.updated",
        };
        let event_id = format!("{kind}:{}:{}", webhook.id, webhook.version);
        self.follow.extend(system_events::about_change(&self.registry, webhook, kind, reason, &event_id));
        self.follow.extend(operational::about(&self.registry, webhook, occurrence, None));
    }

    fn put_webhook(&mut self, webhook: Webhook) -> Arc<Webhook> {
        let plain = rmp_serde::to_vec(&webhook).expect("a webhook always encodes");
        let key = tables::one(webhook.id);
        let sealed = self.partition_set.vault.seal(&key, &plain, self.inputs.nonce());
        self.write_batch.put_bytes(Table::Webhooks, key, &sealed);
        let webhook = Arc::new(webhook);
        self.registry.put_webhook(webhook.clone());
        self.effects.registry_changed = true;
        webhook
    }

    fn reset_state(&mut self, id: WebhookId) {
        let state = circuit::reset(self.state(id));
        self.put_state(id, state);
    }

    /// Ends the holds of a webhook. Returns whether there was one.
    fn release(&mut self, id: WebhookId) -> bool {
        let state = self.state(id);
        let is_held = circuit::held_until(state, self.inputs.now).is_some();
        if is_held {
            self.put_state(id, circuit::released(state));
        }
        is_held
    }

    /// The state of a webhook with the changes of this batch.
    fn state(&self, id: WebhookId) -> WebhookState {
        self.states.get(&id).copied().unwrap_or_else(|| self.partition_set.webhook_state(id))
    }

    fn put_state(&mut self, id: WebhookId, state: WebhookState) {
        self.write_batch.put(Table::States, tables::one(id), &state);
        self.states.insert(id, state);
    }
}

/// The reason of a webhook that a call makes or changes: the one before, or the call. `None` unless it is disabled.
fn by_hand(status: WebhookStatus, before: Option<DisabledReason>) -> Option<DisabledReason> {
    (status == WebhookStatus::Disabled).then(|| before.unwrap_or(DisabledReason::Manual))
}

/// The next version of a webhook, with another status.
fn with_status(old: &Webhook, status: WebhookStatus, now: Time) -> Webhook {
    Webhook { status, status_since: Some(now), version: old.version + 1, updated_at: now, ..old.clone() }
}

/// The names in a list of changed fields, with commas between.
fn names_of(changes: &serde_json::Value) -> String {
    let names = changes.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    names.collect::<Vec<_>>().join(", ")
}

/// Names of the fields that differ. Values are omitted, because some are secret.
fn changed_fields(old: &Webhook, new: &Webhook) -> serde_json::Value {
    let (Ok(serde_json::Value::Object(old)), Ok(serde_json::Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return json!([]);
    };
    let skipped = ["version", "updated_at", "status_since", "secrets"];
    new.iter()
        .filter(|(name, value)| old.get(*name) != Some(value) && !skipped.contains(&name.as_str()))
        .map(|(name, _)| name.clone())
        .collect()
}
