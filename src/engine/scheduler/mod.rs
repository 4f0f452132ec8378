//! The scheduler: sleeps until a delivery may be sent, and passes it to the deliverer. It is one task, and `lanes`
//! decides.
//!
//! Invariant: every change that makes a lane sendable reaches this task as a message or a timer. Lanes that lack a share of
//! the slots have one timer together, every `lanes::PARKED_MS`.

mod alarm;
mod body_budget;
#[cfg(test)]
pub(in crate::engine) mod fixture;
mod groups;
mod in_flight;
mod lane;
mod lanes;
mod request_tasks;
mod saturation;
mod throttle;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::model::id::{AppId, WebhookId};
use crate::model::webhook::Webhook;
use crate::model::{DeliveryId, EventId, Time};
use crate::rules::waiting::SendingPace;
use crate::store::{Dispatch, Effects, PartitionCommand, Store, WriteRequest};
use crate::store::{DueKey, DueSlice, ExpiredDelivery};

use self::alarm::Alarm;
use self::body_budget::BODIES_BYTES_MAX;
use self::in_flight::InFlightCounts;
use self::lanes::{EndedRequest, Lanes};
use self::request_tasks::{RequestServices, RequestTasks};
use self::saturation::CpuSaturation;
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::compiled_webhook::CompiledWebhook;
use crate::engine::deliverer::Deliverer;
use crate::engine::handshake::Grant;
use crate::engine::metrics::Metrics;
use crate::engine::write_queue::WriteQueue;

/// Delay before a lane whose index could not be read is read again.
const READ_AGAIN_MS: i64 = 1_000;
/// Delay before a lane sends again after the task of a request panicked.
const PANICKED_WAIT_MS: i64 = 30_000;
/// Messages handled before lanes are served again.
const MESSAGES_MAX: usize = 1_024;
/// If the clock goes back by more than this between two rounds, it was set back.
const SET_BACK_MS: i64 = 1_000;
/// Deliveries read from the index at once, and approximate bytes of their payloads.
const SLICE: (usize, usize) = (512, 2 << 20);
/// The same while the lanes together have no room.
const SLICE_CROWDED: (usize, usize) = (16, 16 << 10);
/// Interval at which idle lanes and stale compiled webhooks are dropped.
const TIDY_MS: i64 = 60_000;

/// A message to the scheduler.
enum SchedulerMessage {
    Batch(Box<Effects>),
    Finished(EndedRequest),
    /// A request was not made, for an installation fault or a shortage. It may be made from this time.
    Withheld(WebhookId, DeliveryId, Time),
    /// The task of a request panicked, and nothing is recorded.
    Panicked(WebhookId, DeliveryId),
    /// The payload of a delivery cannot be read, for this reason. It is not sent.
    Unreadable(WebhookId, DeliveryId, String),
    /// The cause of withheld requests may be gone.
    Release,
    /// A probe returned after this many microseconds.
    Probed(u32),
    /// The grant of a webhook with `handshake`. `None` if the receiver does not consent.
    Allowed(WebhookId, Option<Grant>),
    Filled(WebhookId, DueSlice),
    ReadFailed(WebhookId),
    /// Deliveries whose `expires_at` has passed.
    Ended(Vec<ExpiredDelivery>),
    /// Stop sending.
    Stop,
}

/// The handle of the scheduler.
#[derive(Clone)]
pub struct SchedulerHandle {
    messages: UnboundedSender<SchedulerMessage>,
    outstanding: Arc<AtomicUsize>,
    in_flight: Arc<InFlightCounts>,
}

impl SchedulerHandle {
    /// Passes on the effects of a batch.
    pub fn batch(&self, effects: Effects) {
        let _ = self.messages.send(SchedulerMessage::Batch(Box::new(effects)));
    }

    /// Passes on expired deliveries. Those that are not in flight are ended.
    pub fn ended(&self, deliveries: Vec<ExpiredDelivery>) {
        let _ = self.messages.send(SchedulerMessage::Ended(deliveries));
    }

    /// Sends withheld deliveries at once.
    pub fn release(&self) {
        let _ = self.messages.send(SchedulerMessage::Release);
    }

    /// Stops sending. Requests in flight go on.
    pub fn stop(&self) {
        let _ = self.messages.send(SchedulerMessage::Stop);
    }

    /// Dispatched deliveries of one webhook whose outcome is not durable yet.
    pub fn in_flight(&self, webhook: WebhookId) -> u32 {
        self.in_flight.of(webhook)
    }

    /// The bytes that the bodies of requests in flight are counted with, and their maximum.
    pub fn body_bytes(&self) -> (usize, usize) {
        (self.in_flight.body_bytes(), BODIES_BYTES_MAX)
    }

    /// The pace of one webhook of an app.
    pub fn pace(&self, webhook: WebhookId, app: AppId) -> SendingPace {
        self.in_flight.pace(webhook, app)
    }

    /// Dispatched deliveries whose outcome is not durable yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

/// The scheduler task: its lanes, the requests in flight, and the compiled webhooks.
pub struct Scheduler {
    store: Store,
    write_queue: WriteQueue,
    deliverer: Arc<Deliverer>,
    metrics: Arc<Metrics>,
    work: BlockingPool,
    lanes: Lanes,
    compiled: HashMap<WebhookId, Result<Arc<CompiledWebhook>, String>>,
    scheduler_handle: SchedulerHandle,
    /// Requests in flight. They are aborted together with the scheduler.
    request_tasks: RequestTasks,
    stopped: bool,
    /// Reads of the index that have not ended.
    reads: usize,
    saturation: CpuSaturation,
    tidied_at: Time,
    /// The time of the latest round.
    latest: Time,
}

/// The receiving end of a handle, before the scheduler runs.
pub struct Mailbox(UnboundedReceiver<SchedulerMessage>);

/// A handle and the mailbox of the scheduler that it reaches.
pub fn channel() -> (SchedulerHandle, Mailbox) {
    let (messages, mailbox) = unbounded_channel();
    (SchedulerHandle { messages, outstanding: Arc::default(), in_flight: Arc::default() }, Mailbox(mailbox))
}

impl Scheduler {
    pub fn new(
        store: Store,
        write_queue: WriteQueue,
        deliverer: Arc<Deliverer>,
        metrics: Arc<Metrics>,
        work: BlockingPool,
        scheduler_handle: SchedulerHandle,
        in_flight_max: usize,
    ) -> Scheduler {
        let lanes = Lanes::new(in_flight_max, scheduler_handle.in_flight.clone());
        let request_tasks = RequestTasks::new(RequestServices {
            store: store.clone(),
            work,
            deliverer: deliverer.clone(),
            write_queue: write_queue.clone(),
            metrics: metrics.clone(),
            messages: scheduler_handle.messages.clone(),
        });
        Scheduler {
            store,
            write_queue,
            deliverer,
            metrics,
            work,
            lanes,
            compiled: HashMap::new(),
            scheduler_handle,
            request_tasks,
            stopped: false,
            reads: 0,
            saturation: CpuSaturation::default(),
            tidied_at: Time::ZERO,
            latest: Time::ZERO,
        }
    }

    /// Runs until every handle is dropped. It starts with the due entries of the index.
    pub async fn run(mut self, mut mailbox: Mailbox) {
        let clock = self.deliverer.clock.clone();
        match self.store.due_heads() {
            Ok(due) => self.on_commit(Effects { due, ..Effects::default() }, clock.now()),
            Err(error) => tracing::error!(%error, "due deliveries could not be read at start"),
        }
        let mut alarm = Alarm::new(&*clock);
        loop {
            let now = clock.now();
            if now < self.latest.minus_ms(SET_BACK_MS) {
                self.tidied_at = self.tidied_at.min(now);
                self.lanes.set_back(now);
            }
            self.latest = now;
            self.lanes.tick(now);
            self.dispatch_ready(now);
            self.update_admission(now);
            self.scheduler_handle.outstanding.store(self.lanes.outstanding(), Ordering::Relaxed);
            alarm.set(self.lanes.next_timer().unwrap_or(Time(i64::MAX)), now);
            tokio::select! {
                message = mailbox.0.recv() => {
                    let Some(message) = message else { return };
                    let now = clock.now();
                    self.on_message(message, now);
                    for _ in 0..MESSAGES_MAX {
                        match mailbox.0.try_recv() {
                            Ok(message) => self.on_message(message, now),
                            Err(_) => break,
                        }
                    }
                }
                () = alarm.rings() => {}
            }
        }
    }

    fn on_message(&mut self, message: SchedulerMessage, now: Time) {
        match message {
            SchedulerMessage::Batch(effects) => self.on_commit(*effects, now),
            SchedulerMessage::Finished(ended) => {
                self.request_tasks.ended(ended.delivery);
                self.lanes.finished(ended, now);
            }
            SchedulerMessage::Withheld(id, delivery, until) => {
                self.request_tasks.ended(delivery);
                self.lanes.withhold(id, delivery, until, now);
            }
            SchedulerMessage::Panicked(id, delivery) => {
                self.request_tasks.ended(delivery);
                self.deliverer.drawn_ids.end([delivery]);
                self.lanes.withhold(id, delivery, now.plus_ms(PANICKED_WAIT_MS), now);
            }
            SchedulerMessage::Unreadable(id, delivery, damage) => {
                self.request_tasks.ended(delivery);
                self.report_damage(id, &damage);
                self.lanes.unreadable(id, delivery, now);
            }
            SchedulerMessage::Release => self.lanes.release(now),
            SchedulerMessage::Probed(took_us) => self.saturation.record_probe(took_us),
            SchedulerMessage::Allowed(id, grant) => self.lanes.allow(id, grant, now),
            SchedulerMessage::Filled(id, slice) => {
                self.reads = self.reads.saturating_sub(1);
                slice.damaged.iter().for_each(|damage| self.report_damage(id, damage));
                self.lanes.fill(id, slice, now);
            }
            SchedulerMessage::ReadFailed(id) => {
                self.reads = self.reads.saturating_sub(1);
                self.lanes.read_failed(id, now.plus_ms(READ_AGAIN_MS), now);
            }
            SchedulerMessage::Ended(deliveries) => {
                for ExpiredDelivery { webhook, event, delivery } in deliveries {
                    // A delivery in flight ends by its outcome.
                    if self.lanes.withdraw(webhook, delivery, now) {
                        self.write_queue.push(WriteRequest::internal(PartitionCommand::Expire { event, delivery }));
                    }
                }
            }
            SchedulerMessage::Stop => {
                self.stopped = true;
                self.lanes.stop();
            }
        }
        if now.since(self.tidied_at) >= TIDY_MS {
            self.tidied_at = now;
            self.lanes.forget_idle(now);
            let registry = self.store.registry();
            self.compiled.retain(|id, _| registry.webhook_by_id(*id).is_some());
            self.deliverer.handshakes.retain(|id| registry.webhook_by_id(id).is_some());
        }
    }

    fn report_damage(&self, id: WebhookId, damage: &str) {
        self.metrics.damaged();
        tracing::error!(damage, webhook_id = %id, "a delivery cannot be read and is not sent");
    }

    fn on_commit(&mut self, effects: Effects, now: Time) {
        let registry = self.store.registry();
        let store = &self.store;
        self.lanes.apply_effects(effects, &registry, |id| store.state(id), now);
    }

    /// Sends the deliveries that may be sent, and starts the reads that lanes need.
    fn dispatch_ready(&mut self, now: Time) {
        for (id, after) in std::mem::take(&mut self.lanes.reads) {
            self.read(id, after, now);
        }
        while !self.stopped {
            let Some((dispatch, webhook)) = self.lanes.next(now) else { break };
            if dispatch.end <= now {
                self.expire(&dispatch, now);
            } else {
                self.send(dispatch, webhook, now);
            }
        }
        for (id, after) in std::mem::take(&mut self.lanes.reads) {
            self.read(id, after, now);
        }
    }

    /// Limits the admission of publishes while CPU saturation makes deliveries lag.
    fn update_admission(&mut self, now: Time) {
        if !self.saturation.is_due(now) {
            return;
        }
        let backlog = self.lanes.backlog(self.saturation.cpu_bound_us(), now);
        self.write_queue.admission().set(self.saturation.update(backlog));
        if self.lanes.has_backlog() {
            let messages = self.scheduler_handle.messages.clone();
            tokio::spawn(async move {
                let began = Instant::now();
                tokio::task::yield_now().await;
                let _ = messages.send(SchedulerMessage::Probed(micros(began)));
            });
        }
    }

    fn expire(&mut self, dispatch: &Dispatch, now: Time) {
        let event: EventId = dispatch.event.id;
        self.lanes.dropped(dispatch.webhook_id, dispatch.delivery_id, now);
        self.write_queue
            .push(WriteRequest::internal(PartitionCommand::Expire { event, delivery: dispatch.delivery_id }));
    }

    fn send(&mut self, dispatch: Dispatch, webhook: Arc<Webhook>, now: Time) {
        self.metrics.sent(now.since(dispatch.due));
        let compiled = self.prepare(&webhook, now);
        self.request_tasks.begin(dispatch, webhook, compiled);
    }

    fn prepare(&mut self, webhook: &Arc<Webhook>, now: Time) -> Result<Arc<CompiledWebhook>, String> {
        if let Some(Ok(compiled)) = self.compiled.get(&webhook.id)
            && compiled.is_current(webhook, now)
        {
            return Ok(compiled.clone());
        }
        let compiled = self.deliverer.compile(webhook, now);
        self.compiled.insert(webhook.id, compiled.clone());
        compiled
    }

    fn read(&mut self, id: WebhookId, after: Option<DueKey>, now: Time) {
        // Every read is counted as a whole slice, so that slices on their way do not exceed the room.
        let (deliveries, bytes) = if self.lanes.has_room(self.reads * SLICE.1) { SLICE } else { SLICE_CROWDED };
        self.reads += 1;
        let (store, messages, work) = (self.store.clone(), self.scheduler_handle.messages.clone(), self.work);
        tokio::spawn(async move {
            let slice = work.run(move || store.due(id, after, now, deliveries, bytes)).await;
            let message = match slice {
                Some(Ok(slice)) => SchedulerMessage::Filled(id, slice),
                Some(Err(error)) => {
                    tracing::error!(%error, webhook_id = %id, "due deliveries could not be read; trying again");
                    SchedulerMessage::ReadFailed(id)
                }
                None => SchedulerMessage::ReadFailed(id),
            };
            let _ = messages.send(message);
        });
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}
