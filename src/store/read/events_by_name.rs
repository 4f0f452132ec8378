//! Finds events by their `event_id` or `subject`, newest first.
//!
//! Invariant: a page without rows and with a position behind it comes only from partitions that an earlier version wrote.

use std::ops::Bound;

use crate::model::id::EventId;
use crate::model::{Event, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::command::TenantScope;
use crate::store::event_names::{EventName, last_run};
use crate::store::partitions::index_start::{self, LaterIndex};
use crate::store::read::lists::{Store, before, wanted_event};
use crate::store::read::lookup::decoded;
use crate::store::read::query::{EventQuery, INDEXED_ROWS_MAX, ListWindow};

/// One page of events with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPage {
    pub rows: Vec<Event>,
    /// `ListWindow::before` of the next page. `None` at the end of the list.
    pub next: Option<u128>,
    /// Events that were received before this time are found by a walk, whose pages may be without rows. `None` if the index
    /// has every event.
    pub indexed_from: Option<Time>,
}

/// How many events a page may still examine.
struct Budget {
    indexed: usize,
    walked: usize,
}

impl Store {
    /// A page of the events that have `name` and that `query` finds.
    pub fn named_events(&self, query: &EventQuery, name: EventName<'_>, now: Time) -> Result<NamedPage> {
        let start = index_start::stored(&self.partition_set, LaterIndex::FailedDeliveries)?;
        let hash = name.hash(query.tenant.org);
        let oldest = now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1);
        let from = EventId::floor(query.window.from.map_or(oldest, |from| from.max(oldest)));
        let mut below = EventId::from_u128(before(query.window));
        let mut page = NamedPage { rows: Vec::new(), next: None, indexed_from: None };
        let mut budget = Budget { indexed: INDEXED_ROWS_MAX, walked: query.window.examined_max };
        let mut partitions = self.partition_set.partitions();
        // Everything in a partition that is listed later was received later.
        let complete = partitions.iter().find(|partition| !start.lacks_entries(partition.first));
        if partitions.first().is_some_and(|oldest| start.lacks_entries(oldest.first)) {
            page.indexed_from = Some(complete.map_or(now, |first| EventId::from_u128(first.first).time()));
        }
        while let Some(partition) = partitions.pop() {
            if partition.first >= below.as_u128() {
                continue;
            }
            let mut visit = |snapshot: &Snapshot, id: EventId| self.add_named(query, snapshot, id, now, &mut page);
            let snapshot = self.partition_set.snapshot(&partition)?;
            let stopped = if start.lacks_entries(partition.first) {
                walk(&snapshot, (from, below), &mut budget.walked, &mut visit)?
            } else {
                look_up(&snapshot, hash, (from, below), &mut budget.indexed, &mut visit)?
            };
            if let Some(reached) = stopped {
                page.next = Some(reached.as_u128());
                return Ok(page);
            }
            below = EventId::from_u128(partition.first);
            if below <= from {
                break;
            }
        }
        Ok(page)
    }

    /// The newest event of an app that was published with this `event_id` and is retained.
    ///
    /// # Errors
    /// A partition cannot be read.
    pub fn event_by_event_id(&self, tenant: TenantScope, event_id: &str, now: Time) -> Result<Option<Event>> {
        let mut query = EventQuery {
            tenant,
            event_type: None,
            event_id: Some(event_id.to_owned()),
            subject: None,
            search: None,
            window: ListWindow::newest(1),
        };
        loop {
            let page = self.named_events(&query, EventName::EventId(event_id), now)?;
            match (page.rows.into_iter().next(), page.next) {
                (None, Some(before)) => query.window.before = Some(before),
                (found, _) => return Ok(found),
            }
        }
    }

    /// Adds an event if it is wanted. `Stop` if the page is full already.
    fn add_named(
        &self,
        query: &EventQuery,
        snapshot: &Snapshot,
        id: EventId,
        now: Time,
        page: &mut NamedPage,
    ) -> Result<ScanStep> {
        if page.rows.len() == query.window.limit {
            return Ok(ScanStep::Stop);
        }
        let event = decoded::<Event>(snapshot, Table::Events, id.as_bytes())?;
        page.rows.extend(event.filter(|event| self.is_retained(event.id, now) && wanted_event(query, event)));
        Ok(ScanStep::Go)
    }
}

/// Passes the events under `hash` to `visit`, newest first. If it stops, returns the exclusive upper end of the rest.
fn look_up(
    snapshot: &Snapshot,
    hash: u64,
    (from, below): (EventId, EventId),
    left: &mut usize,
    visit: &mut dyn FnMut(&Snapshot, EventId) -> Result<ScanStep>,
) -> Result<Option<EventId>> {
    let Some(last) = last_run(snapshot)? else { return Ok(None) };
    for run in (0..=last).rev() {
        let range = (tables::name(run, hash, from), tables::name(run, hash, below));
        let bounds = (Bound::Included(range.0.as_slice()), Bound::Excluded(range.1.as_slice()));
        let mut stopped = None;
        snapshot.scan(Table::EventsByName, bounds, Direction::Down, |key, _| {
            let Some((.., id)) = tables::read_name(key) else { return Ok(ScanStep::Go) };
            if *left == 0 || visit(snapshot, id)? == ScanStep::Stop {
                stopped = Some(id.next());
                return Ok(ScanStep::Stop);
            }
            *left -= 1;
            Ok(ScanStep::Go)
        })?;
        if stopped.is_some() {
            return Ok(stopped);
        }
    }
    Ok(None)
}

/// Passes all events of a partition to `visit`, newest first. If it stops, returns the exclusive upper end of the rest.
fn walk(
    snapshot: &Snapshot,
    (from, below): (EventId, EventId),
    left: &mut usize,
    visit: &mut dyn FnMut(&Snapshot, EventId) -> Result<ScanStep>,
) -> Result<Option<EventId>> {
    let range = (tables::one(from), tables::one(below));
    let bounds = (Bound::Included(range.0.as_slice()), Bound::Excluded(range.1.as_slice()));
    let mut stopped = None;
    snapshot.scan(Table::Events, bounds, Direction::Down, |key, _| {
        let Some(id) = tables::last_id::<Event>(key) else { return Ok(ScanStep::Go) };
        if *left == 0 || visit(snapshot, id)? == ScanStep::Stop {
            stopped = Some(id.next());
            return Ok(ScanStep::Stop);
        }
        *left -= 1;
        Ok(ScanStep::Go)
    })?;
    Ok(stopped)
}

#[cfg(test)]
mod tests;
