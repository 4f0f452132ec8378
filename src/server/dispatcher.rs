//! The dispatcher: passes requests through the API's checks and runs the steps that handlers return.
//!
//! Invariant: a handler never waits and never writes. Every operation comes back as a step, which is done here.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use http::header::{HeaderName, ORIGIN};
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::Notify;

use crate::api::auth::RequestOwner;
use crate::api::link::LinkRequest;
use crate::api::openapi::Description;
use crate::api::origin::{ForeignName, ListenerKind, OriginRules};
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::api::{
    Api, ApiContext, ApiError, ApiSettings, HealthIssue, HealthSource, MatchedRoute, Principal, QuotaUse, Step,
    TestSend,
};
use crate::engine::Engine;
use crate::engine::client_connections::ClientConnections;
use crate::engine::clock::passing_id;
use crate::engine::critical_task::CriticalTask;
use crate::engine::network::Conn;
use crate::engine::readiness::ReadinessIssue;
use crate::engine::write_queue::Busy;
use crate::model::feed_topic::FeedTopic;
use crate::model::id::{AttemptId, Id, WebhookId};
use crate::model::machine::MachineState;
use crate::model::{AttemptMade, Time, Webhook};
use crate::rules::exposition::ExpositionFormat;
use crate::rules::quotas::{Quota, QuotaExceeded, QuotaLimits};
use crate::rules::waiting::SendingPace;
use crate::store::{Applied, Registry, Rejection, TenantScope, WriteRequest};

use super::links::LinkHandler;
use super::quotas::{QuotaContext, QuotaShare, Quotas};
use super::rates::RequestRates;
use super::shared_answer::SharedAnswer;
use super::shared_origins::{self, SharedOrigins};
use super::table::PeerGroup;
use super::turns::{ReadTurns, RunningTests, TurnOwner};
use super::{Admitted, Service};

/// Maximum calls of a handler because the data that it read has changed.
const STALE_TRIES: usize = 100;
/// `Retry-After` seconds when too many requests wait for the writer.
const BUSY_RETRY_S: u32 = 1;
/// `Retry-After` seconds when a quota is used up for a time that is not known.
const QUOTA_RETRY_S: u32 = 60;
/// The pages of the dashboard.
const PAGES: &str = "/ui";
/// The path that leads browsers to the pages.
const ROOT: &str = "/";
const PAGES_BELOW: &str = "/ui/";
/// The headers of Fetch Metadata. They are constants, because a name in text is parsed at every lookup.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Runs the steps of handlers on the engine, under the rules of the API that are in force.
pub struct Dispatcher {
    engine: Arc<Engine>,
    rules: ArcSwap<ApiRules>,
    rates: RequestRates,
    read_turns: Arc<ReadTurns>,
    /// The answer of the one shared route, `/readyz`.
    readiness: SharedAnswer,
    running_tests: RunningTests,
    quotas: Quotas,
    /// Empty until the daemon has started.
    links: OnceLock<Arc<dyn LinkHandler>>,
}

/// The rules of the API from the settings. A reload replaces them together.
pub struct ApiRules {
    pub api: Api,
    /// The pages alone, for a listener of their own.
    pub pages: Api,
    pub settings: ApiSettings,
    pub origins: OriginRules,
    /// The origins whose pages may call the mounts that share themselves.
    pub shared_origins: SharedOrigins,
    pub quotas: QuotaLimits,
    /// The OpenAPI document of the enabled routes.
    pub description: Description,
}

impl ApiRules {
    /// The origin of a page that may call the route's mount.
    fn listed_origin<'a>(&self, found: &MatchedRoute, http_request: &'a HttpRequest) -> Option<&'a HeaderValue> {
        self.shared_origins.listed(http_request).filter(|_| found.shares_origins())
    }
}

/// The route of a request, its caller, and the rules that it was admitted by.
pub struct Pass {
    found: MatchedRoute,
    principal: Option<Principal>,
    rules: Arc<ApiRules>,
}

/// The progress of a request that may wait.
#[derive(Debug, Clone, Copy)]
struct WaitProgress {
    /// The time of the first run of the handler.
    since: Time,
    /// The position that the last run reached. `None` before it.
    reached: Option<u128>,
}

impl Dispatcher {
    pub fn new(engine: Arc<Engine>, rules: ApiRules) -> Dispatcher {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Dispatcher {
            engine,
            rules: ArcSwap::from_pointee(rules),
            rates: RequestRates::default(),
            read_turns: ReadTurns::new(processors),
            readiness: SharedAnswer::default(),
            running_tests: RunningTests::default(),
            quotas: Quotas::default(),
            links: OnceLock::new(),
        }
    }

    /// Serves the links of standbys from now on.
    pub fn serve_links(&self, links: Arc<dyn LinkHandler>) {
        let _ = self.links.set(links);
    }

    fn links(&self) -> Result<&Arc<dyn LinkHandler>, ApiError> {
        self.links.get().ok_or_else(|| busy_error(Busy::Stopping))
    }

    /// Sets the rules for later requests.
    pub fn set_rules(&self, rules: ApiRules) {
        self.rules.store(Arc::new(rules));
    }

    fn check_caller_and_origin(
        &self,
        rules: &ApiRules,
        http_request: &HttpRequest,
        listener: ListenerKind,
        found: &MatchedRoute,
    ) -> Result<(Option<Principal>, usize), ApiError> {
        let now = self.engine.clock.now();
        let principal = found.identify(http_request, &self.engine.store.registry(), &rules.settings, now)?;
        let host = http_request.header(http::header::HOST).unwrap_or_default();
        rules.origins.check_host(listener, host).map_err(foreign)?;
        // A repeated field, or one that is not text, matches nothing.
        let browsers = |name: &HeaderName| {
            http_request.headers.contains_key(name).then(|| http_request.header(name).unwrap_or_default())
        };
        let origin = browsers(&ORIGIN);
        if rules.listed_origin(found, http_request).is_none() {
            rules.origins.check_origin(listener, host, origin).map_err(foreign)?;
        }
        let is_allowed = origin.is_some() || found.is_open() && is_navigation(http_request) || opens_page(http_request);
        OriginRules::check_site(listener, browsers(&SEC_FETCH_SITE), is_allowed).map_err(foreign)?;
        let bytes_max = found.admit(http_request, principal.as_ref(), &rules.settings)?;
        if let Some(principal) = &principal {
            self.rates.take(principal, now).map_err(|wait_s| rate_limited(principal, wait_s))?;
        }
        Ok((principal, bytes_max))
    }

    /// Runs the handler, on a blocking thread if it may read much.
    async fn handle(
        self: &Arc<Self>,
        http_request: &Arc<HttpRequest>,
        pass: &Arc<Pass>,
        wait: WaitProgress,
    ) -> Result<Step, ApiError> {
        if pass.found.runs_inline() {
            return self.handle_here(http_request, pass, wait);
        }
        if pass.found.is_shared() {
            let run = async |place| match self.handle_blocking(http_request, pass, wait, place).await? {
                Step::Reply(response) => Ok(response),
                _ => Err(ApiError::internal("a shared route does not answer at once")),
            };
            return self.readiness.get(run).await.map(Step::Reply);
        }
        let stranger = || TurnOwner::Stranger(PeerGroup::of(http_request.remote));
        let owner = pass.principal.as_ref().map_or_else(stranger, |principal| TurnOwner::Known(principal.owner()));
        let turn =
            self.read_turns.wait(owner).await.ok_or_else(|| {
                too_many("too_many_reads", "too many reads of the same caller are waiting", BUSY_RETRY_S)
            })?;
        self.handle_blocking(http_request, pass, wait, turn).await
    }

    /// Runs the handler on a blocking thread. The turn lasts as long as the thread works, also if the client is gone.
    async fn handle_blocking(
        self: &Arc<Self>,
        http_request: &Arc<HttpRequest>,
        pass: &Arc<Pass>,
        wait: WaitProgress,
        turn: impl Send + 'static,
    ) -> Result<Step, ApiError> {
        let (dispatcher, http_request, pass) = (self.clone(), http_request.clone(), pass.clone());
        let work = self.engine.work;
        let step = work.run(move || {
            let _turn = turn;
            dispatcher.handle_here(&http_request, &pass, wait)
        });
        let step = step.await;
        step.unwrap_or_else(|| Err(ApiError::internal("a handler panicked")))
    }

    fn handle_here(&self, http_request: &HttpRequest, pass: &Pass, wait: WaitProgress) -> Result<Step, ApiError> {
        let mut random = |bytes: &mut [u8]| self.engine.random.fill(bytes);
        let mut context = ApiContext {
            description: &|| pass.rules.description.text(),
            reference_page: &|| pass.rules.description.page(),
            store: &self.engine.store,
            registry: self.engine.store.registry(),
            settings: &pass.rules.settings,
            health_source: self,
            now: self.engine.clock.now(),
            since: wait.since,
            reached: wait.reached,
            random: &mut random,
        };
        pass.found.handle(&mut context, pass.principal.as_ref(), http_request)
    }

    async fn answer(
        self: &Arc<Self>,
        http_request: Arc<HttpRequest>,
        pass: &Arc<Pass>,
    ) -> Result<HttpResponse, ApiError> {
        let mut wait = WaitProgress { since: self.engine.clock.now(), reached: None };
        // The subscription begins before the first read, so that no commit falls between reading and waiting.
        let mut commits = self.commits_for(pass);
        let mut stale = 0;
        let mut step = self.handle(&http_request, pass, wait).await?;
        loop {
            step = match step {
                Step::Reply(response) => return Ok(response),
                Step::Link(link_request) => return self.links()?.answer(link_request),
                Step::Apply { write_request, then } => match self.apply(write_request, pass).await? {
                    Ok(Err(Rejection::Stale)) if stale < STALE_TRIES => {
                        stale += 1;
                        self.handle(&http_request, pass, wait).await?
                    }
                    Ok(result) => then(result)?,
                    Err(busy) => return Err(busy_error(busy)),
                },
                Step::Test { test_send, then } => then(self.send_test(&test_send).await?)?,
                Step::Wait { topic, until, reached } => {
                    let notify = commits.get_or_insert_with(|| self.engine.feeds.of(topic));
                    wait.reached = reached;
                    self.await_commit(&http_request, pass, notify, until, &mut wait).await?
                }
            };
        }
    }

    /// Sends a webhook test, unless too many run.
    async fn send_test(&self, test_send: &TestSend) -> Result<AttemptMade, ApiError> {
        let place = self.running_tests.begin(test_send.webhook.id);
        let _place = place.map_err(|why| too_many("too_many_tests", why, BUSY_RETRY_S))?;
        let TestSend { webhook, event_type, data } = test_send;
        // Boxed, because it is large and rare: every connection would reserve its memory.
        Ok(Box::pin(self.engine.deliverer.send_test(webhook, event_type, data.clone())).await)
    }

    /// Runs the handler again. If it has no row yet, waits for a commit or until `until`, and runs it once more.
    async fn await_commit(
        self: &Arc<Self>,
        http_request: &Arc<HttpRequest>,
        pass: &Arc<Pass>,
        notify: &Arc<Notify>,
        until: Time,
        wait: &mut WaitProgress,
    ) -> Result<Step, ApiError> {
        let notified = notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        // A row may have been committed before the subscription.
        let step = self.handle(http_request, pass, *wait).await?;
        let Step::Wait { reached, .. } = step else { return Ok(step) };
        if self.engine.clock.now() >= until {
            return Ok(step);
        }
        wait.reached = reached;
        if !self.engine.feeds.is_closed() {
            tokio::select! {
                () = notified => {}
                () = self.engine.clock.sleep_until(until) => {}
            }
        }
        // A stopping daemon ends the wait as if the request had arrived long ago.
        let since = if self.engine.feeds.is_closed() { Time::ZERO } else { wait.since };
        self.handle(http_request, pass, WaitProgress { since, ..*wait }).await
    }

    /// Applies a write request that fits into the quotas.
    async fn apply(
        &self,
        write_request: Box<WriteRequest>,
        pass: &Pass,
    ) -> Result<Result<Result<Applied, Rejection>, Busy>, ApiError> {
        let registry = self.engine.store.registry();
        let mut share = match self.quotas.admit(&self.quota_context(&pass.rules, &registry), &write_request) {
            Ok(share) => share,
            // The first answer is repeated, and nothing is stored, so no quota is used.
            Err(_) if self.is_answered(&write_request) => QuotaShare::default(),
            Err(exceeded) => {
                self.engine.metrics.quota_refused(exceeded.quota);
                return Err(over_quota(&exceeded, self.engine.clock.now()));
            }
        };
        let applied = self.engine.apply(write_request).await;
        if let Ok(Ok(applied)) = &applied {
            share.applied(&applied.receipt);
        }
        Ok(applied)
    }

    /// Whether the request repeats one that was answered. A store that cannot be read refuses it itself.
    fn is_answered(&self, write_request: &WriteRequest) -> bool {
        let (store, now) = (&self.engine.store, self.engine.clock.now());
        write_request.idempotency.as_ref().is_some_and(|key| store.has_answer(key, now).unwrap_or(true))
    }

    fn quota_context<'a>(&'a self, rules: &'a ApiRules, registry: &'a Registry) -> QuotaContext<'a> {
        let now = self.engine.clock.now();
        QuotaContext { limits: &rules.quotas, registry, store: &self.engine.store, now }
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

    fn pace(&self, webhook: &Webhook) -> SendingPace {
        self.engine.pace(webhook)
    }

    fn pass_attempts(&self, newest: AttemptId, has_drawn_ids: bool) -> AttemptId {
        self.engine.deliverer.drawn_ids.pass(newest, has_drawn_ids)
    }

    fn machine(&self) -> MachineState {
        self.engine.machine_state()
    }

    fn metrics(&self, format: ExpositionFormat) -> String {
        self.engine.metrics_text(format)
    }

    fn quotas(&self, tenant: TenantScope) -> Vec<QuotaUse> {
        let (rules, registry) = (self.rules.load(), self.engine.store.registry());
        self.quotas.used(&self.quota_context(&rules, &registry), tenant)
    }
}

/// The dispatcher as the server's service.
pub struct ApiService {
    pub dispatcher: Arc<Dispatcher>,
    pub part: ServedPart,
}

/// The part of the routes that a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedPart {
    /// The API, and the pages unless they have a listener of their own.
    Api,
    /// The pages for browsers alone.
    Pages,
}

impl Service for ApiService {
    type Pass = Pass;

    fn critical_task(&self) -> Option<CriticalTask> {
        Some(CriticalTask::new("the accept loop", &self.dispatcher.engine.crashed))
    }

    fn client_connections(&self) -> Arc<ClientConnections> {
        self.dispatcher.engine.client_connections.clone()
    }

    fn request_id(&self) -> String {
        let engine = &self.dispatcher.engine;
        Id::<HttpRequest>::from_u128(passing_id(engine.clock.now(), &*engine.random)).to_string()
    }

    fn admit(&self, http_request: &HttpRequest, listener: ListenerKind) -> Result<Admitted<Pass>, Box<HttpResponse>> {
        let rules = self.dispatcher.rules.load_full();
        let api = match self.part {
            ServedPart::Api => &rules.api,
            ServedPart::Pages => &rules.pages,
        };
        let found = api.find(http_request);
        let origin = rules.listed_origin(&found, http_request);
        if let Some(origin) = origin.filter(|_| shared_origins::is_preflight(http_request)) {
            let mut response = shared_origins::preflight(http_request);
            shared_origins::share(&mut response, origin);
            return Err(Box::new(response));
        }
        if found.shares_origins() && shared_origins::is_preflight(http_request) {
            let api_error = foreign(ForeignName::Origin);
            return Err(Box::new(found.render(
                &api_error,
                &http_request.request_id,
                self.dispatcher.engine.clock.now(),
            )));
        }
        match self.dispatcher.check_caller_and_origin(&rules, http_request, listener, &found) {
            Ok((principal, body_bytes_max)) => {
                let is_known = principal.is_some();
                Ok(Admitted { pass: Pass { found, principal, rules }, body_bytes_max, is_known })
            }
            Err(api_error) => {
                let now = self.dispatcher.engine.clock.now();
                let mut response = found.render(&api_error, &http_request.request_id, now);
                if let Some(origin) = origin {
                    shared_origins::share(&mut response, origin);
                }
                Err(Box::new(response))
            }
        }
    }

    fn take_over(&self, link_request: LinkRequest, conn: Box<dyn Conn>) {
        if let Some(links) = self.dispatcher.links.get() {
            links.take_over(link_request, conn);
        }
    }

    fn refused(&self, pass: &Pass, api_error: &ApiError, request_id: &str) -> HttpResponse {
        pass.found.render(api_error, request_id, self.dispatcher.engine.clock.now())
    }

    async fn call(&self, http_request: HttpRequest, pass: Pass) -> HttpResponse {
        let (http_request, pass) = (Arc::new(http_request), Arc::new(pass));
        let mut response = match self.dispatcher.answer(http_request.clone(), &pass).await {
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
                pass.found.render(&api_error, &http_request.request_id, self.dispatcher.engine.clock.now())
            }
        };
        if let Some(origin) = pass.rules.listed_origin(&pass.found, &http_request) {
            shared_origins::share(&mut response, origin);
        }
        response
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
        ForeignName::Site => ApiError::forbidden(
            "origin_not_allowed",
            "a request that a browser makes for another site is refused; if it has an Origin, list it in server.allowed_hosts",
        ),
        ForeignName::Origin => {
            ApiError::forbidden("origin_not_allowed", "a request from a web page of another origin is refused")
        }
    }
}

/// Whether a browser opens a page of the dashboard, as from a link of another site. Its pages hold no data.
fn opens_page(http_request: &HttpRequest) -> bool {
    let is_page = [ROOT, PAGES].contains(&http_request.path.as_str()) || http_request.path.starts_with(PAGES_BELOW);
    is_page && is_navigation(http_request)
}

/// Whether a browser follows a link. Its answer is shown and not given to the page that has the link.
fn is_navigation(http_request: &HttpRequest) -> bool {
    http_request.method == Method::GET && http_request.header(SEC_FETCH_MODE) == Some("navigate")
}

fn rate_limited(principal: &Principal, wait_s: u32) -> ApiError {
    let detail = match principal.owner() {
        RequestOwner::Key(_) => "this key makes more requests than it may",
        RequestOwner::Portal(_) => "these pages are asked for too often: wait a moment",
    };
    too_many("rate_limited", detail, wait_s)
}

fn too_many(code: &'static str, detail: &str, wait_s: u32) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, detail).retry_after(wait_s)
}

/// 429 with the quota and the time from which the request fits, if that is known.
fn over_quota(exceeded: &QuotaExceeded, now: Time) -> ApiError {
    let QuotaExceeded { quota, limit, until } = *exceeded;
    let when = match (until, quota) {
        (Some(until), _) => format!("until {until}"),
        (None, Quota::WaitingDeliveries) => "until deliveries have ended".to_owned(),
        (None, _) => "until a webhook is removed".to_owned(),
    };
    let detail = format!("the quota {} of {limit} is used up {when}", quota.as_str());
    let wait_s = until.map_or(QUOTA_RETRY_S, |until| until.since(now).max(0).div_euclid(1_000) as u32 + 1);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", detail).retry_after(wait_s)
}

fn busy_error(busy: Busy) -> ApiError {
    let (code, detail) = match busy {
        Busy::Full => ("busy", "too much waits to be written; try again"),
        Busy::LogUnanswered => ("log_unanswered", "the log of the cluster takes no commits: nothing was kept"),
        Busy::Stopping => ("stopping", "the daemon is stopping"),
    };
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(BUSY_RETRY_S)
}
