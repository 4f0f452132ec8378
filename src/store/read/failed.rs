//! Lists failed deliveries by the time at which they ended, latest first, from the index of their webhook, app or organization.
//!
//! Invariant: every visible failed delivery is listed exactly once. First come the entries of the index, in all partitions, in
//! the order of their ends. Then come the deliveries that failed before the index existed, by a walk over the partitions
//! that an earlier version wrote, newest delivery first.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use crate::model::id::{DeliveryId, EventId, Id, WebhookId};
use crate::model::{Delivery, DeliveryStatus, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::command::TenantScope;
use crate::store::partitions::index_start::{self, LaterIndex};
use crate::store::partitions::set::{Partition, PartitionSet};
use crate::store::read::lists::{Store, before, event_in};
use crate::store::read::lookup::decoded;
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::query::{DeliveryQuery, TimeSpan};

/// Number of index entries that one slice reads from a partition.
const SLICE_ENTRIES: usize = 32;

/// The position behind the last row of a page of failed deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailedPosition {
    /// The end and the id of the last entry that was examined in the index.
    Indexed(Time, DeliveryId),
    /// The id below which the walk over partitions that lack entries goes on.
    Walked(u128),
}

/// One page of failed deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedPage {
    pub rows: Vec<Delivery>,
    /// `None` at the end of the list.
    pub next: Option<FailedPosition>,
    /// Deliveries that ended before this time may follow out of order and in pages without rows. `None` if the index has
    /// every failed delivery.
    pub indexed_from: Option<Time>,
}

impl Store {
    /// A page of the failed deliveries that `query` finds, those after `position`. `query.status` and
    /// `query.window.before` are ignored, and `query.window` filters by the time of acceptance.
    pub fn failed_deliveries(
        &self,
        query: &DeliveryQuery,
        position: Option<FailedPosition>,
        now: Time,
    ) -> Result<FailedPage> {
        let start = index_start::stored(&self.partition_set, LaterIndex::FailedDeliveries)?;
        let is_whole = !self.partition_set.partitions().iter().any(|p| start.lacks_entries(p.first));
        let indexed_from = (!is_whole).then_some(start.at.min(now));
        let mut page = FailedPage { rows: Vec::new(), next: None, indexed_from };
        let below = match position {
            Some(FailedPosition::Walked(_)) => None,
            Some(FailedPosition::Indexed(at, id)) => Some((at, id)),
            None => Some((Time::MAX, DeliveryId::MAX)),
        };
        if let Some(below) = below {
            self.indexed_failures(query, below, now, &mut page)?;
        }
        // Since the start of the index every failed delivery has its entries.
        let is_recent = query.ended.from.is_some_and(|from| from >= start.at);
        if page.next.is_none() && !is_whole && !is_recent {
            let below = if let Some(FailedPosition::Walked(id)) = position { id } else { u128::MAX };
            self.walked_failures(query, below, start, now, &mut page)?;
        }
        Ok(page)
    }

    /// The number of failed deliveries that ended within `ended`, of a webhook or of everything within `tenant`, as far as
    /// `most`. It reads entries of the index alone. `None` if the index lacks deliveries that ended within `ended`.
    pub fn failed_count(
        &self,
        (tenant, webhook): (TenantScope, Option<WebhookId>),
        ended: TimeSpan,
        most: usize,
        now: Time,
    ) -> Result<Option<usize>> {
        let start = index_start::stored(&self.partition_set, LaterIndex::FailedDeliveries)?;
        let is_recent = ended.from.is_some_and(|from| from >= start.at);
        if !is_recent && self.partition_set.partitions().iter().any(|p| start.lacks_entries(p.first)) {
            return Ok(None);
        }
        let owner: Id<()> = Id::from_bytes(owner_of(tenant, webhook));
        let (to, top) = ended.to.map_or((Time::MAX, DeliveryId::MAX), |to| (to, DeliveryId::MIN));
        let from = tables::failed(owner, ended.from.unwrap_or(Time::ZERO), DeliveryId::MIN);
        let to = tables::failed(owner, to, top);
        let oldest = DeliveryId::floor(now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1));
        let mut count = 0;
        for partition in self.partition_set.partitions() {
            if count == most {
                break;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
            snapshot.scan(Table::FailedByOwner, range, Direction::Up, |key, _| {
                count += usize::from(tables::read_failed(key).is_some_and(|(_, id)| id >= oldest));
                Ok(if count < most { ScanStep::Go } else { ScanStep::Stop })
            })?;
        }
        Ok(Some(count))
    }

    /// Adds rows from the index.
    fn indexed_failures(
        &self,
        query: &DeliveryQuery,
        below: (Time, DeliveryId),
        now: Time,
        page: &mut FailedPage,
    ) -> Result<()> {
        let owner = owner_of(query.tenant, query.webhook);
        let top = query.ended.to.map_or(below, |to| below.min((to, DeliveryId::MIN)));
        let mut entries = LatestEndFirst::below(&self.partition_set, owner, query.ended.from, top);
        let mut last = None;
        for _ in 0..query.examined_window().examined_max {
            let Some((entry, snapshot)) = entries.next()? else { return Ok(()) };
            if let Some((at, id)) = last.filter(|_| page.rows.len() == query.window.limit) {
                page.next = Some(FailedPosition::Indexed(at, id));
                return Ok(());
            }
            let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, entry.1.as_bytes())?;
            page.rows.extend(delivery.filter(|delivery| self.is_listed_failure(query, (delivery, snapshot), now)));
            last = Some(entry);
        }
        page.next = last.map(|(at, id)| FailedPosition::Indexed(at, id));
        Ok(())
    }

    /// Adds rows of partitions that lack entries: the failed deliveries without one.
    fn walked_failures(
        &self,
        query: &DeliveryQuery,
        below: u128,
        start: index_start::IndexStart,
        now: Time,
        page: &mut FailedPage,
    ) -> Result<()> {
        let (table, prefix) = match &query.webhook {
            Some(webhook) => (Table::DeliveriesByWebhook, webhook.as_bytes().as_slice()),
            None => (Table::Deliveries, [].as_slice()),
        };
        let oldest = now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1);
        let from = DeliveryId::floor(query.window.from.map_or(oldest, |from| from.max(oldest))).as_u128();
        let top = below.min(before(query.window));
        let mut ids =
            NewestFirst::below(&self.partition_set, table, prefix, top).only(|first| start.lacks_entries(first));
        for _ in 0..query.examined_window().examined_max {
            let Some(listed) = ids.next_listed()?.filter(|listed| listed.id >= from) else { return Ok(()) };
            let (id, snapshot) = (listed.id, listed.snapshot);
            if page.rows.len() == query.window.limit {
                page.next = Some(FailedPosition::Walked(id + 1));
                return Ok(());
            }
            let Some(delivery) = listed.row::<Delivery>(Table::Deliveries)? else { continue };
            if self.is_listed_failure(query, (&delivery, snapshot), now) && !is_indexed(snapshot, &delivery)? {
                page.rows.push(delivery);
            }
        }
        let next = ids.next_id()?.filter(|(next, _)| *next >= from);
        page.next = next.map(|(next, _)| FailedPosition::Walked(next + 1));
        Ok(())
    }

    fn is_listed_failure(
        &self,
        query: &DeliveryQuery,
        (delivery, snapshot): (&Delivery, &Snapshot),
        now: Time,
    ) -> bool {
        let from = query.window.from.map_or(0, |from| EventId::floor(from).as_u128());
        let to = query.window.to.map_or(u128::MAX, |to| EventId::floor(to).as_u128());
        delivery.status == DeliveryStatus::Failed
            && (from..to).contains(&delivery.id.as_u128())
            && self.is_retained(delivery.event_id, now)
            && self.wanted_delivery(query, delivery, || event_in(snapshot, delivery))
    }
}

/// The owner whose entries a list reads: the webhook, or else the app or the organization.
fn owner_of(tenant: TenantScope, webhook: Option<WebhookId>) -> [u8; 16] {
    let owner = webhook.map(|id| *id.as_bytes()).or(tenant.app.map(|id| *id.as_bytes()));
    owner.unwrap_or(*tenant.org.as_bytes())
}

fn is_indexed(snapshot: &Snapshot, delivery: &Delivery) -> Result<bool> {
    let Some(at) = delivery.completed_at else { return Ok(false) };
    let key = tables::failed(delivery.webhook_id, at, delivery.id);
    Ok(snapshot.get(Table::FailedByOwner, &key, |_| ())?.is_some())
}

/// The index entries of one owner, over all partitions, latest end first. A snapshot lives for one slice, as in
/// `NewestFirst`.
pub(in crate::store) struct LatestEndFirst<'a> {
    partition_set: &'a PartitionSet,
    owner: [u8; 16],
    from: Time,
    sources: Vec<EntryCursor>,
}

struct EntryCursor {
    partition: Arc<Partition>,
    snapshot: Option<Snapshot>,
    /// Entries read ahead, in descending order.
    ready: VecDeque<(Time, DeliveryId)>,
    /// Entries at and above this one have been read.
    below: (Time, DeliveryId),
    done: bool,
}

impl<'a> LatestEndFirst<'a> {
    pub(in crate::store) fn below(
        partition_set: &'a PartitionSet,
        owner: [u8; 16],
        from: Option<Time>,
        below: (Time, DeliveryId),
    ) -> LatestEndFirst<'a> {
        let source = |partition| EntryCursor { partition, snapshot: None, ready: VecDeque::new(), below, done: false };
        // Every partition: its deliveries end at any time, and after a step of the clock before the time of their ids.
        let sources = partition_set.partitions().into_iter().map(source).collect();
        LatestEndFirst { partition_set, owner, from: from.unwrap_or(Time::ZERO), sources }
    }

    /// The next entry and the snapshot of the partition that has it.
    pub(in crate::store) fn next(&mut self) -> Result<Option<((Time, DeliveryId), &Snapshot)>> {
        for at in 0..self.sources.len() {
            if self.sources[at].ready.is_empty() && !self.sources[at].done {
                self.read_ahead(at)?;
            }
        }
        let latest = self.sources.iter_mut().max_by_key(|source| source.ready.front().copied());
        let Some(source) = latest else { return Ok(None) };
        Ok(source.ready.pop_front().zip(source.snapshot.as_ref()))
    }

    fn read_ahead(&mut self, at: usize) -> Result<()> {
        let owner: Id<()> = Id::from_bytes(self.owner);
        let source = &mut self.sources[at];
        // The old snapshot is dropped first: a thread that waits for the file to be released holds its lock.
        source.snapshot = None;
        let snapshot = source.snapshot.insert(self.partition_set.snapshot(&source.partition)?);
        let from = tables::failed(owner, self.from, DeliveryId::MIN);
        let to = tables::failed(owner, source.below.0, source.below.1);
        let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        let ready = &mut source.ready;
        snapshot.scan(Table::FailedByOwner, range, Direction::Down, |key, _| {
            ready.extend(tables::read_failed(key));
            Ok(if ready.len() < SLICE_ENTRIES { ScanStep::Go } else { ScanStep::Stop })
        })?;
        source.done = source.ready.len() < SLICE_ENTRIES;
        match source.ready.back() {
            Some(last) => source.below = *last,
            None => source.snapshot = None,
        }
        Ok(())
    }
}

#[cfg(test)]
pub(in crate::store) mod tests;
