//! Reads the figures of a webhook, an app or an organization: sums of all time, hours, and open deliveries.
//!
//! Invariant: the cost of the figures of an app or an organization does not follow the number of its webhooks. Webhooks
//! that have due deliveries or were just removed are the exception.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::model::figures::{HourFigures, Minute, Sums};
use crate::model::id::{Id, WebhookId};
use crate::model::time::{DAY_MS, HOUR_MS};
use crate::model::{Attempt, Time};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::store::command::TenantScope;
use crate::store::figures::{FiguresOwner, hour_of, owner_of};
use crate::store::partitions::set::Partition;
use crate::store::partitions::tenant_figures::{self, FiguresStart, tenants_in};
use crate::store::read::counts::ExpiringPartitions;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{first_due, heads_in, sums_in};
use crate::store::read::query::COUNTED_ROWS_MAX;
use crate::store::recent_figures::{RECENT_HOURS, RecentAttempts, RecentFigures, RecentHour};

/// Minutes of an hour.
const MINUTES: u32 = 60;
/// Webhooks that are measured in one snapshot.
const MEASURED_WEBHOOKS: usize = 256;

/// The figures of a webhook, an app or an organization at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WebhookFigures {
    /// Lifetime sums.
    pub sums: Sums,
    /// `(minute since 1970, counts)` of the last 24 hours, oldest first, without empty minutes.
    pub minutes: Vec<(u32, Minute)>,
}

/// Open deliveries of a set of webhooks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Number of deliveries that are not final.
    pub waiting: u64,
    /// Earliest due time. `None` if nothing is due.
    pub oldest_due: Option<Time>,
}

/// Figures by the hour, from an hour up to now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HourSpan {
    /// Counts by the hour since 1970, without empty hours. In the first hour of 1970 nothing is counted.
    pub hours: BTreeMap<u32, HourFigures>,
    /// Number of rows that were read.
    pub rows: usize,
    /// Counts before this time are of an earlier version, which counted less. `Time::MAX` before the first round of
    /// maintenance of a store of that version. `None` if they are complete.
    pub complete_from: Option<Time>,
}

/// The hours of an owner, added up over the partitions.
#[derive(Debug, Clone, Default)]
struct MergedHours {
    hours: BTreeMap<u32, HourFigures>,
    /// Number of rows that were read.
    rows: usize,
}

/// Reads of sums that the writer settled meanwhile, before one is taken as it is.
const READ_AGAIN_MAX: usize = 8;

/// Open deliveries within a tenant scope that lists do not show as open.
#[derive(Debug, Default, PartialEq, Eq)]
struct HiddenOpen {
    /// Their retention has ended. They fail when their partition is dropped.
    expired: u64,
    /// Their webhook was removed at this time. They read as cancelled.
    cancelled: Vec<(Time, u64)>,
}

impl HiddenOpen {
    fn count(&self) -> u64 {
        self.expired + self.cancelled.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Counts them as lists show them: failed and cancelled.
    fn settle(&self, sums: &mut Sums) {
        sums.failed += self.expired.min(sums.open());
        for (_, count) in &self.cancelled {
            sums.cancelled += count.min(&sums.open());
        }
    }
}

impl Store {
    /// The lifetime sums of a webhook, and its minutes of the last 24 hours.
    pub fn figures(&self, webhook: WebhookId, now: Time) -> Result<WebhookFigures> {
        Ok(WebhookFigures { sums: self.sums(webhook, now)?, minutes: self.last_day(webhook, now)? })
    }

    /// The lifetime sums of several webhooks, in their order.
    pub fn sums_of(&self, webhooks: &[WebhookId], now: Time) -> Result<Vec<Sums>> {
        let mut all = self.partition_set.lifetimes(webhooks)?;
        for (webhook, sums) in webhooks.iter().zip(&mut all).filter(|(_, sums)| sums.open() > 0) {
            // Expired deliveries count as failed, as they will once their partition is dropped.
            sums.failed += self.expired_open(*webhook, now)?.min(sums.open());
        }
        Ok(all)
    }

    /// The lifetime sums of a webhook.
    pub fn sums(&self, webhook: WebhookId, now: Time) -> Result<Sums> {
        Ok(self.sums_of(&[webhook], now)?.pop().unwrap_or_default())
    }

    /// The figures of everything within `tenant`, removed webhooks included.
    pub fn tenant_figures(&self, tenant: TenantScope, now: Time) -> Result<WebhookFigures> {
        let Some(start) = tenant_figures::stored(&self.partition_set)? else { return self.added_figures(tenant, now) };
        let owner = owner_within(tenant);
        let is_whole = start.at <= now.minus_ms(DAY_MS);
        let ((mut sums, mut minutes), hidden) = self.with_hidden_open(tenant, now, || {
            let sums = self.partition_set.lifetime(owner)?;
            let minutes = if is_whole { self.last_day(owner, now)? } else { self.added_figures(tenant, now)?.minutes };
            Ok((sums, minutes))
        })?;
        hidden.settle(&mut sums);
        add_cancelled(&mut minutes, &hidden.cancelled, now);
        Ok(WebhookFigures { sums, minutes })
    }

    /// The sums of `tenant_figures`.
    pub fn tenant_sums(&self, tenant: TenantScope, now: Time) -> Result<Sums> {
        if tenant_figures::stored(&self.partition_set)?.is_none() {
            return Ok(self.added_figures(tenant, now)?.sums);
        }
        let (mut sums, hidden) =
            self.with_hidden_open(tenant, now, || self.partition_set.lifetime(owner_within(tenant)))?;
        hidden.settle(&mut sums);
        Ok(sums)
    }

    /// The figures of the webhooks within `tenant`, added up. They replace figures of apps and organizations from
    /// before the upgrade of a store that an earlier version began.
    fn added_figures(&self, tenant: TenantScope, now: Time) -> Result<WebhookFigures> {
        let mut all = WebhookFigures::default();
        let mut minutes: BTreeMap<u32, Minute> = BTreeMap::new();
        for webhook in self.registry().webhooks_within(tenant) {
            let figures = self.figures(webhook.id, now)?;
            all.sums.add(&figures.sums);
            for (minute, counts) in figures.minutes {
                minutes.entry(minute).or_default().add(counts);
            }
        }
        all.minutes = minutes.into_iter().collect();
        Ok(all)
    }

    /// The minutes of the last 24 hours: (now - 24 h, now], to the minute.
    fn last_day(&self, owner: FiguresOwner, now: Time) -> Result<Vec<(u32, Minute)>> {
        let merged = self.merged_hours(&[owner], hour_of(now.minus_ms(DAY_MS)))?;
        Ok(merged.iter().flat_map(|own| last_day_of(&own.hours, now)).collect())
    }

    /// The figures of a webhook by the hour, from the hour of `from` on.
    pub fn webhook_hours(&self, webhook: WebhookId, from: Time) -> Result<HourSpan> {
        Ok(self.hours_of(&[webhook], from)?.pop().unwrap_or_default())
    }

    /// `webhook_hours` of several webhooks, in their order. Each partition is read once for all of them.
    pub fn hours_of(&self, webhooks: &[WebhookId], from: Time) -> Result<Vec<HourSpan>> {
        self.hour_spans(webhooks, from, tenant_figures::stored(&self.partition_set)?)
    }

    /// The figures of everything within `tenant` by the hour, from the hour of `from` on.
    pub fn tenant_hours(&self, tenant: TenantScope, from: Time, now: Time) -> Result<HourSpan> {
        let start = tenant_figures::stored(&self.partition_set)?;
        let (spans, hidden) =
            self.with_hidden_open(tenant, now, || self.hour_spans(&[owner_within(tenant)], from, start))?;
        let mut span = spans.into_iter().next().unwrap_or_default();
        for (at, count) in hidden.cancelled.into_iter().filter(|(at, _)| at.hour() >= from.hour()) {
            let minute = (at.minute() % MINUTES) as u8;
            span.hours.entry(hour_of(at)).or_default().minute(minute).cancelled += count as u32;
        }
        Ok(span)
    }

    fn hour_spans(&self, owners: &[FiguresOwner], from: Time, start: Option<FiguresStart>) -> Result<Vec<HourSpan>> {
        let complete_from = start.map_or(Some(Time::MAX), |start| Some(start.at).filter(|at| *at > Time::ZERO));
        let merged = self.merged_hours(owners, hour_of(from))?.into_iter();
        Ok(merged.map(|MergedHours { hours, rows }| HourSpan { hours, rows, complete_from }).collect())
    }

    /// The hours of owners from `first` on, added up over the partitions.
    fn merged_hours(&self, owners: &[FiguresOwner], first: u32) -> Result<Vec<MergedHours>> {
        let mut merged = vec![MergedHours::default(); owners.len()];
        for partition in self.partition_set.partitions() {
            if !may_count_in(&partition, first) {
                continue;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            for (owner, own) in owners.iter().zip(&mut merged) {
                each_hour(&snapshot, *owner, first, |hour, figures| {
                    own.rows += 1;
                    own.hours.entry(hour).or_default().add(&figures);
                })?;
            }
        }
        Ok(merged)
    }

    /// Attempts of a webhook in the last 24 clock hours, from memory.
    ///
    /// # Errors
    /// The rows of the day could not be read, which only the first call does.
    pub fn recent_attempts(&self, webhook: WebhookId, now: Time) -> Result<RecentAttempts> {
        Ok(self.recent(now)?.of(webhook, now))
    }

    /// Attempts of a webhook in each of the last 24 clock hours, oldest first, from memory.
    ///
    /// # Errors
    /// As `recent_attempts`.
    pub fn recent_hours(&self, webhook: WebhookId, now: Time) -> Result<impl Iterator<Item = RecentAttempts> + use<>> {
        Ok(self.recent(now)?.hours_of(webhook, now).into_iter())
    }

    /// Response times of a webhook over the last 24 clock hours, from memory. Only the histogram of the result is
    /// filled.
    ///
    /// # Errors
    /// As `recent_attempts`.
    pub fn recent_responses(&self, webhook: WebhookId, now: Time) -> Result<Sums> {
        Ok(self.recent(now)?.responses_of(webhook, now))
    }

    /// The attempts of the last day. The first call reads their rows.
    fn recent(&self, now: Time) -> Result<&RecentFigures> {
        let recent = &self.partition_set.recent;
        if !recent.is_loaded() {
            self.load_recent(now)?;
        }
        Ok(recent)
    }

    fn load_recent(&self, now: Time) -> Result<()> {
        let recent = &self.partition_set.recent;
        let first = now.hour().saturating_sub(RECENT_HOURS - 1).max(1);
        // First, because a file that fails meanwhile drops the entries and needs another call.
        recent.set_loaded();
        let registry = self.registry();
        for partition in self.partition_set.partitions().iter().filter(|partition| may_count_in(partition, first)) {
            for webhook in registry.webhooks.keys() {
                let snapshot = self.partition_set.snapshot(partition).inspect_err(|_| recent.forget())?;
                let read = each_hour(&snapshot, *webhook, first, |hour, figures| {
                    recent.add_read(partition.first, RecentHour::new(*webhook, hour, &figures));
                });
                read.inspect_err(|_| recent.forget())?;
            }
        }
        Ok(())
    }

    /// The open deliveries of everything within `tenant`, without those whose retention has ended.
    pub fn tenant_backlog(&self, tenant: TenantScope, now: Time) -> Result<Backlog> {
        if tenant_figures::stored(&self.partition_set)?.is_none() {
            let webhooks: Vec<WebhookId> = self.registry().webhooks_within(tenant).map(|webhook| webhook.id).collect();
            return self.backlog(&webhooks, now);
        }
        let ((open, oldest_due), hidden) = self.with_hidden_open(tenant, now, || self.open_of_tenant(tenant, now))?;
        Ok(Backlog { waiting: open.saturating_sub(hidden.count()), oldest_due: oldest_due.filter(|at| *at <= now) })
    }

    /// The open deliveries within `tenant` by the sums, and when the oldest due one became due.
    fn open_of_tenant(&self, tenant: TenantScope, now: Time) -> Result<(u64, Option<Time>)> {
        let expiring = self.expiring(now);
        let registry = self.registry();
        let (mut open, mut oldest_due) = (0, None);
        for partition in self.partition_set.open_partitions() {
            // A snapshot lives for one partition: the writer waits for it when it opens a failed file again.
            let snapshot = self.partition_set.snapshot(&partition)?;
            open += sums_in(&snapshot, owner_within(tenant))?.map_or(0, |row| row.sums.open());
            for (webhook, head) in heads_in(&snapshot)? {
                if registry.webhook(tenant, webhook).is_none() {
                    continue;
                }
                let first = match expiring.concerns(&partition) {
                    false => Some(head),
                    true => self.first_unexpired_due(&expiring, &partition, &snapshot, webhook, now)?.map(|(at, _)| at),
                };
                oldest_due = [oldest_due, first].into_iter().flatten().min();
            }
        }
        Ok((open, oldest_due))
    }

    /// The number of open deliveries of `tenant_backlog`, from the sums alone.
    pub fn tenant_open(&self, tenant: TenantScope, now: Time) -> Result<u64> {
        if tenant_figures::stored(&self.partition_set)?.is_none() {
            return Ok(self.tenant_backlog(tenant, now)?.waiting);
        }
        let (sums, hidden) =
            self.with_hidden_open(tenant, now, || self.partition_set.lifetime(owner_within(tenant)))?;
        Ok(sums.open().saturating_sub(hidden.count()))
    }

    /// Reads sums together with the open deliveries that lists do not show as open. If the writer has settled some of
    /// these meanwhile, both are read again, because the sums may have them or not.
    fn with_hidden_open<T>(
        &self,
        tenant: TenantScope,
        now: Time,
        read: impl Fn() -> Result<T>,
    ) -> Result<(T, HiddenOpen)> {
        let mut hidden = self.hidden_open(tenant, now)?;
        for _ in 0..READ_AGAIN_MAX {
            let (sums, after) = (read()?, self.hidden_open(tenant, now)?);
            if after == hidden {
                return Ok((sums, hidden));
            }
            hidden = after;
        }
        Ok((read()?, hidden))
    }

    /// Counts the open deliveries within `tenant` that lists do not show as open.
    fn hidden_open(&self, tenant: TenantScope, now: Time) -> Result<HiddenOpen> {
        let expiring = self.expiring(now);
        let (registry, removed) = (self.registry(), self.partition_set.removed());
        let mut hidden = HiddenOpen::default();
        let mut budget = COUNTED_ROWS_MAX as u64;
        for partition in self.partition_set.open_partitions() {
            if removed.is_empty() && !expiring.concerns(&partition) {
                continue;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            if expiring.is_expired(&partition) {
                hidden.expired += sums_in(&snapshot, owner_within(tenant))?.map_or(0, |row| row.sums.open());
                continue;
            }
            let mut concerned: BTreeSet<WebhookId> = removed.keys().copied().collect();
            if expiring.straddles(&partition) {
                concerned.extend(waiting_webhooks(&snapshot)?);
            }
            for webhook in concerned {
                let open = sums_in(&snapshot, webhook)?.map_or(0, |row| row.sums.open());
                let owner = owner_within(tenant);
                if open == 0 || !tenants_in(&registry, &snapshot, webhook)?.is_some_and(|own| own.contains(&owner)) {
                    continue;
                }
                let is_examined = !expiring.straddles(&partition) || open <= budget;
                let expired = match is_examined {
                    true => self.expired_open_in(&expiring, &partition, &snapshot, (webhook, open), now)?,
                    false => 0,
                };
                budget -= if expiring.straddles(&partition) && is_examined { open } else { 0 };
                hidden.expired += expired;
                hidden.cancelled.extend(removed.get(&webhook).map(|at| (*at, open - expired)));
            }
        }
        Ok(hidden)
    }

    /// The backlog of these webhooks, without deliveries whose retention has ended.
    pub fn backlog(&self, webhooks: &[WebhookId], now: Time) -> Result<Backlog> {
        let expiring = self.expiring(now);
        let mut backlog = Backlog::default();
        let partitions = self.partition_set.open_partitions();
        let slices = webhooks.chunks(MEASURED_WEBHOOKS);
        // Open deliveries that one measurement examines in the partition that straddles the retention cut-off.
        let mut budget = COUNTED_ROWS_MAX as u64;
        for (partition, slice) in
            partitions.iter().flat_map(|partition| slices.clone().map(move |slice| (partition, slice)))
        {
            // A snapshot lives for one slice: the writer waits for it when it opens a failed file again.
            let snapshot = self.partition_set.snapshot(partition)?;
            for &webhook in slice {
                self.add_backlog(&expiring, partition, &snapshot, (webhook, now), &mut budget, &mut backlog)?;
            }
        }
        Ok(backlog)
    }

    fn add_backlog(
        &self,
        expiring: &ExpiringPartitions,
        partition: &Arc<Partition>,
        snapshot: &Snapshot,
        (webhook, now): (WebhookId, Time),
        budget: &mut u64,
        backlog: &mut Backlog,
    ) -> Result<()> {
        let open = sums_in(snapshot, webhook)?.map_or(0, |row| row.sums.open());
        if open == 0 {
            return Ok(());
        }
        let straddles = expiring.straddles(partition);
        let is_examined = !straddles || open <= *budget;
        if straddles && is_examined {
            *budget -= open;
        }
        let (expired, first) = if is_examined {
            (
                self.expired_open_in(expiring, partition, snapshot, (webhook, open), now)?,
                self.first_unexpired_due(expiring, partition, snapshot, webhook, now)?,
            )
        } else {
            (0, first_due(snapshot, webhook)?)
        };
        backlog.waiting += open - expired;
        let first = first.map(|(at, _)| at).filter(|at| *at <= now);
        backlog.oldest_due = [backlog.oldest_due, first].into_iter().flatten().min();
        Ok(())
    }
}

impl HourSpan {
    /// `(minute since 1970, counts)`, oldest first.
    pub fn minutes(&self) -> impl Iterator<Item = (u32, Minute)> {
        minutes_of(&self.hours)
    }

    /// The minutes of the last 24 hours: (now - 24 h, now], to the minute.
    pub fn last_day(&self, now: Time) -> Vec<(u32, Minute)> {
        last_day_of(&self.hours, now).collect()
    }
}

/// The owner of the figures of everything within a tenant scope.
fn owner_within(tenant: TenantScope) -> FiguresOwner {
    tenant.app.map_or(owner_of(tenant.org), owner_of)
}

fn minutes_of(hours: &BTreeMap<u32, HourFigures>) -> impl Iterator<Item = (u32, Minute)> {
    hours.iter().flat_map(|(hour, figures)| {
        figures.minutes.iter().map(move |(minute, counts)| (hour * MINUTES + u32::from(*minute), *counts))
    })
}

fn last_day_of(hours: &BTreeMap<u32, HourFigures>, now: Time) -> impl Iterator<Item = (u32, Minute)> {
    let span = now.minus_ms(DAY_MS).minute() + 1..=now.minute();
    minutes_of(hours).filter(move |(minute, _)| span.contains(minute))
}

fn add_cancelled(minutes: &mut Vec<(u32, Minute)>, cancelled: &[(Time, u64)], now: Time) {
    let span = now.minus_ms(DAY_MS).minute() + 1..=now.minute();
    for (at, count) in cancelled.iter().filter(|(at, _)| span.contains(&at.minute())) {
        let place = match minutes.binary_search_by_key(&at.minute(), |(minute, _)| *minute) {
            Ok(place) => place,
            Err(place) => {
                minutes.insert(place, (at.minute(), Minute::default()));
                place
            }
        };
        minutes[place].1.cancelled += *count as u32;
    }
}

/// Whether a partition may have figures of the hour `first` or a later one.
fn may_count_in(partition: &Partition, first: u32) -> bool {
    let row = partition.row();
    let last = row.last.map(|last| Id::<Attempt>::from_u128(last).time().plus_ms(HOUR_MS).hour());
    row.last_hour.or(last).is_none_or(|last| first <= last)
}

/// Shows the hours of an owner in one partition from `first` on, oldest first.
fn each_hour(
    snapshot: &Snapshot,
    owner: FiguresOwner,
    first: u32,
    mut show: impl FnMut(u32, HourFigures),
) -> Result<()> {
    // Hour 0 is the row of the sums.
    let (from, to) = (tables::figures(owner, first.max(1)), tables::figures(owner, u32::MAX));
    snapshot.scan(Table::Figures, (Bound::Included(&from), Bound::Included(&to)), Direction::Up, |key, value| {
        let hour = key.last_chunk::<4>().map_or(0, |hour| u32::from_be_bytes(*hour));
        show(hour, codec::decode(value).ok_or_else(|| snapshot.damaged(Table::Figures, key))?);
        Ok(ScanStep::Go)
    })
}

/// The webhooks with open deliveries in one partition.
fn waiting_webhooks(snapshot: &Snapshot) -> Result<BTreeSet<WebhookId>> {
    let mut webhooks = BTreeSet::new();
    for table in [Table::Due, Table::Queue] {
        let mut from = Key::new();
        loop {
            let mut found = None;
            snapshot.scan(table, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, _| {
                found = tables::first_id(key);
                Ok(ScanStep::Stop)
            })?;
            let Some(webhook) = found else { break };
            webhooks.insert(webhook);
            from = tables::one(WebhookId::next(&webhook));
        }
    }
    Ok(webhooks)
}

#[cfg(test)]
mod tests;
