//! Values that only the store draws and the oracle must read from it: ids and jitter.

use std::sync::Arc;

use postrider::model::id::{AttemptId, DeliveryId, EventId, WebhookId};
use postrider::model::job::{Job, JobId};
use postrider::model::{Attempt, Delivery, Event, Time};
use postrider::store::{
    AttemptQuery, DeliveryQuery, EventInput, EventQuery, ListWindow, Page, Registry, Store, TenantScope,
};

use super::oracle::Oracle;
use super::{Check, ensure};

/// Rows that no request has claimed yet, oldest first.
#[derive(Debug, Clone)]
pub struct Found {
    pub store: Store,
    pub registry: Arc<Registry>,
    pub events: Vec<Event>,
    pub deliveries: Vec<Delivery>,
    pub attempts: Vec<Attempt>,
    pub jobs: Vec<Job>,
}

impl Found {
    /// All rows of the store whose ids exceed those that the oracle knows.
    pub fn since(oracle: &Oracle, store: &Store) -> Check<Found> {
        let registry = store.registry();
        let mut found = Found {
            store: store.clone(),
            registry: registry.clone(),
            events: Vec::new(),
            deliveries: Vec::new(),
            attempts: Vec::new(),
            jobs: Vec::new(),
        };
        for org in registry.organizations() {
            let tenant = TenantScope { org: org.id, app: None };
            found.events.extend(newer(
                oracle.last,
                |e: &Event| e.id.as_u128(),
                |w| store.events(&events(tenant, w), SEES_ALL),
            )?);
            found.deliveries.extend(newer(
                oracle.last,
                |d: &Delivery| d.id.as_u128(),
                |w| store.deliveries(&deliveries(tenant, None, w), SEES_ALL),
            )?);
            found.attempts.extend(newer(
                oracle.last,
                |a: &Attempt| a.id.as_u128(),
                |w| store.attempts(&attempts(tenant, None, w), SEES_ALL),
            )?);
            found.jobs.extend(newer(oracle.last, |j: &Job| j.id.as_u128(), |w| store.jobs(tenant, w))?);
        }
        found.events.sort_by_key(|e| e.id);
        found.deliveries.sort_by_key(|d| d.id);
        found.attempts.retain(|a| !oracle.attempts.contains_key(&a.id));
        found.attempts.sort_by_key(|a| a.id);
        found.jobs.retain(|job| !oracle.jobs.contains_key(&job.id));
        Ok(found)
    }

    /// The event that a publish made: the first one that matches it.
    pub fn event(&mut self, new: &EventInput) -> Check<Event> {
        let like = |e: &Event| {
            e.attributes.event_type == new.attributes.event_type
                && e.attributes.metadata == new.attributes.metadata
                && e.attributes.event_id == new.attributes.event_id
        };
        let at = self.events.iter().position(like).ok_or_else(|| format!("no event like {new:?} is there"))?;
        Ok(self.events.remove(at))
    }

    /// The delivery that was made for an event and a webhook.
    pub fn delivery(
        &mut self,
        event: EventId,
        webhook: WebhookId,
        replay_of: Option<DeliveryId>,
        job: Option<JobId>,
    ) -> Check<DeliveryId> {
        let like = |d: &Delivery| (d.event_id, d.webhook_id, d.replay_of, d.job_id) == (event, webhook, replay_of, job);
        let at = self.deliveries.iter().position(like);
        let at = at.ok_or_else(|| format!("no delivery of {event} to {webhook} (again: {replay_of:?}) is there"))?;
        Ok(self.deliveries.remove(at).id)
    }

    /// The recorded attempt, by the given id or by its number in the delivery.
    pub fn attempt(&mut self, given: Option<AttemptId>, delivery: &Delivery, number: u32) -> Check<Attempt> {
        let like = |a: &Attempt| (a.delivery_id, a.made.number) == (delivery.id, number);
        if let Some(at) = self.attempts.iter().position(like) {
            return Ok(self.attempts.remove(at));
        }
        let tenant = TenantScope { org: delivery.org_id, app: None };
        let found = match given {
            Some(id) => self.store.attempt(tenant, id, SEES_ALL).map_err(|e| e.to_string())?,
            None => None,
        };
        found.filter(like).ok_or_else(|| format!("no attempt {number} of {} is there", delivery.id))
    }

    /// Checks that every row of one partition belongs to a request.
    pub fn is_explained_in(&self, oracle: &Oracle, first: u128) -> Check {
        let mut here = self.clone();
        here.events.retain(|e| oracle.home_of(e.id) == first);
        here.deliveries.retain(|d| oracle.home_of(d.event_id) == first);
        here.attempts.retain(|a| oracle.home_of(a.event_id) == first);
        here.jobs.clear();
        here.is_explained()
    }

    /// Checks that every row belongs to a request.
    pub fn is_explained(&self) -> Check {
        ensure!(self.events.is_empty(), "events that were never published: {:?}", self.events);
        ensure!(self.deliveries.is_empty(), "deliveries that were never made: {:?}", self.deliveries);
        ensure!(self.attempts.is_empty(), "attempts that were never recorded: {:?}", self.attempts);
        ensure!(self.jobs.is_empty(), "jobs that were never requested: {:?}", self.jobs);
        Ok(())
    }
}

/// A time before every retention. Reads at it show every row on the disk.
pub const SEES_ALL: Time = Time::ZERO;

/// Rows of a list that are newer than `last`, page by page.
fn newer<T>(
    last: u128,
    id: impl Fn(&T) -> u128,
    mut list: impl FnMut(ListWindow) -> postrider::store::Result<Page<T>>,
) -> Check<Vec<T>> {
    let from = Some(EventId::from_u128(last).time());
    let mut window = ListWindow { from, ..ListWindow::newest(20) };
    let mut rows = Vec::new();
    loop {
        let page = list(window).map_err(|e| e.to_string())?;
        let count = page.rows.len();
        rows.extend(page.rows.into_iter().filter(|row| id(row) > last));
        window.before = page.next;
        if page.next.is_none_or(|next| next <= last) || count == 0 {
            return Ok(rows);
        }
    }
}

pub fn events(tenant: TenantScope, window: ListWindow) -> EventQuery {
    EventQuery { tenant, event_type: None, event_id: None, subject: None, search: None, window }
}

pub fn deliveries(tenant: TenantScope, webhook: Option<WebhookId>, window: ListWindow) -> DeliveryQuery {
    DeliveryQuery { webhook, ..DeliveryQuery::all(tenant, window) }
}

pub fn attempts(tenant: TenantScope, webhook: Option<WebhookId>, window: ListWindow) -> AttemptQuery {
    AttemptQuery {
        tenant,
        webhook,
        delivery: None,
        event: None,
        success: None,
        status: None,
        event_type: None,
        status_code: None,
        outcome: None,
        search: None,
        window,
    }
}
