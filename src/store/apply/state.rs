//! Commands on `state.redb`: organizations, apps, keys, webhooks and jobs, with the audit line of each change.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::model::id::{AppId, EventId, KeyId, OrganizationId, WebhookId};
use crate::model::webhook::{DeliveryOrder, DisabledReason, SigningSecret, Webhook, WebhookState, WebhookStatus};
use crate::model::{ApiKey, App, Organization, Time};
use crate::rules::circuit;

use crate::kv::tables::{self, Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::{ApplyResult, BatchInputs, notice};
use crate::store::command::{Applied, Caller, NewKey, Receipt, Rejection, StateCommand, WriteRequest};
use crate::store::effects::Effects;
use crate::store::idempotency::answers::{AnswerRow, answer_row, check_stored};
use crate::store::partitions::set::PartitionSet;
use crate::store::read::replay_scope::{app_of, job_within};
use crate::store::registry::Registry;

/// Maximum secrets of a webhook that sign at the same time.
const LIVE_SECRETS_MAX: usize = 10;

/// One batch of commands on `state.redb`.
pub struct StateBatch<'a> {
    pub partition_set: &'a PartitionSet,
    /// The registry with the changes of this batch. It is published after the commit.
    pub registry: Registry,
    pub removed: HashMap<WebhookId, Time>,
    pub write_batch: WriteBatch,
    pub inputs: BatchInputs<'a>,
    pub effects: Effects,
    /// Requests that follow from this batch, in other files.
    pub follow: Vec<WriteRequest>,
}

impl StateBatch<'_> {
    pub fn apply(&mut self, write_request: &WriteRequest, command: &StateCommand) -> ApplyResult<Applied> {
        if let Some(idempotency) = &write_request.idempotency {
            let found = self.write_batch.get::<AnswerRow>(Table::StateAnswers, &idempotency.key)?;
            if let Some(applied) = check_stored(self.partition_set, found, idempotency, self.inputs.now)? {
                if idempotency.secret {
                    self.audit_shown_again(write_request.caller.as_ref(), &applied.receipt);
                }
                return Ok(applied);
            }
        }
        let receipt = self.run(write_request.caller.as_ref(), command)?;
        if let Some(idempotency) = &write_request.idempotency {
            let row = answer_row(self.partition_set, idempotency, &receipt, self.inputs.now, self.inputs.nonce());
            self.write_batch.put(Table::StateAnswers, Key::from_slice(&idempotency.key), &row);
        }
        Ok(Applied { receipt, replayed: false, extra: None })
    }

    fn run(&mut self, by: Option<&Caller>, command: &StateCommand) -> ApplyResult<Receipt> {
        match command {
            StateCommand::CreateOrganization { name, key } => self.create_organization(by, name, key),
            StateCommand::CreateApp { name, uid } => self.create_app(by, name, uid.as_deref()),
            StateCommand::UpdateApp { id, name, uid } => self.update_app(by, *id, name.as_deref(), uid.as_ref()),
            StateCommand::RemoveApp { id } => self.remove_app(by, *id),
            StateCommand::CreateKey { key } => self.create_key(by, key),
            StateCommand::RevokeKey { id } => self.revoke_key(by, *id),
            StateCommand::CreateWebhook { webhook } => self.create_webhook(by, webhook),
            StateCommand::UpdateWebhook { webhook } => self.update_webhook(by, webhook),
            StateCommand::RemoveWebhook { id } => self.remove_webhook(by, *id),
            StateCommand::SetStatus { id, status } => self.set_status(by, *id, *status),
            StateCommand::AutoDisable { id, reason, seen_at } => self.auto_disable(*id, *reason, *seen_at),
            StateCommand::RotateSecret { id, secret, overlap_s } => self.rotate_secret(by, *id, secret, *overlap_s),
            StateCommand::ReadSecret { id } => self.read_secret(by, *id),
            StateCommand::CreateJob { spec } => self.create_job(by, spec),
            StateCommand::CancelJob { id } => self.cancel_job(by, *id),
            StateCommand::SaveJob(job) => self.save_job(job),
            StateCommand::Audit(deed) => self.audit_entry(by, deed),
            StateCommand::AcceptClock => self.accept_clock(by),
            StateCommand::StoreAnswer { body } => Ok(Receipt::Kept(body.to_vec())),
        }
    }

    fn create_organization(&mut self, by: Option<&Caller>, name: &str, key: &NewKey) -> ApplyResult<Receipt> {
        let now = self.inputs.now;
        let (org_id, app_id) = (self.inputs.id::<Organization>(), self.inputs.id::<App>());
        let organization = Organization { id: org_id, name: name.to_owned(), default_app_id: app_id, created_at: now };
        let app = App { id: app_id, org_id, name: "default".into(), uid: None, created_at: now, updated_at: now };
        let key = self.write_key(org_id, key);
        self.write_batch.put(Table::Organizations, tables::one(org_id), &organization);
        self.write_batch.put(Table::Apps, tables::one(app_id), &app);
        self.registry.put_organization(organization.clone());
        self.registry.put_app(app.clone());
        let (target, changes) = (org_id.to_string(), json!({ "name": name }));
        // The caller belongs to another organization, so a line goes into that one's audit too.
        if let Some(by) = by {
            self.note(
                Some(by),
                AuditSubject::organization(by.tenant.org),
                "organization.create",
                &target,
                changes.clone(),
            );
        }
        self.note(None, AuditSubject::organization(org_id), "organization.create", &target, changes);
        Ok(Receipt::Organization { organization, app, key })
    }

    fn write_key(&mut self, org_id: OrganizationId, new: &NewKey) -> ApiKey {
        let key = ApiKey {
            id: self.inputs.id(),
            org_id,
            app_id: new.app,
            name: new.name.clone(),
            scopes: new.scopes.clone(),
            hash: new.hash,
            created_at: self.inputs.now,
            expires_at: new.expires_at,
            rate_per_s: new.rate_per_s,
            installation: new.installation,
        };
        self.write_batch.put(Table::Keys, tables::one(key.id), &key);
        self.registry.put_key(key.clone());
        self.effects.registry_changed = true;
        key
    }

    fn create_app(&mut self, by: Option<&Caller>, name: &str, uid: Option<&str>) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        self.check_uid(by.tenant.org, uid, None)?;
        let now = self.inputs.now;
        let uid = uid.map(str::to_owned);
        let app = App {
            id: self.inputs.id(),
            org_id: by.tenant.org,
            name: name.to_owned(),
            uid,
            created_at: now,
            updated_at: now,
        };
        self.put_app(&app);
        self.note(
            Some(by),
            AuditSubject::app(&app),
            "app.create",
            &app.id.to_string(),
            json!({ "name": name, "uid": app.uid }),
        );
        Ok(Receipt::App(app))
    }

    fn check_uid(&self, org: OrganizationId, uid: Option<&str>, own: Option<AppId>) -> ApplyResult<()> {
        let taken = |app: &&Arc<App>| app.org_id == org && app.uid.as_deref() == uid && Some(app.id) != own;
        if uid.is_some() && self.registry.apps.values().any(|app| taken(&app)) {
            return Err(conflict("uid_taken", "another app has this uid"));
        }
        Ok(())
    }

    fn put_app(&mut self, app: &App) {
        self.write_batch.put(Table::Apps, tables::one(app.id), app);
        self.registry.put_app(app.clone());
        self.effects.registry_changed = true;
    }

    fn update_app(
        &mut self,
        by: Option<&Caller>,
        id: AppId,
        name: Option<&str>,
        uid: Option<&Option<String>>,
    ) -> ApplyResult<Receipt> {
        let mut app = self.app_within(by, id)?;
        if let Some(uid) = uid {
            self.check_uid(app.org_id, uid.as_deref(), Some(id))?;
            app.uid.clone_from(uid);
        }
        if let Some(name) = name {
            app.name = name.to_owned();
        }
        app.updated_at = self.inputs.now;
        self.put_app(&app);
        self.note(by, AuditSubject::app(&app), "app.update", &id.to_string(), json!({ "name": name, "uid": uid }));
        Ok(Receipt::App(app))
    }

    fn remove_app(&mut self, by: Option<&Caller>, id: AppId) -> ApplyResult<Receipt> {
        let app = self.app_within(by, id)?;
        if self.registry.organizations.values().any(|o| o.default_app_id == id) {
            return Err(conflict("default_app", "the default app of an organization stays"));
        }
        let webhooks: Vec<WebhookId> = self.registry.webhooks_of(id).map(|w| w.id).collect();
        for webhook in webhooks {
            self.drop_webhook(webhook);
        }
        let keys: Vec<KeyId> = self.registry.keys.values().filter(|k| k.app_id == Some(id)).map(|k| k.id).collect();
        for key in keys {
            self.write_batch.remove(Table::Keys, tables::one(key));
            self.registry.remove_key(key);
        }
        self.write_batch.remove(Table::Apps, tables::one(id));
        self.registry.remove_app(id);
        self.effects.registry_changed = true;
        self.note(by, AuditSubject::app(&app), "app.delete", &id.to_string(), json!({}));
        Ok(Receipt::Done)
    }

    fn app_within(&self, by: Option<&Caller>, id: AppId) -> ApplyResult<App> {
        let found = match by {
            Some(by) => self.registry.app(by.tenant, id),
            None => self.registry.apps.get(&id),
        };
        Ok(App::clone(found.ok_or(Rejection::NotFound("app"))?))
    }

    fn create_key(&mut self, by: Option<&Caller>, new: &NewKey) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        if self.registry.keys_by_hash_has(&new.hash) {
            return Err(conflict("key_taken", "this key exists already"));
        }
        if let Some(app) = new.app {
            self.app_within(Some(by), app)
                .map_err(|_| Rejection::Invalid { pointer: "/app_id".into(), detail: "no such app".into() })?;
        }
        let key = self.write_key(by.tenant.org, new);
        let scopes: Vec<&str> = key.scopes.iter().map(|s| s.as_str()).collect();
        self.note(
            Some(by),
            AuditSubject::key(&key),
            "key.create",
            &key.id.to_string(),
            json!({ "name": key.name, "scopes": scopes }),
        );
        Ok(Receipt::Key(key))
    }

    fn revoke_key(&mut self, by: Option<&Caller>, id: KeyId) -> ApplyResult<Receipt> {
        let visible = |key: &&Arc<ApiKey>| {
            by.is_none_or(|by| key.org_id == by.tenant.org && by.tenant.app.is_none_or(|app| key.app_id == Some(app)))
        };
        let key = self.registry.keys.get(&id).filter(visible).cloned().ok_or(Rejection::NotFound("key"))?;
        self.write_batch.remove(Table::Keys, tables::one(id));
        self.registry.remove_key(id);
        self.effects.registry_changed = true;
        self.note(by, AuditSubject::key(&key), "key.delete", &id.to_string(), json!({ "name": key.name }));
        Ok(Receipt::Done)
    }

    fn create_webhook(&mut self, by: Option<&Caller>, new: &Webhook) -> ApplyResult<Receipt> {
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
        webhook.id = self.inputs.id();
        webhook.org_id = by.tenant.org;
        webhook.created_at = self.inputs.now;
        webhook.updated_at = self.inputs.now;
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
        Ok(Receipt::Webhook(webhook))
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

    fn update_webhook(&mut self, by: Option<&Caller>, new: &Webhook) -> ApplyResult<Receipt> {
        let old = self.webhook_within(by, new.id)?;
        if old.version != new.version {
            return Err(Rejection::Stale.into());
        }
        let mut webhook = Webhook { version: old.version + 1, updated_at: self.inputs.now, ..new.clone() };
        webhook.disabled_reason = match webhook.status {
            WebhookStatus::Disabled if old.status == WebhookStatus::Disabled => {
                old.disabled_reason.or(Some(DisabledReason::Manual))
            }
            WebhookStatus::Disabled => Some(DisabledReason::Manual),
            _ => None,
        };
        let restarted = old.status == WebhookStatus::Disabled && webhook.status != WebhookStatus::Disabled;
        let changes = changed_fields(&old, &webhook);
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
            self.follow.push(notice::about(&webhook, "webhook.disabled", "disabled by hand", &event_id, &[]));
        }
        self.note(by, AuditSubject::webhook(&webhook), "webhook.update", &webhook.id.to_string(), changes);
        Ok(Receipt::Webhook(webhook))
    }

    fn reset_state(&mut self, id: WebhookId) {
        let state = circuit::reset(self.partition_set.webhook_state(id));
        self.put_state(id, state);
    }

    fn put_state(&mut self, id: WebhookId, state: WebhookState) {
        self.write_batch.put(Table::States, tables::one(id), &state);
        self.effects.states.push((id, state));
    }

    fn remove_webhook(&mut self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Receipt> {
        let webhook = self.webhook_within(by, id)?;
        self.drop_webhook(id);
        self.note(
            by,
            AuditSubject::webhook(&webhook),
            "webhook.delete",
            &id.to_string(),
            json!({ "url": webhook.url }),
        );
        Ok(Receipt::Done)
    }

    /// One row: the webhook's deliveries read as cancelled from now on and are rewritten in slices.
    fn drop_webhook(&mut self, id: WebhookId) {
        self.write_batch.remove(Table::Webhooks, tables::one(id));
        self.write_batch.put(Table::Tombstones, tables::one(id), &self.inputs.now);
        self.registry.remove_webhook(id);
        self.removed.insert(id, self.inputs.now);
        self.effects.registry_changed = true;
    }

    fn set_status(&mut self, by: Option<&Caller>, id: WebhookId, status: WebhookStatus) -> ApplyResult<Receipt> {
        let old = self.webhook_within(by, id)?;
        if old.status == WebhookStatus::Disabled {
            return Err(conflict("webhook_disabled", "the webhook is disabled: enable it by PATCH first"));
        }
        if old.status == status {
            return Ok(Receipt::Webhook(old));
        }
        let webhook = Webhook { status, version: old.version + 1, updated_at: self.inputs.now, ..Webhook::clone(&old) };
        let webhook = self.put_webhook(webhook);
        let action = if status == WebhookStatus::Paused { "webhook.pause" } else { "webhook.resume" };
        self.note(by, AuditSubject::webhook(&webhook), action, &id.to_string(), json!({}));
        Ok(Receipt::Webhook(webhook))
    }

    fn auto_disable(&mut self, id: WebhookId, reason: DisabledReason, seen_at: Time) -> ApplyResult<Receipt> {
        let old = self.webhook_within(None, id)?;
        if old.status == WebhookStatus::Disabled || old.updated_at > seen_at {
            return Ok(Receipt::Done);
        }
        let (status, disabled_reason) = (WebhookStatus::Disabled, Some(reason));
        let webhook = Webhook {
            status,
            disabled_reason,
            version: old.version + 1,
            updated_at: self.inputs.now,
            ..Webhook::clone(&old)
        };
        let webhook = self.put_webhook(webhook);
        self.note(
            None,
            AuditSubject::webhook(&webhook),
            "webhook.disable",
            &id.to_string(),
            json!({ "reason": reason }),
        );
        Ok(Receipt::Done)
    }

    fn rotate_secret(
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
        secrets.truncate(LIVE_SECRETS_MAX);
        let webhook = Webhook { secrets, version: old.version + 1, updated_at: now, ..Webhook::clone(&old) };
        let webhook = self.put_webhook(webhook);
        self.note(
            by,
            AuditSubject::webhook(&webhook),
            "webhook.rotate_secret",
            &id.to_string(),
            json!({ "overlap_s": overlap_s }),
        );
        Ok(Receipt::Webhook(webhook))
    }

    fn read_secret(&mut self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Receipt> {
        let webhook = self.webhook_within(by, id)?;
        self.note(by, AuditSubject::webhook(&webhook), "webhook.read_secret", &id.to_string(), json!({}));
        Ok(Receipt::Webhook(webhook))
    }

    fn webhook_within(&self, by: Option<&Caller>, id: WebhookId) -> ApplyResult<Arc<Webhook>> {
        let found = match by {
            Some(by) => self.registry.webhook(by.tenant, id),
            None => self.registry.webhooks.get(&id),
        };
        Ok(found.cloned().ok_or(Rejection::NotFound("webhook"))?)
    }

    fn create_job(&mut self, by: Option<&Caller>, spec: &JobSpec) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        if let Some(id) = spec.webhook {
            self.webhook_within(Some(by), id)?;
        }
        if let Some(id) = spec.app {
            self.app_within(Some(by), id)?;
        }
        let id: JobId = self.inputs.id();
        let about = AuditSubject { org: by.tenant.org, app: app_of(&self.registry, spec) };
        let job = Job {
            id,
            org_id: by.tenant.org,
            spec: spec.clone(),
            status: JobStatus::Running,
            matched: 0,
            created: 0,
            delivered: 0,
            failed: 0,
            created_at: self.inputs.now,
            finished_at: None,
            position: spec
                .from
                .map_or(EventId::MIN, |from| EventId::from_u128(EventId::floor(from).as_u128().saturating_sub(1))),
            end: EventId::from_u128(id.as_u128()),
            exhausted: false,
        };
        self.write_batch.put(Table::Jobs, tables::one(id), &job);
        self.effects.jobs = true;
        self.note(
            Some(by),
            about,
            "replay.create",
            &id.to_string(),
            json!({ "webhook_id": spec.webhook, "app_id": spec.app }),
        );
        Ok(Receipt::Job(Box::new(job)))
    }

    fn cancel_job(&mut self, by: Option<&Caller>, id: JobId) -> ApplyResult<Receipt> {
        let job = self.write_batch.get::<Job>(Table::Jobs, id.as_bytes())?;
        let visible = |job: &Job| by.is_none_or(|by| job_within(&self.registry, by.tenant, job));
        let mut job = job.filter(visible).ok_or(Rejection::NotFound("replay"))?;
        if job.status != JobStatus::Running {
            return Err(conflict("replay_final", "the replay has ended already"));
        }
        job.status = JobStatus::Cancelled;
        job.finished_at = Some(self.inputs.now);
        self.write_batch.put(Table::Jobs, tables::one(id), &job);
        let about = AuditSubject { org: job.org_id, app: app_of(&self.registry, &job.spec) };
        self.note(by, about, "replay.cancel", &id.to_string(), json!({}));
        Ok(Receipt::Job(Box::new(job)))
    }

    fn save_job(&mut self, job: &Job) -> ApplyResult<Receipt> {
        let known = self.write_batch.get::<Job>(Table::Jobs, job.id.as_bytes())?;
        if known.is_some_and(|known| known.status == JobStatus::Running) {
            self.write_batch.put(Table::Jobs, tables::one(job.id), job);
        }
        Ok(Receipt::Done)
    }
}

/// Names of the fields that differ. Values are omitted, because some are secret.
fn changed_fields(old: &Webhook, new: &Webhook) -> serde_json::Value {
    let (Ok(serde_json::Value::Object(old)), Ok(serde_json::Value::Object(new))) =
        (serde_json::to_value(old), serde_json::to_value(new))
    else {
        return json!([]);
    };
    let skipped = ["version", "updated_at", "secrets"];
    new.iter()
        .filter(|(name, value)| old.get(*name) != Some(value) && !skipped.contains(&name.as_str()))
        .map(|(name, _)| name.clone())
        .collect()
}
