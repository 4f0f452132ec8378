//! Creates, changes and removes apps. An app is removed with its webhooks and its keys.

use std::sync::Arc;

use serde_json::json;

use crate::model::App;
use crate::model::id::{AppId, KeyId, OrganizationId, WebhookId};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, Receipt, Rejection};

impl StateBatch<'_> {
    pub(super) fn create_app(&mut self, by: Option<&Caller>, name: &str, uid: Option<&str>) -> ApplyResult<Receipt> {
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

    pub(super) fn update_app(
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
