//! Lists the event types of an app or an organization, by name, with their counts of the last 24 hours.
//!
//! Invariant: a page of `limit` types reads two places of each partition for each type, and the rows of the last day.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::Time;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::command::TenantScope;
use crate::store::event_type_counts::TypeHourRow;
use crate::store::partitions::index_start::{self, LaterIndex};
use crate::store::read::lists::Store;

/// An event type that was seen within the retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTypeCount {
    pub event_type: String,
    /// Events received in (now − 24 h, now], to the minute.
    pub last_24h: u64,
    /// The minute of its latest event.
    pub last_seen: Time,
}

/// A page of event types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventTypePage {
    /// By name.
    pub rows: Vec<EventTypeCount>,
    /// The last type of the page, if more follow.
    pub next: Option<String>,
    /// Types that were seen only before this time are missing. `None` if every type is there.
    pub indexed_from: Option<Time>,
}

/// A type in the partitions read so far: the last minute in which it was seen.
type SeenTypes = BTreeMap<String, u32>;

impl Store {
    /// A page of the types whose names follow `after`.
    pub fn event_types(
        &self,
        tenant: TenantScope,
        after: Option<&str>,
        limit: usize,
        now: Time,
    ) -> Result<EventTypePage> {
        let owner = tenant.app.map_or(*tenant.org.as_bytes(), |app| *app.as_bytes());
        let oldest = now.minus_ms(self.partition_set.options.retention_ms).minute();
        let mut seen = SeenTypes::new();
        for partition in self.partition_set.partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            types_in(&snapshot, &owner, after.unwrap_or_default(), (limit + 1, oldest), &mut seen)?;
        }
        let has_more = seen.len() > limit;
        let names: Vec<(String, u32)> = seen.into_iter().take(limit).collect();
        let next = names.last().map(|(name, _)| name.clone()).filter(|_| has_more);
        let rows = self.counted(&owner, names, now)?;
        let start = index_start::stored(&self.partition_set, LaterIndex::EventTypes)?;
        let is_whole = !self.partition_set.partitions().iter().any(|partition| start.lacks_entries(partition.first));
        let indexed_from = (!is_whole).then_some(start.at.min(now));
        Ok(EventTypePage { rows, next, indexed_from })
    }

    /// The types with these names, without those that were not seen within the retention.
    ///
    /// # Errors
    /// A partition cannot be read.
    pub fn event_types_named(&self, tenant: TenantScope, names: &[&str], now: Time) -> Result<Vec<EventTypeCount>> {
        let owner = tenant.app.map_or(*tenant.org.as_bytes(), |app| *app.as_bytes());
        let oldest = now.minus_ms(self.partition_set.options.retention_ms).minute();
        let mut seen = SeenTypes::new();
        for partition in self.partition_set.partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            for name in names {
                if let Some(minute) = last_in(&snapshot, &owner, name)?.filter(|minute| *minute >= oldest) {
                    let known = seen.entry((*name).to_owned()).or_default();
                    *known = minute.max(*known);
                }
            }
        }
        self.counted(&owner, seen.into_iter().collect(), now)
    }

    /// The rows of types that were last seen in these minutes.
    fn counted(&self, owner: &[u8; 16], names: Vec<(String, u32)>, now: Time) -> Result<Vec<EventTypeCount>> {
        let counts = self.counted_types(owner, &names, now)?;
        let rows = names.into_iter().zip(counts).map(|((event_type, minute), last_24h)| {
            let last_seen = Time(i64::from(minute) * MINUTE_MS);
            EventTypeCount { event_type, last_24h, last_seen }
        });
        Ok(rows.collect())
    }

    /// The events of each type in the last 24 hours.
    fn counted_types(&self, owner: &[u8; 16], names: &[(String, u32)], now: Time) -> Result<Vec<u64>> {
        let day_ago = now.minus_ms(DAY_MS);
        let mut counts = vec![0; names.len()];
        let partitions = self.partition_set.partitions();
        let ends = partitions.iter().skip(1).map(|next| crate::model::EventId::from_u128(next.first).time());
        for (partition, end) in partitions.iter().zip(ends.chain([Time::MAX])) {
            // An event's id may be ahead of the clock.
            if end.plus_ms(HOUR_MS) < day_ago {
                continue;
            }
            let snapshot = self.partition_set.snapshot(partition)?;
            for (count, (name, _)) in counts.iter_mut().zip(names) {
                *count += count_in(&snapshot, owner, name, (day_ago.minute() + 1, now.minute()))?;
            }
        }
        Ok(counts)
    }
}

/// Adds up to `limit` types of one partition that follow `after` and were seen in minute `oldest` or later.
fn types_in(
    snapshot: &Snapshot,
    owner: &[u8; 16],
    after: &str,
    (limit, oldest): (usize, u32),
    seen: &mut SeenTypes,
) -> Result<()> {
    let end = tables::event_type_end(owner, None);
    let mut from = if after.is_empty() { owner.to_vec() } else { tables::event_type_end(owner, Some(after)) };
    let mut found = 0;
    while found < limit {
        let mut next = None;
        snapshot.scan(
            Table::EventTypes,
            (Bound::Included(&from), Bound::Excluded(&end)),
            Direction::Up,
            |key, _| {
                next = tables::read_event_type(key).map(|(name, _)| name.to_owned());
                Ok(ScanStep::Stop)
            },
        )?;
        let Some(name) = next else { return Ok(()) };
        from = tables::event_type_end(owner, Some(&name));
        let last = last_in(snapshot, owner, &name)?;
        if let Some(minute) = last.filter(|minute| *minute >= oldest) {
            found += 1;
            let known = seen.entry(name).or_default();
            *known = minute.max(*known);
        }
    }
    Ok(())
}

/// The last minute in which a type was seen in one partition.
fn last_in(snapshot: &Snapshot, owner: &[u8; 16], name: &str) -> Result<Option<u32>> {
    let (first, end) = (tables::event_type(owner, name, 0), tables::event_type_end(owner, Some(name)));
    let mut last = None;
    let bounds = (Bound::Included(first.as_slice()), Bound::Excluded(end.as_slice()));
    snapshot.scan(Table::EventTypes, bounds, Direction::Down, |key, value| {
        last = last_minute(snapshot, key, value)?;
        Ok(ScanStep::Stop)
    })?;
    Ok(last)
}

/// The last minute of a row.
fn last_minute(snapshot: &Snapshot, key: &[u8], value: &[u8]) -> Result<Option<u32>> {
    let row = codec::decode::<TypeHourRow>(value).ok_or_else(|| snapshot.damaged(Table::EventTypes, key))?;
    let hour = tables::read_event_type(key).map(|(_, hour)| hour);
    Ok(hour.zip(row.last()).map(|(hour, (minute, _))| hour * 60 + u32::from(*minute)))
}

/// The events of a type in one partition, from one minute through another.
fn count_in(snapshot: &Snapshot, owner: &[u8; 16], name: &str, (from, to): (u32, u32)) -> Result<u64> {
    let (first, last) = (tables::event_type(owner, name, from / 60), tables::event_type(owner, name, to / 60));
    let mut count = 0;
    snapshot.scan(
        Table::EventTypes,
        (Bound::Included(&first), Bound::Included(&last)),
        Direction::Up,
        |key, value| {
            let row = codec::decode::<TypeHourRow>(value).ok_or_else(|| snapshot.damaged(Table::EventTypes, key))?;
            let hour = tables::read_event_type(key).map_or(0, |(_, hour)| hour);
            let within = |minute: u8| (from..=to).contains(&(hour * 60 + u32::from(minute)));
            count += row.iter().filter(|(minute, _)| within(*minute)).map(|(_, n)| u64::from(*n)).sum::<u64>();
            Ok(ScanStep::Go)
        },
    )?;
    Ok(count)
}
