//! Lists the open deliveries of all webhooks within a tenant scope. Those of the due index come first, by their due
//! time, then those that stand behind another one in an ordered queue.
//!
//! Invariant: the cost of a page follows its rows and the number of webhooks with waiting deliveries. Idle webhooks, and
//! the length of a webhook's list, cost nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Bound;

use crate::model::Time;
use crate::model::id::{DeliveryId, WebhookId};

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::store::command::TenantScope;
use crate::store::read::lists::Store;
use crate::store::read::query::INDEXED_ROWS_MAX;
use crate::store::read::waiting::{WaitingPage, WaitingPosition, first_after};

impl Store {
    /// A page of the open deliveries of everything within `tenant`, those after `after`.
    pub fn waiting_of_all(
        &self,
        tenant: TenantScope,
        after: Option<WaitingPosition>,
        limit: usize,
        now: Time,
    ) -> Result<WaitingPage> {
        let registry = self.registry();
        let is_within = |webhook| registry.webhook(tenant, webhook).is_some();
        let mut page = WaitingPage::default();
        let mut snapshots = Vec::new();
        for partition in self.partition_set.open_partitions() {
            snapshots.push(self.partition_set.snapshot(&partition)?);
        }
        let (mut after, mut examined) = (after.unwrap_or(WaitingPosition::START), 0);
        loop {
            let mut entries = FirstDueFirst::after(&snapshots, after, is_within)?;
            while let Some(entry) = entries.next()? {
                if page.rows.len() == limit || examined == INDEXED_ROWS_MAX {
                    page.next = Some(after);
                    return Ok(page);
                }
                (after, examined) = (entry.position, examined + 1);
                page.rows.extend(self.waiting_row(&snapshots, entry.number, entry.webhook, after, now)?);
            }
            match after {
                WaitingPosition::Due(..) => after = WaitingPosition::Queued(0, DeliveryId::MIN),
                WaitingPosition::Queued(..) => return Ok(page),
            }
        }
    }
}

/// An entry of the list of a webhook in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WaitingEntry {
    position: WaitingPosition,
    /// The number of the snapshot that has it.
    number: usize,
    webhook: WebhookId,
}

/// The entries of all webhooks in one part of their lists, earliest position first.
struct FirstDueFirst<'a> {
    snapshots: &'a [Snapshot],
    /// The next entry of each webhook in each partition.
    heads: BinaryHeap<Reverse<WaitingEntry>>,
}

impl<'a> FirstDueFirst<'a> {
    /// The entries behind `after` of the webhooks that `is_within` accepts.
    fn after(
        snapshots: &'a [Snapshot],
        after: WaitingPosition,
        is_within: impl Fn(WebhookId) -> bool,
    ) -> Result<FirstDueFirst<'a>> {
        let mut heads = BinaryHeap::new();
        for (number, snapshot) in snapshots.iter().enumerate() {
            let mut from = Key::new();
            while let Some((webhook, first)) = first_from(snapshot, after, &from)? {
                from = tables::one(WebhookId::next(&webhook));
                if !is_within(webhook) {
                    continue;
                }
                let position = if first > after { Some(first) } else { first_after(snapshot, webhook, after)? };
                heads.extend(position.map(|position| Reverse(WaitingEntry { position, number, webhook })));
            }
        }
        Ok(FirstDueFirst { snapshots, heads })
    }

    fn next(&mut self) -> Result<Option<WaitingEntry>> {
        let Some(Reverse(entry)) = self.heads.pop() else { return Ok(None) };
        let position = first_after(&self.snapshots[entry.number], entry.webhook, entry.position)?;
        self.heads.extend(position.map(|position| Reverse(WaitingEntry { position, ..entry })));
        Ok(Some(entry))
    }
}

/// The first entry at or behind a key, in the part of the lists that `part` is in.
fn first_from(snapshot: &Snapshot, part: WaitingPosition, from: &Key) -> Result<Option<(WebhookId, WaitingPosition)>> {
    let mut first = None;
    let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
    let table = if matches!(part, WaitingPosition::Due(..)) { Table::Due } else { Table::Queue };
    snapshot.scan(table, range, Direction::Up, |key, _| {
        first = match table {
            Table::Due => tables::read_due(key).map(|(webhook, at, id)| (webhook, WaitingPosition::Due(at, id))),
            _ => tables::read_queue(key).map(|(webhook, hash, id)| (webhook, WaitingPosition::Queued(hash, id))),
        };
        Ok(ScanStep::Stop)
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests;
