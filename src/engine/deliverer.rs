//! The deliverer: renders and signs one delivery, sends it once, and turns the response into the attempt to record.

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
use crate::store::{AttemptMade, Dispatch, FailureCause};

use crate::engine::clock::{Clock, Random, passing_id};
use crate::engine::compiled_webhook::CompiledWebhook;
use crate::engine::handshake::{HandshakeRefused, Handshakes};
use crate::engine::sender::{ExchangeResult, Sender, Shortage, reason};
use crate::engine::shortages::Shortages;

/// Statuses whose `Retry-After` holds the webhook back.
const HOLDING_STATUSES: [u16; 2] = [429, 503];
/// Maximum characters of an attempt's `error`: names in a receiver's certificate may be long.
const ERROR_CHARS_MAX: usize = 300;

/// The error of an attempt that panicked.
const PANICKED: &str = "The daemon failed at this attempt; its log says where";

/// Observes every attempt after it was made and before it is recorded, for traces. It must not block.
pub trait AttemptObserver: Send + Sync {
    fn attempted(&self, dispatch: &Dispatch, made: &AttemptMade);
}

pub struct Deliverer {
    pub sender: Arc<Sender>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub handshakes: Handshakes,
    pub watcher: Option<Arc<dyn AttemptObserver>>,
    pub shortages: Arc<Shortages>,
}

impl Deliverer {
    /// Passes an attempt to the observer, if there is one.
    pub fn notify(&self, dispatch: &Dispatch, made: &AttemptMade) {
        if let Some(watcher) = &self.watcher {
            watcher.attempted(dispatch, made);
        }
    }

    /// `attempt`, with a panic turned into a failure of this attempt, so that this and all other deliveries go on.
    pub async fn attempt_catching_panic(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        compiled: Result<Arc<CompiledWebhook>, String>,
    ) -> Result<AttemptMade, Shortage> {
        let began = self.clock.now();
        let mut carrying = pin!(self.attempt(dispatch, webhook, compiled));
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
            let mut made = blank(dispatch, webhook, None, began);
            made.error = Some(PANICKED.to_owned());
            made.cause = FailureCause::Daemon;
            made.finished_at = self.clock.now().max(began);
            Ok(made)
        })
    }

    /// Makes one attempt and returns its record. `compiled` is the webhook, or the reason that it cannot be sent to.
    ///
    /// # Errors
    /// This machine lacked a resource, so no attempt was made.
    pub async fn attempt(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        compiled: Result<Arc<CompiledWebhook>, String>,
    ) -> Result<AttemptMade, Shortage> {
        let asked_at = self.clock.now();
        if let Err(refused) = self.permission(webhook, &compiled).await {
            if let Some(shortage) = refused.shortage {
                return Err(shortage);
            }
            let now = self.clock.now();
            return Ok(refused_attempt(blank(dispatch, webhook, None, asked_at), refused, now));
        }
        let started_at = self.clock.now();
        // Only a body that contains the attempt's id needs that id before the attempt.
        let attempt_id = (webhook.field_set == FieldSet::Dfns).then(|| AttemptId::from_u128(self.id()));
        let outgoing = compiled.map_err(|why| (why, FailureCause::Receiver)).and_then(|compiled| {
            let attempt_id = attempt_id.unwrap_or(AttemptId::MIN);
            let out = compiled.render(dispatch, attempt_id, started_at, self.nonce(webhook));
            Ok((compiled, out.map_err(|why| (why, FailureCause::Request))?))
        });
        let mut made = blank(dispatch, webhook, attempt_id, started_at);
        match outgoing {
            Err((why, cause)) => {
                made.outcome = AttemptOutcome::RequestError;
                made.error = Some(why);
                made.cause = cause;
                made.finished_at = self.clock.now().max(started_at);
            }
            Ok((compiled, mut out)) => {
                if webhook.handshake {
                    // A sender that a handshake allowed names itself on every delivery.
                    let origin = self.handshakes.origin();
                    out.stored_headers.push_bytes("origin", origin.as_bytes());
                    out.request.headers.push((ORIGIN, origin.clone()));
                }
                let exchange = self.sender.send(&out.request).await;
                if let Some(shortage) = exchange.shortage {
                    return Err(shortage);
                }
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
                made.signed_at = out.signed_at;
                made.request_headers = out.stored_headers;
                made.finished_at = self.clock.now().max(started_at);
                note(&mut made, exchange, &compiled);
            }
        }
        Ok(made)
    }

    /// Whether the receiver of a webhook with `handshake` consents. Without a grant it is asked.
    async fn permission(
        &self,
        webhook: &Webhook,
        compiled: &Result<Arc<CompiledWebhook>, String>,
    ) -> Result<(), HandshakeRefused> {
        match compiled {
            // Boxed, because it is large and rare: every request in flight would reserve its memory.
            Ok(compiled) if webhook.handshake => {
                Box::pin(self.handshakes.ask(&self.sender, &*self.clock, compiled)).await
            }
            // A webhook that cannot be compiled is reported by the attempt.
            _ => Ok(()),
        }
    }

    /// Sends one signed request of an event that is not stored: `POST /v1/webhooks/{id}/test`.
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
        let compiled = CompiledWebhook::new(webhook, now).map(Arc::new);
        let made = self.attempt(&dispatch, webhook, compiled).await.unwrap_or_else(|shortage| {
            let mut made = blank(&dispatch, webhook, None, now);
            made.error = Some(format!("Nothing was sent: {}", shortage.words()));
            made.finished_at = self.clock.now().max(now);
            made
        });
        attempt_of(made, &dispatch, webhook)
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

/// An attempt without a response.
pub(in crate::engine) fn blank(
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
        cause: FailureCause::Receiver,
    }
}

/// The attempt of a delivery whose receiver did not consent by `now`.
fn refused_attempt(made: AttemptMade, refused: HandshakeRefused, now: Time) -> AttemptMade {
    let finished_at = now.max(made.started_at);
    AttemptMade { outcome: refused.outcome, error: Some(refused.error), finished_at, ..made }
}

fn note(made: &mut AttemptMade, exchange: ExchangeResult, compiled: &CompiledWebhook) {
    let whole = exchange.outcome == AttemptOutcome::HttpStatus;
    made.success = whole && exchange.status_code.is_some_and(|status| compiled.succeeds(status));
    made.outcome = if made.success { AttemptOutcome::Success } else { exchange.outcome };
    made.error = match (made.success, exchange.error, exchange.status_code) {
        (true, ..) => None,
        (false, Some(error), _) => Some(in_full(error, made.outcome, exchange.detail)),
        (false, None, status) => status.map(reason),
    };
    if exchange.status_code.is_some_and(|status| HOLDING_STATUSES.contains(&status)) {
        made.hold_until = exchange.retry_after.as_deref().and_then(|text| retry::retry_after(text, made.finished_at));
    }
    let answered = exchange.status_code.is_some();
    made.status_code = exchange.status_code;
    made.response_time_ms = exchange.response_time_ms;
    made.remote_addr = exchange.remote_addr.map(|addr| addr.to_string());
    let redactor = compiled.redactor();
    made.response_headers = redactor.redact_response(exchange.response_headers);
    made.response_body =
        answered.then(|| redactor.redact_text(String::from_utf8_lossy(&exchange.response_body).into_owned()));
    made.timings = exchange.timings;
}

/// Adds the detail of an error that the webhook's owner can cure: the part of TLS or HTTP that failed. For addresses
/// and names the error contains the outcome only, so that errors cannot be used to map a network.
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

fn attempt_of(made: AttemptMade, dispatch: &Dispatch, webhook: &Webhook) -> Attempt {
    Attempt {
        id: made.attempt_id.unwrap_or(Id::MIN),
        delivery_id: dispatch.delivery_id,
        event_id: dispatch.event.id,
        webhook_id: webhook.id,
        org_id: webhook.org_id,
        app_id: webhook.app_id,
        event_type: dispatch.event.event_type.clone(),
        number: made.number,
        retry_of: None,
        trigger: made.trigger,
        url: made.url,
        method: made.method,
        field_set: made.field_set,
        content_type: made.content_type,
        signed_at: made.signed_at,
        started_at: made.started_at,
        finished_at: made.finished_at,
        success: made.success,
        outcome: made.outcome,
        status_code: made.status_code,
        error: made.error,
        response_time_ms: made.response_time_ms,
        next_attempt_at: None,
        remote_addr: made.remote_addr,
        request_headers: made.request_headers,
        response_headers: made.response_headers,
        response_body: made.response_body,
        timings: made.timings,
        include_html: made.include_html,
    }
}
