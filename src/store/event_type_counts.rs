//! Counts events by type, for an app and its organization, by the minute.
//!
//! Invariant: a commit writes its counts together with the counted events. A failed commit clears the cache.

use std::collections::HashMap;

use crate::kv::error::Result;
use crate::kv::tables::{self, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::id::{AppId, OrganizationId};
use crate::model::{Event, Time};

/// One type in one hour: `(minute of the hour, events)`, without empty minutes.
pub type TypeHourRow = Vec<(u8, u32)>;

/// Rows held in memory. Above this number they are dropped.
const CACHED_ROWS_MAX: usize = 10_000;

type OwnerHour = ([u8; 16], u32);

/// The counts of one partition while it is written.
#[derive(Debug, Default)]
pub struct TypeCounts {
    rows: HashMap<OwnerHour, HashMap<Box<str>, CountedType>>,
    cached: usize,
    /// The rows that changed since they were written.
    dirty: Vec<(OwnerHour, Box<str>)>,
}

#[derive(Debug, Default)]
struct CountedType {
    minutes: TypeHourRow,
    is_dirty: bool,
}

impl TypeCounts {
    /// Counts an event under its app and its organization.
    ///
    /// # Errors
    /// The partition cannot be read.
    pub fn count(&mut self, write_batch: &WriteBatch, event: &Event) -> Result<()> {
        for owner in owners(event.app_id, event.org_id) {
            self.count_for(write_batch, owner, &event.attributes.event_type, event.received_at)?;
        }
        Ok(())
    }

    fn count_for(&mut self, write_batch: &WriteBatch, owner: [u8; 16], event_type: &str, at: Time) -> Result<()> {
        let place = (owner, at.hour());
        let types = self.rows.entry(place).or_default();
        if !types.contains_key(event_type) {
            let key = tables::event_type(&owner, event_type, place.1);
            let minutes = write_batch.get(Table::EventTypes, &key)?.unwrap_or_default();
            types.insert(event_type.into(), CountedType { minutes, is_dirty: false });
            self.cached += 1;
        }
        let Some(counted) = types.get_mut(event_type) else { return Ok(()) };
        let minute = (at.minute() % 60) as u8;
        match counted.minutes.binary_search_by_key(&minute, |row| row.0) {
            Ok(found) => counted.minutes[found].1 = counted.minutes[found].1.saturating_add(1),
            Err(before) => counted.minutes.insert(before, (minute, 1)),
        }
        if !counted.is_dirty {
            counted.is_dirty = true;
            self.dirty.push((place, event_type.into()));
        }
        Ok(())
    }

    /// Puts the changed rows into the write batch.
    pub fn flush(&mut self, write_batch: &mut WriteBatch) {
        for (place, event_type) in std::mem::take(&mut self.dirty) {
            let counted = self.rows.get_mut(&place).and_then(|types| types.get_mut(&event_type));
            if let Some(counted) = counted {
                counted.is_dirty = false;
                let key = tables::event_type(&place.0, &event_type, place.1);
                write_batch.put(Table::EventTypes, key, &counted.minutes);
            }
        }
        if self.cached > CACHED_ROWS_MAX {
            *self = TypeCounts::default();
        }
    }
}

/// The owners under which an event is counted.
pub fn owners(app: AppId, org: OrganizationId) -> [[u8; 16]; 2] {
    [*app.as_bytes(), *org.as_bytes()]
}
