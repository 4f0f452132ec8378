//! Verifies the index of events by app.

use crate::kv::error::Result;
use crate::kv::tables::{self, Table};
use crate::model::{App, Event};
use crate::store::verify::partition::{Finding, PartitionWalk};

impl PartitionWalk<'_, '_> {
    /// Whether an event should have an entry and has none. Events of a removed app are not checked, because the app may
    /// have been the default one of an organization that was removed with it.
    pub(super) fn lacks_entry_of_app(&self, event: &Event) -> Result<bool> {
        let is_indexed = self.view.apps.contains_key(&event.app_id)
            && !self.view.default_apps.contains(&event.app_id)
            && !self.apps_start.lacks_entries(self.span.0);
        Ok(is_indexed && !self.has(Table::EventsByApp, &tables::pair(event.app_id, event.id))?)
    }

    /// Checks that an entry has an event of its app.
    pub(super) fn of_app(&mut self, key: &[u8]) -> Result<Finding> {
        let ids = tables::first_id::<App>(key).zip(tables::last_id::<Event>(key));
        let Some((app, id)) = ids.filter(|_| key.len() == 32) else { return Ok(Some("the key is no entry".into())) };
        Ok(match self.find::<Event>(Table::Events, id.as_bytes())? {
            None => Some("its event is not there".into()),
            Some(Some(event)) if event.app_id != app => Some("its event is of another app".into()),
            _ => None,
        })
    }
}
