//! Reads due deliveries of a webhook, earliest first, one bounded slice at a time.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{DeliveryId, EventId, WebhookId};
use crate::model::webhook::{CircuitState, DeliveryOrder, Webhook, WebhookState};
use crate::model::{Delivery, Event, Time};
use crate::mutants::mutant;
use crate::rules::circuit;

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::store::effects::Dispatch;
use crate::store::read::lists::Store;
use crate::store::read::lookup::{DueKey, data_in, decoded, entries_of, first_due, heads_in};

/// A payload over this part of a slice's bytes is left out of the slice.
const PAYLOAD_PARTS: usize = 8;
/// Maximum number of queues of one webhook that its lag is computed from.
pub const QUEUES_MAX: usize = 1_000;

/// A slice of due deliveries.
#[derive(Debug, Default)]
pub struct DueSlice {
    pub ready: Vec<Dispatch>,
    /// Last entry examined.
    pub last: Option<DueKey>,
    /// When the first entry after the slice is due. `None` if no entry follows.
    pub next: Option<Time>,
    /// Errors of entries that could not be read. The entries stay in the table.
    pub damaged: Vec<String>,
}

/// A delivery whose `expires_at` has come before it was final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredDelivery {
    pub webhook: WebhookId,
    pub event: EventId,
    pub delivery: DeliveryId,
}

impl Store {
    /// Deliveries that expired by `until`, at most about `limit`, and when the next one expires.
    pub fn expired(&self, until: Time, limit: usize) -> Result<(Vec<ExpiredDelivery>, Option<Time>)> {
        let (mut ended, mut next) = (Vec::new(), None);
        for partition in self.partition_set.open_partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let mut ids = Vec::new();
            snapshot.scan(Table::Expiries, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, _| {
                let Some((at, delivery)) = tables::read_expiry(key) else { return Ok(ScanStep::Go) };
                if at > until || ids.len() == limit {
                    next = [next, Some(at)].into_iter().flatten().min();
                    return Ok(ScanStep::Stop);
                }
                ids.push(delivery);
                Ok(ScanStep::Go)
            })?;
            for id in ids {
                if let Some(delivery) = decoded::<Delivery>(&snapshot, Table::Deliveries, id.as_bytes())? {
                    ended.push(ExpiredDelivery {
                        webhook: delivery.webhook_id,
                        event: delivery.event_id,
                        delivery: id,
                    });
                }
            }
        }
        Ok((ended, next))
    }

    /// Earliest due time of every webhook with due entries, once for each partition that has some.
    pub fn due_heads(&self) -> Result<Vec<(WebhookId, Time)>> {
        let mut heads = Vec::new();
        for partition in self.partition_set.open_partitions() {
            heads.extend(heads_in(&self.partition_set.snapshot(&partition)?)?);
        }
        Ok(heads)
    }

    /// The webhook's delivery that is due first. `None` if none is due at `now`.
    pub fn first_due_of(&self, webhook: WebhookId, now: Time) -> Result<Option<DeliveryId>> {
        Ok(self.first_planned(webhook)?.filter(|(at, _)| *at <= now).map(|(_, delivery)| delivery))
    }

    /// `state`, the running state of a webhook, as people see it at `now`. An open circuit is held until its next probe.
    pub fn shown_state(&self, webhook: WebhookId, state: WebhookState, now: Time) -> WebhookState {
        let shown = circuit::shown(state, now);
        if shown.circuit != CircuitState::HalfOpen {
            return shown;
        }
        // A damaged file gives no time. It must not hide the webhook.
        circuit::until_due(shown, self.first_planned(webhook).ok().flatten().map(|(at, _)| at), now)
    }

    fn first_planned(&self, webhook: WebhookId) -> Result<Option<DueKey>> {
        let mut first: Option<DueKey> = None;
        for partition in self.partition_set.open_partitions() {
            let found = first_due(&self.partition_set.snapshot(&partition)?, webhook)?;
            first = [first, found].into_iter().flatten().min();
        }
        Ok(first)
    }

    /// When the webhook's oldest due delivery became due. For an ordered webhook, when its queue head first did.
    /// `None` if nothing is due.
    pub fn waiting_since(&self, webhook: &Webhook, now: Time) -> Result<Option<Time>> {
        let expiring = self.expiring(now);
        let mut oldest: Option<Time> = None;
        for partition in self.partition_set.open_partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let first = self.first_unexpired_due(&expiring, &partition, &snapshot, webhook.id, now)?;
            let first = first.map(|(at, _)| at).filter(|at| *at <= now);
            oldest = [oldest, first].into_iter().flatten().min();
            if webhook.ordered == DeliveryOrder::No {
                continue;
            }
            for head in heads_of(&snapshot, webhook.id)? {
                let Some(delivery) = decoded::<Delivery>(&snapshot, Table::Deliveries, head.as_bytes())? else {
                    continue;
                };
                if !self.is_retained(delivery.event_id, now) {
                    continue;
                }
                let since = match delivery.attempts {
                    0 => delivery.next_attempt_at.filter(|at| *at <= now),
                    _ => Some(delivery.created_at),
                };
                oldest = [oldest, since].into_iter().flatten().min();
            }
        }
        Ok(oldest)
    }

    /// Due deliveries of a webhook after `after` and up to `until`: at most `limit` deliveries and about `bytes_max` of
    /// payload. Large payloads are left out (`Dispatch::lacks_data`).
    pub fn due(
        &self,
        webhook: WebhookId,
        after: Option<DueKey>,
        until: Time,
        limit: usize,
        bytes_max: usize,
    ) -> Result<DueSlice> {
        let mut snapshots = Vec::new();
        for partition in self.partition_set.open_partitions() {
            snapshots.push(self.partition_set.snapshot(&partition)?);
        }
        let mut entries: Vec<(DueKey, usize)> = Vec::new();
        for (number, snapshot) in snapshots.iter().enumerate() {
            entries.extend(entries_of(snapshot, webhook, after, limit + 1)?.into_iter().map(|key| (key, number)));
        }
        entries.sort_unstable();
        let mut slice = DueSlice::default();
        let mut bytes = 0;
        for ((at, delivery), number) in entries {
            if at > until || slice.ready.len() == limit || bytes > bytes_max {
                slice.next = Some(at);
                break;
            }
            slice.last = Some((at, delivery));
            match self.dispatch(&snapshots[number], delivery, at, bytes_max / PAYLOAD_PARTS) {
                Ok(Some(dispatch)) => {
                    bytes += dispatch.data.len();
                    slice.ready.push(dispatch);
                }
                Ok(None) => {}
                Err(error) => slice.damaged.push(error.to_string()),
            }
        }
        Ok(slice)
    }

    fn dispatch(
        &self,
        snapshot: &Snapshot,
        id: DeliveryId,
        due: Time,
        payload_bytes_max: usize,
    ) -> Result<Option<Dispatch>> {
        let delivery = decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?;
        let Some(delivery) = delivery.filter(|d| !d.status.is_final()) else { return Ok(None) };
        let event = decoded::<Event>(snapshot, Table::Events, delivery.event_id.as_bytes())?;
        let event = event.ok_or_else(|| snapshot.damaged(Table::Events, delivery.event_id.as_bytes()))?;
        let is_left_out = event.erased_at.is_none() && event.data_bytes as usize > payload_bytes_max;
        let data = if is_left_out { Bytes::new() } else { data_in(snapshot, &event)? };
        let retention_end = event.received_at.plus_ms(self.partition_set.options.retention_ms);
        Ok(Some(Dispatch {
            webhook_id: delivery.webhook_id,
            delivery_id: id,
            data,
            number: delivery.attempts + 1,
            due,
            retry_of: delivery.last_attempt_id,
            trigger: trigger_of(&delivery),
            end: delivery
                .expires_at
                .filter(|_| !mutant!("expiry_ignored"))
                .map_or(retention_end, |end| end.min(retention_end)),
            event: Arc::new(event),
        }))
    }
}

fn trigger_of(delivery: &Delivery) -> Trigger {
    match (delivery.manual, delivery.attempts, delivery.replay_of, delivery.job_id) {
        (true, ..) => Trigger::Manual,
        (_, 1.., ..) => Trigger::Retry,
        (_, 0, None, None) => Trigger::Event,
        (_, 0, ..) => Trigger::Replay,
    }
}

/// The first delivery of each of a webhook's queues in one partition, of `QUEUES_MAX` queues at most.
fn heads_of(snapshot: &Snapshot, webhook: WebhookId) -> Result<Vec<DeliveryId>> {
    let mut heads = Vec::new();
    let mut from = tables::queue(webhook, 0, DeliveryId::MIN);
    while heads.len() < QUEUES_MAX {
        let mut found = None;
        snapshot.scan(Table::Queue, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, _| {
            found = tables::read_queue(key).filter(|(of, ..)| *of == webhook);
            Ok(ScanStep::Stop)
        })?;
        let Some((_, key_hash, delivery)) = found else { break };
        heads.push(delivery);
        let Some(next) = key_hash.checked_add(1) else { break };
        from = tables::queue(webhook, next, DeliveryId::MIN);
    }
    Ok(heads)
}
