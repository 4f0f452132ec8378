//! Reads attempts in commit order, of one webhook or of all, by cursor.
//!
//! Invariant: a page ends before the first id that may still be committed, so a cursor never passes a later commit's id. A
//! page examines at most as many attempts as its window says.

use std::ops::Bound;
use std::sync::Arc;

use crate::model::{Attempt, AttemptFront, AttemptId, Time};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::store::partitions::set::Partition;
use crate::store::read::app_webhooks::{ATTEMPTS, AppWebhooks};
use crate::store::read::lists::{Store, wanted_attempt};
use crate::store::read::lookup::attempt_in;
use crate::store::read::query::AttemptQuery;

/// Keys that are read at once.
const SLICE_KEYS: usize = 256;
/// Keys that are read at once of one webhook among several, at least.
const SHARE_KEYS_MIN: usize = 8;

/// A page of attempts in commit order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptPage {
    /// Oldest first.
    pub rows: Vec<Attempt>,
    /// The last id that was examined. Reading goes on behind it.
    pub reached: AttemptId,
    /// Whether every attempt that was committed has been examined.
    pub is_end: bool,
    /// The oldest time that a page of the newest attempts examined, if it ended early. `None` for every other page.
    pub looked_back_to: Option<Time>,
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
        let mut page = AttemptPage { reached: last, is_end: true, ..AttemptPage::default() };
        let mut ids = self.ids_of(ATTEMPTS, query.webhook, query.tenant, last.as_u128().saturating_add(1))?;
        let mut examined = 0;
        while page.rows.len() < query.window.limit {
            let Some(listed) = ids.next_listed()? else { break };
            if examined == query.window.examined_max {
                page.looked_back_to = Some(AttemptId::from_u128(listed.id).time());
                break;
            }
            examined += 1;
            let found = listed.attempt(|a| self.is_retained(a.event_id, now) && wanted_attempt(query, a))?;
            page.rows.extend(found);
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
        let mut page = AttemptPage { reached: after, ..AttemptPage::default() };
        let mut examined = 0;
        let examined_max = query.window.examined_max;
        let webhooks = AppWebhooks::of(&self.partition_set, query.webhook, query.tenant.app)?;
        while examined < examined_max {
            let ids = self.attempt_ids(&webhooks, (page.reached, last), SLICE_KEYS.min(examined_max - examined))?;
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
                let wanted = |a: &AttemptFront<'_>| self.is_retained(a.event_id, now) && wanted_attempt(query, a);
                let found = snapshot.get(Table::Attempts, id.as_bytes(), |row| attempt_in(row, wanted))?;
                let damaged = || snapshot.damaged(Table::Attempts, id.as_bytes());
                page.rows.extend(found.map(|attempt| attempt.ok_or_else(damaged)).transpose()?.flatten());
            }
        }
        Ok(page)
    }

    /// The next ids, smallest first, each with its partition. At least one if there is any.
    fn attempt_ids(
        &self,
        webhooks: &AppWebhooks,
        (after, last): (AttemptId, AttemptId),
        limit: usize,
    ) -> Result<Vec<(AttemptId, Arc<Partition>)>> {
        let mut ids: Vec<(AttemptId, Arc<Partition>)> = Vec::new();
        // Ids up to this one have been read of every source.
        let mut complete_to = last;
        for partition in self.partition_set.partitions() {
            if partition.row().last.is_some_and(|last| last <= after.as_u128()) {
                continue;
            }
            let snapshot = self.partition_set.snapshot(&partition)?;
            let sources = webhooks.sources(ATTEMPTS, partition.first);
            let share = (limit / sources.len().max(1)).max(SHARE_KEYS_MIN).min(limit);
            for (table, prefix) in sources {
                let from = [prefix, after.as_bytes()].concat();
                let to = [prefix, last.as_bytes()].concat();
                let mut taken = 0;
                snapshot.scan(table, (Bound::Excluded(&from), Bound::Included(&to)), Direction::Up, |key, _| {
                    ids.extend(tables::last_id::<Attempt>(key).map(|id| (id, partition.clone())));
                    taken += 1;
                    Ok(if taken < share { ScanStep::Go } else { ScanStep::Stop })
                })?;
                if let Some((id, _)) = ids.last().filter(|_| taken == share) {
                    complete_to = complete_to.min(*id);
                }
            }
        }
        ids.retain(|(id, _)| *id <= complete_to);
        ids.sort_by_key(|(id, _)| *id);
        ids.truncate(limit);
        Ok(ids)
    }
}
