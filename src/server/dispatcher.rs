//! The dispatcher: passes requests through the API's checks and runs the steps that handlers return.
//!
//! Invariant: a handler never waits and never writes. Every operation comes back as a step, which is done here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::Notify;

use crate::api::openapi::Description;
use crate::api::origin::{ForeignName, ListenerKind, OriginRules};
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::api::{Api, ApiContext, ApiError, ApiSettings, HealthIssue, HealthSource, MatchedRoute, Principal, Step};
use crate::engine::Engine;
use crate::engine::clock::passing_id;
use crate::engine::critical_task::CriticalTask;
use crate::engine::readiness::ReadinessIssue;
use crate::engine::write_queue::Busy;
use crate::model::Time;
use crate::model::feed_topic::FeedTopic;
use crate::model::id::{AttemptId, Id, KeyId, WebhookId};
use crate::model::machine::MachineState;
use crate::rules::exposition::ExpositionFormat;
use crate::store::Rejection;

use super::{Admitted, Service};

/// Maximum calls of a handler because the data that it read has changed.
const STALE_TRIES: usize = 5;
/// `Retry-After` seconds when too many requests wait for the writer.
const BUSY_RETRY_S: u32 = 1;
/// Seconds of a key's rate that one burst may use in advance.
const BURST_S: f64 = 1.0;
/// Maximum number of cached key rates.
const RATES_MAX: usize = 10_000;

pub struct Dispatcher {
    engine: Arc<Engine>,
    rules: ArcSwap<ApiRules>,
    rates: Mutex<HashMap<KeyId, RateBucket>>,
}

/// The rules of the API from the settings. A reload replaces them together.
pub struct ApiRules {
    pub api: Api,
    pub settings: ApiSettings,
    pub origins: OriginRules,
    /// The OpenAPI document of the enabled routes.
    pub description: Description,
}

/// The route of a request, its caller, and the rules that it was admitted by.
pub struct Pass {
    found: MatchedRoute,
    principal: Option<Principal>,
    rules: Arc<ApiRules>,
}

/// The requests that a key has left at its rate.
#[derive(Debug, Clone, Copy)]
struct RateBucket {
    left: f64,
    at: Time,
}

impl Dispatcher {
    pub fn new(engine: Arc<Engine>, rules: ApiRules) -> Dispatcher {
        Dispatcher { engine, rules: ArcSwap::from_pointee(rules), rates: Mutex::default() }
    }

    /// Sets the rules for later requests.
    pub fn set_rules(&self, rules: ApiRules) {
        self.rules.store(Arc::new(rules));
    }

    fn judge(
        &self,
        rules: &ApiRules,
        http_request: &HttpRequest,
        listener: ListenerKind,
        found: &MatchedRoute,
    ) -> Result<(Option<Principal>, usize), ApiError> {
        let now = self.engine.clock.now();
        let principal = found.identify(http_request, &self.engine.store.registry(), &rules.settings, now)?;
        let host = http_request.header(http::header::HOST).unwrap_or_default();
        rules.origins.judge_host(listener, host).map_err(foreign)?;
        // A repeated `Origin`, or one that is not text, matches no name.
        let origin =
            http_request.headers.contains_key(http::header::ORIGIN).then(|| http_request.header(http::header::ORIGIN));
        rules.origins.judge_origin(listener, host, origin.map(Option::unwrap_or_default)).map_err(foreign)?;
        let bytes_max = found.admit(http_request, principal.as_ref(), &rules.settings)?;
        if let Some(principal) = &principal {
            self.take_from_rate(principal, now)?;
        }
        Ok((principal, bytes_max))
    }

    fn take_from_rate(&self, principal: &Principal, now: Time) -> Result<(), ApiError> {
        let Some(per_s) = principal.key.rate_per_s else { return Ok(()) };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() > RATES_MAX {
            rates.clear();
        }
        let most = (per_s * BURST_S).max(1.0);
        let rate = rates.entry(principal.key.id).or_insert(RateBucket { left: most, at: now });
        let since_s = now.since(rate.at).max(0) as f64 / 1_000.0;
        *rate = RateBucket { left: (rate.left + since_s * per_s).min(most), at: now };
        if rate.left < 1.0 {
            let wait_s = ((1.0 - rate.left) / per_s).ceil().max(1.0) as u32;
            let api_error = ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "this key makes more requests than it may",
            );
            return Err(api_error.retry_after(wait_s));
        }
        rate.left -= 1.0;
        Ok(())
    }

    /// Runs the handler, on a blocking thread if it may read much.
    async fn handle(
        self: &Arc<Self>,
        http_request: &Arc<HttpRequest>,
        pass: &Arc<Pass>,
        since: Time,
    ) -> Result<Step, ApiError> {
        if pass.found.runs_inline() {
            return self.handle_here(http_request, pass, since);
        }
        let (dispatcher, http_request, pass) = (self.clone(), http_request.clone(), pass.clone());
        let work = self.engine.work;
        let step = work.run(move || dispatcher.handle_here(&http_request, &pass, since)).await;
        step.unwrap_or_else(|| Err(ApiError::internal("a handler panicked")))
    }

    fn handle_here(&self, http_request: &HttpRequest, pass: &Pass, since: Time) -> Result<Step, ApiError> {
        let mut random = |bytes: &mut [u8]| self.engine.random.fill(bytes);
        let mut context = ApiContext {
            description: &|| pass.rules.description.text(),
            store: &self.engine.store,
            registry: self.engine.store.registry(),
            settings: &pass.rules.settings,
            health_source: self,
            now: self.engine.clock.now(),
            since,
            random: &mut random,
        };
        pass.found.handle(&mut context, pass.principal.as_ref(), http_request)
    }

    async fn answer(
        self: &Arc<Self>,
        http_request: Arc<HttpRequest>,
        pass: &Arc<Pass>,
    ) -> Result<HttpResponse, ApiError> {
        let since = self.engine.clock.now();
        // The subscription begins before the first read, so that no commit falls between reading and waiting.
        let mut commits = self.commits_for(pass);
        let mut stale = 0;
        let mut step = self.handle(&http_request, pass, since).await?;
        loop {
            step = match step {
                Step::Reply(response) => return Ok(response),
                Step::Apply { write_request, then } => match self.engine.apply(write_request).await {
                    Ok(Err(Rejection::Stale)) if stale < STALE_TRIES => {
                        stale += 1;
                        self.handle(&http_request, pass, since).await?
                    }
                    Ok(result) => then(result)?,
                    Err(busy) => return Err(busy_fault(busy)),
                },
                Step::Test { test_send, then } => {
                    let trying = self.engine.deliverer.send_test(
                        &test_send.webhook,
                        &test_send.event_type,
                        test_send.data.clone(),
                    );
                    // Boxed, because it is large and rare: every connection would reserve its memory.
                    then(Box::pin(trying).await)?
                }
                Step::Wait { topic, until } => {
                    let notify = commits.get_or_insert_with(|| self.engine.feeds.of(topic));
                    let notified = notify.clone().notified_owned();
                    tokio::pin!(notified);
                    notified.as_mut().enable();
                    // Reads once more, because a delivery may have been committed before the subscription.
                    match self.handle(&http_request, pass, since).await? {
                        Step::Wait { .. } if self.engine.clock.now() < until => {
                            if !self.engine.feeds.is_closed() {
                                tokio::select! {
                                    () = notified => {}
                                    () = self.engine.clock.sleep_until(until) => {}
                                }
                            }
                            // A stopping daemon ends the wait as if the request had arrived long ago.
                            let since = if self.engine.feeds.is_closed() { Time::ZERO } else { since };
                            self.handle(&http_request, pass, since).await?
                        }
                        other => other,
                    }
                }
            };
        }
    }

    fn commits_for(&self, pass: &Pass) -> Option<Arc<Notify>> {
        let topic = pass.found.awaited()?;
        // An unknown id gets no entry in the feeds' map.
        let is_known = match topic {
            FeedTopic::Deliveries(webhook) => self.engine.store.registry().webhook_by_id(webhook).is_some(),
            FeedTopic::Attempts => true,
        };
        is_known.then(|| self.engine.feeds.of(topic))
    }
}

impl HealthSource for Dispatcher {
    fn unready(&self) -> Vec<HealthIssue> {
        self.engine.unready().into_iter().map(trouble).collect()
    }

    fn warnings(&self) -> Vec<HealthIssue> {
        self.engine.warnings().into_iter().map(trouble).collect()
    }

    fn in_flight(&self, webhook: WebhookId) -> u32 {
        self.engine.in_flight(webhook)
    }

    fn attempts_below(&self) -> Option<AttemptId> {
        self.engine.deliverer.drawn_ids.lowest()
    }

    fn machine(&self) -> MachineState {
        self.engine.machine_state()
    }

    fn metrics(&self, format: ExpositionFormat) -> String {
        self.engine.metrics_text(format)
    }
}

/// The dispatcher as the server's service.
pub struct ApiService(pub Arc<Dispatcher>);

impl Service for ApiService {
    type Pass = Pass;

    fn critical_task(&self) -> Option<CriticalTask> {
        Some(CriticalTask::new("what takes connections", &self.0.engine.crashed))
    }

    fn request_id(&self) -> String {
        let engine = &self.0.engine;
        Id::<HttpRequest>::from_u128(passing_id(&*engine.clock, &*engine.random)).to_string()
    }

    fn admit(&self, http_request: &HttpRequest, listener: ListenerKind) -> Result<Admitted<Pass>, Box<HttpResponse>> {
        let rules = self.0.rules.load_full();
        let found = rules.api.find(http_request);
        match self.0.judge(&rules, http_request, listener, &found) {
            Ok((principal, body_bytes_max)) => Ok(Admitted { pass: Pass { found, principal, rules }, body_bytes_max }),
            Err(api_error) => {
                Err(Box::new(found.render(&api_error, &http_request.request_id, self.0.engine.clock.now())))
            }
        }
    }

    async fn call(&self, http_request: HttpRequest, pass: Pass) -> HttpResponse {
        let (http_request, pass) = (Arc::new(http_request), Arc::new(pass));
        match self.0.answer(http_request.clone(), &pass).await {
            Ok(response) => response,
            Err(api_error) => {
                // The engine logs a full disk once, so rejected requests do not.
                if api_error.status.is_server_error() && api_error.status != StatusCode::INSUFFICIENT_STORAGE {
                    tracing::warn!(
                        request_id = http_request.request_id,
                        route = pass.found.pattern(),
                        code = api_error.code,
                        detail = api_error.detail,
                        "request failed"
                    );
                }
                pass.found.render(&api_error, &http_request.request_id, self.0.engine.clock.now())
            }
        }
    }
}

fn trouble(reason: ReadinessIssue) -> HealthIssue {
    HealthIssue { code: reason.code, detail: reason.detail }
}

fn foreign(foreign: ForeignName) -> ApiError {
    match foreign {
        ForeignName::Host => ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "host_not_allowed",
            "this Host is not a loopback name; list it in server.allowed_hosts if it is this daemon's",
        ),
        ForeignName::Origin => {
            ApiError::forbidden("origin_not_allowed", "a request from a web page of another origin is refused")
        }
    }
}

fn busy_fault(busy: Busy) -> ApiError {
    let (code, detail) = match busy {
        Busy::Full => ("busy", "too much waits to be written; try again"),
        Busy::Stopping => ("stopping", "the daemon is stopping"),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(BUSY_RETRY_S)
}
