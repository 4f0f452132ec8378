//! Counts the deliveries that a replay job would make, or make due.
//!
//! Invariant: a count examines at most `COUNTED_ROWS_MAX` rows, and says whether there may be more.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::{Delivery, DeliveryStatus, Event, Time, Webhook};

use crate::kv::error::Result;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::model::job::JobSpec;
use crate::store::command::TenantScope;
use crate::store::partitions::index_start::{self, LaterIndex};
use crate::store::read::app_events::AppEvents;
use crate::store::read::failed::LatestEndFirst;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{data_in, decoded, deliveries_in, deliveries_to_in};
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::query::{COUNTED_ROWS_MAX, INDEXED_ROWS_MAX};
use crate::store::read::replay_scope::{self, waiting_webhooks};
use crate::store::registry::Registry;

/// Rows of one page of waiting deliveries that a count reads.
const PAGE_ROWS: usize = 500;

/// The size of a dry run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MatchCount {
    pub matched: u64,
    /// Whether the count ended after `COUNTED_ROWS_MAX` rows, so that more may match.
    pub at_least: bool,
}

impl Store {
    /// Number of deliveries that a job with `spec` would make, or make due (`dry_run`).
    pub fn matching(&self, tenant: TenantScope, spec: &JobSpec, now: Time) -> Result<MatchCount> {
        if spec.waiting {
            return self.matching_waiting(spec, now);
        }
        if !spec.missing && spec.status == Some(DeliveryStatus::Failed) && self.has_whole_index()? {
            return self.matching_failures(tenant, spec, now);
        }
        if let Some(webhook) = replay_scope::replayed_webhook(spec) {
            return self.matching_deliveries(tenant, spec, webhook, now);
        }
        let mut counting = Counting::of(self, (tenant, spec), now);
        let before = spec.to.map_or(u128::MAX, |to| EventId::floor(to).as_u128());
        let of_app = AppEvents::of(&self.partition_set, tenant.app)?;
        let mut events = NewestFirst::by(&self.partition_set, |first| of_app.source(first), before);
        while let Some((id, snapshot)) = events.next_id()? {
            let id = EventId::from_u128(id);
            let is_early = !self.is_retained(id, now) || spec.from.is_some_and(|from| id.time() < from);
            if is_early || !counting.examine() {
                break;
            }
            let Some(event) = counting.covered(snapshot, id)? else { continue };
            let targets = replay_scope::targets(&counting.registry, spec, &event);
            if targets.is_empty() {
                continue;
            }
            let made = deliveries_in(snapshot, &event)?;
            for webhook in targets {
                let own: Vec<&Delivery> = made.iter().filter(|d| d.webhook_id == webhook.id).collect();
                counting.add(snapshot, &webhook, &event, &own)?;
            }
        }
        Ok(counting.count)
    }

    /// Counts for a job over the deliveries of one webhook, newest first. The newest delivery of an event decides.
    fn matching_deliveries(
        &self,
        tenant: TenantScope,
        spec: &JobSpec,
        webhook: WebhookId,
        now: Time,
    ) -> Result<MatchCount> {
        let mut counting = Counting::of(self, (tenant, spec), now);
        let mut replayed = HashSet::new();
        let mut deliveries =
            NewestFirst::below(&self.partition_set, Table::DeliveriesByWebhook, webhook.as_bytes(), u128::MAX);
        while let Some((id, snapshot)) = deliveries.next_id()? {
            // An event has a lower id than its deliveries.
            let event_max = EventId::from_u128(id);
            let is_early =
                !self.is_retained(event_max, now) || spec.from.is_some_and(|from| event_max < EventId::floor(from));
            if is_early || !counting.examine() {
                break;
            }
            let Some(delivery) = decoded::<Delivery>(snapshot, Table::Deliveries, event_max.as_bytes())? else {
                continue;
            };
            let id = delivery.event_id;
            let is_newest = if delivery.is_replay() { replayed.insert(id) } else { !replayed.contains(&id) };
            if !is_newest {
                continue;
            }
            let Some(event) = counting.covered(snapshot, id)? else { continue };
            for webhook in replay_scope::targets(&counting.registry, spec, &event) {
                let own = counting.own_deliveries(snapshot, &delivery)?;
                counting.add(snapshot, &webhook, &event, &own.iter().collect::<Vec<_>>())?;
            }
        }
        Ok(counting.count)
    }

    /// Whether every failed delivery is in the index.
    pub fn has_whole_index(&self) -> Result<bool> {
        let start = index_start::stored(&self.partition_set, LaterIndex::FailedDeliveries)?;
        Ok(!self.partition_set.partitions().iter().any(|partition| start.lacks_entries(partition.first)))
    }

    /// Counts for a job over failed deliveries, from their index. The newest delivery of an event decides.
    fn matching_failures(&self, tenant: TenantScope, spec: &JobSpec, now: Time) -> Result<MatchCount> {
        let owner = spec.webhook.map(|id| *id.as_bytes()).or(spec.app.map(|id| *id.as_bytes())).unwrap_or_default();
        let (from, to) = (spec.last.ended_from, spec.last.ended_to);
        let below = to.map_or((Time::MAX, DeliveryId::MAX), |to| (to, DeliveryId::MIN));
        let mut counting = Counting::of(self, (tenant, spec), now);
        let mut entries = LatestEndFirst::below(&self.partition_set, owner, from, below);
        while let Some(((_, id), snapshot)) = entries.next()? {
            if !counting.examine() {
                break;
            }
            let Some(delivery) = decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())? else { continue };
            let Some(event) = counting.covered(snapshot, delivery.event_id)? else { continue };
            if !spec.last.passes(&delivery) {
                continue;
            }
            let own = counting.own_deliveries(snapshot, &delivery)?;
            let is_last = own.last().is_some_and(|last| last.id == delivery.id);
            let targets = replay_scope::targets(&counting.registry, spec, &event);
            for webhook in targets.iter().filter(|webhook| is_last && webhook.id == delivery.webhook_id) {
                counting.add(snapshot, webhook, &event, &own.iter().collect::<Vec<_>>())?;
            }
        }
        Ok(counting.count)
    }

    /// Counts for a job over waiting deliveries. The figures do not give this count, because the job leaves out the
    /// events that a resend delivered.
    fn matching_waiting(&self, spec: &JobSpec, now: Time) -> Result<MatchCount> {
        let webhooks = waiting_webhooks(&self.registry(), spec);
        let mut count = MatchCount::default();
        let mut left = COUNTED_ROWS_MAX;
        for webhook in webhooks {
            let mut after = None;
            loop {
                let page = self.waiting(webhook, after, PAGE_ROWS, now)?;
                for (delivery, _) in &page.rows {
                    count.matched += u64::from(self.is_wanted_waiting(spec, delivery)?);
                }
                after = page.next;
                let examined = if page.rows.len() == PAGE_ROWS { PAGE_ROWS } else { INDEXED_ROWS_MAX };
                if after.is_none() {
                    left = left.saturating_sub(page.rows.len() + 1);
                    break;
                }
                left = left.saturating_sub(examined);
                if left == 0 {
                    break;
                }
            }
            if left == 0 {
                count.at_least = true;
                break;
            }
        }
        Ok(count)
    }

    fn is_wanted_waiting(&self, spec: &JobSpec, delivery: &Delivery) -> Result<bool> {
        if !spec.last.passes(delivery) {
            return Ok(false);
        }
        let Some(home) = self.partition_set.partition_of(delivery.event_id.as_u128()) else { return Ok(false) };
        let snapshot = self.partition_set.snapshot(&home)?;
        let event = decoded::<Event>(&snapshot, Table::Events, delivery.event_id.as_bytes())?;
        if !event.is_some_and(|event| replay_scope::covers(spec, &event)) {
            return Ok(false);
        }
        let own = own_deliveries(&snapshot, delivery)?;
        Ok(!own.iter().any(|one| one.status == DeliveryStatus::Delivered))
    }
}

/// A count under way.
struct Counting<'a> {
    store: &'a Store,
    tenant: TenantScope,
    spec: &'a JobSpec,
    now: Time,
    registry: Arc<Registry>,
    count: MatchCount,
    /// Rows that may still be examined.
    left: usize,
}

impl<'a> Counting<'a> {
    fn of(store: &'a Store, (tenant, spec): (TenantScope, &'a JobSpec), now: Time) -> Counting<'a> {
        let (registry, count) = (store.registry(), MatchCount::default());
        Counting { store, tenant, spec, now, registry, count, left: COUNTED_ROWS_MAX }
    }

    /// Whether one more row may be examined. If not, more may match.
    fn examine(&mut self) -> bool {
        self.count.at_least = self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.count.at_least
    }

    /// The event, if the job covers it.
    fn covered(&self, snapshot: &Snapshot, id: EventId) -> Result<Option<Event>> {
        let is_covered = |event: &Event| {
            self.store.is_retained(event.id, self.now)
                && event.erased_at.is_none()
                && self.tenant.covers(event.org_id, event.app_id)
                && replay_scope::covers(self.spec, event)
        };
        Ok(decoded(snapshot, Table::Events, id.as_bytes())?.filter(is_covered))
    }

    /// The deliveries of the event of `delivery` to the same webhook, as rows that are examined.
    fn own_deliveries(&mut self, snapshot: &Snapshot, delivery: &Delivery) -> Result<Vec<Delivery>> {
        let own = own_deliveries(snapshot, delivery)?;
        self.left = self.left.saturating_sub(own.len() - 1);
        Ok(own)
    }

    /// Counts the delivery that the job would make of an event to a webhook, which has the deliveries `own` of it.
    fn add(&mut self, snapshot: &Snapshot, webhook: &Arc<Webhook>, event: &Event, own: &[&Delivery]) -> Result<()> {
        let is_chosen = replay_scope::chosen(self.spec, webhook, event, own, || data_in(snapshot, event))?;
        self.count.matched += u64::from(is_chosen);
        Ok(())
    }
}

/// The deliveries of the event of `delivery` to the same webhook, oldest first. At least one.
fn own_deliveries(snapshot: &Snapshot, delivery: &Delivery) -> Result<Vec<Delivery>> {
    let published = (!delivery.is_replay()).then(|| delivery.clone());
    let mut own = deliveries_to_in(snapshot, delivery.webhook_id, delivery.event_id, published)?;
    if own.is_empty() {
        own.push(delivery.clone());
    }
    Ok(own)
}
