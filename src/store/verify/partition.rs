//! Verifies one partition: every row, its index rows, and the row of every index row.

mod app_events;
mod payload;

use std::collections::HashMap;
use std::ops::Bound;

use serde::de::DeserializeOwned;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, PARTITION_TABLES, Table};
use crate::model::figures::HourFigures;
use crate::model::id::{AttemptId, DeliveryId, EventId};
use crate::model::{Attempt, Delivery, DeliveryStatus, Event, Webhook};
use crate::store::apply::publish::key_hash;
use crate::store::apply::record::failed_keys;
use crate::store::command::Receipt;
use crate::store::event_names::names_of;
use crate::store::event_type_counts::TypeHourRow;
use crate::store::figures::{FiguresOwner, SumsRow};
use crate::store::idempotency::index;
use crate::store::partitions::index_start::{self, IndexStart, LaterIndex};
use crate::store::partitions::set::{PartitionRow, PartitionSet};
use crate::store::partitions::tenant_figures;
use crate::store::read::lookup::last_id;
use crate::store::verify::VerifyWalk;
use crate::store::verify::delivery_shape::shape;
use crate::store::verify::recount::{CommonCounts, Hours, Recount, attempts_of};
use crate::store::verify::state::{self, StateWalk, whole};

/// Walks all tables of the partition that begins with `span.0` and ends before `span.1`.
pub(in crate::store) fn walk(
    walk: &mut VerifyWalk<'_>,
    partition_set: &PartitionSet,
    snapshot: &Snapshot,
    view: &mut StateWalk,
    span: (u128, Option<u128>),
    queued: &[u128],
) -> Result<()> {
    let listed = view.partitions[&span.0];
    let mut on = PartitionWalk {
        walk,
        partition_set,
        snapshot,
        view,
        span,
        queued,
        listed,
        index_start: index_start::stored(partition_set, LaterIndex::FailedDeliveries)?,
        types_start: index_start::stored(partition_set, LaterIndex::EventTypes)?,
        apps_start: index_start::stored(partition_set, LaterIndex::EventsByApp)?,
        typed: 0,
        lacks_counts: tenant_figures::stored(partition_set)?.is_none_or(|start| start.lacks_counts(span.0)),
        names: 0,
        recount: Recount::default(),
        hours: None,
        hourly: HashMap::new(),
    };
    for table in PARTITION_TABLES {
        let mut rows = 0;
        snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
            on.walk.row();
            rows += 1;
            if let Some(detail) = on.row(table, key, value)? {
                on.walk.problem(table, key, &detail);
            }
            Ok(ScanStep::Go)
        })?;
        let counted = snapshot.rows(table)?;
        if rows != counted {
            on.walk.problem(table, &[], &format!("{rows} rows are found, {counted} are counted"));
        }
        if table == Table::AttemptsByWebhook {
            on.compare_hours()?;
        }
    }
    on.compare_counts()
}

/// Description of a defect in a row. `None` if the row is sound.
type Finding = Option<String>;

struct PartitionWalk<'a, 'b> {
    walk: &'a mut VerifyWalk<'b>,
    partition_set: &'a PartitionSet,
    snapshot: &'a Snapshot,
    view: &'a mut StateWalk,
    span: (u128, Option<u128>),
    queued: &'a [u128],
    listed: PartitionRow,
    index_start: IndexStart,
    types_start: IndexStart,
    apps_start: IndexStart,
    /// Sum of the stored counts of event types. Each event is counted twice: under its app and under its organization.
    typed: u64,
    /// Whether the partition has rows that an earlier version counted under their webhooks only.
    lacks_counts: bool,
    /// Names of the events.
    names: u64,
    recount: Recount,
    /// Hours of the webhook whose rows in `tried` are being walked.
    hours: Option<Hours>,
    /// The counts of the hours of each webhook, app and organization, less those of the rows found.
    hourly: HashMap<FiguresOwner, CommonCounts>,
}

impl PartitionWalk<'_, '_> {
    fn row(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<Finding> {
        let found = match table {
            Table::Meta => state::meta(key, value).err(),
            Table::Events => self.event(key, value)?,
            Table::Data => self.data(key, value)?,
            Table::Deliveries => self.delivery(key, value)?,
            Table::DeliveriesByWebhook => self.of_webhook(key)?,
            Table::ReplaysByEvent => self.of_event(key)?,
            Table::Due => self.due(key)?,
            Table::Expiries => self.end(key)?,
            Table::FailedByOwner => self.failed(key)?,
            Table::EventsByName => self.name(key)?,
            Table::EventTypes => self.event_type(key, value),
            Table::EventsByApp => self.of_app(key)?,
            Table::Queue => self.queue(key)?,
            Table::Attempts => self.attempt(key, value)?,
            Table::AttemptsByWebhook => self.tried(key)?,
            Table::Figures => self.figures(key, value)?,
            Table::IdempotencyKeys => self.event_key(key, value)?,
            Table::Answers => self.answer(key, value)?,
            _ => Some("the table is not of this file".into()),
        };
        Ok(found)
    }

    /// Finds a row of another table. `Some(None)` if it exists and does not decode, which the walk of its own table
    /// reports.
    fn find<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<Option<T>>> {
        self.snapshot.get(table, key, codec::decode::<T>)
    }

    fn has(&self, table: Table, key: &[u8]) -> Result<bool> {
        Ok(self.snapshot.get(table, key, |_| ())?.is_some())
    }

    fn event(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let event: Event = match whole(value) {
            Ok(event) => event,
            Err(detail) => return Ok(Some(detail)),
        };
        let id = event.id.as_u128();
        if key != event.id.as_bytes() || event.received_at != event.id.time() {
            return Ok(Some("the row is another one's".into()));
        }
        if id < self.span.0 || self.span.1.is_some_and(|end| id >= end) {
            return Ok(Some("the event is not of this partition's span".into()));
        }
        if event.erased_at.is_some() && event.data_bytes != 0 {
            return Ok(Some("erased, and yet it has data".into()));
        }
        if let Some(detail) = self.missing_part(&event)? {
            return Ok(Some(detail));
        }
        if let Some(name) = &event.attributes.event_id {
            let mut kept = tables::one(event.id);
            kept.push(index::KeyKind::EventId as u8);
            let found = self
                .snapshot
                .get(Table::IdempotencyKeys, &kept, |value| codec::decode_bytes(value).map(<[u8]>::to_vec))?;
            let expected = index::of_event_id(event.app_id, name).to_be_bytes();
            if found.is_none_or(|found| found.is_some_and(|found| found != expected)) {
                return Ok(Some("its event_id is not remembered".into()));
            }
        }
        if self.lacks_entry_of_app(&event)? {
            return Ok(Some("it is not in of_app".into()));
        }
        self.names += names_of(&event).count() as u64;
        Ok(self.published(&event)?.err())
    }

    /// Checks that the deliveries made by publishing follow the event's id.
    fn published(&self, event: &Event) -> Result<std::result::Result<(), String>> {
        let mut left = event.deliveries;
        let from = (Bound::Included(event.id.as_bytes().as_slice()), Bound::Unbounded);
        let mut strange = None;
        if left > 0 {
            self.snapshot.scan(Table::Deliveries, from, Direction::Up, |key, value| {
                let delivery = codec::decode::<Delivery>(value);
                if delivery.is_some_and(|d| d.event_id != event.id) {
                    strange = tables::first_id::<Delivery>(key);
                    return Ok(ScanStep::Stop);
                }
                left -= 1;
                Ok(if left == 0 { ScanStep::Stop } else { ScanStep::Go })
            })?;
        }
        Ok(match strange {
            Some(id) => Err(format!("delivery {id} of another event stands among its own")),
            None if left > 0 => Err(format!("{left} of its {} deliveries are missing", event.deliveries)),
            None => Ok(()),
        })
    }

    fn delivery(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let delivery: Delivery = match whole(value) {
            Ok(delivery) => delivery,
            Err(detail) => return Ok(Some(detail)),
        };
        if key != delivery.id.as_bytes() {
            return Ok(Some("the row is another one's".into()));
        }
        self.recount.delivery(&delivery);
        if let Some(detail) = shape(&delivery) {
            return Ok(Some(detail));
        }
        if !self.has(Table::Events, delivery.event_id.as_bytes())? {
            return Ok(Some("its event is not there".into()));
        }
        if !self.has(Table::DeliveriesByWebhook, &tables::pair(delivery.webhook_id, delivery.id))? {
            return Ok(Some("it is not in of_webhook".into()));
        }
        let again = delivery.is_replay();
        if self.has(Table::ReplaysByEvent, &tables::pair(delivery.event_id, delivery.id))? != again {
            return Ok(Some("of_event has the deliveries of replays alone".into()));
        }
        let ends = delivery.expires_at.filter(|_| !delivery.status.is_final());
        if let Some(end) = ends
            && !self.has(Table::Expiries, &tables::expiry(end, delivery.id))?
        {
            return Ok(Some("it expires some time, and is not in ends".into()));
        }
        if let Some(at) = delivery.completed_at.filter(|_| delivery.status == DeliveryStatus::Failed)
            && !self.index_start.lacks_entries(self.span.0)
        {
            for key in failed_keys(&delivery, at) {
                if !self.has(Table::FailedByOwner, &key)? {
                    return Ok(Some("it has failed and is not in failed".into()));
                }
            }
        }
        if let Some(detail) = self.place(&delivery)? {
            return Ok(Some(detail));
        }
        self.chain(&delivery)
    }

    /// Checks that an open delivery is due exactly if no other delivery precedes it in its queue.
    fn place(&mut self, delivery: &Delivery) -> Result<Finding> {
        let Some(due) = delivery.next_attempt_at else { return Ok(None) };
        let (mut queued, mut waits) = (false, false);
        for hash in queues_of(delivery) {
            if self.has(Table::Queue, &tables::queue(delivery.webhook_id, hash, delivery.id))? {
                queued = true;
                waits |= self.stands_before(delivery, hash)?;
            }
        }
        let is_due = self.has(Table::Due, &tables::due(delivery.webhook_id, due, delivery.id))?;
        Ok(match (waits, is_due) {
            (true, true) => Some("it is due while another one of its queue stands before it".into()),
            (false, false) if queued => {
                self.walk.report.to_release += 1;
                None
            }
            (false, false) => Some("it is open, and yet not due".into()),
            _ => None,
        })
    }

    /// Whether a delivery with a smaller id is in the same queue, in any partition.
    fn stands_before(&self, delivery: &Delivery, hash: u64) -> Result<bool> {
        let from = tables::queue(delivery.webhook_id, hash, DeliveryId::MIN);
        let to = tables::queue(delivery.webhook_id, hash, delivery.id);
        let before = |snapshot: &Snapshot| {
            let mut found = false;
            snapshot.scan(Table::Queue, (Bound::Included(&from), Bound::Excluded(&to)), Direction::Up, |_, _| {
                found = true;
                Ok(ScanStep::Stop)
            })?;
            Ok(found)
        };
        if before(self.snapshot)? {
            return Ok(true);
        }
        for first in self.queued.iter().filter(|first| **first != self.span.0) {
            let Some(other) = self.partition_set.partition(*first) else { continue };
            if before(&self.partition_set.snapshot(&other)?)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The attempts of a delivery, from its last one back to number 1.
    fn chain(&self, delivery: &Delivery) -> Result<Finding> {
        let mut next: Option<AttemptId> = delivery.last_attempt_id;
        let mut number = delivery.attempts;
        while let Some(id) = next {
            let attempt = match self.find::<Attempt>(Table::Attempts, id.as_bytes())? {
                None => return Ok(Some(format!("its attempt {id} is not there"))),
                Some(None) => return Ok(None),
                Some(Some(attempt)) => attempt,
            };
            if attempt.delivery_id != delivery.id || attempt.made.number != number || number == 0 {
                return Ok(Some(format!("attempt {id} is not its number {number}")));
            }
            number -= 1;
            next = attempt.retry_of;
        }
        Ok((number > 0).then(|| format!("its first {number} attempts are missing")))
    }

    fn of_webhook(&mut self, key: &[u8]) -> Result<Finding> {
        let (webhook, id) = (tables::first_id::<Webhook>(key), tables::last_id::<Delivery>(key));
        self.entry(key, 32, id, |d| webhook == Some(d.webhook_id))
    }

    fn of_event(&mut self, key: &[u8]) -> Result<Finding> {
        let (event, id) = (tables::first_id::<Event>(key), tables::last_id::<Delivery>(key));
        self.entry(key, 32, id, |d| event == Some(d.event_id))
    }

    fn due(&mut self, key: &[u8]) -> Result<Finding> {
        if self.listed.archived {
            return Ok(Some("due in a partition that is counted as quiet".into()));
        }
        let Some((webhook, at, id)) = tables::read_due(key) else { return Ok(Some("the key is no due entry".into())) };
        self.entry(key, 40, Some(id), |d| {
            d.webhook_id == webhook && d.next_attempt_at.map(|due| due.0.max(0)) == Some(at.0) && !d.status.is_final()
        })
    }

    fn end(&mut self, key: &[u8]) -> Result<Finding> {
        let Some((at, id)) = tables::read_expiry(key) else { return Ok(Some("the key is no end".into())) };
        self.entry(key, 24, Some(id), |d| d.expires_at.map(|end| end.0.max(0)) == Some(at.0) && !d.status.is_final())
    }

    fn failed(&mut self, key: &[u8]) -> Result<Finding> {
        let id = tables::read_failed(key).map(|(_, id)| id);
        self.entry(key, 40, id, |d| {
            let keys = d.completed_at.map(|at| failed_keys(d, at));
            d.status == DeliveryStatus::Failed && keys.is_some_and(|keys| keys.iter().any(|own| own.as_slice() == key))
        })
    }

    fn name(&mut self, key: &[u8]) -> Result<Finding> {
        let Some((_, hash, id)) = tables::read_name(key) else { return Ok(Some("the key is no name".into())) };
        let has_name = |event: &Event| names_of(event).any(|name| name.hash(event.org_id) == hash);
        Ok(match self.find::<Event>(Table::Events, id.as_bytes())? {
            None => Some("its event is not there".into()),
            Some(Some(event)) if !has_name(&event) => Some("its event has another name".into()),
            _ => None,
        })
    }

    fn queue(&mut self, key: &[u8]) -> Result<Finding> {
        if self.listed.archived {
            return Ok(Some("queued in a partition that is counted as quiet".into()));
        }
        let webhook = tables::first_id::<Webhook>(key);
        let hash = key.get(16..24).and_then(|hash| hash.try_into().ok()).map(u64::from_be_bytes);
        self.entry(key, 40, tables::last_id::<Delivery>(key), |d| {
            webhook == Some(d.webhook_id)
                && !d.status.is_final()
                && hash.is_some_and(|hash| queues_of(d).contains(&hash))
        })
    }

    /// Checks that an index entry has a delivery that matches it.
    fn entry(
        &self,
        key: &[u8],
        bytes: usize,
        id: Option<DeliveryId>,
        fits: impl Fn(&Delivery) -> bool,
    ) -> Result<Finding> {
        let Some(id) = id.filter(|_| key.len() == bytes) else { return Ok(Some("the key is no entry".into())) };
        Ok(match self.find::<Delivery>(Table::Deliveries, id.as_bytes())? {
            None => Some("its delivery is not there".into()),
            Some(Some(delivery)) if !fits(&delivery) => Some("its delivery says otherwise".into()),
            _ => None,
        })
    }

    fn attempt(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let attempt: Attempt = match whole(value) {
            Ok(attempt) => attempt,
            Err(detail) => return Ok(Some(detail)),
        };
        if key != attempt.id.as_bytes() {
            return Ok(Some("the row is another one's".into()));
        }
        self.recount.attempt(&attempt);
        if !self.has(Table::AttemptsByWebhook, &tables::pair(attempt.webhook_id, attempt.id))? {
            return Ok(Some("it is not in tried".into()));
        }
        self.entry(key, 16, Some(attempt.delivery_id), |d| {
            d.webhook_id == attempt.webhook_id && d.event_id == attempt.event_id && attempt.made.number <= d.attempts
        })
    }

    fn tried(&mut self, key: &[u8]) -> Result<Finding> {
        let ids = tables::first_id::<Webhook>(key).zip(tables::last_id::<Attempt>(key));
        let Some((webhook, id)) = ids.filter(|_| key.len() == 32) else {
            return Ok(Some("the key is no entry".into()));
        };
        let attempt = match self.find::<Attempt>(Table::Attempts, id.as_bytes())? {
            None => return Ok(Some("its attempt is not there".into())),
            Some(None) => return Ok(None),
            Some(Some(attempt)) if attempt.webhook_id != webhook => {
                return Ok(Some("its attempt says otherwise".into()));
            }
            Some(Some(attempt)) => attempt,
        };
        if self.hours.as_ref().is_none_or(|hours| hours.webhook != webhook) {
            self.compare_hours()?;
            self.hours = Some(Hours::of(webhook));
        }
        if let Some(hours) = &mut self.hours {
            hours.attempt(&attempt);
        }
        Ok(None)
    }

    /// Compares the hours of the webhook whose attempts were just walked with its figures.
    fn compare_hours(&mut self) -> Result<()> {
        let Some(hours) = self.hours.take() else { return Ok(()) };
        for (hour, expected) in hours.rows() {
            let key = tables::figures(hours.webhook, hour);
            let old = self.lacks_counts;
            let expected = attempts_of(expected, old);
            let found = self.find::<HourFigures>(Table::Figures, &key)?;
            if found.is_none_or(|row| row.is_some_and(|row| attempts_of(&row, old) != expected)) {
                self.walk.problem(Table::Figures, &key, &format!("the hour should be {expected:?}"));
            }
        }
        Ok(())
    }

    fn figures(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let place = tables::first_id::<Webhook>(key).zip(key.last_chunk::<4>());
        let Some((owner, hour)) = place.filter(|_| key.len() == 20) else {
            return Ok(Some("the key is no figure".into()));
        };
        if u32::from_be_bytes(*hour) != 0 {
            let hour = whole::<HourFigures>(value);
            let counts = hour.as_ref().map_or_else(|_| CommonCounts::default(), CommonCounts::of_hour);
            self.count_hourly(owner, counts, 1);
            return Ok(hour.err());
        }
        let sums = match whole::<SumsRow>(value) {
            Ok(row) => row.sums,
            Err(detail) => return Ok(Some(detail)),
        };
        if self.listed.archived {
            self.view.counted.entry(owner).or_default().add(&sums);
        }
        let recounted = self.recount.sums.remove(&owner).unwrap_or_default();
        self.count_hourly(owner, CommonCounts::of_sums(&recounted), -1);
        Ok((sums != recounted && !self.is_partly_counted(owner))
            .then(|| format!("the sums are {sums:?}, counted again {recounted:?}")))
    }

    /// Whether an owner is an app or an organization, and the partition has rows that were not counted under it.
    fn is_partly_counted(&self, owner: FiguresOwner) -> bool {
        self.lacks_counts && self.recount.tenants.contains(&owner)
    }

    fn count_hourly(&mut self, owner: FiguresOwner, counts: CommonCounts, times: i64) {
        if self.is_partly_counted(owner) || self.recount.jobs.contains(&owner) {
            return;
        }
        let counts = if self.lacks_counts { counts.attempts_only() } else { counts };
        self.hourly.entry(owner).or_default().add(counts, times);
    }

    fn event_key(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let Some(fingerprint) =
            codec::decode_bytes(value).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
        else {
            return Ok(Some("does not read back".into()));
        };
        let place = key.split_last().and_then(|(kind, id)| Some((*kind, EventId::from_bytes(id.try_into().ok()?))));
        let Some((kind, id)) = place else { return Ok(Some("the key is none".into())) };
        if kind == index::KeyKind::EventId as u8 {
            let named = |event: &Event| {
                event
                    .attributes
                    .event_id
                    .as_ref()
                    .is_some_and(|name| index::of_event_id(event.app_id, name) == fingerprint)
            };
            return Ok(match self.find::<Event>(Table::Events, id.as_bytes())? {
                None => Some("its event is not there".into()),
                Some(Some(event)) if !named(&event) => Some("its event has another event_id".into()),
                _ => None,
            });
        }
        // The row's id is the event of this answer or of an earlier one to the same key. If the answer published no
        // event, it is an id of its own.
        let head = index::head_of_answer(fingerprint);
        let mut answered = false;
        self.snapshot.scan(Table::Answers, (Bound::Included(&head), Bound::Unbounded), Direction::Up, |key, _| {
            answered = key.starts_with(&head);
            Ok(ScanStep::Stop)
        })?;
        Ok((!answered).then(|| "the answer that it remembers is not there".into()))
    }

    fn answer(&mut self, key: &[u8], value: &[u8]) -> Result<Finding> {
        let receipt = match state::answer(&self.partition_set.vault, key, value) {
            Ok(receipt) => receipt,
            Err(detail) => return Ok(Some(detail)),
        };
        let (Some(event), Some(hash)) = (made_by(&receipt), key.first_chunk::<32>()) else { return Ok(None) };
        let mut kept = tables::one(event);
        kept.push(index::KeyKind::Answer as u8);
        let found =
            self.snapshot.get(Table::IdempotencyKeys, &kept, |value| codec::decode_bytes(value).map(<[u8]>::to_vec))?;
        let expected = index::of_answer(hash).to_be_bytes();
        let remembered = found.is_some_and(|found| found.is_none_or(|found| found == expected));
        Ok((!remembered).then(|| "the answer to this publish is not remembered".into()))
    }

    /// Checks the counts of an event type in an hour.
    fn event_type(&mut self, key: &[u8], value: &[u8]) -> Finding {
        let Some((name, _)) = tables::read_event_type(key).filter(|(name, _)| !name.is_empty()) else {
            return Some("the key names no type".into());
        };
        let Some(row) = codec::decode::<TypeHourRow>(value) else { return Some("the row is damaged".into()) };
        self.typed += row.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        let is_sorted = row.is_sorted_by(|a, b| a.0 < b.0) && row.iter().all(|(minute, _)| *minute < 60);
        (!is_sorted).then(|| format!("the minutes of {name} are not in order"))
    }

    /// Compares the counts after all rows have been read.
    fn compare_counts(&mut self) -> Result<()> {
        for (owner, sums) in std::mem::take(&mut self.recount.sums) {
            if self.is_partly_counted(owner) {
                continue;
            }
            let detail = format!("there is no row; counted again it is {sums:?}");
            self.walk.problem(Table::Figures, &tables::figures(owner, 0), &detail);
        }
        for (owner, difference) in
            std::mem::take(&mut self.hourly).into_iter().filter(|(_, counts)| *counts != CommonCounts::default())
        {
            let detail = format!("the hours speak of more than there is, by {difference:?}");
            self.walk.problem(Table::Figures, owner.as_bytes(), &detail);
        }
        let attempts = self.snapshot.rows(Table::Attempts)?;
        if attempts != self.recount.attempts {
            let detail = format!("{attempts} attempts, but the deliveries had {}", self.recount.attempts);
            self.walk.problem(Table::Attempts, &[], &detail);
        }
        let names = self.snapshot.rows(Table::EventsByName)?;
        if names != self.names && !self.index_start.lacks_entries(self.span.0) {
            let detail = format!("{names} names, but the events have {}", self.names);
            self.walk.problem(Table::EventsByName, &[], &detail);
        }
        let events = self.snapshot.rows(Table::Events)?;
        if self.typed != 2 * events && !self.types_start.lacks_entries(self.span.0) {
            let detail = format!("the types count {} events twice, but there are {events}", self.typed);
            self.walk.problem(Table::EventTypes, &[], &detail);
        }
        let last = last_id(self.snapshot)?.max(self.span.0);
        if self.listed.last.is_some_and(|listed| listed < last) {
            self.walk.problem(Table::Attempts, &last.to_be_bytes(), "the list says that no id is as great as this");
        }
        Ok(())
    }
}

/// The first event that a publish made.
fn made_by(receipt: &Receipt) -> Option<EventId> {
    let Receipt::Published(published) = receipt else { return None };
    published.iter().find(|one| !one.duplicate).map(|one| one.event.id)
}

/// The queues that may contain a delivery: the webhook's queue and the queue of its ordering key.
fn queues_of(delivery: &Delivery) -> Vec<u64> {
    [Some(0), delivery.ordering_key.as_deref().map(key_hash)].into_iter().flatten().collect()
}
