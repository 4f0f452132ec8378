//! Reads pages of events, attempts and deliveries in both directions.
//!
//! Invariant: a page examines at most `COUNTED_ROWS_MAX` rows, and ends once its rows have `PAGE_BYTES_MAX` bytes of
//! payloads and responses. Rows whose retention has ended are hidden, as in `lists`.

use bytes::Bytes;

use crate::model::id::{AppId, Id, WebhookId};
use crate::model::{Attempt, Delivery, Event, Time};

use crate::kv::error::Result;
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::Table;
use crate::store::read::app_events::AppEvents;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{data_in, decoded, deliveries_to_in};
use crate::store::read::newest_first::NewestFirst;
use crate::store::read::oldest_first::OldestFirst;
use crate::store::read::query::PageBudget;

/// The range, direction and size of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoWayWindow {
    /// The smallest id.
    pub from: u128,
    /// Ids are smaller than this.
    pub to: u128,
    /// Whether the page has the smallest ids of the window. Otherwise it has the greatest ones.
    pub is_rising: bool,
    pub limit: usize,
}

/// A page, in the direction in which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoWayPage<T> {
    pub rows: Vec<T>,
    /// The last id that was examined if the page ended early, so that more may follow. `None` if `rows` tell it.
    pub examined: Option<u128>,
    /// Whether no further row follows in the direction of reading.
    pub is_end: bool,
}

impl Store {
    /// The events of an app that `wanted` accepts, each with its data if that is asked for.
    pub fn events_two_way(
        &self,
        app: AppId,
        window: TwoWayWindow,
        with_data: bool,
        now: Time,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<TwoWayPage<(Event, Option<Bytes>)>> {
        let events = AppEvents::of(&self.partition_set, Some(app))?;
        self.two_way(
            |first| events.source(first),
            window,
            now,
            |snapshot, id, budget| {
                let event = decoded::<Event>(snapshot, Table::Events, &id.to_be_bytes())?;
                let event =
                    event.filter(|event| event.app_id == app && self.is_retained(event.id, now) && wanted(event));
                event.map(|event| with_data_of(snapshot, event, with_data, budget)).transpose()
            },
        )
    }

    /// The attempts of a webhook that `wanted` accepts, each with its event, and its data if that is asked for.
    pub fn attempts_two_way(
        &self,
        webhook: WebhookId,
        window: TwoWayWindow,
        with_data: bool,
        now: Time,
        mut wanted: impl FnMut(&Attempt, &Event) -> bool,
    ) -> Result<TwoWayPage<(Attempt, Event, Option<Bytes>)>> {
        let source = |_| (Table::AttemptsByWebhook, webhook.as_bytes().as_slice());
        self.two_way(source, window, now, |snapshot, id, budget| {
            let Some(attempt) = decoded::<Attempt>(snapshot, Table::Attempts, &id.to_be_bytes())? else {
                return Ok(None);
            };
            if !self.is_retained(attempt.event_id, now) {
                return Ok(None);
            }
            let event = decoded::<Event>(snapshot, Table::Events, attempt.event_id.as_bytes())?;
            let Some(event) = event.filter(|event| wanted(&attempt, event)) else { return Ok(None) };
            let (event, data) = with_data_of(snapshot, event, with_data, budget)?;
            budget.show(attempt.made.response_body.as_ref().map_or(0, String::len));
            Ok(Some((attempt, event, data)))
        })
    }

    /// The events of which publishing made a delivery to a webhook and that `wanted` accepts. `row` makes a row of all
    /// deliveries of an event to the webhook, oldest first. Each row has its event, and its data if that is asked for.
    pub fn published_two_way<T>(
        &self,
        webhook: WebhookId,
        window: TwoWayWindow,
        with_data: bool,
        now: Time,
        mut wanted: impl FnMut(&Event) -> bool,
        mut row: impl FnMut(&[Delivery]) -> Option<T>,
    ) -> Result<TwoWayPage<(T, Event, Option<Bytes>)>> {
        let source = |_| (Table::DeliveriesByWebhook, webhook.as_bytes().as_slice());
        self.two_way(source, window, now, |snapshot, id, budget| {
            let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, &id.to_be_bytes())?;
            let delivery = delivery.filter(|d| !d.is_replay() && self.is_retained(d.event_id, now));
            let Some(delivery) = delivery else { return Ok(None) };
            let event = decoded::<Event>(snapshot, Table::Events, delivery.event_id.as_bytes())?;
            let Some(event) = event.filter(|event| wanted(event)) else { return Ok(None) };
            let own = deliveries_to_in(snapshot, webhook, event.id, Some(delivery))?;
            budget.examine(own.len() - 1);
            let own: Vec<Delivery> = own.into_iter().map(|one| self.shown(one)).collect();
            let Some(row) = row(&own) else { return Ok(None) };
            let (event, data) = with_data_of(snapshot, event, with_data, budget)?;
            Ok(Some((row, event, data)))
        })
    }

    fn two_way<'s, T>(
        &self,
        source: impl Fn(u128) -> (Table, &'s [u8]),
        window: TwoWayWindow,
        now: Time,
        mut read: impl FnMut(&Snapshot, u128, &mut PageBudget) -> Result<Option<T>>,
    ) -> Result<TwoWayPage<T>> {
        let oldest = Id::<T>::floor(now.minus_ms(self.partition_set.options.retention_ms).plus_ms(1)).as_u128();
        let from = window.from.max(oldest);
        let mut ids = Ids::new(self, source, (from, window.to), window.is_rising);
        let (mut rows, mut last) = (Vec::new(), None);
        let mut budget = PageBudget::WHOLE;
        while !budget.is_spent() {
            budget.examine(1);
            let Some((id, snapshot)) = ids.next_id()? else {
                return Ok(TwoWayPage { rows, examined: None, is_end: true });
            };
            if id < from || id >= window.to {
                return Ok(TwoWayPage { rows, examined: None, is_end: true });
            }
            let Some(row) = read(snapshot, id, &mut budget)? else {
                last = Some(id);
                continue;
            };
            // A row beyond the limit of the page proves that the list goes on.
            if rows.len() == window.limit {
                return Ok(TwoWayPage { rows, examined: None, is_end: false });
            }
            rows.push(row);
            last = Some(id);
        }
        Ok(TwoWayPage { rows, examined: last, is_end: false })
    }
}

/// The event with its data, which is `None` if it was erased or not asked for.
fn with_data_of(
    snapshot: &Snapshot,
    event: Event,
    with_data: bool,
    budget: &mut PageBudget,
) -> Result<(Event, Option<Bytes>)> {
    let has_data = with_data && event.erased_at.is_none();
    let data = if has_data { Some(data_in(snapshot, &event)?) } else { None };
    budget.show(data.as_ref().map_or(0, Bytes::len));
    Ok((event, data))
}

/// Ids in either direction.
enum Ids<'a> {
    Falling(NewestFirst<'a>),
    Rising(OldestFirst<'a>),
}

impl<'a> Ids<'a> {
    fn new<'s>(
        store: &'a Store,
        source: impl Fn(u128) -> (Table, &'s [u8]),
        (from, to): (u128, u128),
        is_rising: bool,
    ) -> Ids<'a> {
        match is_rising {
            true => Ids::Rising(OldestFirst::by(&store.partition_set, source, from)),
            false => Ids::Falling(NewestFirst::by(&store.partition_set, source, to)),
        }
    }

    fn next_id(&mut self) -> Result<Option<(u128, &Snapshot)>> {
        match self {
            Ids::Falling(ids) => ids.next_id(),
            Ids::Rising(ids) => ids.next_id(),
        }
    }
}
