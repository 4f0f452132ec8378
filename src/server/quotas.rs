//! The quotas of tenants: their use, and the refusal of requests beyond them.
//!
//! Invariant: a request is checked before it is written, and a webhook that is being made counts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::QuotaUse;
use crate::model::id::{AppId, OrganizationId};
use crate::model::{Time, WebhookId};
use crate::rules::quotas::{PublishedVolume, Quota, QuotaExceeded, QuotaLimits};
use crate::store::{Command, Published, Receipt, Registry, StateCommand, Store, TenantScope, WriteRequest};

/// Time for which a count of waiting deliveries is used.
const WAITING_MS: i64 = 1_000;
/// Maximum apps whose use is cached.
const APPS_MAX: usize = 10_000;

/// The use of all quotas.
#[derive(Default)]
pub(super) struct Quotas {
    used: Mutex<QuotasUsed>,
}

#[derive(Default)]
struct QuotasUsed {
    published: HashMap<AppId, PublishedVolume>,
    waiting: HashMap<AppId, WaitingCount>,
    /// Webhooks that are being made.
    making: HashMap<(OrganizationId, AppId), u64>,
}

/// The waiting deliveries of an app. Deliveries that have ended since the count are still in the sum of `counted` and `added`.
/// Those of replays and of publishes under way come with the next count.
struct WaitingCount {
    counted: u64,
    counted_at: Time,
    /// Deliveries of the events that were published since.
    added: u64,
}

/// A webhook that is being made. Dropping it ends its count, when the registry has it.
pub(super) struct MakingWebhook<'a> {
    quotas: &'a Quotas,
    place: (OrganizationId, AppId),
}

/// Events that were counted before they are stored. Dropping it reverts the count, unless the events are `stored`.
pub(super) struct CountedEvents<'a> {
    quotas: &'a Quotas,
    /// Events and their bytes by app.
    counted: HashMap<AppId, (u64, u64)>,
}

impl CountedEvents<'_> {
    /// The events were stored, so they stay counted, and their deliveries wait.
    fn stored(&mut self, receipt: &Receipt) {
        self.counted.clear();
        let Receipt::Published(published) = receipt else { return };
        let mut used = self.quotas.lock();
        for Published { event, .. } in published.iter().filter(|one| !one.duplicate) {
            if let Some(waiting) = used.waiting.get_mut(&event.app_id) {
                waiting.added += u64::from(event.deliveries);
            }
        }
    }
}

impl Drop for CountedEvents<'_> {
    fn drop(&mut self) {
        let mut used = self.quotas.lock();
        for (app, (events, bytes)) in self.counted.drain() {
            if let Some(volume) = used.published.get_mut(&app) {
                volume.give_back(events, bytes);
            }
        }
    }
}

/// The part of the quotas that a write request takes while it is applied.
#[derive(Default)]
pub(super) struct QuotaShare<'a> {
    /// Held until the registry has the webhook.
    _making: Option<MakingWebhook<'a>>,
    events: Option<CountedEvents<'a>>,
}

impl QuotaShare<'_> {
    /// The write request was applied.
    pub fn applied(&mut self, receipt: &Receipt) {
        self.events.iter_mut().for_each(|events| events.stored(receipt));
    }
}

/// The state that quotas are compared with.
pub(super) struct QuotaContext<'a> {
    pub limits: &'a QuotaLimits,
    pub registry: &'a Registry,
    pub store: &'a Store,
    pub now: Time,
}

impl Quotas {
    /// Checks a write request, and counts its events. The share is held until the request is applied.
    ///
    /// # Errors
    /// The quota that is used up. Nothing is counted then.
    pub fn admit(
        &self,
        context: &QuotaContext<'_>,
        write_request: &WriteRequest,
    ) -> Result<QuotaShare<'_>, QuotaExceeded> {
        let none = QuotaShare::default();
        let Some(tenant) = write_request.caller.as_ref().map(|caller| caller.tenant) else { return Ok(none) };
        if let Some(events) = write_request.command.published() {
            let sizes =
                events.iter().filter_map(|event| Some((context.app_of(tenant, event.app)?, event.data.len() as u64)));
            return Ok(QuotaShare { events: Some(self.admit_events(context, sizes)?), ..none });
        }
        match &write_request.command {
            Command::State(StateCommand::CreateWebhook { webhook, .. }) => {
                let asked = Some(webhook.app_id).filter(|app| *app != AppId::MIN);
                let Some(app) = context.app_of(tenant, asked) else { return Ok(none) };
                Ok(QuotaShare { _making: Some(self.admit_webhook(context, tenant.org, app)?), ..none })
            }
            _ => Ok(none),
        }
    }

    fn admit_events(
        &self,
        context: &QuotaContext<'_>,
        sizes: impl Iterator<Item = (AppId, u64)>,
    ) -> Result<CountedEvents<'_>, QuotaExceeded> {
        let limits = context.limits;
        if limits.events_per_second == 0 && limits.bytes_per_day == 0 && limits.waiting_deliveries == 0 {
            return Ok(CountedEvents { quotas: self, counted: HashMap::new() });
        }
        let mut asked: HashMap<AppId, (u64, u64)> = HashMap::new();
        for (app, bytes) in sizes {
            let (events, sum) = asked.entry(app).or_default();
            (*events, *sum) = (*events + 1, *sum + bytes);
        }
        for app in asked.keys() {
            let waiting = self.waiting(context, *app, limits.waiting_deliveries);
            if limits.waiting_deliveries > 0 && waiting >= limits.waiting_deliveries {
                let (quota, limit) = (Quota::WaitingDeliveries, limits.waiting_deliveries);
                return Err(QuotaExceeded { quota, limit, until: None });
            }
        }
        let mut used = self.lock();
        if used.published.len() > APPS_MAX {
            used.published.clear();
        }
        for (app, (events, bytes)) in &asked {
            let volume = used.published.entry(*app).or_insert_with(|| PublishedVolume::new(limits, context.now));
            volume.refill(limits, context.now);
            volume.check(limits, *events, *bytes)?;
        }
        for (app, (events, bytes)) in &asked {
            if let Some(volume) = used.published.get_mut(app) {
                volume.add(*events, *bytes);
            }
        }
        drop(used);
        Ok(CountedEvents { quotas: self, counted: asked })
    }

    fn admit_webhook(
        &self,
        context: &QuotaContext<'_>,
        org: OrganizationId,
        app: AppId,
    ) -> Result<MakingWebhook<'_>, QuotaExceeded> {
        let limits = context.limits;
        let mut used = self.lock();
        // Read within the lock: a webhook is in this registry, or still counts as being made.
        let registry = context.store.registry();
        let made = |app: Option<AppId>| registry.webhooks_within(TenantScope { org, app }).count() as u64;
        let being_made = |of_app: bool| -> u64 {
            let counted = used.making.iter().filter(|((o, a), _)| *o == org && (!of_app || *a == app));
            counted.map(|(_, count)| *count).sum()
        };
        let (of_org, of_app) = (made(None) + being_made(false), made(Some(app)) + being_made(true));
        for (quota, count) in [(Quota::WebhooksPerApp, of_app), (Quota::WebhooksPerOrganization, of_org)] {
            let limit = quota.limit(limits);
            if limit > 0 && count >= limit {
                return Err(QuotaExceeded { quota, limit, until: None });
            }
        }
        *used.making.entry((org, app)).or_default() += 1;
        Ok(MakingWebhook { quotas: self, place: (org, app) })
    }

    /// The waiting deliveries of an app. An estimate of the last second is used only if it is below `limit`. 0 if there is no
    /// such quota.
    fn waiting(&self, context: &QuotaContext<'_>, app: AppId, limit: u64) -> u64 {
        if context.limits.waiting_deliveries == 0 {
            return 0;
        }
        if let Some(last) = self.lock().waiting.get(&app)
            && (0..WAITING_MS).contains(&context.now.since(last.counted_at))
            && (last.added == 0 || last.counted + last.added < limit)
        {
            return last.counted + last.added;
        }
        let webhooks: Vec<WebhookId> = context.registry.webhooks_of(app).map(|webhook| webhook.id).collect();
        // A store that cannot be read refuses the publish itself.
        let count = context.store.backlog(&webhooks, context.now).map_or(0, |backlog| backlog.waiting);
        let mut used = self.lock();
        if used.waiting.len() > APPS_MAX {
            used.waiting.clear();
        }
        used.waiting.insert(app, WaitingCount { counted: count, counted_at: context.now, added: 0 });
        count
    }

    /// The use of the quotas that have a limit. Of an organization's apps the one with the highest use counts.
    pub fn used(&self, context: &QuotaContext<'_>, tenant: TenantScope) -> Vec<QuotaUse> {
        let in_tenant = |app: &AppId| tenant.app.is_none_or(|own| own == *app);
        let apps = context.registry.apps().filter(|app| app.org_id == tenant.org).map(|app| app.id).filter(in_tenant);
        let apps: Vec<AppId> = apps.collect();
        let mut highest = [0; Quota::ALL.len()];
        let mut raise = |quota: Quota, count: u64| highest[quota as usize] = count.max(highest[quota as usize]);
        for app in &apps {
            let volume = self.lock().published.get(app).copied();
            if let Some(mut volume) = volume {
                volume.refill(context.limits, context.now);
                let (events, bytes) = volume.used(context.limits);
                raise(Quota::EventsPerSecond, events);
                raise(Quota::BytesPerDay, bytes);
            }
            raise(Quota::WebhooksPerApp, context.webhooks(TenantScope { org: tenant.org, app: Some(*app) }));
            raise(Quota::WaitingDeliveries, self.waiting(context, *app, 0));
        }
        if tenant.app.is_none() {
            raise(Quota::WebhooksPerOrganization, context.webhooks(tenant));
        }
        let shown = Quota::ALL.into_iter().filter(|quota| {
            quota.limit(context.limits) > 0 && (tenant.app.is_none() || *quota != Quota::WebhooksPerOrganization)
        });
        let shown = shown.map(|quota| QuotaUse {
            quota: quota.as_str(),
            limit: quota.limit(context.limits),
            used: highest[quota as usize],
        });
        shown.collect()
    }

    fn lock(&self) -> MutexGuard<'_, QuotasUsed> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QuotaContext<'_> {
    /// The app that a request means. `None` if there is no such app, which the store refuses.
    fn app_of(&self, tenant: TenantScope, asked: Option<AppId>) -> Option<AppId> {
        let default = || self.registry.organization(tenant.org).map(|organization| organization.default_app_id);
        let app = asked.or(tenant.app).or_else(default)?;
        self.registry.app(tenant, app).map(|app| app.id)
    }

    fn webhooks(&self, tenant: TenantScope) -> u64 {
        self.registry.webhooks_within(tenant).count() as u64
    }
}

impl Drop for MakingWebhook<'_> {
    fn drop(&mut self) {
        let mut used = self.quotas.lock();
        if let Some(count) = used.making.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                used.making.remove(&self.place);
            }
        }
    }
}
