//! The small and long-lived part of the store in memory: organizations, apps, keys and webhooks, as one immutable value.
//!
//! Invariant: a `Registry` never changes. After a commit that changed a row of it, the writer publishes a new one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::id::{AppId, Id, KeyId, OrganizationId, WebhookId};
use crate::model::webhook::Webhook;
use crate::model::{ApiKey, App, EventType, Organization};

use crate::store::command::TenantScope;

/// Organizations, apps, keys, webhooks and registered event types, with their indexes. A copy shares the rows.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    pub(in crate::store) organizations: BTreeMap<OrganizationId, Arc<Organization>>,
    pub(in crate::store) apps: BTreeMap<AppId, Arc<App>>,
    pub(in crate::store) keys: BTreeMap<KeyId, Arc<ApiKey>>,
    pub(in crate::store) webhooks: BTreeMap<WebhookId, Arc<Webhook>>,
    keys_by_hash: HashMap<[u8; 32], KeyId>,
    webhooks_by_app: HashMap<AppId, Vec<WebhookId>>,
    apps_by_uid: Uids<Organization, App>,
    webhooks_by_uid: Uids<App, Webhook>,
    apps_by_alias: Uids<Organization, App>,
    webhooks_by_alias: Uids<App, Webhook>,
    event_types: Arc<HashMap<OrganizationId, BTreeMap<String, Arc<EventType>>>>,
}

impl Registry {
    /// The key whose SHA-256 is `hash`, expired or not.
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Option<&Arc<ApiKey>> {
        self.keys.get(self.keys_by_hash.get(hash)?)
    }

    /// Whether there is a key whose SHA-256 is `hash`, expired or not.
    pub fn keys_by_hash_has(&self, hash: &[u8; 32]) -> bool {
        self.keys_by_hash.contains_key(hash)
    }

    /// The organization with this id.
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

    /// The key of any tenant, expired or not.
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
        let by_uid = || self.app_by_uid(tenant.org, name);
        let app = name.parse().ok().and_then(|id| self.apps.get(&id)).or_else(by_uid)?;
        tenant.covers(app.org_id, app.id).then_some(app)
    }

    /// The app of an organization by its `uid`.
    pub fn app_by_uid(&self, org: OrganizationId, uid: &str) -> Option<&Arc<App>> {
        self.apps.get(self.apps_by_uid.get(&org)?.get(uid)?)
    }

    /// Whether an app is the default one of its organization. A default app cannot be removed.
    pub fn is_default_app(&self, id: AppId) -> bool {
        let organization = self.apps.get(&id).and_then(|app| self.organizations.get(&app.org_id));
        organization.is_some_and(|organization| organization.default_app_id == id)
    }

    /// The app of an organization by its id in the system that it was imported from.
    pub fn app_by_alias(&self, org: OrganizationId, alias: &str) -> Option<&Arc<App>> {
        self.apps.get(self.apps_by_alias.get(&org)?.get(alias)?)
    }

    /// The webhook of an app by its id in the system that it was imported from.
    pub fn webhook_by_alias(&self, app: AppId, alias: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.get(self.webhooks_by_alias.get(&app)?.get(alias)?)
    }

    /// The webhook of an app by its `uid`.
    pub fn webhook_by_uid(&self, app: AppId, uid: &str) -> Option<&Arc<Webhook>> {
        self.webhooks.get(self.webhooks_by_uid.get(&app)?.get(uid)?)
    }

    /// The webhook of an app by its id or its `uid`.
    pub fn webhook_of_app(&self, app: AppId, name: &str) -> Option<&Arc<Webhook>> {
        match name.parse() {
            Ok(id) => self.webhooks.get(&id).filter(|webhook| webhook.app_id == app),
            Err(_) => self.webhook_by_uid(app, name),
        }
    }

    /// The webhook by its id, if it is within `tenant`, or by its `uid` in the tenant's app or the default app.
    pub fn webhook_named(&self, tenant: TenantScope, name: &str) -> Option<&Arc<Webhook>> {
        if let Ok(id) = name.parse() {
            return self.webhook(tenant, id);
        }
        let app = tenant.app.or_else(|| Some(self.organizations.get(&tenant.org)?.default_app_id))?;
        self.webhook_by_uid(app, name)
    }

    /// The registered event type, archived or not.
    pub fn event_type(&self, org: OrganizationId, name: &str) -> Option<&Arc<EventType>> {
        self.event_types.get(&org)?.get(name)
    }

    /// The registered event types of an organization by name, those behind `after`.
    pub fn event_types<'a>(
        &'a self,
        org: OrganizationId,
        after: Option<&'a str>,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<EventType>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let of_org = self.event_types.get(&org).into_iter();
        of_org.flat_map(move |types| types.range::<str, _>((from, Bound::Unbounded))).map(|(_, event_type)| event_type)
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
        let app = Arc::new(app);
        let before = self.apps.insert(app.id, app.clone());
        let before = before.as_deref();
        let uid = before.and_then(|before| before.uid.as_deref());
        if uid != app.uid.as_deref() {
            rename(&mut self.apps_by_uid, app.org_id, uid, app.uid.as_deref(), app.id);
        }
        let alias = before.and_then(|before| before.alias.as_deref());
        if alias != app.alias.as_deref() {
            rename(&mut self.apps_by_alias, app.org_id, alias, app.alias.as_deref(), app.id);
        }
    }

    pub fn remove_app(&mut self, id: AppId) {
        if let Some(app) = self.apps.remove(&id) {
            rename(&mut self.apps_by_uid, app.org_id, app.uid.as_deref(), None, id);
            rename(&mut self.apps_by_alias, app.org_id, app.alias.as_deref(), None, id);
        }
    }

    pub fn put_event_type(&mut self, event_type: EventType) {
        let of_org = Arc::make_mut(&mut self.event_types).entry(event_type.org_id).or_default();
        of_org.insert(event_type.definition.name.clone(), Arc::new(event_type));
    }

    pub fn remove_event_type(&mut self, org: OrganizationId, name: &str) {
        if let Some(of_org) = Arc::make_mut(&mut self.event_types).get_mut(&org) {
            of_org.remove(name);
        }
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
        let before = self.webhooks.insert(id, webhook.clone());
        let uid = before.as_deref().and_then(|before| before.uid.as_deref());
        if uid != webhook.uid.as_deref() {
            rename(&mut self.webhooks_by_uid, app, uid, webhook.uid.as_deref(), id);
        }
        let alias = before.as_deref().and_then(|before| before.alias.as_deref());
        if alias != webhook.alias.as_deref() {
            rename(&mut self.webhooks_by_alias, app, alias, webhook.alias.as_deref(), id);
        }
        if before.is_none() {
            let of_app = self.webhooks_by_app.entry(app).or_default();
            of_app.push(id);
            of_app.sort_unstable();
        }
    }

    pub fn remove_webhook(&mut self, id: WebhookId) {
        let Some(webhook) = self.webhooks.remove(&id) else { return };
        rename(&mut self.webhooks_by_uid, webhook.app_id, webhook.uid.as_deref(), None, id);
        rename(&mut self.webhooks_by_alias, webhook.app_id, webhook.alias.as_deref(), None, id);
        if let Some(of_app) = self.webhooks_by_app.get_mut(&webhook.app_id) {
            of_app.retain(|other| *other != id);
        }
    }
}

/// The `uid`s of objects, by their owner.
type Uids<O, K> = Arc<HashMap<Id<O>, HashMap<String, Id<K>>>>;

/// Removes one `uid` of an owner's object and adds another.
fn rename<O, K>(uids: &mut Uids<O, K>, owner: Id<O>, before: Option<&str>, now: Option<&str>, id: Id<K>) {
    if before.is_none() && now.is_none() {
        return;
    }
    let of_owner = Arc::make_mut(uids).entry(owner).or_default();
    if let Some(before) = before.filter(|before| of_owner.get(*before) == Some(&id)) {
        of_owner.remove(before);
    }
    if let Some(now) = now {
        of_owner.insert(now.to_owned(), id);
    }
}
