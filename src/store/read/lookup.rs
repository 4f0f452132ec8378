//! Looks up rows by key, in one partition or in all of them.

use std::ops::Bound;

use bytes::Bytes;

use crate::model::id::{DeliveryId, EventId, Id, WebhookId};
use crate::model::{Attempt, AttemptFront, Delivery, Event, Time, Webhook};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::model::job::{Job, JobId};
use crate::store::figures::SumsRow;
use crate::store::partitions::set::PartitionSet;

/// Maximum number of replays of one event that a list shows.
const REPLAYS_MAX: usize = 10_000;

/// Position of a due entry in a webhook's due list: when it is due, then its delivery.
pub type DueKey = (Time, DeliveryId);

/// Reads and decodes the row at `key`. `None` if there is no such row.
pub(in crate::store) fn decoded<T: serde::de::DeserializeOwned>(
    snapshot: &Snapshot,
    table: Table,
    key: &[u8],
) -> Result<Option<T>> {
    match snapshot.get(table, key, codec::decode::<T>)? {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(snapshot.damaged(table, key)),
    }
}

/// The attempt in a row if `wanted` accepts its front. The headers and the body of others are not decoded. `None` if the row
/// is damaged.
pub(in crate::store) fn attempt_in(
    row: &[u8],
    wanted: impl FnOnce(&AttemptFront<'_>) -> bool,
) -> Option<Option<Attempt>> {
    let front = codec::decode_borrowed(row)?;
    if wanted(&front) { codec::decode(row).map(Some) } else { Some(None) }
}

/// The greatest id in a partition.
pub(in crate::store) fn last_id(snapshot: &Snapshot) -> Result<u128> {
    let mut last = 0;
    for table in [Table::Events, Table::Deliveries, Table::Attempts, Table::IdempotencyKeys] {
        snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Down, |key, _| {
            last = last.max(tables::first_id::<Delivery>(key).map_or(0, |id| id.as_u128()));
            Ok(ScanStep::Stop)
        })?;
    }
    Ok(last)
}

/// The sums of every webhook and job in a partition.
pub(in crate::store) fn sums_of(snapshot: &Snapshot) -> Result<Vec<(Id<Webhook>, SumsRow)>> {
    let mut all = Vec::new();
    let mut from = Key::new();
    loop {
        let mut found = None;
        snapshot.scan(Table::Figures, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, value| {
            found = Some((key.to_vec(), value.to_vec()));
            Ok(ScanStep::Stop)
        })?;
        let Some((key, value)) = found else { return Ok(all) };
        let Some(owner) = tables::first_id::<Webhook>(&key) else { return Err(snapshot.damaged(Table::Figures, &key)) };
        if key.ends_with(&[0; 4]) {
            let row = codec::decode(&value).ok_or_else(|| snapshot.damaged(Table::Figures, &key))?;
            all.push((owner, row));
        }
        from = tables::figures(owner.next(), 0);
    }
}

/// The sums of a webhook in one partition.
pub(in crate::store) fn sums_in(snapshot: &Snapshot, webhook: WebhookId) -> Result<Option<SumsRow>> {
    decoded::<SumsRow>(snapshot, Table::Figures, &tables::figures(webhook, 0))
}

/// Finds a row by its id, searching the partitions from newest to oldest.
pub(in crate::store) fn anywhere<T: serde::de::DeserializeOwned>(
    partition_set: &PartitionSet,
    table: Table,
    id: u128,
) -> Result<Option<T>> {
    for partition in partition_set.partitions().into_iter().rev().filter(|partition| partition.may_contain(id)) {
        if let Some(row) = decoded::<T>(&partition_set.snapshot(&partition)?, table, &id.to_be_bytes())? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Finds a delivery by its id in any partition.
pub(in crate::store) fn delivery_anywhere(partition_set: &PartitionSet, id: DeliveryId) -> Result<Option<Delivery>> {
    anywhere(partition_set, Table::Deliveries, id.as_u128())
}

/// Reads a replay job from the state file.
pub(in crate::store) fn job_anywhere(partition_set: &PartitionSet, id: JobId) -> Result<Option<Job>> {
    decoded(&partition_set.state()?.snapshot()?, Table::Jobs, id.as_bytes())
}

/// The payload of an event.
pub(in crate::store) fn data_in(snapshot: &Snapshot, event: &Event) -> Result<Bytes> {
    snapshot.payload(event.id, event.data_bytes as usize)
}

/// All deliveries of an event. Published ones follow the event's id, and `ReplaysByEvent` lists the replays.
pub(in crate::store) fn deliveries_in(snapshot: &Snapshot, event: &Event) -> Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    let mut left = event.deliveries;
    snapshot.scan(
        Table::Deliveries,
        (Bound::Included(event.id.as_bytes()), Bound::Unbounded),
        Direction::Up,
        |key, value| {
            if left == 0 {
                return Ok(ScanStep::Stop);
            }
            left -= 1;
            let delivery = codec::decode::<Delivery>(value).ok_or_else(|| snapshot.damaged(Table::Deliveries, key))?;
            if delivery.event_id == event.id {
                deliveries.push(delivery);
            }
            Ok(ScanStep::Go)
        },
    )?;
    for id in replays_in(snapshot, event.id)? {
        deliveries.extend(decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?);
    }
    Ok(deliveries)
}

/// The deliveries of an event to one webhook, oldest first. A caller that has the published one hands it in.
pub(in crate::store) fn deliveries_to_in(
    snapshot: &Snapshot,
    webhook: WebhookId,
    event: EventId,
    published: Option<Delivery>,
) -> Result<Vec<Delivery>> {
    let mut deliveries: Vec<Delivery> = match published {
        Some(published) => vec![published],
        None => published_to_in(snapshot, webhook, event)?.into_iter().collect(),
    };
    for id in replays_in(snapshot, event)? {
        if snapshot.get(Table::DeliveriesByWebhook, &tables::pair(webhook, id), |_| ())?.is_some() {
            deliveries.extend(decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?);
        }
    }
    Ok(deliveries)
}

fn published_to_in(snapshot: &Snapshot, webhook: WebhookId, event: EventId) -> Result<Option<Delivery>> {
    let (from, to) = (tables::pair(webhook, event), tables::pair(webhook, DeliveryId::MAX));
    let mut first = None;
    snapshot.scan(
        Table::DeliveriesByWebhook,
        (Bound::Excluded(&from), Bound::Included(&to)),
        Direction::Up,
        |key, _| {
            first = tables::last_id::<Delivery>(key);
            Ok(ScanStep::Stop)
        },
    )?;
    let Some(id) = first else { return Ok(None) };
    let found = decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?;
    Ok(found.filter(|delivery| delivery.event_id == event && !delivery.is_replay()))
}

/// The ids of the replays of an event, oldest first.
pub(in crate::store) fn replays_in(snapshot: &Snapshot, event: EventId) -> Result<Vec<DeliveryId>> {
    let (from, to) = (tables::pair(event, DeliveryId::MIN), tables::pair(event, DeliveryId::MAX));
    let mut replays = Vec::new();
    snapshot.scan(Table::ReplaysByEvent, (Bound::Included(&from), Bound::Included(&to)), Direction::Up, |key, _| {
        replays.extend(tables::last_id::<Delivery>(key));
        Ok(if replays.len() < REPLAYS_MAX { ScanStep::Go } else { ScanStep::Stop })
    })?;
    Ok(replays)
}

/// The first due entry of a webhook in one partition.
pub(in crate::store) fn first_due(snapshot: &Snapshot, webhook: WebhookId) -> Result<Option<DueKey>> {
    Ok(entries_of(snapshot, webhook, None, 1)?.pop())
}

/// Up to `limit` due entries of a webhook after `after`, earliest first.
pub(in crate::store) fn entries_of(
    snapshot: &Snapshot,
    webhook: WebhookId,
    after: Option<DueKey>,
    limit: usize,
) -> Result<Vec<DueKey>> {
    let from = match after {
        Some((at, delivery)) => Bound::Excluded(tables::due(webhook, at, delivery)),
        None => Bound::Included(tables::due(webhook, Time::ZERO, DeliveryId::MIN)),
    };
    let to = tables::due(webhook, Time(i64::MAX), Id::MAX);
    let mut entries = Vec::new();
    snapshot.scan(Table::Due, (from.as_ref().map(Key::as_slice), Bound::Included(&to)), Direction::Up, |key, _| {
        entries.extend(tables::read_due(key).map(|(_, at, delivery)| (at, delivery)));
        Ok(if entries.len() < limit { ScanStep::Go } else { ScanStep::Stop })
    })?;
    Ok(entries)
}

/// Earliest due time of each webhook in one partition.
pub(in crate::store) fn heads_in(snapshot: &Snapshot) -> Result<Vec<(WebhookId, Time)>> {
    let mut heads = Vec::new();
    let mut from = Key::new();
    loop {
        let mut found = None;
        snapshot.scan(Table::Due, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, _| {
            found = tables::read_due(key);
            Ok(ScanStep::Stop)
        })?;
        let Some((webhook, at, _)) = found else { return Ok(heads) };
        heads.push((webhook, at));
        from = tables::due(webhook.next(), Time::ZERO, DeliveryId::MIN);
    }
}
