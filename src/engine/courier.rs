//! The courier carries one delivery: renders and signs, sends once, and makes of the answer what is recorded.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::ORIGIN;

use crate::model::attempt::{Attempt, AttemptOutcome, Timings, Trigger};
use crate::model::id::{AttemptId, DeliveryId, Id};
use crate::model::webhook::{FieldSet, Webhook};
use crate::model::{Event, EventId, Headers, Time};
use crate::rules::retry;
use crate::store::{AttemptMade, Dispatch};

use super::clock::{Clock, Random, passing_id};
use super::handshake::{HandshakeRefused, Handshakes};
use super::prepared::CompiledWebhook;
use super::sender::{ExchangeResult, Sender, reason};

/// The statuses whose `Retry-After` holds the webhook back.
const HOLDING_STATUSES: [u16; 2] = [429, 503];
/// Of an attempt's `error`: what a receiver's certificate is called may be long.
const ERROR_CHARS_MAX: usize = 300;

/// The error of an attempt that panicked.
const PANICKED: &str = "The daemon failed at this attempt; its log says where";

/// Is shown every attempt after it was made, before it is recorded: for traces. Must not wait.
pub trait AttemptObserver: Send + Sync {
    fn attempted(&self, dispatch: &Dispatch, finished: &AttemptMade);
}

pub struct Deliverer {
    pub sender: Arc<Sender>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub handshakes: Handshakes,
    pub watcher: Option<Arc<dyn AttemptObserver>>,
}

impl Deliverer {
    /// Shows an attempt to whoever wants to see them.
    pub fn notify(&self, dispatch: &Dispatch, finished: &AttemptMade) {
        if let Some(watcher) = &self.watcher {
            watcher.attempted(dispatch, finished);
        }
    }

    /// `carry`, and whatever panics in it is this attempt's failure: the delivery goes on by its schedule, and so does
    /// everybody else's.
    pub async fn attempt_catching_panic(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        prepared: Result<Arc<CompiledWebhook>, String>,
    ) -> AttemptMade {
        let began = self.clock.now();
        let mut carrying = pin!(self.attempt(dispatch, webhook, prepared));
        let carried = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| carrying.as_mut().poll(context)));
            polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
        });
        carried.await.unwrap_or_else(|| {
            tracing::error!(
                webhook_id = %webhook.id,
                event_id = %dispatch.event.id,
                delivery_id = %dispatch.delivery_id,
                attempt = dispatch.number,
                "an attempt panicked, which is a bug of the daemon"
            );
            let mut finished = blank(dispatch, webhook, None, began);
            finished.error = Some(PANICKED.to_owned());
            finished.finished_at = self.clock.now().max(began);
            finished
        })
    }

    /// Makes the attempt and says what to record. `prepared`: the webhook, or why it cannot be sent to.
    pub async fn attempt(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        prepared: Result<Arc<CompiledWebhook>, String>,
    ) -> AttemptMade {
        let asked_at = self.clock.now();
        if let Err(refused) = self.permission(webhook, &prepared).await {
            let mut finished = blank(dispatch, webhook, None, asked_at);
            finished.outcome = refused.outcome;
            finished.error = Some(refused.error);
            finished.finished_at = self.clock.now().max(asked_at);
            return finished;
        }
        let started_at = self.clock.now();
        // Only a body that names its attempt needs the id before the attempt is made.
        let attempt_id = (webhook.field_set == FieldSet::Dfns).then(|| AttemptId::from_u128(self.id()));
        let outgoing = prepared.and_then(|prepared| {
            let out =
                prepared.render(dispatch, attempt_id.unwrap_or(AttemptId::MIN), started_at, self.nonce(webhook))?;
            Ok((prepared, out))
        });
        let mut finished = blank(dispatch, webhook, attempt_id, started_at);
        match outgoing {
            Err(why) => {
                finished.outcome = AttemptOutcome::RequestError;
                finished.error = Some(why);
                finished.finished_at = self.clock.now().max(started_at);
            }
            Ok((prepared, mut out)) => {
                if webhook.handshake {
                    // Whoever was allowed says on every delivery that it is the one.
                    let origin = self.handshakes.origin();
                    out.stored_headers.push_bytes("origin", origin.as_bytes());
                    out.request.headers.push((ORIGIN, origin.clone()));
                }
                let exchange = self.sender.send(&out.request).await;
                tracing::debug!(
                    webhook_id = %webhook.id,
                    event_id = %dispatch.event.id,
                    delivery_id = %dispatch.delivery_id,
                    attempt = dispatch.number,
                    outcome = exchange.outcome.as_str(),
                    status = exchange.status_code,
                    detail = exchange.detail,
                    "attempt"
                );
                finished.signed_at = out.signed_at;
                finished.request_headers = out.stored_headers;
                finished.finished_at = self.clock.now().max(started_at);
                note(&mut finished, exchange, &prepared);
            }
        }
        finished
    }

    /// Whether a webhook that wants to be asked first has been, and consents.
    async fn permission(
        &self,
        webhook: &Webhook,
        prepared: &Result<Arc<CompiledWebhook>, String>,
    ) -> Result<(), HandshakeRefused> {
        match prepared {
            // On the heap, because it is large and rare: every request in flight would carry room for it.
            Ok(prepared) if webhook.handshake => {
                Box::pin(self.handshakes.ask(&self.sender, &*self.clock, prepared)).await
            }
            // What cannot be sent to is said below.
            _ => Ok(()),
        }
    }

    /// One signed request of an event that is not stored: `POST /v1/webhooks/{id}/test`.
    pub async fn send_test(&self, webhook: &Arc<Webhook>, event_type: &str, data: bytes::Bytes) -> Attempt {
        let now = self.clock.now();
        let event = passing_event(EventId::from_u128(self.id()), webhook, event_type, data.len(), now);
        let dispatch = Dispatch {
            webhook_id: webhook.id,
            delivery_id: DeliveryId::from_u128(self.id()),
            event: Arc::new(event),
            data,
            number: 1,
            due: now,
            retry_of: None,
            trigger: Trigger::Manual,
            end: Time::MAX,
        };
        let prepared = CompiledWebhook::new(webhook, now).map(Arc::new);
        let finished = self.attempt(&dispatch, webhook, prepared).await;
        attempt_of(finished, &dispatch, webhook)
    }

    fn id(&self) -> u128 {
        passing_id(&*self.clock, &*self.random)
    }

    fn nonce(&self, webhook: &Webhook) -> [u8; 12] {
        let mut nonce = [0; 12];
        if webhook.encrypted {
            self.random.fill(&mut nonce);
        }
        nonce
    }
}

/// An attempt of which nothing has come yet.
pub(super) fn blank(
    dispatch: &Dispatch,
    webhook: &Webhook,
    attempt_id: Option<AttemptId>,
    started_at: Time,
) -> AttemptMade {
    AttemptMade {
        event_id: dispatch.event.id,
        delivery_id: dispatch.delivery_id,
        attempt_id,
        number: dispatch.number,
        trigger: dispatch.trigger,
        url: webhook.url.clone(),
        method: webhook.method,
        field_set: webhook.field_set,
        content_type: webhook.content_type,
        include_html: webhook.include_html,
        signed_at: started_at.seconds(),
        started_at,
        finished_at: started_at,
        success: false,
        outcome: AttemptOutcome::RequestError,
        status_code: None,
        error: None,
        response_time_ms: None,
        remote_addr: None,
        request_headers: Headers::default(),
        response_headers: Headers::default(),
        response_body: None,
        timings: Timings::default(),
        hold_until: None,
    }
}

fn note(finished: &mut AttemptMade, exchange: ExchangeResult, prepared: &CompiledWebhook) {
    let whole = exchange.outcome == AttemptOutcome::HttpStatus;
    finished.success = whole && exchange.status_code.is_some_and(|status| prepared.succeeds(status));
    finished.outcome = if finished.success { AttemptOutcome::Success } else { exchange.outcome };
    finished.error = match (finished.success, exchange.error, exchange.status_code) {
        (true, ..) => None,
        (false, Some(error), _) => Some(in_full(error, finished.outcome, exchange.detail)),
        (false, None, status) => status.map(reason),
    };
    if exchange.status_code.is_some_and(|status| HOLDING_STATUSES.contains(&status)) {
        finished.hold_until =
            exchange.retry_after.as_deref().and_then(|text| retry::retry_after(text, finished.finished_at));
    }
    let answered = exchange.status_code.is_some();
    finished.status_code = exchange.status_code;
    finished.response_time_ms = exchange.response_time_ms;
    finished.remote_addr = exchange.remote_addr.map(|addr| addr.to_string());
    let concealed = prepared.redactor();
    finished.response_headers = concealed.redact_response(exchange.response_headers);
    finished.response_body =
        answered.then(|| concealed.redact_text(String::from_utf8_lossy(&exchange.response_body).into_owned()));
    finished.timings = exchange.timings;
}

/// What whoever set up the webhook can mend is said in full: which part of TLS or HTTP was wrong. Of addresses and names
/// no more is said than the outcome, so that errors cannot be used to map a network.
fn in_full(error: String, outcome: AttemptOutcome, detail: Option<String>) -> String {
    match detail {
        Some(detail) if matches!(outcome, AttemptOutcome::TlsError | AttemptOutcome::RequestError) => {
            format!("{error}: {detail}").chars().take(ERROR_CHARS_MAX).collect()
        }
        _ => error,
    }
}

fn passing_event(id: EventId, webhook: &Webhook, event_type: &str, data_bytes: usize, now: Time) -> Event {
    Event {
        id,
        org_id: webhook.org_id,
        app_id: webhook.app_id,
        event_type: event_type.to_owned(),
        event_id: None,
        occurred_at: now,
        received_at: now,
        subject: None,
        channels: Vec::new(),
        ordering_key: None,
        deliver_at: None,
        expires_at: None,
        metadata: Default::default(),
        traceparent: None,
        deliveries: 0,
        data_bytes: data_bytes as u32,
        erased_at: None,
    }
}

fn attempt_of(finished: AttemptMade, dispatch: &Dispatch, webhook: &Webhook) -> Attempt {
    Attempt {
        id: finished.attempt_id.unwrap_or(Id::MIN),
        delivery_id: dispatch.delivery_id,
        event_id: dispatch.event.id,
        webhook_id: webhook.id,
        org_id: webhook.org_id,
        app_id: webhook.app_id,
        event_type: dispatch.event.event_type.clone(),
        number: finished.number,
        retry_of: None,
        trigger: finished.trigger,
        url: finished.url,
        method: finished.method,
        field_set: finished.field_set,
        content_type: finished.content_type,
        signed_at: finished.signed_at,
        started_at: finished.started_at,
        finished_at: finished.finished_at,
        success: finished.success,
        outcome: finished.outcome,
        status_code: finished.status_code,
        error: finished.error,
        response_time_ms: finished.response_time_ms,
        next_attempt_at: None,
        remote_addr: finished.remote_addr,
        request_headers: finished.request_headers,
        response_headers: finished.response_headers,
        response_body: finished.response_body,
        timings: finished.timings,
        include_html: finished.include_html,
    }
}
