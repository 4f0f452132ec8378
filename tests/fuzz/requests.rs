//! Whole requests on every route of every mount, as the server takes them: checked, parsed, answered. No request gets
//! an internal error.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use postrider::api::{
    Api, ApiContext, ApiMount, ApiSettings, HealthIssue, HealthSource, HttpRequest, HttpResponse, MetricsAccess,
    QuotaUse, Step, auth, dialects,
};
use postrider::model::{Scope, Time, WebhookId};
use postrider::rules::exposition::ExpositionFormat;
use postrider::rules::target::TargetPolicy;
use postrider::store::{
    FINGERPRINTS_MAX, NewKey, Opened, ROW_PAYLOAD_BYTES_MAX, RealDisk, StateCommand, StoreOptions, TenantScope,
    WriteRequest, open,
};

const DAY_MS: i64 = 86_400_000;
const NOW: Time = Time(1_772_704_800_000);
/// The key of every request, in the form of each mount.
const KEY: &str = "pr_fuzz";
/// `x:pr_fuzz` in base64.
const BASIC: &str = "Basic eDpwcl9mdXp6";

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

struct World {
    _folder: tempfile::TempDir,
    opened: Opened,
    api: Api,
    settings: ApiSettings,
}

thread_local! {
    static MOUNTS: Vec<ApiMount> = mounts();
    static WORLD: RefCell<World> = RefCell::new(world());
}

/// The native mount and those of all dialects.
pub fn mounts() -> Vec<ApiMount> {
    let mut mounts = vec![postrider::api::native::mount()];
    mounts.extend(dialects::mounts(|_| true));
    mounts
}

/// A store with one organization, which never changes.
fn world() -> World {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(RealDisk::lock(folder.path()).expect("the directory"));
    let options = StoreOptions {
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
        row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: FINGERPRINTS_MAX,
    };
    let mut number = 7_u64;
    let random = move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number
    };
    let mut opened = open(disk, options, &[7; 32], NOW, Box::new(random)).expect("a store");
    let key = NewKey {
        name: "fuzz".into(),
        scopes: vec![Scope::Admin],
        hash: auth::key_hash(KEY),
        installation: true,
        ..NewKey::default()
    };
    let request = WriteRequest::internal(StateCommand::CreateOrganization { name: "fuzz".into(), key });
    assert!(opened.writer.apply(&[request], NOW).results.iter().all(Result::is_ok), "an organization");
    let settings = ApiSettings {
        max_event_bytes: 1 << 20,
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        policy: TargetPolicy::default(),
        public_url: "https://hooks.example.net".into(),
        metrics: MetricsAccess::Everybody,
        pages: postrider::api::logins::PageSettings::new([0; 32]),
        dialect_lists: Default::default(),
        foreign_tokens: None,
    };
    World {
        _folder: folder,
        opened,
        api: Api::new(postrider::api::native::mount(), dialects::mounts(|_| true)),
        settings,
    }
}

/// A request from bytes: `METHOD target`, a line for each header, an empty line, the body. `None` if these are no
/// method and no target.
pub fn call_of(bytes: &[u8]) -> Option<HttpRequest> {
    let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = String::from_utf8_lossy(lines.next()?).into_owned();
    let (method, target) = first.split_once(' ')?;
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    // Targets that hyper refuses never reach this point.
    http::uri::PathAndQuery::try_from(target).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?;
        headers.append(HeaderName::from_bytes(&line[..at]).ok()?, value);
    }
    Some(HttpRequest {
        method: Method::from_bytes(method.as_bytes()).ok()?,
        path: path.to_owned(),
        query,
        headers,
        body: Bytes::copy_from_slice(body),
        remote: None,
        request_id: "fuzz".into(),
    })
}

/// A request on a route of one mount. The first byte chooses the mount: the native one or a dialect of `DIALECTS`.
pub fn of_mounts(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    MOUNTS.with(|mounts| on_mount(&mounts[usize::from(*which) % mounts.len()], rest));
}

/// A request on a route of `mount`. The first byte chooses the route, the rest of the first line fills the path's
/// parameters and the query. Headers and body follow as in `call_of`.
pub fn on_mount(mount: &ApiMount, bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let target = String::from_utf8_lossy(&rest[..end]);
    let (hole, query) = target.split_once('?').unwrap_or((&target, ""));
    let route = &mount.routes()[usize::from(*which) % mount.routes().len()];
    let path = route.path.split('/').map(|part| if part.starts_with('{') { hole } else { part });
    let path = path.collect::<Vec<_>>().join("/");
    let first = format!("{} {path}?{query}", route.verb.as_str());
    requests(&[first.as_bytes(), &rest[end..]].concat());
}

/// The same request with another body.
pub fn with_body(call: &HttpRequest, body: &[u8]) -> HttpRequest {
    HttpRequest { body: Bytes::copy_from_slice(body), ..call.clone() }
}

/// The request as it came, and with the key in each place where a mount looks for one.
pub fn requests(bytes: &[u8]) {
    let Some(call) = call_of(bytes) else { return };
    let shown: [&[(&str, &str)]; 4] = [
        &[],
        &[("authorization", "Bearer pr_fuzz")],
        &[("authorization", BASIC)],
        &[("x-api-key", KEY), ("x-client-secret", KEY)],
    ];
    for shown in shown {
        let mut call = call.clone();
        for (name, value) in shown {
            call.headers
                .insert(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_static(value));
        }
        WORLD.with_borrow_mut(|world| judge(world, &call));
    }
}

fn judge(world: &mut World, call: &HttpRequest) {
    let registry = world.opened.store.registry();
    let found = world.api.find(call);
    let mut number = 1_u8;
    let mut random = |bytes: &mut [u8]| {
        bytes.iter_mut().for_each(|byte| {
            number = number.wrapping_mul(31).wrapping_add(7);
            *byte = number;
        })
    };
    let step = found.identify(call, &registry, &world.settings, NOW).and_then(|principal| {
        found.admit(call, principal.as_ref(), &world.settings)?;
        let description = || postrider::api::openapi::Description::of(|_| true).text();
        let mut context = ApiContext {
            description: &description,
            reference_page: &description,
            store: &world.opened.store,
            registry: registry.clone(),
            settings: &world.settings,
            health_source: &Quiet,
            now: NOW,
            since: NOW,
            reached: None,
            random: &mut random,
        };
        found.handle(&mut context, principal.as_ref(), call)
    });
    match step {
        Ok(Step::Reply(reply)) => is_ours(call, &reply),
        // The store checks the operation that the handler asks for.
        Ok(Step::Apply { .. } | Step::Test { .. } | Step::Wait { .. } | Step::Link(_)) => {}
        Err(fault) => {
            assert!(!fault.status.is_server_error(), "{call:?}: {} {}", fault.status, fault.detail);
            is_ours(call, &found.render(&fault, &call.request_id, NOW));
        }
    }
}

/// The body is JSON if its type says so, and the status is not an internal error.
fn is_ours(call: &HttpRequest, reply: &HttpResponse) {
    assert!(!reply.status.is_server_error(), "{call:?}: {}", reply.status);
    let kind = reply.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.contains("json") {
        let read = serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body);
        assert!(read.is_ok(), "{call:?}: {}", String::from_utf8_lossy(&reply.body));
    }
}
