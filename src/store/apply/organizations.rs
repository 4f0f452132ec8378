//! Creates organizations, each with its default app and its first key.

use serde_json::json;

use crate::model::{App, Organization};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, NewKey, Receipt};

impl StateBatch<'_> {
    pub(super) fn create_organization(
        &mut self,
        by: Option<&Caller>,
        name: &str,
        key: &NewKey,
    ) -> ApplyResult<Receipt> {
        let now = self.inputs.now;
        let (org_id, app_id) = (self.inputs.id::<Organization>(), self.inputs.id::<App>());
        let organization = Organization {
            id: org_id,
            name: name.to_owned(),
            default_app_id: app_id,
            created_at: now,
            revoked_links: Vec::new(),
            operational_app_id: None,
        };
        let app = App {
            id: app_id,
            org_id,
            name: "default".into(),
            uid: None,
            created_at: now,
            updated_at: now,
            metadata: Default::default(),
            throttle_rate_per_s: None,
            alias: None,
            portal_ended_at: None,
        };
        let key = self.write_key(org_id, key);
        self.write_batch.put(Table::Organizations, tables::one(org_id), &organization);
        self.write_batch.put(Table::Apps, tables::one(app_id), &app);
        self.registry.put_organization(organization.clone());
        self.registry.put_app(app.clone());
        let (target, changes) = (org_id.to_string(), json!({ "name": name }));
        // The caller belongs to another organization, whose audit gets a line too.
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
        Ok(Receipt::Organization { organization: Box::new(organization), app: Box::new(app), key: Box::new(key) })
    }
}
