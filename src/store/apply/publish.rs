//! Publishing: writes an event, its payload, and a delivery for every matching webhook in one commit.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{AppId, EventId};
use crate::model::webhook::{DeliveryOrder, Webhook};
use crate::model::{Delivery, DeliveryStatus, Event, Time};
use crate::mutants::mutant;
use crate::rules::{patterns, retry};

use crate::kv::codec;
use crate::kv::tables::{self, Table};
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{Caller, EventInput, IdempotencyKey, Published, Receipt, Rejection};
use crate::store::effects::Dispatch;
use crate::store::event_names::names_of;
use crate::store::idempotency::index::{self, KeyKind};
use crate::store::idempotency::rows::put_key;

/// The decision on an event of a batch.
enum PublishPlan {
    Duplicate(Arc<Event>),
    /// A repetition of an earlier event of the same batch.
    DuplicateInBatch(usize),
    New {
        app: AppId,
        webhooks: Vec<Arc<Webhook>>,
    },
}

/// The origin of a new delivery.
pub(in crate::store) struct NewDelivery {
    pub due: Time,
    pub trigger: Trigger,
    pub replay_of: Option<crate::model::DeliveryId>,
    pub job: Option<crate::model::job::JobId>,
}

impl PartitionBatch<'_> {
    pub(in crate::store) fn publish(
        &mut self,
        by: Option<&Caller>,
        events: &[EventInput],
        idempotency: Option<&IdempotencyKey>,
    ) -> ApplyResult<Receipt> {
        let mut plans: Vec<PublishPlan> = Vec::with_capacity(events.len());
        for (number, new) in events.iter().enumerate() {
            let plan = self.plan_event(by, events, &plans, number, new)?;
            plans.push(plan);
        }
        let mut published: Vec<Published> = Vec::with_capacity(events.len());
        for (new, plan) in events.iter().zip(plans) {
            let one = match plan {
                PublishPlan::Duplicate(event) => Published { event, duplicate: true },
                PublishPlan::DuplicateInBatch(earlier) => {
                    Published { event: published[earlier].event.clone(), duplicate: true }
                }
                PublishPlan::New { app, webhooks } => {
                    Published { event: self.write_event(app, new, &webhooks)?, duplicate: false }
                }
            };
            published.push(one);
        }
        if let Some(idempotency) = idempotency {
            // The answer is stored under the id of the new event. If all events existed before, it gets an id of its
            // own.
            let first = published.iter().find(|p| !p.duplicate).map(|p| p.event.id);
            let id = first.unwrap_or_else(|| self.inputs.id());
            let fingerprint = index::of_answer(&idempotency.key);
            put_key(&mut self.write_batch, id, KeyKind::Answer, fingerprint);
            self.new_answers.push((fingerprint, id));
        }
        Ok(Receipt::Published(published))
    }

    fn plan_event(
        &mut self,
        by: Option<&Caller>,
        all: &[EventInput],
        before: &[PublishPlan],
        number: usize,
        new: &EventInput,
    ) -> ApplyResult<PublishPlan> {
        let app = self.app_of(by, number, new)?;
        if let Some(name) = &new.attributes.event_id {
            let earlier = before.iter().zip(all).position(|(plan, other)| {
                matches!(plan, PublishPlan::New { app: a, .. } if *a == app)
                    && other.attributes.event_id.as_ref() == Some(name)
            });
            if let Some(earlier) = earlier {
                let other = &all[earlier];
                return if other.attributes.event_type == new.attributes.event_type && other.data == new.data {
                    Ok(PublishPlan::DuplicateInBatch(earlier))
                } else {
                    Err(id_conflict(number, name).into())
                };
            }
            if let Some(event) = self.known_event(app, name)? {
                let same =
                    event.attributes.event_type == new.attributes.event_type && self.has_data(&event, &new.data)?;
                return if same { Ok(PublishPlan::Duplicate(event)) } else { Err(id_conflict(number, name).into()) };
            }
        }
        if let Some(only) = new.only {
            let found = self.registry.webhooks.get(&only).filter(|webhook| webhook.app_id == app);
            return Ok(PublishPlan::New { app, webhooks: found.into_iter().cloned().collect() });
        }
        let fanout = self.fanouts.of(&self.registry, app);
        let about =
            new.attributes.metadata.get("webhook_id").filter(|_| patterns::is_system(&new.attributes.event_type));
        let webhooks: Vec<_> = fanout
            .wanted(&new.attributes.event_type, &new.attributes.channels, &new.data)
            .filter(|webhook| about.is_none_or(|id| *id != webhook.id.to_string()))
            .cloned()
            .collect();
        self.check_times(number, new, &webhooks)?;
        Ok(PublishPlan::New { app, webhooks })
    }

    fn app_of(&self, by: Option<&Caller>, number: usize, new: &EventInput) -> ApplyResult<AppId> {
        let Some(by) = by else {
            let known = new.app.filter(|app| self.registry.apps.contains_key(app));
            return known.ok_or_else(|| Rejection::NotFound("app").into());
        };
        let default = || self.registry.organizations.get(&by.tenant.org).map(|o| o.default_app_id);
        let app = new.app.or(by.tenant.app).or_else(default).ok_or(Rejection::NotFound("app"))?;
        match self.registry.app(by.tenant, app) {
            Some(_) => Ok(app),
            None => {
                Err(Rejection::Invalid { pointer: format!("/events/{number}/app_id"), detail: "no such app".into() }
                    .into())
            }
        }
    }

    fn check_times(&self, number: usize, new: &EventInput, webhooks: &[Arc<Webhook>]) -> ApplyResult<()> {
        let Some(deliver_at) = new.attributes.deliver_at else { return Ok(()) };
        let end = self.inputs.now.plus_ms(self.partition_set.options.retention_ms);
        let longest = webhooks.iter().map(|w| retry::longest_ms(&w.retry_schedule_s, w.timeout_ms)).max().unwrap_or(0);
        if deliver_at.plus_ms(longest) < end {
            return Ok(());
        }
        let detail = "is too late: the retry schedule after it ends after the retention".to_owned();
        Err(Rejection::Invalid { pointer: format!("/events/{number}/deliver_at"), detail }.into())
    }

    /// The event with this `event_id` within the window.
    fn known_event(&self, app: AppId, name: &str) -> ApplyResult<Option<Arc<Event>>> {
        let fingerprint = index::of_event_id(app, name);
        let same = |event: &Event| event.app_id == app && event.attributes.event_id.as_deref() == Some(name);
        if let Some(event) = self.new_fingerprints.get(&fingerprint).filter(|event| same(event)) {
            return Ok(Some(event.clone()));
        }
        let is_past =
            |id: &EventId| self.inputs.now.since(id.time()) >= self.partition_set.options.idempotency_window_ms;
        for id in self.candidates(fingerprint)?.into_iter().filter(|id| !is_past(id)) {
            if let Some(event) = self.event_anywhere(id)?.filter(same) {
                return Ok(Some(Arc::new(event)));
            }
        }
        Ok(None)
    }

    /// An event of this or another partition.
    pub(in crate::store) fn event_anywhere(&self, id: EventId) -> ApplyResult<Option<Event>> {
        if let Some(event) = self.write_batch.get(Table::Events, id.as_bytes())? {
            return Ok(Some(event));
        }
        let Some(home) = self.partition_set.partition_of(id.as_u128()) else { return Ok(None) };
        let snapshot = self.partition_set.snapshot(&home)?;
        match snapshot.get(Table::Events, id.as_bytes(), codec::decode::<Event>)? {
            Some(None) => Err(snapshot.damaged(Table::Events, id.as_bytes()).into()),
            found => Ok(found.flatten()),
        }
    }

    /// Whether an event has these bytes. For an erased event the answer is yes.
    fn has_data(&self, event: &Event, data: &Bytes) -> ApplyResult<bool> {
        if event.erased_at.is_some() {
            // Nothing is left to compare, and a repetition must not restore erased data.
            return Ok(true);
        }
        if event.data_bytes as usize != data.len() {
            return Ok(false);
        }
        if self.write_batch.has(Table::Events, event.id.as_bytes())? {
            return Ok(self.data_of(event)? == *data);
        }
        let Some(home) = self.partition_set.partition_of(event.id.as_u128()) else { return Ok(false) };
        let snapshot = self.partition_set.snapshot(&home)?;
        Ok(crate::store::read::lookup::data_in(&snapshot, event)? == *data)
    }

    /// The payload of an event of this partition.
    pub(in crate::store) fn data_of(&self, event: &Event) -> ApplyResult<Bytes> {
        Ok(self.write_batch.payload(event.id, event.data_bytes as usize)?)
    }

    fn write_event(&mut self, app: AppId, new: &EventInput, webhooks: &[Arc<Webhook>]) -> ApplyResult<Arc<Event>> {
        let id: EventId = self.inputs.id();
        let received_at = id.time();
        let org_id = self.registry.apps.get(&app).map_or(crate::model::OrganizationId::MIN, |app| app.org_id);
        let event = Arc::new(Event {
            id,
            org_id,
            app_id: app,
            occurred_at: new.occurred_at.unwrap_or(received_at),
            received_at,
            attributes: new.attributes.clone(),
            deliveries: webhooks.len() as u32,
            data_bytes: new.data.len() as u32,
            erased_at: None,
        });
        self.write_batch.put(Table::Events, tables::one(id), &*event);
        self.write_batch.put_payload(id, &new.data, self.partition_set.options.row_payload_bytes_max);
        if let Some(name) = &event.attributes.event_id {
            let fingerprint = index::of_event_id(app, name);
            if !mutant!("idempotency_after_event") {
                put_key(&mut self.write_batch, id, KeyKind::EventId, fingerprint);
            }
            self.new_fingerprints.insert(fingerprint, event.clone());
        }
        for name in names_of(&event) {
            let run = self.name_runs.next(self.first, self.write_batch.base(), received_at.hour())?;
            self.write_batch.put_key(Table::EventsByName, tables::name(run, name.hash(org_id), id));
        }
        if !self.registry.is_default_app(app) {
            self.write_batch.put_key(Table::EventsByApp, tables::pair(app, id));
        }
        self.figures.types.count(&self.write_batch, &event)?;
        // The received bytes share a connection's buffer. A payload that waits in memory gets a copy.
        let data = if webhooks.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&new.data) };
        // Due by the clock and not by the id: after the clock stepped back, ids are ahead of it.
        let due = new.attributes.deliver_at.map_or(self.inputs.now, |at| at.max(self.inputs.now));
        for webhook in webhooks {
            let making = NewDelivery { due, trigger: Trigger::Event, replay_of: None, job: None };
            self.make_delivery(&event, &data, webhook, making)?;
        }
        Ok(event)
    }

    /// The row of a new delivery.
    fn delivery_of(&mut self, event: &Event, webhook: &Webhook, due: Time, making: &NewDelivery) -> Delivery {
        Delivery {
            id: self.inputs.id(),
            event_id: event.id,
            webhook_id: webhook.id,
            org_id: event.org_id,
            app_id: event.app_id,
            event_type: event.attributes.event_type.clone(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: Some(due),
            // Not the id's time, which a full counter may have advanced.
            created_at: self.inputs.now.max(event.received_at),
            first_attempt_at: None,
            completed_at: None,
            replay_of: making.replay_of,
            job_id: making.job,
            expires_at: event.attributes.expires_at,
            ordering_key: event.attributes.ordering_key.clone(),
            last_attempt_id: None,
            last_status_code: None,
            last_outcome: None,
            last_error: None,
            last_response_time_ms: None,
            manual: making.trigger == Trigger::Manual,
            unscheduled: 0,
            planned_at: None,
            resend: making.trigger == Trigger::Manual,
        }
    }

    /// Writes a delivery with its index rows. If it is due, the scheduler gets it.
    pub(in crate::store) fn make_delivery(
        &mut self,
        event: &Arc<Event>,
        data: &Bytes,
        webhook: &Webhook,
        making: NewDelivery,
    ) -> ApplyResult<Delivery> {
        let end = event.attributes.expires_at.unwrap_or(Time::MAX);
        let due = making.due.min(end);
        let delivery = self.delivery_of(event, webhook, due, &making);
        let waits = match queue_of(webhook, event.attributes.ordering_key.as_deref()) {
            None => false,
            Some(key_hash) => self.enqueue(webhook.id, key_hash, delivery.id)?,
        };
        self.write_batch.put(Table::Deliveries, tables::one(delivery.id), &delivery);
        self.write_batch.put_key(Table::DeliveriesByWebhook, tables::pair(webhook.id, delivery.id));
        if let Some(end) = delivery.expires_at {
            self.write_batch.put_key(Table::Expiries, tables::expiry(end, delivery.id));
            self.effects.next_expiry = [self.effects.next_expiry, Some(end)].into_iter().flatten().min();
        }
        if making.trigger != Trigger::Event {
            self.write_batch.put_key(Table::ReplaysByEvent, tables::pair(event.id, delivery.id));
        }
        if !waits {
            if !mutant!("due_before_outcome") || due > self.inputs.now {
                self.write_batch.put_key(Table::Due, tables::due(webhook.id, due, delivery.id));
            }
            if due <= self.inputs.now {
                self.effects.fresh.push(Dispatch {
                    webhook_id: webhook.id,
                    delivery_id: delivery.id,
                    event: event.clone(),
                    data: data.clone(),
                    number: 1,
                    due,
                    retry_of: None,
                    trigger: making.trigger,
                    end: end.min(event.received_at.plus_ms(self.partition_set.options.retention_ms)),
                });
            } else {
                self.effects.due.push((webhook.id, due));
            }
        }
        self.figures.made(&self.write_batch, &delivery)?;
        if self.effects.feeds.last() != Some(&webhook.id) {
            self.effects.feeds.push(webhook.id);
        }
        self.effects.newest = self.effects.newest.max(Some(delivery.id));
        Ok(delivery)
    }
}

/// The queue of a delivery. `None` if the webhook is not ordered.
pub(in crate::store) fn queue_of(webhook: &Webhook, ordering_key: Option<&str>) -> Option<u64> {
    match (webhook.ordered, ordering_key) {
        (DeliveryOrder::No, _) | (DeliveryOrder::Key, None) => None,
        (DeliveryOrder::Webhook, _) => Some(0),
        (DeliveryOrder::Key, Some(key)) => Some(key_hash(key)),
    }
}

/// The hash of an ordering key. It is never 0, the hash of the webhook's own queue.
pub(in crate::store) fn key_hash(key: &str) -> u64 {
    let hash = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let head = hash.as_ref().first_chunk::<8>().map_or(1, |head| u64::from_be_bytes(*head));
    head.max(1)
}

/// The rejection of event `number` of a batch.
fn id_conflict(number: usize, name: &str) -> Rejection {
    Rejection::Conflict {
        code: "event_id_conflict",
        detail: format!("event_id {name:?} was used with another type or other data"),
        pointer: Some(format!("/events/{number}/event_id")),
    }
}
