//! Reads the attempts of one delivery, or of all deliveries of an event, page by page.
//!
//! Each delivery names its last attempt, and each attempt the one before it. So the newest attempts of many deliveries
//! are found by a merge of these chains, which reads no more than the page needs.
//!
//! Invariant: a page examines at most `EXAMINED_ROWS_MAX` attempts and holds no more of them than it shows.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::model::id::{AttemptId, DeliveryId, EventId};
use crate::model::{Attempt, AttemptFront, Delivery, Event, Time};
use crate::store::read::lists::{Store, before, wanted_attempt};
use crate::store::read::lookup::{decoded, replays_in};
use crate::store::read::query::PageBudget;
use crate::store::read::query::{AttemptQuery, EXAMINED_ROWS_MAX, Page};
use crate::store::read::two_way::{TwoWayPage, TwoWayWindow};

/// The chains of attempts of some deliveries in one partition.
struct AttemptChains {
    snapshot: Snapshot,
    /// The next attempt of each chain.
    heads: BinaryHeap<AttemptId>,
}

impl AttemptChains {
    /// The next attempt, from the newest to the oldest.
    fn next(&mut self) -> Result<Option<Attempt>> {
        while let Some(id) = self.heads.pop() {
            let Some(attempt) = decoded::<Attempt>(&self.snapshot, Table::Attempts, id.as_bytes())? else { continue };
            self.heads.extend(attempt.retry_of);
            return Ok(Some(attempt));
        }
        Ok(None)
    }
}

impl Store {
    /// The attempts of an event over all its deliveries that `wanted` accepts.
    pub fn attempts_of_event(
        &self,
        event: EventId,
        window: TwoWayWindow,
        now: Time,
        wanted: impl Fn(&Attempt) -> bool,
    ) -> Result<TwoWayPage<Attempt>> {
        let Some(mut chains) = self.chains_of_event(event, now, |_| true)? else {
            return Ok(TwoWayPage { rows: Vec::new(), examined: None, is_end: true });
        };
        let (mut rows, mut last) = (VecDeque::new(), None);
        let mut is_cut = false;
        let mut budget = PageBudget::WHOLE;
        while let Some(attempt) = chains.next()? {
            let id = attempt.id.as_u128();
            if id < window.from {
                break;
            }
            let is_shown = id < window.to && wanted(&attempt);
            if window.is_rising {
                // The oldest attempts are wanted, and the chains lead to them from the newest.
                rows.extend(is_shown.then_some(attempt));
                is_cut |= rows.len() > window.limit;
                rows.drain(..rows.len().saturating_sub(window.limit));
                continue;
            }
            if budget.is_spent() {
                return Ok(TwoWayPage { rows: rows.into(), examined: last, is_end: false });
            }
            if is_shown && rows.len() == window.limit {
                return Ok(TwoWayPage { rows: rows.into(), examined: None, is_end: false });
            }
            budget.examine(1);
            budget.show(if is_shown { attempt.made.response_body.as_ref().map_or(0, String::len) } else { 0 });
            last = Some(id);
            rows.extend(is_shown.then_some(attempt));
        }
        if window.is_rising {
            rows.make_contiguous().reverse();
        }
        Ok(TwoWayPage { rows: rows.into(), examined: None, is_end: !is_cut })
    }

    /// A page of the attempts of the query's delivery or event, newest first. `None` if the query names neither.
    pub(in crate::store) fn attempts_of_one(&self, query: &AttemptQuery, now: Time) -> Result<Option<Page<Attempt>>> {
        let has_status = |delivery: &Delivery| {
            let status = |any: &super::query::AnyOf<_>| any.has(&self.shown(delivery.clone()).status);
            query.status.as_ref().is_none_or(status)
        };
        let chains = match (query.delivery, query.event) {
            (Some(id), _) => self.chain_of_delivery(id, now, has_status)?,
            (None, Some(event)) => self.chains_of_event(event, now, has_status)?,
            (None, None) => return Ok(None),
        };
        let mut page = Page { rows: Vec::new(), next: None };
        let Some(mut chains) = chains else { return Ok(Some(page)) };
        let from = query.window.from.map_or(0, |from| EventId::floor(from).as_u128());
        let to = before(query.window);
        let (mut last, mut examined) = (None, 0);
        while let Some(attempt) = chains.next()? {
            let id = attempt.id.as_u128();
            if id < from {
                break;
            }
            let is_wanted = id < to && wanted_attempt(query, &AttemptFront::of(&attempt));
            if examined == EXAMINED_ROWS_MAX || is_wanted && page.rows.len() == query.window.limit {
                page.next = last;
                break;
            }
            examined += 1;
            last = Some(id);
            page.rows.extend(is_wanted.then_some(attempt));
        }
        Ok(Some(page))
    }

    fn chain_of_delivery(
        &self,
        id: DeliveryId,
        now: Time,
        wanted: impl Fn(&Delivery) -> bool,
    ) -> Result<Option<AttemptChains>> {
        for partition in self.partition_set.partitions().into_iter().rev().filter(|p| p.may_contain(id.as_u128())) {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let Some(delivery) = decoded::<Delivery>(&snapshot, Table::Deliveries, id.as_bytes())? else { continue };
            let is_shown = self.is_retained(delivery.event_id, now) && wanted(&delivery);
            let heads = delivery.last_attempt_id.into_iter().filter(|_| is_shown).collect();
            return Ok(Some(AttemptChains { snapshot, heads }));
        }
        Ok(None)
    }

    fn chains_of_event(
        &self,
        id: EventId,
        now: Time,
        wanted: impl Fn(&Delivery) -> bool,
    ) -> Result<Option<AttemptChains>> {
        if !self.is_retained(id, now) {
            return Ok(None);
        }
        let Some(home) = self.partition_set.partition_of(id.as_u128()) else { return Ok(None) };
        let snapshot = self.partition_set.snapshot(&home)?;
        let Some(event) = decoded::<Event>(&snapshot, Table::Events, id.as_bytes())? else { return Ok(None) };
        let mut heads = BinaryHeap::new();
        let mut left = event.deliveries;
        let from = Bound::Included(event.id.as_bytes().as_slice());
        snapshot.scan(Table::Deliveries, (from, Bound::Unbounded), Direction::Up, |key, value| {
            if left == 0 {
                return Ok(ScanStep::Stop);
            }
            left -= 1;
            let delivery = codec::decode::<Delivery>(value).ok_or_else(|| snapshot.damaged(Table::Deliveries, key))?;
            let is_wanted = delivery.event_id == event.id && wanted(&delivery);
            heads.extend(delivery.last_attempt_id.filter(|_| is_wanted));
            Ok(ScanStep::Go)
        })?;
        for id in replays_in(&snapshot, event.id)? {
            let replay = decoded::<Delivery>(&snapshot, Table::Deliveries, id.as_bytes())?;
            heads.extend(replay.filter(|replay| wanted(replay)).and_then(|replay| replay.last_attempt_id));
        }
        Ok(Some(AttemptChains { snapshot, heads }))
    }
}
