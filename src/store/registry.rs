//! The small and long-lived part of the store in memory: organizations, apps, keys and webhooks, as one immutable value.
//!
//! Invariant: a `Registry` never changes. After a commit that changed a row of it, the writer publishes a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::id::{AppId, KeyId, OrganizationId, WebhookId};
use crate::model::webhook::Webhook;
use crate::model::{ApiKey, App, Organization};

use crate::store::command::TenantScope;

#[derive(Debug, Clone, Default)]
pub struct Registry {
    pub(in crate::store) organizations: BTreeMap<OrganizationId, Arc<Organization>>,
    pub(in crate::store) apps: BTreeMap<AppId, Arc<App>>,
    pub(in crate::store) keys: BTreeMap<KeyId, Arc<ApiKey>>,
    pub(in crate::store) webhooks: BTreeMap<WebhookId, Arc<Webhook>>,
    keys_by_hash: HashMap<[u8; 32], KeyId>,
    webhooks_by_app: HashMap<AppId, Vec<WebhookId>>,
}

impl Registry {
    /// The key whose SHA-256 is `hash`, expired or not.
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Option<&Arc<ApiKey>> {
        self.keys.get(self.keys_by_hash.get(hash)?)
    }

    pub fn keys_by_hash_has(&self, hash: &[u8; 32]) -> bool {
        self.keys_by_hash.contains_key(hash)
    }

    pub fn organization(&self, id: OrganizationId) -> Option<&Arc<Organization>> {
        self.organizations.get(&id)
    }

    /// All organizations, oldest first.
    pub fn organizations(&self) -> impl DoubleEndedIterator<Item = &Arc<Organization>> {
        self.organizations.values()
    }

    /// The app of any tenant.
    pub fn app_by_id(&self, id: AppId) -> Option<&Arc<App>> {
        self.apps.get(&id)
    }

    /// All apps, oldest first.
    pub fn apps(&self) -> impl DoubleEndedIterator<Item = &Arc<App>> {
        self.apps.values()
    }

    pub fn key(&self, id: KeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// The webhook of any tenant.
    pub fn webhook_by_id(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.webhooks.get(&id)
    }

    /// All webhooks, oldest first.
    pub fn webhooks(&self) -> impl DoubleEndedIterator<Item = &Arc<Webhook>> {
        self.webhooks.values()
    }

    /// The webhook, if it is within `tenant`.
    pub fn webhook(&self, tenant: TenantScope, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.webhooks.get(&id).filter(|w| tenant.covers(w.org_id, w.app_id))
    }

    /// The app by id, if it is within `tenant`.
    pub fn app(&self, tenant: TenantScope, id: AppId) -> Option<&Arc<App>> {
        self.apps.get(&id).filter(|a| tenant.covers(a.org_id, a.id))
    }

    /// The app by its id or its `uid`, if it is within `tenant`.
    pub fn app_named(&self, tenant: TenantScope, name: &str) -> Option<&Arc<App>> {
        let by_uid = || self.apps.values().find(|a| a.org_id == tenant.org && a.uid.as_deref() == Some(name));
        let app = name.parse().ok().and_then(|id| self.apps.get(&id)).or_else(by_uid)?;
        tenant.covers(app.org_id, app.id).then_some(app)
    }

    /// Webhooks of one app, oldest first.
    pub fn webhooks_of(&self, app: AppId) -> impl Iterator<Item = &Arc<Webhook>> {
        self.webhooks_by_app.get(&app).into_iter().flatten().filter_map(|id| self.webhooks.get(id))
    }

    /// Webhooks within `tenant`, newest first.
    pub fn webhooks_within(&self, tenant: TenantScope) -> impl Iterator<Item = &Arc<Webhook>> {
        self.webhooks.values().rev().filter(move |w| tenant.covers(w.org_id, w.app_id))
    }

    pub fn put_organization(&mut self, organization: Organization) {
        self.organizations.insert(organization.id, Arc::new(organization));
    }

    pub fn put_app(&mut self, app: App) {
        self.apps.insert(app.id, Arc::new(app));
    }

    pub fn remove_app(&mut self, id: AppId) {
        self.apps.remove(&id);
    }

    pub fn put_key(&mut self, key: ApiKey) {
        self.keys_by_hash.insert(key.hash, key.id);
        self.keys.insert(key.id, Arc::new(key));
    }

    pub fn remove_key(&mut self, id: KeyId) {
        if let Some(key) = self.keys.remove(&id) {
            self.keys_by_hash.remove(&key.hash);
        }
    }

    pub fn put_webhook(&mut self, webhook: Arc<Webhook>) {
        let (id, app) = (webhook.id, webhook.app_id);
        if self.webhooks.insert(id, webhook).is_none() {
            let of_app = self.webhooks_by_app.entry(app).or_default();
            of_app.push(id);
            of_app.sort_unstable();
        }
    }

    pub fn remove_webhook(&mut self, id: WebhookId) {
        if let Some(webhook) = self.webhooks.remove(&id)
            && let Some(of_app) = self.webhooks_by_app.get_mut(&webhook.app_id)
        {
            of_app.retain(|other| *other != id);
        }
    }
}
