//! Publishing in the oracle: the webhooks that get an event, and the window of an `event_id`.

use std::sync::Arc;

use postrider::model::attempt::Trigger;
use postrider::model::id::{AppId, EventId, WebhookId};
use postrider::model::{Event, Time};
use postrider::rules::fanout::{self, Decision};
use postrider::rules::{patterns, retry};
use postrider::store::{Caller, EventInput, Published, Receipt};

use super::delivery_life::Cause;
use super::drawn_values::Found;
use super::oracle::{Asked, Oracle, Posted};
use super::{Check, ensure};

enum Plan {
    Known(EventId),
    /// A repetition of an earlier event of the batch.
    Same(usize),
    New(AppId, Vec<WebhookId>),
}

impl Oracle {
    pub fn publish(
        &mut self,
        asked: &Asked<'_>,
        events: &[EventInput],
        found: &mut Found,
    ) -> Check<Result<Receipt, String>> {
        let mut plans: Vec<Plan> = Vec::new();
        for (number, new) in events.iter().enumerate() {
            match self.plan(asked, events, &plans, number, new) {
                Ok(plan) => plans.push(plan),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        let mut published: Vec<Published> = Vec::new();
        for (new, plan) in events.iter().zip(plans) {
            published.push(match plan {
                Plan::Known(id) => Published { event: Arc::new(self.events[&id].event.clone()), duplicate: true },
                Plan::Same(earlier) => Published { event: published[earlier].event.clone(), duplicate: true },
                Plan::New(app, webhooks) => {
                    Published { event: Arc::new(self.post(app, new, &webhooks, asked.now, found)?), duplicate: false }
                }
            });
        }
        Ok(Ok(Receipt::Published(published)))
    }

    fn plan(
        &self,
        asked: &Asked<'_>,
        all: &[EventInput],
        before: &[Plan],
        number: usize,
        new: &EventInput,
    ) -> Result<Plan, String> {
        let app = self.app_for(asked.request.caller.as_ref(), number, new)?;
        if let Some(name) = &new.attributes.event_id {
            let twin = before.iter().zip(all).position(|(plan, other)| {
                matches!(plan, Plan::New(a, _) if *a == app) && other.attributes.event_id.as_ref() == Some(name)
            });
            if let Some(twin) = twin {
                let same = all[twin].attributes.event_type == new.attributes.event_type && all[twin].data == new.data;
                return if same { Ok(Plan::Same(twin)) } else { Err("conflict event_id_conflict".into()) };
            }
            if let Some(id) =
                self.named.get(&(app, name.clone())).filter(|id| asked.now.since(id.time()) < self.window_ms)
            {
                let known = &self.events[id];
                // Erased data cannot be compared.
                let same_data = known.event.erased_at.is_some() || known.data == new.data;
                let same = known.event.attributes.event_type == new.attributes.event_type && same_data;
                return if same { Ok(Plan::Known(*id)) } else { Err("conflict event_id_conflict".into()) };
            }
        }
        let webhooks = self.wanted(app, new);
        let longest = |id: &WebhookId| {
            let webhook = &self.webhooks[id];
            retry::longest_ms(&webhook.retry_schedule_s, webhook.timeout_ms)
        };
        let schedule_ms = webhooks.iter().map(longest).max().unwrap_or(0);
        let end = asked.now.plus_ms(self.retention_ms);
        if new.attributes.deliver_at.is_some_and(|at| at.plus_ms(schedule_ms) >= end) {
            return Err(format!("invalid /events/{number}/deliver_at"));
        }
        Ok(Plan::New(app, webhooks))
    }

    fn app_for(&self, by: Option<&Caller>, number: usize, new: &EventInput) -> Result<AppId, String> {
        let missing = || "not_found app".to_owned();
        let Some(by) = by else { return new.app.filter(|app| self.apps.contains_key(app)).ok_or_else(missing) };
        let app = new.app.or_else(|| self.app_of(by.tenant)).ok_or_else(missing)?;
        if self.covers(by.tenant, app) { Ok(app) } else { Err(format!("invalid /events/{number}/app_id")) }
    }

    /// The webhooks of an app that get an event, without the one that the event is about.
    fn wanted(&self, app: AppId, new: &EventInput) -> Vec<WebhookId> {
        let about =
            new.attributes.metadata.get("webhook_id").filter(|_| patterns::is_system(&new.attributes.event_type));
        let of_app =
            self.webhooks.values().filter(|w| w.app_id == app && about.is_none_or(|id| *id != w.id.to_string()));
        let gets = |id: &WebhookId| {
            fanout::decide(&self.shared(*id), &new.attributes.event_type, &new.attributes.channels, &new.data)
                == Decision::Wanted
        };
        of_app.map(|w| w.id).filter(gets).collect()
    }

    fn post(
        &mut self,
        app: AppId,
        new: &EventInput,
        webhooks: &[WebhookId],
        now: Time,
        found: &mut Found,
    ) -> Check<Event> {
        let shown = found.event(new)?;
        let id = shown.id;
        ensure!(id.as_u128() > self.last, "event {id} is not after all ids before it");
        ensure!(id.time() >= now, "the id of event {id} is older than its request");
        self.last = id.as_u128();
        let received_at = id.time();
        let event = Event {
            id,
            org_id: self.apps[&app].org_id,
            app_id: app,
            occurred_at: new.occurred_at.unwrap_or(received_at),
            received_at,
            attributes: new.attributes.clone(),
            deliveries: webhooks.len() as u32,
            data_bytes: new.data.len() as u32,
            erased_at: None,
        };
        self.events.insert(id, Posted { event: event.clone(), data: new.data.clone() });
        self.touched.insert(id);
        if let Some(name) = &new.attributes.event_id {
            self.named.insert((app, name.clone()), id);
        }
        let due = new.attributes.deliver_at.map_or(now, |at| at.max(now));
        for webhook in webhooks {
            let cause = Cause { now, due, trigger: Trigger::Event, replay_of: None, job: None };
            self.make(&event, *webhook, &cause, found)?;
        }
        Ok(event)
    }
}
