//! Creates and revokes API keys.

use std::sync::Arc;

use serde_json::json;

use crate::model::ApiKey;
use crate::model::id::{KeyId, OrganizationId};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, NewKey, Receipt, Rejection};

/// Maximum number of expired portal tokens that one new token removes.
const EXPIRED_TOKENS_MAX: usize = 100;

impl StateBatch<'_> {
    pub(super) fn create_key(&mut self, by: Option<&Caller>, new: &NewKey) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        if self.registry.keys_by_hash_has(&new.hash) {
            return Err(conflict("key_taken", "this key exists already"));
        }
        if let Some(app) = new.app {
            self.app_within(Some(by), app)
                .map_err(|_| Rejection::Invalid { pointer: "/app_id".into(), detail: "no such app".into() })?;
        }
        if new.portal {
            self.drop_expired_tokens(by.tenant.org);
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

    /// Removes expired portal tokens of an organization. Each new token removes several, so they do not accumulate.
    fn drop_expired_tokens(&mut self, org: OrganizationId) {
        let now = self.inputs.now;
        let is_over = |key: &&Arc<ApiKey>| key.portal && key.org_id == org && key.expired(now);
        let over: Vec<KeyId> =
            self.registry.keys().filter(is_over).take(EXPIRED_TOKENS_MAX).map(|key| key.id).collect();
        for id in over {
            self.write_batch.remove(Table::Keys, tables::one(id));
            self.registry.remove_key(id);
        }
    }

    pub(super) fn write_key(&mut self, org_id: OrganizationId, new: &NewKey) -> ApiKey {
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
            makers: new.makers.clone(),
            feature_flags: new.feature_flags.clone(),
            portal: new.portal,
        };
        self.write_batch.put(Table::Keys, tables::one(key.id), &key);
        self.registry.put_key(key.clone());
        self.effects.registry_changed = true;
        key
    }

    pub(super) fn revoke_key(&mut self, by: Option<&Caller>, id: KeyId) -> ApplyResult<Receipt> {
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
}
