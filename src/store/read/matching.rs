//! Counts the deliveries that a replay job would make, or make due.
//!
//! Invariant: a count examines at most `COUNTED_ROWS_MAX` rows, and says whether there may be more.

use std::collections::HashSet;

use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::{Delivery, DeliveryStatus, Event, Time};

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
        let registry = self.registry();
        let mut count = MatchCount::default();
        let mut left = COUNTED_ROWS_MAX;
        let before = spec.to.map_or(u128::MAX, |to| EventId::floor(to).as_u128());
        let of_app = AppEvents::of(&self.partition_set, tenant.app)?;
        let mut events = NewestFirst::by(&self.partition_set, |first| of_app.source(first), before);
        while let Some((id, snapshot)) = events.next_id()? {
            let id = EventId::from_u128(id);
            if !self.is_retained(id, now) || spec.from.is_some_and(|from| id.time() < from) {
                break;
            }
            if left == 0 {
                count.at_least = true;
                break;
            }
            left -= 1;
            let Some(event) = decoded::<Event>(snapshot, Table::Events, id.as_bytes())? else { continue };
            if event.erased_at.is_some()
                || !tenant.covers(event.org_id, event.app_id)
                || !replay_scope::covers(spec, &event)
            {
                continue;
            }
            let targets = replay_scope::targets(&registry, spec, &event);
            if targets.is_empty() {
                continue;
            }
            let made = deliveries_in(snapshot, &event)?;
            for webhook in targets {
                let own: Vec<&Delivery> = made.iter().filter(|d| d.webhook_id == webhook.id).collect();
                let is_chosen = replay_scope::chosen(spec, &webhook, &event, &own, || data_in(snapshot, &event))?;
                count.matched += u64::from(is_chosen);
            }
        }
        Ok(count)
    }

    /// Counts for a job over the deliveries of one webhook, newest first. The newest delivery of an event decides.
    fn matching_deliveries(
        &self,
        tenant: TenantScope,
        spec: &JobSpec,
        webhook: WebhookId,
        now: Time,
    ) -> Result<MatchCount> {
        let registry = self.registry();
        let mut replayed = HashSet::new();
        let mut count = MatchCount::default();
        let mut left = COUNTED_ROWS_MAX;
        let mut deliveries =
            NewestFirst::below(&self.partition_set, Table::DeliveriesByWebhook, webhook.as_bytes(), u128::MAX);
        while let Some((id, snapshot)) = deliveries.next_id()? {
            // An event has a lower id than its deliveries.
            let event_max = EventId::from_u128(id);
            if !self.is_retained(event_max, now) || spec.from.is_some_and(|from| event_max < EventId::floor(from)) {
                break;
            }
            if left == 0 {
                count.at_least = true;
                break;
            }
            left -= 1;
            let Some(delivery) = decoded::<Delivery>(snapshot, Table::Deliveries, event_max.as_bytes())? else {
                continue;
            };
            let id = delivery.event_id;
            let is_newest = if delivery.is_replay() { replayed.insert(id) } else { !replayed.contains(&id) };
            if !is_newest || !self.is_retained(id, now) {
                continue;
            }
            let Some(event) = decoded::<Event>(snapshot, Table::Events, id.as_bytes())? else { continue };
            if event.erased_at.is_some()
                || !tenant.covers(event.org_id, event.app_id)
                || !replay_scope::covers(spec, &event)
            {
                continue;
            }
            for webhook in replay_scope::targets(&registry, spec, &event) {
                let read = || data_in(snapshot, &event);
                let own = own_deliveries(snapshot, &delivery)?;
                left = left.saturating_sub(own.len() - 1);
                let own: Vec<&Delivery> = own.iter().collect();
                count.matched += u64::from(replay_scope::chosen(spec, &webhook, &event, &own, read)?);
            }
        }
        Ok(count)
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
        let registry = self.registry();
        let mut entries = LatestEndFirst::below(&self.partition_set, owner, from, below);
        let mut count = MatchCount::default();
        let mut left = COUNTED_ROWS_MAX;
        while let Some(((_, id), snapshot)) = entries.next()? {
            if left == 0 {
                count.at_least = true;
                break;
            }
            left -= 1;
            let Some(delivery) = decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())? else { continue };
            let Some(event) = decoded::<Event>(snapshot, Table::Events, delivery.event_id.as_bytes())? else {
                continue;
            };
            let is_covered = self.is_retained(event.id, now)
                && event.erased_at.is_none()
                && tenant.covers(event.org_id, event.app_id)
                && replay_scope::covers(spec, &event)
                && spec.last.passes(&delivery);
            if !is_covered {
                continue;
            }
            let own = own_deliveries(snapshot, &delivery)?;
            left = left.saturating_sub(own.len() - 1);
            let is_last = own.last().is_some_and(|last| last.id == delivery.id);
            let own: Vec<&Delivery> = own.iter().collect();
            let targets = replay_scope::targets(&registry, spec, &event);
            for webhook in targets.iter().filter(|webhook| is_last && webhook.id == delivery.webhook_id) {
                let read = || data_in(snapshot, &event);
                count.matched += u64::from(replay_scope::chosen(spec, webhook, &event, &own, read)?);
            }
        }
        Ok(count)
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

/// The deliveries of the event of `delivery` to the same webhook, oldest first. At least one.
fn own_deliveries(snapshot: &Snapshot, delivery: &Delivery) -> Result<Vec<Delivery>> {
    let published = (!delivery.is_replay()).then(|| delivery.clone());
    let mut own = deliveries_to_in(snapshot, delivery.webhook_id, delivery.event_id, published)?;
    if own.is_empty() {
        own.push(delivery.clone());
    }
    Ok(own)
}
