//! Reads events, deliveries and attempts by id and as lists.
//!
//! Every call opens its own short read transactions and never waits for the writer.
//!
//! Invariant: a row is hidden from the millisecond on at which its event's retention ends, even while it is on disk.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::id::{AttemptId, DeliveryId, EventId, Id, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Attempt, AttemptFront, Delivery, DeliveryStatus, Event, Time};
use crate::mutants::mutant;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::command::{Applied, IdempotencyKey, Rejection, TenantScope};
use crate::store::idempotency::answers::{AnswerRow, check_stored};
use crate::store::partitions::last_seen;
use crate::store::partitions::set::{PartitionRow, PartitionSet};
use crate::store::read::app_events::AppEvents;
use crate::store::read::app_webhooks::{ATTEMPTS, AppWebhooks, DELIVERIES, WebhookRows};
use crate::store::read::lookup::{anywhere, data_in, decoded, deliveries_in, delivery_anywhere};
use crate::store::read::newest_first::{ListedId, NewestFirst};
use crate::store::read::query::{AttemptQuery, DeliveryQuery, EventQuery, ListWindow, Page, PageBudget, Search};
use crate::store::registry::Registry;
use crate::store::term::{self, TermAndRole};

/// Read handle of the store, cheap to clone. Calls hide rows whose retention has ended at their `now`.
#[derive(Clone, Debug)]
pub struct Store {
    pub(in crate::store) partition_set: Arc<PartitionSet>,
}

impl Store {
    /// The last time that the store knows of. `None` if it was just made.
    pub fn last_seen(&self) -> Option<Time> {
        last_seen::last_seen(&self.partition_set)
    }

    pub fn partition_count(&self) -> usize {
        self.partition_set.partitions().len()
    }

    /// When the oldest event that is not hidden was received. `None` without an event.
    pub fn oldest_event(&self, now: Time) -> Result<Option<Time>> {
        let oldest = EventId::floor(now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1));
        for partition in self.partition_set.partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let (mut first, from) = (None, Bound::Included(oldest.as_bytes().as_slice()));
            snapshot.scan(Table::Events, (from, Bound::Unbounded), Direction::Up, |key, _| {
                first = tables::first_id::<Event>(key);
                Ok(ScanStep::Stop)
            })?;
            if let Some(id) = first {
                return Ok(Some(id.time()));
            }
        }
        Ok(None)
    }

    /// Free space on the store's disk.
    pub fn free_bytes(&self) -> Option<u64> {
        self.partition_set.disk.free_bytes().ok()
    }

    /// Bytes written to storage since the start.
    pub fn written_bytes(&self) -> u64 {
        self.partition_set.disk.written_bytes()
    }

    /// Whether free space is under `min_free_bytes`, or a write has failed with ENOSPC.
    pub fn is_disk_full(&self) -> bool {
        self.partition_set.is_below_floor() || self.partition_set.is_space_missing()
    }

    /// The free space below which publishing is refused.
    pub fn min_free_bytes(&self) -> u64 {
        self.partition_set.options.min_free_bytes
    }

    /// Retention of an event and its attempts, in milliseconds.
    pub fn retention_ms(&self) -> i64 {
        self.partition_set.options.retention_ms
    }

    /// The term and the role of the store.
    ///
    /// # Errors
    /// `state.redb` cannot be read.
    pub fn term_and_role(&self) -> Result<TermAndRole> {
        term::stored(&self.partition_set.state()?.snapshot()?)
    }

    /// A key of this store for another purpose than sealing rows. It stays the same when the master key changes.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        self.partition_set.vault.derive(purpose)
    }

    /// The registry as of the last commit to `state.redb`.
    pub fn registry(&self) -> Arc<Registry> {
        self.partition_set.registry()
    }

    /// The first ids of all partitions, oldest first, with their rows of the partition list.
    pub fn partitions(&self) -> Vec<(u128, PartitionRow)> {
        self.partition_set.partitions().iter().map(|partition| (partition.first, partition.row())).collect()
    }

    /// The event. `None` if there is none within `tenant`, or its retention has ended.
    ///
    /// # Errors
    /// Its partition cannot be read, or its row is damaged.
    pub fn event(&self, tenant: TenantScope, id: EventId, now: Time) -> Result<Option<Event>> {
        if !self.is_retained(id, now) {
            return Ok(None);
        }
        let Some(home) = self.partition_set.partition_of(id.as_u128()) else { return Ok(None) };
        let found =
            self.partition_set.snapshot(&home).and_then(|at| decoded::<Event>(&at, Table::Events, id.as_bytes()));
        let event = if mutant!("unreadable_is_absent") { found.unwrap_or(None) } else { found? };
        Ok(event.filter(|event| tenant.covers(event.org_id, event.app_id)))
    }

    /// Exact bytes of the event's `data`. `None` if the event was erased or has expired.
    pub fn data(&self, id: EventId, now: Time) -> Result<Option<Bytes>> {
        if !self.is_retained(id, now) {
            return Ok(None);
        }
        let Some(home) = self.partition_set.partition_of(id.as_u128()) else { return Ok(None) };
        let snapshot = self.partition_set.snapshot(&home)?;
        match decoded::<Event>(&snapshot, Table::Events, id.as_bytes())? {
            Some(event) if event.erased_at.is_none() => data_in(&snapshot, &event).map(Some),
            _ => Ok(None),
        }
    }

    /// A page of the events that `query` finds, newest first.
    ///
    /// # Errors
    /// A partition cannot be read.
    pub fn events(&self, query: &EventQuery, now: Time) -> Result<Page<Event>> {
        let events = AppEvents::of(&self.partition_set, query.tenant.app)?;
        let ids = NewestFirst::by(&self.partition_set, |first| events.source(first), before(query.window));
        self.page_of_ids(ids, query.window, now, |listed| {
            let event = listed.row::<Event>(Table::Events)?;
            Ok(event.filter(|event| wanted_event(query, event)))
        })
    }

    /// The delivery. `None` if there is none within `tenant`, or its event's retention has ended.
    ///
    /// # Errors
    /// A partition cannot be read, or its row is damaged.
    pub fn delivery(&self, tenant: TenantScope, id: DeliveryId, now: Time) -> Result<Option<Delivery>> {
        let delivery = delivery_anywhere(&self.partition_set, id)?;
        let visible = delivery.filter(|d| tenant.covers(d.org_id, d.app_id) && self.is_retained(d.event_id, now));
        Ok(visible.map(|delivery| self.shown(delivery)))
    }

    /// A page of the deliveries that `query` finds, newest first.
    ///
    /// # Errors
    /// A partition cannot be read.
    pub fn deliveries(&self, query: &DeliveryQuery, now: Time) -> Result<Page<Delivery>> {
        if let Some(event) = query.event {
            let rows = self.deliveries_of(event, now)?;
            let event = match query.search {
                Some(_) => anywhere::<Event>(&self.partition_set, Table::Events, event.as_u128())?,
                None => None,
            };
            let wanted = |delivery: &Delivery| self.wanted_delivery(query, delivery, || event.clone());
            return Ok(page_of(rows, query.window, |d| d.id.as_u128(), wanted));
        }
        let ids = self.ids_of(DELIVERIES, query.webhook, query.tenant, before(query.window))?;
        self.page_of_ids(ids, query.examined_window(), now, |listed| {
            let delivery = listed.row::<Delivery>(Table::Deliveries)?;
            let delivery = delivery.filter(|d| self.is_retained(d.event_id, now)).map(|d| self.shown(d));
            Ok(delivery.filter(|d| self.wanted_delivery(query, d, || event_in(listed.snapshot, d))))
        })
    }

    /// All deliveries of an event, replays included, oldest first.
    pub fn deliveries_of(&self, id: EventId, now: Time) -> Result<Vec<Delivery>> {
        if !self.is_retained(id, now) {
            return Ok(Vec::new());
        }
        let Some(home) = self.partition_set.partition_of(id.as_u128()) else { return Ok(Vec::new()) };
        let snapshot = self.partition_set.snapshot(&home)?;
        let Some(event) = decoded::<Event>(&snapshot, Table::Events, id.as_bytes())? else { return Ok(Vec::new()) };
        let deliveries = deliveries_in(&snapshot, &event)?;
        Ok(deliveries.into_iter().map(|delivery| self.shown(delivery)).collect())
    }

    /// The attempt. `None` if there is none within `tenant`, or its event's retention has ended.
    ///
    /// # Errors
    /// A partition cannot be read, or its row is damaged.
    pub fn attempt(&self, tenant: TenantScope, id: AttemptId, now: Time) -> Result<Option<Attempt>> {
        let attempt = anywhere::<Attempt>(&self.partition_set, Table::Attempts, id.as_u128())?;
        Ok(attempt.filter(|a| tenant.covers(a.org_id, a.app_id) && self.is_retained(a.event_id, now)))
    }

    /// A page of the attempts that `query` finds, newest first.
    ///
    /// # Errors
    /// A partition cannot be read.
    pub fn attempts(&self, query: &AttemptQuery, now: Time) -> Result<Page<Attempt>> {
        if let Some(page) = self.attempts_of_one(query, now)? {
            return Ok(page);
        }
        let ids = self.ids_of(ATTEMPTS, query.webhook, query.tenant, before(query.window))?;
        self.page_of_ids(ids, query.window, now, |listed| {
            let found = listed.attempt(|a| self.is_retained(a.event_id, now) && wanted_attempt(query, a))?;
            let Some(attempt) = found else { return Ok(None) };
            let Some(status) = &query.status else { return Ok(Some(attempt)) };
            let delivery = decoded::<Delivery>(listed.snapshot, Table::Deliveries, attempt.delivery_id.as_bytes())?;
            Ok(delivery.map(|d| self.shown(d)).is_some_and(|d| status.has(&d.status)).then_some(attempt))
        })
    }

    /// The newest attempts of a webhook. `read` makes each row of the list from an attempt's front.
    pub fn attempt_fronts<T>(
        &self,
        webhook: WebhookId,
        window: ListWindow,
        now: Time,
        read: impl Fn(&AttemptFront<'_>) -> T,
    ) -> Result<Vec<T>> {
        let ids = NewestFirst::below(&self.partition_set, Table::AttemptsByWebhook, webhook.as_bytes(), before(window));
        let page = self.page_of_ids(ids, window, now, |listed| {
            let made = listed.read_attempt(|row| {
                let front: AttemptFront<'_> = codec::decode_borrowed(row)?;
                Some(self.is_retained(front.event_id, now).then(|| read(&front)))
            })?;
            Ok(made.flatten())
        })?;
        Ok(page.rows)
    }

    /// All attempts of a delivery, oldest first.
    pub fn attempts_of(&self, delivery: &Delivery, now: Time) -> Result<Vec<Attempt>> {
        if !self.is_retained(delivery.event_id, now) {
            return Ok(Vec::new());
        }
        let Some(home) = self.partition_set.partition_of(delivery.event_id.as_u128()) else { return Ok(Vec::new()) };
        let snapshot = self.partition_set.snapshot(&home)?;
        let mut attempts = Vec::new();
        let mut next = delivery.last_attempt_id;
        while let Some(id) = next {
            let Some(attempt) = decoded::<Attempt>(&snapshot, Table::Attempts, id.as_bytes())? else { break };
            next = attempt.retry_of;
            attempts.push(attempt);
        }
        attempts.reverse();
        Ok(attempts)
    }

    /// The running state of a webhook, as it is stored. `shown_state` is the form for people.
    pub fn state(&self, webhook: WebhookId) -> WebhookState {
        self.partition_set.webhook_state(webhook)
    }

    /// Reads the stored answer to an `Idempotency-Key`. `None` if the key is new.
    ///
    /// # Errors
    /// `Conflict` if another request used the key, or if the answer contained a secret and has expired.
    pub fn stored_answer(
        &self,
        idempotency: &IdempotencyKey,
        now: Time,
    ) -> std::result::Result<Option<Applied>, Rejection> {
        let failed = |error: crate::store::Error| Rejection::Failed(error.to_string());
        let state = self.partition_set.state().and_then(|state| state.snapshot()).map_err(failed)?;
        let found = decoded::<AnswerRow>(&state, Table::StateAnswers, &idempotency.key).map_err(failed)?;
        check_stored(&self.partition_set, found, idempotency, now)
    }

    /// Whether the event's retention has not ended.
    pub(in crate::store) fn is_retained(&self, event: EventId, now: Time) -> bool {
        now < event.time().plus_ms(self.partition_set.options.retention_ms)
    }

    /// The delivery as readers see it. An open delivery of a removed webhook reads as cancelled at once. The next attempt of
    /// one that is due is not before the hold of its webhook ends.
    pub(in crate::store) fn shown(&self, mut delivery: Delivery) -> Delivery {
        if delivery.status.is_final() {
            return delivery;
        }
        if let Some(at) = self.partition_set.removed().get(&delivery.webhook_id) {
            delivery.status = DeliveryStatus::Cancelled;
            delivery.completed_at = Some(*at);
            delivery.next_attempt_at = None;
        }
        let held_until = self.state(delivery.webhook_id).held_until();
        let held_until = held_until.map(|until| until.min(delivery.expires_at.unwrap_or(Time::MAX)));
        delivery.next_attempt_at = delivery.next_attempt_at.map(|due| held_until.map_or(due, |until| due.max(until)));
        delivery
    }

    /// Whether a delivery passes the filters of `query`. A search also examines the URL of its webhook, and its event,
    /// which `event` reads.
    pub(in crate::store) fn wanted_delivery(
        &self,
        query: &DeliveryQuery,
        delivery: &Delivery,
        event: impl FnOnce() -> Option<Event>,
    ) -> bool {
        passes_but_search(query, delivery)
            && query.search.as_ref().is_none_or(|search| {
                is_found(search, delivery)
                    || self.is_of_url(search, delivery.webhook_id)
                    || event().is_some_and(|event| names_of(search, &event))
            })
    }

    /// Whether a search finds the URL that a webhook has now.
    fn is_of_url(&self, search: &Search, webhook: WebhookId) -> bool {
        self.partition_set.registry().webhooks.get(&webhook).is_some_and(|webhook| search.within(&webhook.url))
    }

    /// The ids of deliveries or attempts below `before`, newest first: of a webhook, of the tenant's app, or of all.
    pub(in crate::store) fn ids_of(
        &self,
        rows: WebhookRows,
        webhook: Option<WebhookId>,
        tenant: TenantScope,
        before: u128,
    ) -> Result<NewestFirst<'_>> {
        let webhooks = AppWebhooks::of(&self.partition_set, webhook, tenant.app)?;
        Ok(webhooks.newest_first(&self.partition_set, rows, before))
    }

    /// The page of the rows that `read` makes of `ids`, which are below the window's end.
    pub(in crate::store) fn page_of_ids<T>(
        &self,
        ids: NewestFirst<'_>,
        window: ListWindow,
        now: Time,
        mut read: impl FnMut(&ListedId<'_>) -> Result<Option<T>>,
    ) -> Result<Page<T>> {
        self.page_within_budget(ids, window, now, |listed, _| read(listed))
    }

    /// The page of `page_of_ids`. It also ends once `read` has spent the budget.
    pub(in crate::store) fn page_within_budget<T>(
        &self,
        mut ids: NewestFirst<'_>,
        window: ListWindow,
        now: Time,
        mut read: impl FnMut(&ListedId<'_>, &mut PageBudget) -> Result<Option<T>>,
    ) -> Result<Page<T>> {
        let oldest = now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1);
        let from = Id::<T>::floor(window.from.map_or(oldest, |from| from.max(oldest))).as_u128();
        let (mut rows, mut budget) = (Vec::new(), PageBudget::WHOLE);
        for _ in 0..window.examined_max {
            let Some(listed) = ids.next_listed()?.filter(|listed| listed.id >= from) else {
                return Ok(Page { rows, next: None });
            };
            let id = listed.id;
            rows.extend(read(&listed, &mut budget)?);
            if rows.len() == window.limit || budget.is_spent() {
                let more = ids.next_id()?.is_some_and(|(next, _)| next >= from);
                return Ok(Page { rows, next: more.then_some(id) });
            }
        }
        let next = ids.next_id()?.filter(|(next, _)| *next >= from).map(|(next, _)| next + 1);
        Ok(Page { rows, next })
    }

    pub(in crate::store) fn state_page<T: serde::de::DeserializeOwned>(
        &self,
        table: Table,
        window: ListWindow,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Page<T>> {
        self.state_page_by(table, window, |row| codec::decode::<T>(row).map(|row| wanted(&row).then_some(row)))
    }

    /// The page of the rows that `read` makes of their bytes. `read` gives `None` for a damaged row.
    pub(in crate::store) fn state_page_by<T>(
        &self,
        table: Table,
        window: ListWindow,
        read: impl Fn(&[u8]) -> Option<Option<T>>,
    ) -> Result<Page<T>> {
        let snapshot = self.partition_set.state()?.snapshot()?;
        let from = Id::<T>::floor(window.from.unwrap_or(Time::ZERO));
        let to = before(window).to_be_bytes();
        let (mut rows, mut last, mut more, mut examined) = (Vec::new(), None, false, 0);
        snapshot.scan(
            table,
            (std::ops::Bound::Included(from.as_bytes()), std::ops::Bound::Excluded(&to)),
            Direction::Down,
            |key, value| {
                if rows.len() == window.limit || examined == window.examined_max {
                    more = true;
                    return Ok(ScanStep::Stop);
                }
                examined += 1;
                let row = read(value).ok_or_else(|| snapshot.damaged(table, key))?;
                last = tables::first_id::<T>(key).map(|id| id.as_u128());
                rows.extend(row);
                Ok(ScanStep::Go)
            },
        )?;
        Ok(Page { rows, next: last.filter(|_| more) })
    }
}

/// Exclusive upper end of a window: the smaller of the cursor and `to`.
pub(in crate::store) fn before(window: ListWindow) -> u128 {
    let to = window.to.map_or(u128::MAX, |to| EventId::floor(to).as_u128());
    to.min(window.before.unwrap_or(u128::MAX))
}

/// Cuts a page out of rows that were all read at once, oldest first.
pub(in crate::store) fn page_of<T>(
    rows: Vec<T>,
    window: ListWindow,
    id: impl Fn(&T) -> u128,
    wanted: impl Fn(&T) -> bool,
) -> Page<T> {
    let from = window.from.map_or(0, |from| EventId::floor(from).as_u128());
    let before = before(window);
    let mut left = rows.into_iter().rev().filter(|row| (from..before).contains(&id(row)) && wanted(row));
    let rows: Vec<T> = left.by_ref().take(window.limit).collect();
    let next = left.next().and(rows.last()).map(&id);
    Page { rows, next }
}

pub(in crate::store) fn wanted_event(query: &EventQuery, event: &Event) -> bool {
    query.tenant.covers(event.org_id, event.app_id)
        && query.event_type.as_ref().is_none_or(|wanted| *wanted == event.attributes.event_type)
        && query.event_id.as_ref().is_none_or(|wanted| event.attributes.event_id.as_ref() == Some(wanted))
        && query.subject.as_ref().is_none_or(|wanted| event.attributes.subject.as_ref() == Some(wanted))
        && query.search.as_ref().is_none_or(|search| {
            search.within(&event.attributes.event_type) || names_of(search, event) || search.is_id(event.id)
        })
}

/// Whether a delivery passes the filters of `query` by its own row: a search looks neither at its webhook nor at its event.
pub(in crate::store) fn wanted_row(query: &DeliveryQuery, delivery: &Delivery) -> bool {
    passes_but_search(query, delivery) && query.search.as_ref().is_none_or(|search| is_found(search, delivery))
}

fn passes_but_search(query: &DeliveryQuery, delivery: &Delivery) -> bool {
    query.tenant.covers(delivery.org_id, delivery.app_id)
        && query.webhook.is_none_or(|id| id == delivery.webhook_id)
        && query.status.as_ref().is_none_or(|status| status.has(&delivery.status))
        && query.event_type.as_ref().is_none_or(|wanted| *wanted == delivery.event_type)
        && query.status_code.as_ref().is_none_or(|codes| codes.has_code(delivery.last_status_code))
        && query.outcome.as_ref().is_none_or(|any| delivery.last_outcome.is_some_and(|own| any.has(&own)))
        && (!query.ended.is_bounded() || delivery.completed_at.is_some_and(|at| query.ended.contains(at)))
}

/// Whether a search finds a delivery by its own row.
fn is_found(search: &Search, delivery: &Delivery) -> bool {
    search.within(&delivery.event_type)
        || delivery.last_error.as_deref().is_some_and(|error| search.within(error))
        || delivery.last_status_code.is_some_and(|code| search.is_code(code))
        || search.is_id(delivery.id)
        || search.is_id(delivery.event_id)
}

/// Whether a search finds the `subject` or the `event_id` of an event.
fn names_of(search: &Search, event: &Event) -> bool {
    event.attributes.subject.as_deref().is_some_and(|subject| search.within(subject))
        || event.attributes.event_id.as_deref().is_some_and(|id| search.is(id))
}

/// The event of a delivery in its partition. A search takes a damaged row as if it were not there.
pub(in crate::store) fn event_in(snapshot: &Snapshot, delivery: &Delivery) -> Option<Event> {
    decoded::<Event>(snapshot, Table::Events, delivery.event_id.as_bytes()).ok().flatten()
}

pub(in crate::store) fn wanted_attempt(query: &AttemptQuery, attempt: &AttemptFront<'_>) -> bool {
    query.tenant.covers(attempt.org_id, attempt.app_id)
        && query.webhook.is_none_or(|id| id == attempt.webhook_id)
        && query.success.is_none_or(|success| success == attempt.success)
        && query.event_type.as_ref().is_none_or(|wanted| wanted == attempt.event_type)
        && query.status_code.as_ref().is_none_or(|codes| codes.has_code(attempt.status_code))
        && query.outcome.as_ref().is_none_or(|any| any.has(&attempt.outcome))
        && query.search.as_ref().is_none_or(|search| {
            search.within(attempt.event_type)
                || search.within(attempt.url)
                || attempt.error.is_some_and(|error| search.within(error))
                || attempt.status_code.is_some_and(|code| search.is_code(code))
                || search.is_id(attempt.id)
                || search.is_id(attempt.delivery_id)
                || search.is_id(attempt.event_id)
        })
}
