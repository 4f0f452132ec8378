//! Reads attempts in commit order, of one webhook or of all, by cursor.
//!
//! Invariant: a page ends before the first id that may still be committed, so a cursor never passes a later commit's id. A
//! page examines at most as many attempts as its window says.

use std::ops::Bound;
use std::sync::Arc;

use crate::model::{Attempt, AttemptId, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::partitions::set::Partition;
use crate::store::read::lists::{Store, wanted_attempt};
use crate::store::read::lookup::decoded;
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::query::AttemptQuery;

/// Keys that are read at once.
const SLICE_KEYS: usize = 256;

/// A page of attempts in commit order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptPage {
    /// Oldest first.
    pub rows: Vec<Attempt>,
    /// The last id that was examined. Reading goes on behind it.
    pub reached: AttemptId,
    /// Whether every attempt that was committed has been examined.
    pub is_end: bool,
}

impl Store {
    /// The newest committed id. Each partition that is read later contains all ids up to it that the writer drew.
    pub fn newest_attempt(&self) -> AttemptId {
        AttemptId::from_u128(self.partition_set.newest().as_u128())
    }

    /// The attempts after `after` and up to `last` that `query` finds. `last` is `newest_attempt`, or less. The query's
    /// `delivery`, `event`, `status` and window are ignored, but for `limit` and `from`. Without `after` and `from` the page
    /// has the newest attempts.
    pub fn attempts_after(
        &self,
        query: &AttemptQuery,
        after: Option<AttemptId>,
        last: AttemptId,
        now: Time,
    ) -> Result<AttemptPage> {
        let oldest = AttemptId::floor(now.minus_ms(self.partition_set.options.retention_ms));
        match (after, query.window.from) {
            (None, None) => self.latest_attempts(query, last, now),
            (after, from) => {
                let from = from.map_or(AttemptId::MIN, |from| {
                    AttemptId::from_u128(AttemptId::floor(from).as_u128().saturating_sub(1))
                });
                let after = after.unwrap_or(AttemptId::MIN).max(from);
                self.later_attempts(query, (after.max(oldest), last.max(after)), now)
            }
        }
    }

    /// The newest attempts up to `last`.
    fn latest_attempts(&self, query: &AttemptQuery, last: AttemptId, now: Time) -> Result<AttemptPage> {
        let mut page = AttemptPage { rows: Vec::new(), reached: last, is_end: true };
        let (table, prefix) = table_of(query);
        let mut ids = NewestFirst::below(&self.partition_set, table, &prefix, last.as_u128().saturating_add(1));
        for _ in 0..query.window.examined_max {
            if page.rows.len() == query.window.limit {
                break;
            }
            let Some(listed) = ids.next_listed()? else { break };
            let attempt = listed.row::<Attempt>(Table::Attempts)?;
            page.rows.extend(attempt.filter(|a| self.is_retained(a.event_id, now) && wanted_attempt(query, a)));
        }
        page.rows.reverse();
        Ok(page)
    }

    /// The attempts after the first id and up to the second.
    fn later_attempts(
        &self,
        query: &AttemptQuery,
        (after, last): (AttemptId, AttemptId),
        now: Time,
    ) -> Result<AttemptPage> {
        let mut page = AttemptPage { rows: Vec::new(), reached: after, is_end: false };
        let mut examined = 0;
        let examined_max = query.window.examined_max;
        while examined < examined_max {
            let ids = self.attempt_ids(query, (page.reached, last), SLICE_KEYS.min(examined_max - examined))?;
            if ids.is_empty() {
                page.is_end = true;
                page.reached = page.reached.max(last);
                break;
            }
            for (id, partition) in ids {
                if page.rows.len() == query.window.limit {
                    return Ok(page);
                }
                (page.reached, examined) = (id, examined + 1);
                let snapshot = self.partition_set.snapshot(&partition)?;
                let attempt = decoded::<Attempt>(&snapshot, Table::Attempts, id.as_bytes())?;
                page.rows.extend(attempt.filter(|a| self.is_retained(a.event_id, now) && wanted_attempt(query, a)));
            }
        }
        Ok(page)
    }

    /// The next ids, smallest first, each with its partition.
    fn attempt_ids(
        &self,
        query: &AttemptQuery,
        (after, last): (AttemptId, AttemptId),
        limit: usize,
    ) -> Result<Vec<(AttemptId, Arc<Partition>)>> {
        let (table, prefix) = table_of(query);
        let from = [prefix.as_slice(), after.as_bytes()].concat();
        let to = [prefix.as_slice(), last.as_bytes()].concat();
        let mut ids: Vec<(AttemptId, Arc<Partition>)> = Vec::new();
        for partition in self.partition_set.partitions() {
            if partition.row().last.is_some_and(|last| last <= after.as_u128()) {
                continue;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            let mut taken = 0;
            snapshot.scan(table, (Bound::Excluded(&from), Bound::Included(&to)), Direction::Up, |key, _| {
                ids.extend(tables::last_id::<Attempt>(key).map(|id| (id, partition.clone())));
                taken += 1;
                Ok(if taken < limit { ScanStep::Go } else { ScanStep::Stop })
            })?;
        }
        ids.sort_by_key(|(id, _)| *id);
        ids.truncate(limit);
        Ok(ids)
    }
}

/// The table of the query's attempts, and the prefix of their keys.
fn table_of(query: &AttemptQuery) -> (Table, Vec<u8>) {
    match &query.webhook {
        Some(webhook) => (Table::AttemptsByWebhook, webhook.as_bytes().to_vec()),
        None => (Table::Attempts, Vec::new()),
    }
}
