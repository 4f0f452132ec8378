//! The figures of one partition while it is written: sums and running state per webhook, and its hours by the minute.
//!
//! Invariant: a commit writes its counts together with the counted rows. A failed commit clears this cache.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use serde::{Deserialize, Serialize};

use crate::model::figures::{Minute, Sums};
use crate::model::id::{Id, IdHasher, IdMap};
use crate::model::webhook::WebhookState;
use crate::model::{Time, Webhook};

use crate::kv::error::Result;
use crate::kv::tables::{self, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::event_types::TypeCounts;

/// The owner of figures: a webhook, or a replay job under its own id.
pub type Owner = Id<Webhook>;

/// The hour that a moment is counted in. Hour 0 is the row of the sums, so the first hour of 1970, where a machine
/// without a clock starts, is counted in hour 1.
pub(in crate::store) fn hour_of(at: Time) -> u32 {
    at.hour().max(1)
}

/// The row of hour 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SumsRow {
    pub sums: Sums,
    pub state: WebhookState,
}

/// One hour: `(minute of the hour, started, attempts, failures)`, without empty minutes.
pub type HourRow = Vec<(u8, u32, u32, u32)>;

/// Rows held in memory. Above this number they are written and dropped.
const CACHED_ROWS_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub struct FigureCache {
    sums: IdMap<Webhook, SumsRow>,
    hours: HashMap<(Owner, u32), HourRow, BuildHasherDefault<IdHasher>>,
    dirty_sums: BTreeSet<Owner>,
    dirty_hours: BTreeSet<(Owner, u32)>,
    /// Events by their types.
    pub types: TypeCounts,
}

impl FigureCache {
    /// The sums of `owner`, to be changed.
    pub fn sums(&mut self, write_batch: &WriteBatch, owner: Owner) -> Result<&mut SumsRow> {
        self.dirty_sums.insert(owner);
        match self.sums.entry(owner) {
            std::collections::hash_map::Entry::Occupied(row) => Ok(row.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                let row = write_batch.get(Table::Figures, &tables::figures(owner, 0))?.unwrap_or_default();
                Ok(place.insert(row))
            }
        }
    }

    /// Adds to the minute of `at`.
    pub fn count(&mut self, write_batch: &WriteBatch, owner: Owner, at: Time, counts: Minute) -> Result<()> {
        let key = (owner, hour_of(at));
        self.dirty_hours.insert(key);
        let row = match self.hours.entry(key) {
            std::collections::hash_map::Entry::Occupied(row) => row.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(write_batch.get(Table::Figures, &tables::figures(owner, key.1))?.unwrap_or_default())
            }
        };
        let minute = (at.minute() % 60) as u8;
        let place = match row.binary_search_by_key(&minute, |m| m.0) {
            Ok(place) => place,
            Err(place) => {
                row.insert(place, (minute, 0, 0, 0));
                place
            }
        };
        let (_, started, attempts, failures) = &mut row[place];
        *started += counts.started;
        *attempts += counts.attempts;
        *failures += counts.failures;
        Ok(())
    }

    /// Puts the changed rows into the write batch.
    pub fn flush(&mut self, write_batch: &mut WriteBatch) {
        for owner in std::mem::take(&mut self.dirty_sums) {
            write_batch.put(Table::Figures, tables::figures(owner, 0), &self.sums[&owner]);
        }
        for key in std::mem::take(&mut self.dirty_hours) {
            write_batch.put(Table::Figures, tables::figures(key.0, key.1), &self.hours[&key]);
        }
        self.types.flush(write_batch);
        if self.sums.len() + self.hours.len() > CACHED_ROWS_MAX {
            self.forget();
        }
    }

    /// Clears the cache. The next use reads the committed rows.
    pub fn forget(&mut self) {
        *self = FigureCache::default();
    }
}
