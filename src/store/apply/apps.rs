//! Creates, changes and removes apps. An app is removed with its webhooks and its keys.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::id::{AppId, KeyId, OrganizationId};
use crate::model::{ApiKey, App, Organization, Webhook};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::{conflict, uid_taken};
use crate::store::apply::operational::{self, Occurrence};
use crate::store::apply::state::StateBatch;
use crate::store::command::{AppChange, AppSettings, Caller, Receipt, Rejection};

/// Name of the app of an organization's operational webhooks.
const OPERATIONAL_APP_NAME: &str = "operational webhooks";

impl StateBatch<'_> {
    pub(super) fn create_app(&mut self, by: Option<&Caller>, new: &AppSettings) -> ApplyResult<Receipt> {
        self.make_app(by, new).map(Receipt::App)
    }

    fn make_app(&mut self, by: Option<&Caller>, new: &AppSettings) -> ApplyResult<App> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        self.check_uid(by.tenant.org, new.uid.as_deref(), None)?;
        self.check_alias(by.tenant.org, new.alias.as_deref(), None)?;
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
            alias: new.alias.clone(),
            portal_ended_at: None,
        };
        self.put_app(&app);
        self.note(
            Some(by),
            AuditSubject::app(&app),
            "app.create",
            &app.id.to_string(),
            json!({ "name": app.name, "uid": app.uid }),
        );
        Ok(app)
    }

    pub(super) fn ensure_app(&mut self, by: Option<&Caller>, new: &AppSettings) -> ApplyResult<Receipt> {
        let tenant = by.ok_or(Rejection::NotFound("organization"))?.tenant;
        let found = new.uid.as_deref().and_then(|uid| self.registry.app_by_uid(tenant.org, uid));
        match found.filter(|app| tenant.covers(app.org_id, app.id)) {
            Some(app) => Ok(Receipt::EnsuredApp { app: App::clone(app), is_new: false }),
            None => Ok(Receipt::EnsuredApp { app: self.make_app(by, new)?, is_new: true }),
        }
    }

    pub(super) fn ensure_operational_app(&mut self, by: Option<&Caller>) -> ApplyResult<Receipt> {
        let tenant = by.ok_or(Rejection::NotFound("organization"))?.tenant;
        let organization = self.registry.organization(tenant.org).filter(|_| tenant.app.is_none()).cloned();
        let organization = organization.ok_or(Rejection::NotFound("organization"))?;
        if let Some(app) = organization.operational_app_id.and_then(|id| self.registry.app(tenant, id)) {
            return Ok(Receipt::EnsuredApp { app: App::clone(app), is_new: false });
        }
        let settings = AppSettings { name: OPERATIONAL_APP_NAME.to_owned(), ..AppSettings::default() };
        let app = self.make_app(by, &settings)?;
        let mut organization = Organization::clone(&organization);
        organization.operational_app_id = Some(app.id);
        self.write_batch.put(Table::Organizations, tables::one(organization.id), &organization);
        self.registry.put_organization(organization);
        Ok(Receipt::EnsuredApp { app, is_new: true })
    }

    fn check_uid(&self, org: OrganizationId, uid: Option<&str>, own: Option<AppId>) -> ApplyResult<()> {
        let holder = uid.and_then(|uid| self.registry.app_by_uid(org, uid));
        if holder.is_some_and(|app| Some(app.id) != own) {
            return Err(uid_taken("another app has this uid"));
        }
        Ok(())
    }

    fn check_alias(&self, org: OrganizationId, alias: Option<&str>, own: Option<AppId>) -> ApplyResult<()> {
        let holder = alias.and_then(|alias| self.registry.app_by_alias(org, alias));
        if holder.is_some_and(|app| Some(app.id) != own) {
            return Err(conflict("alias_taken", "another app has this alias"));
        }
        Ok(())
    }

    /// Ends all portal tokens of an app, and all portal links that exist.
    pub(super) fn end_portal(&mut self, by: Option<&Caller>, id: AppId) -> ApplyResult<Receipt> {
        let mut app = self.app_within(by, id)?;
        let is_token = |key: &&Arc<ApiKey>| key.portal && key.app_id == Some(id);
        let tokens: Vec<KeyId> = self.registry.keys().filter(is_token).map(|key| key.id).collect();
        for key in tokens {
            self.write_batch.remove(Table::Keys, tables::one(key));
            self.registry.remove_key(key);
        }
        app.portal_ended_at = Some(self.inputs.now);
        self.put_app(&app);
        self.note(by, AuditSubject::app(&app), "app.end_portal", &id.to_string(), json!({}));
        Ok(Receipt::Done)
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
        if let Some(alias) = &change.alias {
            self.check_alias(app.org_id, alias.as_deref(), Some(id))?;
            if is_another(app.alias.as_deref(), alias.as_deref()) {
                return Err(conflict("alias_taken", "the app has another alias already"));
            }
            app.alias.clone_from(alias);
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
        let webhooks: Vec<Arc<Webhook>> = self.registry.webhooks_of(id).cloned().collect();
        for webhook in webhooks {
            // The app's own webhooks get no event, because they are removed too.
            self.follow.extend(operational::about(&self.registry, &webhook, Occurrence::Deleted, None));
            self.drop_webhook(webhook.id)?;
        }
        let keys: Vec<KeyId> = self.registry.keys.values().filter(|k| k.app_id == Some(id)).map(|k| k.id).collect();
        for key in keys {
            self.write_batch.remove(Table::Keys, tables::one(key));
            self.registry.remove_key(key);
        }
        for key in self.write_batch.keys(Table::RemovedOfApp, id.as_bytes(), usize::MAX)? {
            self.write_batch.remove(Table::RemovedOfApp, key);
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

/// Whether an alias would take the place of another one, under which a client may know the object.
pub(super) fn is_another(old: Option<&str>, new: Option<&str>) -> bool {
    old.zip(new).is_some_and(|(old, new)| old != new)
}

/// The members that a change of an app sets, for the audit. Metadata may be personal, so the audit shows only that it
/// was set.
fn change_of(change: &AppChange) -> Value {
    let mut members = json!({ "name": change.name, "uid": change.uid });
    if change.metadata.is_some() {
        members["metadata"] = json!("set");
    }
    if let Some(alias) = &change.alias {
        members["alias"] = json!(alias);
    }
    if let Some(rate) = change.throttle_rate_per_s {
        members["throttle_rate_per_s"] = json!(rate);
    }
    members
}
