//! Reads attempts with their delivery and event, and deliveries with their event and last attempt.
//!
//! All these rows lie in the partition of the event, so one snapshot shows them consistently.
//!
//! Invariant: hides the same rows as `lists`, and examines no more than `COUNTED_ROWS_MAX` rows for a search.

use bytes::Bytes;

use crate::model::id::{AttemptId, DeliveryId, EventId, Id, WebhookId};
use crate::model::{Attempt, Delivery, Event, Time};

use crate::kv::error::Result;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::store::command::TenantScope;
use crate::store::read::app_webhooks::{ATTEMPTS, DELIVERIES};
use crate::store::read::lists::{Store, before, wanted_attempt, wanted_row};
use crate::store::read::lookup::{data_in, decoded};
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::query::{AttemptQuery, COUNTED_ROWS_MAX, DeliveryQuery, EXAMINED_ROWS_MAX, Page};

/// An attempt with its delivery, event and payload.
#[derive(Debug, Clone)]
pub struct AttemptDetails {
    pub attempt: Attempt,
    pub delivery: Delivery,
    pub event: Event,
    /// `None` if the event was erased.
    pub data: Option<Bytes>,
}

/// A delivery with its event, payload and last attempt.
#[derive(Debug, Clone)]
pub struct DeliveryDetails {
    pub delivery: Delivery,
    pub event: Event,
    /// `None` if the event was erased.
    pub data: Option<Bytes>,
    /// The last finished attempt.
    pub last: Option<Attempt>,
}

/// Filters of an attempt list beyond those of `AttemptQuery`.
#[derive(Debug, Clone, Default)]
pub struct AttemptFilter {
    /// Started at or after the first and before the second.
    pub started: Option<(Time, Time)>,
    /// Exactly this URL, or an event with exactly this subject.
    pub about: Option<String>,
}

/// A slice of a webhook's deliveries and their total number.
#[derive(Debug, Clone, Default)]
pub struct DeliverySlice {
    pub rows: Vec<DeliveryDetails>,
    /// The number of deliveries. With a search it is that of the matches among the newest `COUNTED_ROWS_MAX`.
    pub total: u64,
}

impl Store {
    /// An attempt with its details. `None` if there is none within `tenant`, or its event's retention has ended.
    pub fn attempt_details(&self, tenant: TenantScope, id: AttemptId, now: Time) -> Result<Option<AttemptDetails>> {
        for partition in self.partition_set.partitions().into_iter().rev().filter(|p| p.may_contain(id.as_u128())) {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let Some(attempt) = decoded::<Attempt>(&snapshot, Table::Attempts, id.as_bytes())? else { continue };
            let visible = tenant.covers(attempt.org_id, attempt.app_id) && self.is_retained(attempt.event_id, now);
            return if visible { self.with_details(&snapshot, attempt).map(Some) } else { Ok(None) };
        }
        Ok(None)
    }

    /// Lists attempts of one webhook or of all. The query's `delivery`, `event` and `status` are ignored. A page ends once
    /// its rows have `PAGE_BYTES_MAX` bytes of payloads.
    pub fn attempts_details(
        &self,
        query: &AttemptQuery,
        filter: &AttemptFilter,
        now: Time,
    ) -> Result<Page<AttemptDetails>> {
        let ids = self.ids_of(ATTEMPTS, query.webhook, query.tenant, before(query.window))?;
        self.page_within_budget(ids, query.window, now, |listed, budget| {
            let snapshot = listed.snapshot;
            let found = listed.attempt(|a| self.is_retained(a.event_id, now) && wanted_attempt(query, a))?;
            let started = |attempt: &Attempt| {
                filter.started.is_none_or(|(from, to)| (from..to).contains(&attempt.made.started_at))
            };
            let Some(attempt) = found.filter(started) else { return Ok(None) };
            if let Some(about) = filter.about.as_ref().filter(|about| **about != attempt.made.url) {
                let event = event_of(snapshot, attempt.event_id)?;
                if event.attributes.subject.as_ref() != Some(about) {
                    return Ok(None);
                }
            }
            let details = self.with_details(snapshot, attempt)?;
            budget.show(details.data.as_ref().map_or(0, Bytes::len));
            Ok(Some(details))
        })
    }

    /// `limit` of a webhook's deliveries after the newest `skip`. Skipped deliveries are counted by their keys alone.
    pub fn delivery_slice(&self, webhook: WebhookId, skip: u64, limit: usize, now: Time) -> Result<DeliverySlice> {
        let expiring = self.expiring(now);
        let total = self.visible_deliveries(webhook, &expiring, now)?;
        let mut rows = Vec::new();
        if skip >= total || limit == 0 {
            return Ok(DeliverySlice { rows, total });
        }
        let expiring = expiring.few_of(self, webhook)?;
        let oldest = self.oldest(now);
        let mut ids =
            NewestFirst::below(&self.partition_set, Table::DeliveriesByWebhook, webhook.as_bytes(), u128::MAX);
        let mut passed = 0;
        while let Some((id, snapshot)) = ids.next_id()?.filter(|(id, _)| *id >= oldest) {
            if !expiring.shows(self, snapshot, id, now)? {
                continue;
            }
            passed += 1;
            if passed > skip {
                rows.extend(self.delivery_details_by_id(snapshot, id, now)?);
                if passed == skip + limit as u64 {
                    break;
                }
            }
        }
        Ok(DeliverySlice { rows, total })
    }

    /// `limit` of the deliveries that `query` finds after the newest `skip` of them. A search examines only their own
    /// rows.
    pub fn delivery_search(&self, query: &DeliveryQuery, skip: u64, limit: usize, now: Time) -> Result<DeliverySlice> {
        let mut ids = self.ids_of(DELIVERIES, query.webhook, query.tenant, u128::MAX)?;
        let oldest = self.oldest(now);
        let mut slice = DeliverySlice::default();
        for _ in 0..COUNTED_ROWS_MAX {
            let Some((id, snapshot)) = ids.next_id()?.filter(|(id, _)| *id >= oldest) else { break };
            let Some(delivery) = self.delivery_in(snapshot, id, now)?.filter(|d| wanted_row(query, d)) else {
                continue;
            };
            if (skip..skip + limit as u64).contains(&slice.total) {
                slice.rows.push(self.delivery_details(snapshot, delivery)?);
            }
            slice.total += 1;
        }
        Ok(slice)
    }

    /// A webhook's newest deliveries, each with its last attempt.
    pub fn newest_deliveries(
        &self,
        webhook: WebhookId,
        limit: usize,
        now: Time,
    ) -> Result<Vec<(Delivery, Option<Attempt>)>> {
        let mut ids =
            NewestFirst::below(&self.partition_set, Table::DeliveriesByWebhook, webhook.as_bytes(), u128::MAX);
        let oldest = self.oldest(now);
        let mut rows = Vec::with_capacity(limit);
        for _ in 0..EXAMINED_ROWS_MAX {
            if rows.len() == limit {
                break;
            }
            let Some((id, snapshot)) = ids.next_id()?.filter(|(id, _)| *id >= oldest) else { break };
            if let Some(delivery) = self.delivery_in(snapshot, id, now)? {
                let last = last_attempt(snapshot, &delivery)?;
                rows.push((delivery, last));
            }
        }
        Ok(rows)
    }

    /// The newest attempt of a webhook that is not hidden.
    pub fn last_attempt_of(&self, webhook: WebhookId, now: Time) -> Result<Option<Attempt>> {
        let mut ids = NewestFirst::below(&self.partition_set, Table::AttemptsByWebhook, webhook.as_bytes(), u128::MAX);
        let Some((id, snapshot)) = ids.next_id()? else { return Ok(None) };
        let attempt = decoded::<Attempt>(snapshot, Table::Attempts, &id.to_be_bytes())?;
        Ok(attempt.filter(|attempt| self.is_retained(attempt.event_id, now)))
    }

    /// Deliveries with smaller ids are of events whose retention has ended.
    fn oldest(&self, now: Time) -> u128 {
        DeliveryId::floor(now.minus_ms(self.partition_set.options.retention_ms)).as_u128()
    }

    fn delivery_in(&self, snapshot: &Snapshot, id: u128, now: Time) -> Result<Option<Delivery>> {
        let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, &id.to_be_bytes())?;
        Ok(delivery.filter(|d| self.is_retained(d.event_id, now)).map(|d| self.shown(d)))
    }

    fn delivery_details_by_id(&self, snapshot: &Snapshot, id: u128, now: Time) -> Result<Option<DeliveryDetails>> {
        let delivery = self.delivery_in(snapshot, id, now)?;
        delivery.map(|delivery| self.delivery_details(snapshot, delivery)).transpose()
    }

    fn delivery_details(&self, snapshot: &Snapshot, delivery: Delivery) -> Result<DeliveryDetails> {
        let (event, data) = event_and_data(snapshot, delivery.event_id)?;
        let last = last_attempt(snapshot, &delivery)?;
        Ok(DeliveryDetails { delivery, event, data, last })
    }

    fn with_details(&self, snapshot: &Snapshot, attempt: Attempt) -> Result<AttemptDetails> {
        let delivery = required::<Delivery, _>(snapshot, Table::Deliveries, attempt.delivery_id)?;
        let (event, data) = event_and_data(snapshot, attempt.event_id)?;
        Ok(AttemptDetails { attempt, delivery: self.shown(delivery), event, data })
    }
}

fn event_of(snapshot: &Snapshot, id: EventId) -> Result<Event> {
    required(snapshot, Table::Events, id)
}

fn event_and_data(snapshot: &Snapshot, id: EventId) -> Result<(Event, Option<Bytes>)> {
    let event = event_of(snapshot, id)?;
    let data = if event.erased_at.is_none() { Some(data_in(snapshot, &event)?) } else { None };
    Ok((event, data))
}

fn last_attempt(snapshot: &Snapshot, delivery: &Delivery) -> Result<Option<Attempt>> {
    delivery.last_attempt_id.map(|id| required(snapshot, Table::Attempts, id)).transpose()
}

/// Reads a row that another row refers to. A missing row is reported as damage.
fn required<T: serde::de::DeserializeOwned, K>(snapshot: &Snapshot, table: Table, id: Id<K>) -> Result<T> {
    decoded(snapshot, table, id.as_bytes())?.ok_or_else(|| snapshot.damaged(table, id.as_bytes()))
}
