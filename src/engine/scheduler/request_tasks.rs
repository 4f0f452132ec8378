//! The tasks of the requests in flight: each makes one attempt and reports its end.
//!
//! Invariants: the scheduler learns that a request ended before its outcome is recorded. It learns of every end, also of
//! a panic.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::engine::blocking_pool::BlockingPool;
use crate::engine::compiled_webhook::CompiledWebhook;
use crate::engine::deliverer::{AttemptEnd, Deliverer};
use crate::engine::metrics::Metrics;
use crate::engine::sender::Shortage;
use crate::engine::write_queue::WriteQueue;
use crate::model::id::{IdMap, WebhookId};
use crate::model::webhook::Webhook;
use crate::model::{Delivery, DeliveryId, Time};
use crate::store::{Dispatch, PartitionCommand, Store, WriteRequest};

use super::lanes::EndedRequest;
use super::{SchedulerMessage, micros};

/// Delay before a lane sends again after a request that a shortage of this machine prevented.
const SHORTAGE_WAIT_MS: i64 = 1_000;

/// The services that a task uses. All tasks share them, so a task costs one reference count.
pub(super) struct RequestServices {
    pub store: Store,
    pub work: BlockingPool,
    pub deliverer: Arc<Deliverer>,
    pub write_queue: WriteQueue,
    pub metrics: Arc<Metrics>,
    pub messages: UnboundedSender<SchedulerMessage>,
}

/// The running tasks. Dropping them aborts their requests.
pub(super) struct RequestTasks {
    services: Arc<RequestServices>,
    running: IdMap<Delivery, AbortHandle>,
}

impl RequestTasks {
    pub fn new(services: RequestServices) -> RequestTasks {
        RequestTasks { services: Arc::new(services), running: IdMap::default() }
    }

    /// Begins the request of a delivery.
    pub fn begin(&mut self, dispatch: Dispatch, webhook: Arc<Webhook>, compiled: Result<Arc<CompiledWebhook>, String>) {
        let (id, began, services) = (dispatch.delivery_id, Instant::now(), self.services.clone());
        let task = tokio::spawn(async move { services.request(dispatch, webhook, compiled, began).await });
        self.running.insert(id, task.abort_handle());
    }

    /// The request of a delivery has ended.
    pub fn ended(&mut self, delivery: DeliveryId) {
        self.running.remove(&delivery);
    }
}

impl Drop for RequestTasks {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

impl RequestServices {
    /// Makes one attempt, and reports its end. `began` is the time of its dispatch.
    async fn request(
        &self,
        mut dispatch: Dispatch,
        webhook: Arc<Webhook>,
        compiled: Result<Arc<CompiledWebhook>, String>,
        began: Instant,
    ) {
        let (deliverer, delivery) = (&self.deliverer, dispatch.delivery_id);
        let _until_it_ends = PanicReport { messages: &self.messages, webhook: webhook.id, delivery };
        if dispatch.lacks_data() {
            match self.read_data(&dispatch).await {
                Ok(data) => dispatch.data = data,
                Err(message) => return self.send_message(message),
            }
        }
        let report = match deliverer.deliver(&dispatch, &webhook, compiled).await {
            AttemptEnd::Made(report) => report,
            AttemptEnd::Withheld(until) => return self.withhold(&webhook, delivery, until),
            AttemptEnd::Short(shortage) => {
                let again = self.record_shortage(shortage);
                return self.withhold(&webhook, delivery, again);
            }
        };
        deliverer.notify(&dispatch, &report.made);
        if webhook.handshake {
            let grant = deliverer.handshakes.grant(&webhook, deliverer.clock.now());
            self.send_message(SchedulerMessage::Allowed(webhook.id, grant));
        }
        // In this order: the scheduler learns that the request ended before its outcome is recorded.
        self.send_message(SchedulerMessage::Finished(EndedRequest {
            webhook: dispatch.webhook_id,
            delivery,
            took_us: micros(began),
            is_answered: report.made.status_code.is_some(),
        }));
        self.write_queue.push(WriteRequest::internal(PartitionCommand::Record(report)));
    }

    /// Reads the payload of a delivery that waited without it. The error is the end of the request.
    async fn read_data(&self, dispatch: &Dispatch) -> Result<Bytes, SchedulerMessage> {
        let (store, event, now) = (self.store.clone(), dispatch.event.id, self.deliverer.clock.now());
        let (webhook, delivery) = (dispatch.webhook_id, dispatch.delivery_id);
        match self.work.run(move || store.data(event, now)).await {
            Some(Ok(Some(data))) => Ok(data),
            // The scheduler ends a delivery whose event has expired.
            Some(Ok(None)) if dispatch.end <= now => Err(SchedulerMessage::Withheld(webhook, delivery, now)),
            // It was erased meanwhile.
            Some(Ok(None)) => Ok(Bytes::new()),
            Some(Err(damage)) => Err(SchedulerMessage::Unreadable(webhook, delivery, damage.to_string())),
            None => Err(SchedulerMessage::Withheld(webhook, delivery, now.plus_ms(SHORTAGE_WAIT_MS))),
        }
    }

    /// Nothing was sent. The delivery is sent again from `until`.
    fn withhold(&self, webhook: &Webhook, delivery: DeliveryId, until: Time) {
        self.deliverer.drawn_ids.end([delivery]);
        self.send_message(SchedulerMessage::Withheld(webhook.id, delivery, until));
    }

    /// Counts a shortage of this machine. Returns the time from which the lane sends again.
    fn record_shortage(&self, shortage: Shortage) -> Time {
        let now = self.deliverer.clock.now();
        self.metrics.record_shortage(shortage);
        self.deliverer.shortages.record(shortage, now);
        if shortage == Shortage::FileDescriptors {
            // Their descriptors serve the next requests.
            self.deliverer.sender.forget_connections();
        }
        now.plus_ms(SHORTAGE_WAIT_MS)
    }

    fn send_message(&self, message: SchedulerMessage) {
        // The scheduler may have ended.
        let _ = self.messages.send(message);
    }
}

/// Reports a request whose task panics outside of its attempt. Otherwise its delivery would be in flight until the next
/// start, and an ordered webhook would wait for it.
struct PanicReport<'a> {
    messages: &'a UnboundedSender<SchedulerMessage>,
    webhook: WebhookId,
    delivery: DeliveryId,
}

impl Drop for PanicReport<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (webhook_id, delivery_id) = (self.webhook, self.delivery);
            tracing::error!(%webhook_id, %delivery_id, "a request panicked, which is a bug of the daemon");
            let _ = self.messages.send(SchedulerMessage::Panicked(webhook_id, delivery_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::model::Id;

    #[tokio::test]
    async fn only_a_panic_is_reported() {
        for panics in [false, true] {
            let (messages, mut mailbox) = unbounded_channel();
            let task = tokio::spawn(async move {
                let _until_it_ends =
                    PanicReport { messages: &messages, webhook: Id::from_u128(1), delivery: Id::from_u128(2) };
                assert!(!panics, "as it should, for the test");
            });
            assert_eq!(task.await.is_err(), panics);
            let is_told = matches!(mailbox.recv().await, Some(SchedulerMessage::Panicked(webhook, delivery))
                if (webhook, delivery) == (Id::from_u128(1), Id::from_u128(2)));
            assert_eq!(is_told, panics);
        }
    }
}
