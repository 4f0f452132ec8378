//! Lists the open deliveries of a webhook. Those of the due index come first, by their due time, then those that stand
//! behind another one in an ordered queue.
//!
//! Invariant: a page with a position behind it has rows, or has examined `INDEXED_ROWS_MAX` entries.

use std::ops::Bound;

use crate::model::id::{DeliveryId, WebhookId};
use crate::model::webhook::DeliveryOrder;
use crate::model::{Delivery, Time, Webhook};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::apply::publish::key_hash;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{decoded, entries_of};
use crate::store::read::query::INDEXED_ROWS_MAX;

/// The position behind the last entry of a page of waiting deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitingPosition {
    /// The due time and the delivery, in the due index.
    Due(Time, DeliveryId),
    /// The hash of the queue's key and the delivery, in the ordered queues.
    Queued(u64, DeliveryId),
}

impl WaitingPosition {
    /// Before every entry.
    pub const START: WaitingPosition = WaitingPosition::Due(Time::ZERO, DeliveryId::MIN);

    const fn delivery(self) -> DeliveryId {
        match self {
            WaitingPosition::Due(_, id) | WaitingPosition::Queued(_, id) => id,
        }
    }
}

/// One page of waiting deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingPage {
    /// Each with the delivery that stands before it in an ordered queue.
    pub rows: Vec<(Delivery, Option<DeliveryId>)>,
    pub next: Option<WaitingPosition>,
}

impl Store {
    /// A page of a webhook's open deliveries, those after `after`.
    pub fn waiting(
        &self,
        webhook: WebhookId,
        after: Option<WaitingPosition>,
        limit: usize,
        now: Time,
    ) -> Result<WaitingPage> {
        let mut page = WaitingPage::default();
        let mut snapshots = Vec::new();
        for partition in self.partition_set.open_partitions() {
            snapshots.push(self.partition_set.snapshot(&partition)?);
        }
        let mut after = after.unwrap_or(WaitingPosition::START);
        let mut examined = 0;
        loop {
            let entries = entries_after(&snapshots, webhook, after, limit + 1)?;
            if entries.is_empty() {
                match after {
                    WaitingPosition::Due(..) => after = WaitingPosition::Queued(0, DeliveryId::MIN),
                    WaitingPosition::Queued(..) => return Ok(page),
                }
            }
            for (position, number) in entries {
                if page.rows.len() == limit || examined == INDEXED_ROWS_MAX {
                    page.next = Some(after);
                    return Ok(page);
                }
                (after, examined) = (position, examined + 1);
                page.rows.extend(self.waiting_row(&snapshots, number, webhook, position, now)?);
            }
        }
    }

    /// The delivery of an entry of snapshot `number`, with the delivery that stands before it. `None` if it is not open, and
    /// for the head of a queue, which is listed in the due index.
    pub(in crate::store) fn waiting_row(
        &self,
        snapshots: &[Snapshot],
        number: usize,
        webhook: WebhookId,
        position: WaitingPosition,
        now: Time,
    ) -> Result<Option<(Delivery, Option<DeliveryId>)>> {
        let id = position.delivery();
        let delivery = decoded::<Delivery>(&snapshots[number], Table::Deliveries, id.as_bytes())?;
        let Some(delivery) = delivery.filter(|d| !d.status.is_final() && self.is_retained(d.event_id, now)) else {
            return Ok(None);
        };
        let behind = match position {
            WaitingPosition::Due(..) => return Ok(Some((self.shown(delivery), None))),
            WaitingPosition::Queued(key_hash, _) => head_before(snapshots, webhook, key_hash, id)?,
        };
        Ok(behind.map(|head| (self.shown(delivery), Some(head))))
    }

    /// The head of a webhook's own queue as it is stored, if others stand behind it. `None` for a webhook that is not
    /// ordered as a whole.
    pub fn queue_head(&self, webhook: &Webhook) -> Result<Option<Delivery>> {
        if webhook.ordered != DeliveryOrder::Webhook {
            return Ok(None);
        }
        let mut queued: Vec<(DeliveryId, Option<Delivery>)> = Vec::new();
        for partition in self.partition_set.open_partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let first = queued_after(&snapshot, webhook.id, (0, DeliveryId::MIN), 2)?;
            for (_, id) in first.into_iter().take_while(|(hash, _)| *hash == 0) {
                queued.push((id, decoded::<Delivery>(&snapshot, Table::Deliveries, id.as_bytes())?));
            }
        }
        queued.sort_unstable_by_key(|(id, _)| *id);
        let head = queued.first().and_then(|(_, head)| head.clone());
        Ok(head.filter(|head| queued.len() > 1 && !head.status.is_final()))
    }

    /// The delivery that stands before an open one in an ordered queue. `None` if none does.
    pub fn standing_before(&self, delivery: &Delivery) -> Result<Option<DeliveryId>> {
        if delivery.status.is_final() {
            return Ok(None);
        }
        let Some(home) = self.partition_set.partition_of(delivery.event_id.as_u128()) else { return Ok(None) };
        // Both possible queues, because the setting may have changed since the delivery was made.
        for hash in [Some(0), delivery.ordering_key.as_deref().map(key_hash)].into_iter().flatten() {
            let key = tables::queue(delivery.webhook_id, hash, delivery.id);
            // The snapshot is dropped here. A read of the same partition below may wait for the writer, and the writer
            // may wait for this snapshot.
            if self.partition_set.snapshot(&home)?.get(Table::Queue, &key, |_| ())?.is_none() {
                continue;
            }
            let mut snapshots = Vec::new();
            for partition in self.partition_set.open_partitions() {
                snapshots.push(self.partition_set.snapshot(&partition)?);
            }
            let head = head_before(&snapshots, delivery.webhook_id, hash, delivery.id)?;
            if head.is_some() {
                return Ok(head);
            }
        }
        Ok(None)
    }
}

/// The next entries of the part of the list that `after` is in, each with the number of its snapshot.
fn entries_after(
    snapshots: &[Snapshot],
    webhook: WebhookId,
    after: WaitingPosition,
    limit: usize,
) -> Result<Vec<(WaitingPosition, usize)>> {
    let mut entries = Vec::new();
    for (number, snapshot) in snapshots.iter().enumerate() {
        let of_one = positions_after(snapshot, webhook, after, limit)?;
        entries.extend(of_one.into_iter().map(|position| (position, number)));
    }
    entries.sort_unstable();
    entries.truncate(limit);
    Ok(entries)
}

/// The next entry of a webhook in one partition, in the part of the list that `after` is in.
pub(in crate::store) fn first_after(
    snapshot: &Snapshot,
    webhook: WebhookId,
    after: WaitingPosition,
) -> Result<Option<WaitingPosition>> {
    Ok(positions_after(snapshot, webhook, after, 1)?.pop())
}

fn positions_after(
    snapshot: &Snapshot,
    webhook: WebhookId,
    after: WaitingPosition,
    limit: usize,
) -> Result<Vec<WaitingPosition>> {
    Ok(match after {
        WaitingPosition::Due(at, id) => {
            let due = entries_of(snapshot, webhook, Some((at, id)), limit)?;
            due.into_iter().map(|(at, id)| WaitingPosition::Due(at, id)).collect()
        }
        WaitingPosition::Queued(hash, id) => {
            let queued = queued_after(snapshot, webhook, (hash, id), limit)?;
            queued.into_iter().map(|(hash, id)| WaitingPosition::Queued(hash, id)).collect()
        }
    })
}

fn queued_after(
    snapshot: &Snapshot,
    webhook: WebhookId,
    (hash, id): (u64, DeliveryId),
    limit: usize,
) -> Result<Vec<(u64, DeliveryId)>> {
    let from = tables::queue(webhook, hash, id);
    let to = tables::queue(webhook, u64::MAX, DeliveryId::MAX);
    let mut queued = Vec::new();
    snapshot.scan(Table::Queue, (Bound::Excluded(&from), Bound::Included(&to)), Direction::Up, |key, _| {
        queued.extend(tables::read_queue(key).map(|(_, hash, id)| (hash, id)));
        Ok(if queued.len() < limit { ScanStep::Go } else { ScanStep::Stop })
    })?;
    Ok(queued)
}

/// The head of a queue, in any partition, if it is not `delivery`.
fn head_before(
    snapshots: &[Snapshot],
    webhook: WebhookId,
    key_hash: u64,
    delivery: DeliveryId,
) -> Result<Option<DeliveryId>> {
    let from = tables::queue(webhook, key_hash, DeliveryId::MIN);
    let to = tables::queue(webhook, key_hash, delivery);
    let mut head: Option<DeliveryId> = None;
    for snapshot in snapshots {
        snapshot.scan(Table::Queue, (Bound::Included(&from), Bound::Excluded(&to)), Direction::Up, |key, _| {
            head = [head, tables::last_id(key)].into_iter().flatten().min();
            Ok(ScanStep::Stop)
        })?;
    }
    Ok(head)
}
