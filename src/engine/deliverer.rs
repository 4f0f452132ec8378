//! The deliverer: renders and signs one delivery, sends it once, and turns the response into the attempt to record.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Semaphore;

use crate::model::attempt::{AttemptMade, AttemptOutcome, Trigger};
use crate::model::event::EventAttributes;
use crate::model::id::{AttemptId, DeliveryId};
use crate::model::webhook::Webhook;
use crate::model::{Event, EventId, Time};
use crate::rules::request_bytes::counted_bytes;
use crate::rules::retry;
use crate::store::{AttemptReport, Dispatch, FailureCause};

use crate::engine::clock::{Clock, Random, passing_id};
use crate::engine::compiled_webhook::{CompiledWebhook, RenderedRequest};
use crate::engine::drawn_ids::DrawnIds;
use crate::engine::handshake::{HandshakeRefused, Handshakes};
use crate::engine::proxy_health::ProxyHealth;
use crate::engine::sender::{
    DeliveryProxy, ExchangeResult, ProxyContact, RESPONSE_BODY_BYTES_MAX, Sender, Shortage, reason,
};
use crate::engine::serve_window::{ServeWindow, monotonic};
use crate::engine::shortages::Shortages;

/// Statuses whose `Retry-After` holds the webhook back.
const HOLDING_STATUSES: [u16; 2] = [429, 503];
/// Maximum characters of an attempt's `error`: names in a receiver's certificate may be long.
const ERROR_CHARS_MAX: usize = 300;

/// Delay of a delivery that comes after the end of the tenure. The process is about to end then.
const OUTSIDE_WINDOW_MS: i64 = 1_000;

/// Maximum bytes of the bodies of webhook tests, as they are counted. One that exceeds it is sent alone.
const TEST_BODIES_BYTES_MAX: usize = 24 << 20;

/// The error of an attempt that panicked.
const PANICKED: &str = "The daemon failed at this attempt; its log says where";

/// Observes every attempt after it was made and before it is recorded, for traces. It must not block.
pub trait AttemptObserver: Send + Sync {
    fn attempted(&self, dispatch: &Dispatch, made: &AttemptMade);
}

/// The end of one attempt.
pub enum AttemptEnd {
    /// To be recorded.
    Made(Box<AttemptReport>),
    /// Nothing reached the receiver, for an installation fault. The delivery is sent again from this time, and nothing
    /// is recorded.
    Withheld(Time),
    /// A shortage of this machine prevented the request. Nothing is recorded.
    Short(Shortage),
}

/// The services that an attempt uses. All requests share one deliverer.
pub struct Deliverer {
    pub sender: Arc<Sender>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub handshakes: Handshakes,
    pub proxy_health: ProxyHealth,
    pub attempt_observer: Option<Arc<dyn AttemptObserver>>,
    pub shortages: Arc<Shortages>,
    pub drawn_ids: Arc<DrawnIds>,
    /// Whether Svix's scheme signs in the headers of Standard Webhooks.
    pub svix_whitelabel: bool,
    /// The time in which an owner in a cluster may begin deliveries. `None` if the store is by itself.
    pub window: Option<Arc<ServeWindow>>,
    pub test_bodies: TestBodies,
}

/// The bytes that the bodies of webhook tests may take. A test that needs more than are free waits for its turn.
pub struct TestBodies(Semaphore);

impl Default for TestBodies {
    fn default() -> TestBodies {
        TestBodies(Semaphore::new(TEST_BODIES_BYTES_MAX))
    }
}

impl Deliverer {
    /// Passes an attempt to the observer, if there is one.
    pub fn notify(&self, dispatch: &Dispatch, made: &AttemptMade) {
        if let Some(attempt_observer) = &self.attempt_observer {
            attempt_observer.attempted(dispatch, made);
        }
    }

    /// Makes one attempt of a delivery, unless the proxy cannot take it.
    pub async fn deliver(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        compiled: Result<Arc<CompiledWebhook>, String>,
    ) -> AttemptEnd {
        if self.window.as_ref().is_some_and(|window| !window.is_open_at(monotonic(&*self.clock))) {
            return AttemptEnd::Withheld(self.clock.now().plus_ms(OUTSIDE_WINDOW_MS));
        }
        let proxy = compiled.as_ref().ok().and_then(|compiled| self.sender.proxy_of(compiled.target()));
        if let Some(until) = proxy.as_ref().and_then(|_| self.proxy_health.wait(self.clock.now())) {
            return AttemptEnd::Withheld(until);
        }
        let (report, contact) = match self.attempt_catching_panic(dispatch, webhook, compiled).await {
            Ok(made) => made,
            Err(shortage) => return AttemptEnd::Short(shortage),
        };
        let why = report.made.error.as_deref().unwrap_or_default();
        let record = |proxy: &DeliveryProxy| self.proxy_health.record(contact, proxy.url(), why, self.clock.now());
        match proxy.as_deref().and_then(record) {
            Some(until) => AttemptEnd::Withheld(until),
            None => AttemptEnd::Made(Box::new(report)),
        }
    }

    /// Makes one attempt like `attempt`. A panic becomes a failure of this attempt, so that all deliveries go on.
    pub async fn attempt_catching_panic(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        compiled: Result<Arc<CompiledWebhook>, String>,
    ) -> Result<(AttemptReport, ProxyContact), Shortage> {
        let began = self.clock.now();
        let mut carrying = pin!(self.attempt(dispatch, webhook, compiled, began));
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
            let mut report = unanswered(dispatch, webhook, None, began);
            report.made.error = Some(PANICKED.to_owned());
            report.cause = FailureCause::Daemon;
            report.made.finished_at = self.clock.now().max(began);
            Ok((report, ProxyContact::None))
        })
    }

    /// Makes one attempt and returns its record, and the state in which it found the proxy. `compiled` is the webhook, or
    /// the reason that it cannot be sent to. `asked_at` is the current time.
    ///
    /// # Errors
    /// A shortage of this machine, so no attempt was made.
    pub async fn attempt(
        &self,
        dispatch: &Dispatch,
        webhook: &Webhook,
        compiled: Result<Arc<CompiledWebhook>, String>,
        asked_at: Time,
    ) -> Result<(AttemptReport, ProxyContact), Shortage> {
        if let Err(refused) = self.permission(webhook, &compiled).await {
            if let Some(shortage) = refused.shortage {
                return Err(shortage);
            }
            let (now, proxy) = (self.clock.now(), refused.proxy);
            return Ok((refused_attempt(unanswered(dispatch, webhook, None, asked_at), refused, now), proxy));
        }
        // Every reading of the clock takes its lock, and only a handshake takes time.
        let started_at = if webhook.handshake { self.clock.now() } else { asked_at };
        // Only a body that contains the attempt's id needs that id before the attempt.
        let draws = webhook.field_set.has_attempt_id();
        let attempt_id = draws.then(|| self.drawn_ids.begin(dispatch.delivery_id, &*self.clock, &*self.random));
        let shown_id = attempt_id.unwrap_or(AttemptId::MIN);
        let outgoing = compiled.map_err(|why| (why, FailureCause::Receiver)).and_then(|compiled| {
            let out = compiled.render(dispatch, shown_id, self.clock.wall(), self.nonce(webhook));
            Ok((compiled, out.map_err(|why| (why, FailureCause::Request))?))
        });
        let mut report = unanswered(dispatch, webhook, attempt_id, started_at);
        let contact = match outgoing {
            Err((why, cause)) => {
                report.cause = cause;
                report.made.error = Some(why);
                report.made.finished_at = self.clock.now().max(started_at);
                ProxyContact::None
            }
            Ok((compiled, out)) => self.exchange(&mut report, (dispatch, webhook), &compiled, out).await?,
        };
        Ok((report, contact))
    }

    /// Sends a rendered request once and records the exchange.
    async fn exchange(
        &self,
        report: &mut AttemptReport,
        (dispatch, webhook): (&Dispatch, &Webhook),
        compiled: &CompiledWebhook,
        mut out: RenderedRequest,
    ) -> Result<ProxyContact, Shortage> {
        if webhook.handshake {
            // A sender that a handshake allowed names itself on every delivery.
            out.request.headers.push("origin", self.handshakes.origin().as_bytes());
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
        let contact = exchange.proxy;
        report.made.signed_at = out.signed_at;
        report.made.request_headers = out.request.headers.into_stored();
        report.made.finished_at = self.clock.now().max(report.made.started_at);
        note(report, exchange, compiled, || self.clock.wall());
        Ok(contact)
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
    pub async fn send_test(&self, webhook: &Arc<Webhook>, event_type: &str, data: bytes::Bytes) -> AttemptMade {
        let now = self.clock.now();
        let event = Event {
            id: EventId::from_u128(self.id()),
            org_id: webhook.org_id,
            app_id: webhook.app_id,
            occurred_at: now,
            received_at: now,
            attributes: EventAttributes { event_type: event_type.to_owned(), ..EventAttributes::default() },
            data_bytes: data.len() as u32,
            ..Event::default()
        };
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
        let bytes = counted_bytes(webhook, dispatch.data.len()).min(TEST_BODIES_BYTES_MAX);
        // The semaphore is never closed, and its permits are far fewer than a u32.
        let _bytes = self.test_bodies.0.acquire_many(bytes as u32).await;
        let compiled = self.compile(webhook, now);
        let _passing = self.drawn_ids.end_on_drop(dispatch.delivery_id);
        self.attempt(&dispatch, webhook, compiled, now).await.map_or_else(
            |shortage| {
                let mut made = unanswered(&dispatch, webhook, None, now).made;
                made.error = Some(format!("Nothing was sent: {}", shortage.words()));
                made.finished_at = self.clock.now().max(now);
                made
            },
            |(report, _)| report.made,
        )
    }

    /// Compiles a webhook as this installation signs.
    ///
    /// # Errors
    /// Those of `CompiledWebhook::new`.
    pub fn compile(&self, webhook: &Arc<Webhook>, now: Time) -> Result<Arc<CompiledWebhook>, String> {
        CompiledWebhook::new(webhook, now, self.svix_whitelabel).map(Arc::new)
    }

    fn id(&self) -> u128 {
        passing_id(self.clock.now(), &*self.random)
    }

    fn nonce(&self, webhook: &Webhook) -> [u8; 12] {
        let mut nonce = [0; 12];
        if webhook.encrypted {
            self.random.fill(&mut nonce);
        }
        nonce
    }
}

/// The report of an attempt without a response.
pub(in crate::engine) fn unanswered(
    dispatch: &Dispatch,
    webhook: &Webhook,
    attempt_id: Option<AttemptId>,
    started_at: Time,
) -> AttemptReport {
    let made = AttemptMade {
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
        outcome: AttemptOutcome::RequestError,
        ..AttemptMade::default()
    };
    AttemptReport { attempt_id, ..AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made) }
}

/// The attempt of a delivery whose receiver did not consent by `now`.
fn refused_attempt(mut report: AttemptReport, refused: HandshakeRefused, now: Time) -> AttemptReport {
    let made = &mut report.made;
    (made.outcome, made.error) = (refused.outcome, Some(refused.error));
    made.finished_at = now.max(made.started_at);
    report
}

fn note(report: &mut AttemptReport, exchange: ExchangeResult, compiled: &CompiledWebhook, wall: impl FnOnce() -> Time) {
    let made = &mut report.made;
    let whole = exchange.outcome == AttemptOutcome::HttpStatus;
    made.success = whole && exchange.status_code.is_some_and(|status| compiled.succeeds(status));
    made.outcome = if made.success { AttemptOutcome::Success } else { exchange.outcome };
    made.error = match (made.success, exchange.error, exchange.status_code) {
        (true, ..) => None,
        (false, Some(error), _) => Some(in_full(error, made.outcome, exchange.detail)),
        (false, None, status) => status.map(reason),
    };
    if exchange.status_code.is_some_and(|status| HOLDING_STATUSES.contains(&status)) {
        let wall = wall();
        // A date in the header means the wall clock, and the hold ends by the believed time.
        let until = exchange.retry_after.as_deref().and_then(|text| retry::retry_after(text, wall));
        report.hold_until = until.map(|until| made.finished_at.plus_ms(until.since(wall)));
    }
    let answered = exchange.status_code.is_some();
    made.status_code = exchange.status_code;
    made.response_time_ms = exchange.response_time_ms;
    made.remote_addr = exchange.remote_addr.map(|addr| addr.to_string());
    let redactor = compiled.redactor();
    made.response_headers = redactor.redact_response(exchange.response_headers);
    let is_cut = exchange.response_body.len() >= RESPONSE_BODY_BYTES_MAX;
    made.response_body =
        answered.then(|| redactor.redact_text(String::from_utf8_lossy(&exchange.response_body).into_owned(), is_cut));
    made.timings = exchange.timings;
}

/// Adds the detail of an error that its reader can cure: the part of TLS, HTTP or the proxy that failed. For addresses
/// and names the error states the outcome only, so that errors cannot be used to map a network.
fn in_full(error: String, outcome: AttemptOutcome, detail: Option<String>) -> String {
    match detail {
        Some(detail)
            if matches!(
                outcome,
                AttemptOutcome::TlsError | AttemptOutcome::RequestError | AttemptOutcome::ProxyError
            ) =>
        {
            format!("{error}: {detail}").chars().take(ERROR_CHARS_MAX).collect()
        }
        _ => error,
    }
}
