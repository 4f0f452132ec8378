//! Finds the events of one app: by the index of apps, or among all events where a partition has no index.
//!
//! The index leaves out the events of default apps. Most events of an organization belong to its default app, so a list
//! of them reads the table of all events.

use crate::kv::error::Result;
use crate::kv::tables::Table;
use crate::model::id::AppId;
use crate::store::partitions::index_start::{self, IndexStart, LaterIndex};
use crate::store::partitions::set::PartitionSet;

#[cfg(test)]
mod tests;

/// The table in which each partition lists the events of an app, or of all apps. If it is the table of all events, the
/// caller leaves out those of other apps.
pub(in crate::store) struct AppEvents {
    /// `None` for a default app and for all apps.
    indexed: Option<(AppId, IndexStart)>,
}

impl AppEvents {
    /// The events of `app`, or of all apps.
    pub fn of(partition_set: &PartitionSet, app: Option<AppId>) -> Result<AppEvents> {
        let Some(app) = app.filter(|app| !partition_set.registry().is_default_app(*app)) else {
            return Ok(AppEvents { indexed: None });
        };
        Ok(AppEvents { indexed: Some((app, index_start::stored(partition_set, LaterIndex::EventsByApp)?)) })
    }

    /// The table and the prefix of keys in the partition that begins with `first`.
    pub fn source(&self, first: u128) -> (Table, &[u8]) {
        match &self.indexed {
            Some((app, start)) if !start.lacks_entries(first) => (Table::EventsByApp, app.as_bytes()),
            _ => (Table::Events, &[]),
        }
    }
}
