//! A store in a temporary directory, a clock that stands still, and the API over both. Requests take the server's path,
//! and write requests are applied at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use postrider::api::dialects::{self, Dialect};
use postrider::api::{
    Api, ApiContext, ApiError, ApiSettings, HealthIssue, HealthSource, HttpRequest, HttpResponse, MetricsAccess,
    QuotaUse, Step, auth, native,
};
use postrider::model::attempt::{AttemptOutcome, Timings, Trigger};
use postrider::model::id::Stamp;
use postrider::model::webhook::{SigningSecret, Webhook};
use postrider::model::{ApiKey, App, AppId, AttemptMade, Id, KeyId, Organization, Scope, Time, WebhookId};
use postrider::rules::exposition::ExpositionFormat;
use postrider::rules::target::TargetPolicy;
use postrider::store::{
    AppSettings, Applied, AttemptReport, Caller, Command, Dispatch, Effects, EventInput, FINGERPRINTS_MAX, IdSource,
    NewKey, Opened, PartitionCommand, Published, ROW_PAYLOAD_BYTES_MAX, RealDisk, Receipt, Rejection, StateCommand,
    Store, StoreOptions, TenantScope, WriteRequest, open_with_ids,
};
use serde_json::Value;

pub const DAY_MS: i64 = 86_400_000;
pub const PUBLIC_URL: &str = "https://hooks.example.net";
/// The text of the first key, which has every permission.
pub const ADMIN: &str = "pr_admin";

/// Ids that a test gives, one after another. Without any, ids rise with the clock.
#[derive(Clone)]
pub struct Script(Arc<Mutex<VecDeque<u128>>>);

struct Scripted {
    script: Script,
    stamp: Stamp,
}

impl IdSource for Scripted {
    fn next(&mut self, now: Time, random: u64) -> u128 {
        let given = self.script.0.lock().unwrap().pop_front();
        given.unwrap_or_else(|| self.stamp.next::<()>(now, random).as_u128())
    }
    fn rise_above(&mut self, id: u128) {
        IdSource::rise_above(&mut self.stamp, id);
    }
}

struct Quiet;

impl HealthSource for Quiet {
    fn unready(&self) -> Vec<HealthIssue> {
        Vec::new()
    }
    fn warnings(&self) -> Vec<HealthIssue> {
        Vec::new()
    }
    fn in_flight(&self, _: WebhookId) -> u32 {
        0
    }

    fn pace(&self, _: &postrider::model::Webhook) -> postrider::rules::waiting::SendingPace {
        postrider::rules::waiting::SendingPace::default()
    }

    fn machine(&self) -> postrider::model::machine::MachineState {
        Default::default()
    }

    fn pass_attempts(&self, newest: postrider::model::AttemptId, _: bool) -> postrider::model::AttemptId {
        newest
    }

    fn metrics(&self, _: ExpositionFormat) -> String {
        String::new()
    }
    fn quotas(&self, _: TenantScope) -> Vec<QuotaUse> {
        Vec::new()
    }
}

pub struct Bench {
    _folder: tempfile::TempDir,
    pub opened: Opened,
    pub store: Store,
    pub script: Script,
    pub now: Time,
    pub api: Api,
    pub settings: ApiSettings,
    pub organization: Organization,
    pub app: App,
    pub admin: ApiKey,
    /// Commands that requests caused, as text.
    pub ordered: Vec<String>,
    /// The attempt that a test request returns.
    pub test_send: Option<AttemptMade>,
    seed: u64,
}

pub fn options() -> StoreOptions {
    StoreOptions {
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
        row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: FINGERPRINTS_MAX,
    }
}

fn settings() -> ApiSettings {
    ApiSettings {
        max_event_bytes: 1 << 20,
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        policy: TargetPolicy::default(),
        public_url: PUBLIC_URL.into(),
        metrics: MetricsAccess::Everybody,
        pages: postrider::api::logins::PageSettings::new([0; 32]),
        dialect_lists: Default::default(),
        foreign_tokens: None,
    }
}

fn random(seed: u64) -> impl FnMut() -> u64 + Send {
    let mut seed = seed | 1;
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

impl Bench {
    pub fn new(now: Time) -> Bench {
        Bench::with(now, options(), &[])
    }

    /// A bench with these ids for the organization and its default app. Without any, ids are drawn.
    pub fn with(now: Time, options: StoreOptions, ids: &[u128]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let script = Script(Arc::default());
        let disk = Arc::new(RealDisk::lock(folder.path()).unwrap());
        let scripted = Scripted { script: script.clone(), stamp: Stamp::after(0) };
        let mut opened =
            open_with_ids(disk, options, &[7; 32], now, Box::new(random(0x9e37_79b9)), Box::new(scripted)).unwrap();
        let key = new_key("admin", ADMIN, &[Scope::Admin], None);
        script.0.lock().unwrap().extend(ids);
        let write_request =
            WriteRequest::internal(StateCommand::CreateOrganization { name: "Example Org".into(), key });
        let mut batch = opened.writer.apply(&[write_request], now);
        let Some(Ok(Applied { receipt: Receipt::Organization { organization, app, key }, .. })) = batch.results.pop()
        else {
            panic!("no organization")
        };
        let api = Api::new(native::mount(), dialects::mounts(|_| true));
        let store = opened.store.clone();
        Bench {
            _folder: folder,
            opened,
            store,
            script,
            now,
            api,
            settings: settings(),
            organization: *organization,
            app: *app,
            admin: *key,
            ordered: Vec::new(),
            test_send: None,
            seed: 77,
        }
    }

    /// The same API with other dialects.
    pub fn mount(&mut self, dialects: &[&Dialect]) {
        self.api = Api::new(native::mount(), dialects.iter().map(|dialect| dialect.mount()).collect());
    }

    pub fn tenant(&self) -> TenantScope {
        TenantScope { org: self.organization.id, app: None }
    }

    fn caller(&self) -> Caller {
        Caller {
            key: self.admin.id,
            tenant: self.tenant(),
            remote_addr: None,
            request_id: "bench".into(),
            portal_link: None,
        }
    }

    /// Gives the next ids that are drawn. A due partition begins before, so that it uses none of them.
    pub fn next_ids(&mut self, ids: &[u128]) {
        self.opened.writer.apply(&[], self.now);
        self.script.0.lock().unwrap().extend(ids);
    }

    pub fn apply(&mut self, command: Command) -> (Result<Receipt, Rejection>, Effects) {
        let write_request = WriteRequest { caller: Some(self.caller()), idempotency: None, command };
        let (result, effects) = self.run(write_request);
        (result.map(|applied| applied.receipt), effects)
    }

    fn run(&mut self, write_request: WriteRequest) -> (Result<Applied, Rejection>, Effects) {
        let mut batch = self.opened.writer.apply(&[write_request], self.now);
        let mut effects = std::mem::take(&mut batch.effects);
        let mut follow = std::mem::take(&mut batch.follow);
        while !follow.is_empty() {
            let mut next = self.opened.writer.apply(&follow, self.now);
            follow = std::mem::take(&mut next.follow);
            effects.merge(next.effects);
        }
        (batch.results.pop().unwrap(), effects)
    }

    pub fn key(&mut self, text: &str, scopes: &[Scope], app: Option<AppId>) -> KeyId {
        match self.apply(Command::State(StateCommand::CreateKey { key: new_key(text, text, scopes, app) })).0 {
            Ok(Receipt::Key(key)) => key.id,
            other => panic!("{other:?}"),
        }
    }

    pub fn app(&mut self, name: &str) -> App {
        match self
            .apply(Command::State(StateCommand::CreateApp {
                app: AppSettings { name: name.into(), ..AppSettings::default() },
            }))
            .0
        {
            Ok(Receipt::App(app)) => app,
            other => panic!("{other:?}"),
        }
    }

    pub fn webhook(&mut self, change: impl FnOnce(&mut Webhook)) -> Arc<Webhook> {
        let mut webhook = webhook();
        change(&mut webhook);
        match self.apply(Command::State(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None })).0
        {
            Ok(Receipt::Webhook(webhook)) => webhook,
            other => panic!("{other:?}"),
        }
    }

    pub fn update(&mut self, webhook: Webhook) -> Arc<Webhook> {
        match self.apply(Command::State(StateCommand::UpdateWebhook { webhook: Box::new(webhook) })).0 {
            Ok(Receipt::Webhook(webhook)) => webhook,
            other => panic!("{other:?}"),
        }
    }

    pub fn publish(&mut self, event: EventInput) -> (Published, Vec<Dispatch>) {
        match self.apply(Command::Partition(PartitionCommand::Publish(vec![event]))) {
            (Ok(Receipt::Published(mut all)), effects) => (all.pop().unwrap(), effects.fresh),
            (other, _) => panic!("{other:?}"),
        }
    }

    pub fn record(&mut self, finished: AttemptReport) -> Effects {
        let (result, effects) = self.apply(Command::Partition(PartitionCommand::Record(Box::new(finished))));
        assert!(matches!(result, Ok(Receipt::Recorded(Some(_)))), "{result:?}");
        effects
    }

    /// Handles a request as the server does, up to its response.
    pub fn call(&mut self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        let http_request = call(method, target, headers, body);
        for _ in 0..3 {
            if let Some(response) = self.try_call(&http_request) {
                return response;
            }
        }
        panic!("stale for ever")
    }

    pub fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> HttpResponse {
        self.call(Method::GET, target, headers, "")
    }

    /// `None` if the data that was read has changed, and the request has to be handled again.
    fn try_call(&mut self, http_request: &HttpRequest) -> Option<HttpResponse> {
        let store = self.store.clone();
        let registry = store.registry();
        let settings = self.settings.clone();
        let mut seed = random(self.seed);
        self.seed += 1;
        let mut fill = move |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = seed() as u8);
        let api = std::mem::replace(&mut self.api, Api::new(native::mount(), Vec::new()));
        let found = api.find(http_request);
        let asked = found.identify(http_request, &registry, &settings, self.now).and_then(|principal| {
            found.admit(http_request, principal.as_ref(), &settings)?;
            let mut context = ApiContext {
                description: &|| postrider::api::openapi::Description::default().text(),
                reference_page: &|| postrider::api::openapi::Description::default().page(),
                store: &store,
                registry: registry.clone(),
                settings: &settings,
                health_source: &Quiet,
                now: self.now,
                since: self.now,
                reached: None,
                random: &mut fill,
            };
            found.handle(&mut context, principal.as_ref(), http_request)
        });
        let response = match self.steps(asked) {
            Ok(Some(response)) => Some(response),
            Ok(None) => None,
            Err(api_error) => Some(found.render(&api_error, &http_request.request_id, self.now)),
        };
        drop(found);
        self.api = api;
        response
    }

    fn steps(&mut self, step: Result<Step, ApiError>) -> Result<Option<HttpResponse>, ApiError> {
        let mut step = step?;
        loop {
            step = match step {
                Step::Reply(response) => return Ok(Some(response)),
                Step::Apply { write_request, then } => {
                    let command = match &write_request.command {
                        Command::State(command) => format!("{command:?}"),
                        Command::Partition(command) => format!("{command:?}"),
                    };
                    self.ordered.push(command.chars().take_while(|c| c.is_alphanumeric()).collect());
                    match self.run(*write_request).0 {
                        Err(Rejection::Stale) => return Ok(None),
                        result => then(result)?,
                    }
                }
                Step::Test { then, .. } => then(self.test_send.clone().expect("a trial was foreseen"))?,
                Step::Wait { .. } | Step::Link(_) => panic!("nothing here waits"),
            };
        }
    }
}

pub fn call(method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    if !body.is_empty() {
        map.insert("content-type", HeaderValue::from_static("application/json"));
    }
    HttpRequest {
        method,
        path: path.into(),
        query,
        headers: map,
        body: Bytes::copy_from_slice(body.as_bytes()),
        remote: None,
        request_id: "req_7X9zKp2jDw".into(),
    }
}

pub fn json(response: &HttpResponse) -> Value {
    serde_json::from_slice(&response.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&response.body)))
}

pub fn ok(response: &HttpResponse) -> Value {
    assert_eq!(response.status, StatusCode::OK, "{}", String::from_utf8_lossy(&response.body));
    json(response)
}

fn new_key(name: &str, text: &str, scopes: &[Scope], app: Option<AppId>) -> NewKey {
    NewKey { app, name: name.into(), scopes: scopes.to_vec(), hash: auth::key_hash(text), ..NewKey::default() }
}

pub fn webhook() -> Webhook {
    Webhook {
        name: "hook".into(),
        url: "https://hooks.example.com/in".into(),
        retry_schedule_s: vec![60, 660],
        timeout_ms: 30_000,
        disable_after_s: 0,
        secrets: vec![SigningSecret {
            text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            created_at: Time::ZERO,
            expires_at: None,
        }],
        ..Webhook::new(Id::MIN, Id::MIN)
    }
}

/// The outcome of a request that was sent at `at`: a status code, or `None` for a timeout while connecting.
pub fn finished(dispatch: &Dispatch, at: Time, status: Option<u16>, took_ms: u32) -> AttemptReport {
    let success = status.is_some_and(|status| (200..300).contains(&status));
    let outcome = match status {
        None => AttemptOutcome::ConnectTimeout,
        Some(_) if success => AttemptOutcome::Success,
        Some(_) => AttemptOutcome::HttpStatus,
    };
    let error = match status {
        None => Some(outcome.phrase().to_owned()),
        Some(_) if success => None,
        Some(code) => StatusCode::from_u16(code).unwrap().canonical_reason().map(str::to_owned),
    };
    let made = AttemptMade {
        number: dispatch.number,
        trigger: if dispatch.number == 1 { Trigger::Event } else { Trigger::Retry },
        url: "https://hooks.example.com/in".into(),
        signed_at: at.seconds(),
        started_at: at,
        finished_at: at.plus_ms(i64::from(took_ms)),
        success,
        outcome,
        status_code: status,
        error,
        response_time_ms: status.map(|_| took_ms),
        response_body: status.map(|_| String::new()),
        timings: Timings { total: took_ms, ..Timings::default() },
        ..AttemptMade::default()
    };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}
