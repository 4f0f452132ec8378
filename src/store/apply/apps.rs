//! Creates, changes and removes apps. An app is removed with its webhooks and its keys.

use serde_json::{Value, json};

use crate::model::App;
use crate::model::id::{AppId, KeyId, OrganizationId, WebhookId};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{AppChange, AppSettings, Caller, Receipt, Rejection};

impl StateBatch<'_> {
    pub(super) fn create_app(&mut self, by: Option<&Caller>, new: &AppSettings) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        self.check_uid(by.tenant.org, new.uid.as_deref(), None)?;
        let now = self.inputs.now;
        let app = App {
            id: self.inputs.id(),
            org_id: by.tenant.org,
            name: new.name.clone(),
            uid: new.uid.clone(),
            created_at: now,
            updated_at: now,
            metadata: new.metadata.clone(),
            throttle_rate_per_s: new.throttle_rate_per_s,
        };
        self.put_app(&app);
        self.note(
            Some(by),
            AuditSubject::app(&app),
            "app.create",
            &app.id.to_string(),
            json!({ "name": app.name, "uid": app.uid }),
        );
        Ok(Receipt::App(app))
    }

    fn check_uid(&self, org: OrganizationId, uid: Option<&str>, own: Option<AppId>) -> ApplyResult<()> {
        let holder = uid.and_then(|uid| self.registry.app_by_uid(org, uid));
        if holder.is_some_and(|app| Some(app.id) != own) {
            return Err(conflict("uid_taken", "another app has this uid"));
        }
        Ok(())
    }

    fn put_app(&mut self, app: &App) {
        self.write_batch.put(Table::Apps, tables::one(app.id), app);
        self.registry.put_app(app.clone());
        self.effects.registry_changed = true;
    }

    pub(super) fn update_app(&mut self, by: Option<&Caller>, id: AppId, change: &AppChange) -> ApplyResult<Receipt> {
        let mut app = self.app_within(by, id)?;
        if let Some(uid) = &change.uid {
            self.check_uid(app.org_id, uid.as_deref(), Some(id))?;
            app.uid.clone_from(uid);
        }
        if let Some(name) = &change.name {
            app.name.clone_from(name);
        }
        if let Some(metadata) = &change.metadata {
            app.metadata.clone_from(metadata);
        }
        if let Some(rate) = change.throttle_rate_per_s {
            app.throttle_rate_per_s = rate;
        }
        app.updated_at = self.inputs.now;
        self.put_app(&app);
        self.note(by, AuditSubject::app(&app), "app.update", &id.to_string(), change_of(change));
        Ok(Receipt::App(app))
    }

    pub(super) fn remove_app(&mut self, by: Option<&Caller>, id: AppId) -> ApplyResult<Receipt> {
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

    pub(super) fn app_within(&self, by: Option<&Caller>, id: AppId) -> ApplyResult<App> {
        let found = match by {
            Some(by) => self.registry.app(by.tenant, id),
            None => self.registry.apps.get(&id),
        };
        Ok(App::clone(found.ok_or(Rejection::NotFound("app"))?))
    }
}

/// The members that a change of an app sets, for the audit. Metadata may be personal, so only its being set is told.
fn change_of(change: &AppChange) -> Value {
    let mut told = json!({ "name": change.name, "uid": change.uid });
    if change.metadata.is_some() {
        told["metadata"] = json!("set");
    }
    if let Some(rate) = change.throttle_rate_per_s {
        told["throttle_rate_per_s"] = json!(rate);
    }
    told
}
