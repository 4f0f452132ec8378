//! The index of events by name: by `event_id` and by `subject`.
//!
//! A partition's entries are in runs: an hour of events, or `RUN_NAMES_MAX` names of it. Within a run they are in the order
//! of their hashes, so new keys fall into the last run only, a small part of the table. A lookup reads one place of each run.
//!
//! Invariant: every event of a run has a smaller id than every event of a later run.

use std::ops::Bound;

use ring::digest::{Context, SHA256};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::model::Event;
use crate::model::id::OrganizationId;

/// Names after which a new run begins. A run of so many takes a quarter of a megabyte.
const RUN_NAMES_MAX: u32 = 8_192;

/// A name by which events are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventName<'a> {
    EventId(&'a str),
    Subject(&'a str),
}

impl EventName<'_> {
    /// The hash under which the index has events of this name in an organization.
    pub fn hash(&self, org: OrganizationId) -> u64 {
        let (kind, text) = match self {
            EventName::EventId(text) => (b'i', text),
            EventName::Subject(text) => (b's', text),
        };
        let mut hash = Context::new(&SHA256);
        hash.update(&[kind]);
        hash.update(org.as_bytes());
        hash.update(text.as_bytes());
        hash.finish().as_ref().first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
    }
}

/// The names of an event.
pub fn names_of(event: &Event) -> impl Iterator<Item = EventName<'_>> {
    let event_id = event.attributes.event_id.as_deref().map(EventName::EventId);
    event_id.into_iter().chain(event.attributes.subject.as_deref().map(EventName::Subject))
}

/// The run that new entries of the active partition get. It is read from the partition after a start.
#[derive(Debug, Default)]
pub struct NameRuns {
    partition: u128,
    run: u32,
    names: u32,
    hour: u32,
}

impl NameRuns {
    /// The run for one more name of an event that was received in `hour`.
    ///
    /// # Errors
    /// The partition cannot be read.
    pub fn next(&mut self, partition: u128, committed: &Snapshot, hour: u32) -> Result<u32> {
        if self.partition != partition {
            let run = last_run(committed)?.map_or(0, |last| last + 1);
            *self = NameRuns { partition, run, names: 0, hour };
        }
        if self.names == RUN_NAMES_MAX || self.hour != hour {
            (self.run, self.names, self.hour) = (self.run + 1, 0, hour);
        }
        self.names += 1;
        Ok(self.run)
    }

    /// Forgets the run, after a commit failed or a file was opened again.
    pub fn forget(&mut self) {
        *self = NameRuns::default();
    }
}

/// The last run of a partition.
pub fn last_run(snapshot: &Snapshot) -> Result<Option<u32>> {
    let mut last = None;
    snapshot.scan(Table::EventsByName, (Bound::Unbounded, Bound::Unbounded), Direction::Down, |key, _| {
        last = tables::read_name(key).map(|(run, ..)| run);
        Ok(ScanStep::Stop)
    })?;
    Ok(last)
}
