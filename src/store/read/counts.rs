//! Reads counts from the figures that every commit maintains.
//!
//! Invariant: expired rows are not counted, with one exception. Rows are scanned only in the partition that straddles the
//! retention cut-off, at most `COUNTED_ROWS_MAX` of them. If a webhook has more rows there, its count includes expired
//! rows until that partition is dropped.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::id::{Id, WebhookId};
use crate::model::{Attempt, Delivery, Time, Webhook};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::model::figures::HourFigures;
use crate::store::command::TenantScope;
use crate::store::partitions::set::Partition;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{decoded, sums_in, sums_of};
use crate::store::read::query::COUNTED_ROWS_MAX;

/// The attempts that started within one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourCount {
    pub attempts: u64,
    pub failures: u64,
}

/// The partitions with expired rows at one time. All other partitions are fully visible.
#[derive(Debug, Default)]
pub(in crate::store) struct ExpiringPartitions {
    /// First ids of the partitions whose events have all expired.
    expired: HashSet<u128>,
    /// The partition that straddles the retention cut-off.
    straddling: Option<Arc<Partition>>,
}

/// Expiring partitions that hold rows of one webhook, by file name. Usually empty.
pub(in crate::store) struct ExpiringKeys {
    expired: HashSet<String>,
    straddling: Option<String>,
}

impl Store {
    /// Finds the partitions that have expired wholly or in part.
    pub(in crate::store) fn expiring(&self, now: Time) -> ExpiringPartitions {
        let partitions = self.partition_set.partitions();
        let ends = partitions.iter().skip(1).map(|next| Id::<Partition>::from_u128(next.first).time());
        let mut expiring = ExpiringPartitions::default();
        for (partition, end) in partitions.iter().zip(ends.chain([Time::MAX])) {
            let begin = Id::<Partition>::from_u128(partition.first).time();
            let retention_ms = self.partition_set.options.retention_ms;
            if now < begin.plus_ms(retention_ms) {
                break;
            }
            if now < end.plus_ms(retention_ms) {
                expiring.straddling = Some(partition.clone());
                break;
            }
            expiring.expired.insert(partition.first);
        }
        expiring
    }

    /// Number of visible deliveries of a webhook.
    pub(in crate::store) fn visible_deliveries(
        &self,
        webhook: WebhookId,
        expiring: &ExpiringPartitions,
        now: Time,
    ) -> Result<u64> {
        let mut count = 0;
        for partition in self.partition_set.partitions().iter().filter(|p| !expiring.expired.contains(&p.first)) {
            let snapshot = self.partition_set.snapshot(partition)?;
            let made = sums_in(&snapshot, webhook)?.map_or(0, |row| row.sums.deliveries);
            let is_straddling = expiring.straddling.as_ref().is_some_and(|p| p.first == partition.first);
            count += match is_straddling && is_few(made) {
                true => self.count_visible(&snapshot, webhook, now)?,
                false => made,
            };
        }
        Ok(count)
    }

    fn count_visible(&self, snapshot: &Snapshot, webhook: WebhookId, now: Time) -> Result<u64> {
        let mut count = 0;
        each_of(snapshot, Table::DeliveriesByWebhook, webhook, |id| {
            let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, &id.to_be_bytes())?;
            count += u64::from(delivery.is_some_and(|d| self.is_retained(d.event_id, now)));
            Ok(())
        })?;
        Ok(count)
    }

    /// The visible attempts within `tenant` by the hour (since 1970) in which they started, from `from` through `to`, those
    /// of removed webhooks included.
    pub fn attempts_by_hour(
        &self,
        tenant: TenantScope,
        from: u32,
        to: u32,
        now: Time,
    ) -> Result<BTreeMap<u32, HourCount>> {
        let expiring = self.expiring(now);
        let mut hours = BTreeMap::new();
        let mut budget = COUNTED_ROWS_MAX as u64;
        for partition in self.partition_set.partitions().iter().filter(|p| !expiring.expired.contains(&p.first)) {
            // Attempts at an event start after its partition began.
            if Id::<Partition>::from_u128(partition.first).time().hour() > to {
                break;
            }
            let snapshot = self.partition_set.snapshot(partition)?;
            let is_straddling = expiring.straddling.as_ref().is_some_and(|p| p.first == partition.first);
            for (owner, row) in sums_of(&snapshot)? {
                if row.sums.attempts == 0 || !self.is_in_scope(&snapshot, tenant, owner)? {
                    continue;
                }
                if is_straddling && row.sums.attempts <= budget {
                    budget -= row.sums.attempts;
                    self.tally_visible(&snapshot, owner, (from, to), now, &mut hours)?;
                } else {
                    tally_hours(&snapshot, owner, (from, to), &mut hours)?;
                }
            }
        }
        Ok(hours)
    }

    /// Whether a webhook lies within `tenant`. A removed webhook has the app of one of its attempts.
    fn is_in_scope(&self, snapshot: &Snapshot, tenant: TenantScope, webhook: WebhookId) -> Result<bool> {
        if let Some(webhook) = self.registry().webhooks.get(&webhook) {
            return Ok(tenant.covers(webhook.org_id, webhook.app_id));
        }
        let mut one = None;
        let (from, to) = (tables::pair(webhook, Id::<Attempt>::MIN), tables::pair(webhook, Id::<Attempt>::MAX));
        snapshot.scan(
            Table::AttemptsByWebhook,
            (Bound::Included(&from), Bound::Included(&to)),
            Direction::Down,
            |key, _| {
                one = tables::last_id::<Attempt>(key);
                Ok(ScanStep::Stop)
            },
        )?;
        let Some(id) = one else { return Ok(false) };
        let attempt = decoded::<Attempt>(snapshot, Table::Attempts, id.as_bytes())?;
        Ok(attempt.is_some_and(|attempt| tenant.covers(attempt.org_id, attempt.app_id)))
    }

    fn tally_visible(
        &self,
        snapshot: &Snapshot,
        webhook: WebhookId,
        (from, to): (u32, u32),
        now: Time,
        hours: &mut BTreeMap<u32, HourCount>,
    ) -> Result<()> {
        each_of(snapshot, Table::AttemptsByWebhook, webhook, |id| {
            let attempt = decoded::<Attempt>(snapshot, Table::Attempts, &id.to_be_bytes())?;
            let shown = attempt.filter(|attempt| self.is_retained(attempt.event_id, now));
            if let Some(attempt) = shown.filter(|attempt| (from..=to).contains(&attempt.made.started_at.hour())) {
                let hour = hours.entry(attempt.made.started_at.hour()).or_default();
                hour.attempts += 1;
                hour.failures += u64::from(!attempt.made.success);
            }
            Ok(())
        })
    }
}

impl ExpiringPartitions {
    /// Whether all events of the partition have expired.
    pub(in crate::store) fn is_expired(&self, partition: &Partition) -> bool {
        self.expired.contains(&partition.first)
    }

    /// Whether some events of the partition may have expired and others have not.
    pub(in crate::store) fn straddles(&self, partition: &Partition) -> bool {
        self.straddling.as_ref().is_some_and(|straddling| straddling.first == partition.first)
    }

    pub(in crate::store) fn concerns(&self, partition: &Partition) -> bool {
        self.is_expired(partition) || self.straddles(partition)
    }

    /// Narrows to one webhook's rows. The straddling partition is included only if its rows are few enough to scan.
    pub(in crate::store) fn few_of(&self, store: &Store, webhook: WebhookId) -> Result<ExpiringKeys> {
        let name = |first: &u128| store.partition_set.partition(*first).map(|partition| partition.file_name());
        let mut keys = ExpiringKeys { expired: self.expired.iter().filter_map(name).collect(), straddling: None };
        if let Some(partition) = &self.straddling {
            let row = sums_in(&store.partition_set.snapshot(partition)?, webhook)?;
            keys.straddling = row.filter(|row| is_few(row.sums.deliveries)).map(|_| partition.file_name());
        }
        Ok(keys)
    }
}

impl ExpiringKeys {
    /// Whether the delivery behind a key is visible.
    pub(in crate::store) fn shows(&self, store: &Store, snapshot: &Snapshot, id: u128, now: Time) -> Result<bool> {
        if self.expired.contains(snapshot.file()) {
            return Ok(false);
        }
        if self.straddling.as_deref() != Some(snapshot.file()) {
            return Ok(true);
        }
        let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, &id.to_be_bytes())?;
        Ok(delivery.is_some_and(|d| store.is_retained(d.event_id, now)))
    }
}

fn is_few(rows: u64) -> bool {
    rows <= COUNTED_ROWS_MAX as u64
}

/// Shows the second id of every key of a webhook in an index.
fn each_of(
    snapshot: &Snapshot,
    table: Table,
    webhook: Id<Webhook>,
    mut visit: impl FnMut(u128) -> Result<()>,
) -> Result<()> {
    let (from, to) = (tables::pair(webhook, Id::<Attempt>::MIN), tables::pair(webhook, Id::<Attempt>::MAX));
    snapshot.scan(table, (Bound::Included(&from), Bound::Included(&to)), Direction::Up, |key, _| {
        if let Some(id) = tables::last_id::<Attempt>(key) {
            visit(id.as_u128())?;
        }
        Ok(ScanStep::Go)
    })
}

fn tally_hours(
    snapshot: &Snapshot,
    webhook: WebhookId,
    (from, to): (u32, u32),
    hours: &mut BTreeMap<u32, HourCount>,
) -> Result<()> {
    // Hour 0 is the row of sums.
    let (from, to) = (tables::figures(webhook, from.max(1)), tables::figures(webhook, to));
    snapshot.scan(Table::Figures, (Bound::Included(&from), Bound::Included(&to)), Direction::Up, |key, value| {
        let hour = key.last_chunk::<4>().map_or(0, |hour| u32::from_be_bytes(*hour));
        let row = codec::decode::<HourFigures>(value).ok_or_else(|| snapshot.damaged(Table::Figures, key))?;
        let (count, total) = (hours.entry(hour).or_default(), row.total());
        count.attempts += u64::from(total.attempts);
        count.failures += u64::from(total.failures);
        Ok(ScanStep::Go)
    })
}

#[cfg(test)]
mod tests;
