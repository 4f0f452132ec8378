//! Tests of matching, identifying callers, and the rows of `tests/data/bad_requests.json` that headers or body decide.

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::*;
use crate::api::fields::JsonObject;
use crate::api::logins::PageSettings;
use crate::api::native::{self, publish, webhooks};
use crate::api::request_context::strict;
use crate::model::{ApiKey, EventId, Id};
use crate::rules::target::TargetPolicy;

const NOW: Time = Time(1_772_704_800_120);
const KEY: &str = "pr_all";
const PRODUCER_KEY: &str = "pr_producer";

fn settings() -> ApiSettings {
    ApiSettings {
        max_event_bytes: 1024 * 1024,
        retention_ms: 31 * 86_400_000,
        idempotency_window_ms: 86_400_000,
        policy: TargetPolicy::default(),
        public_url: "http://127.0.0.1:8080".to_owned(),
        metrics: MetricsAccess::Everybody,
        pages: PageSettings::new([0; 32]),
        dialect_lists: Default::default(),
        foreign_tokens: None,
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.put_organization(crate::model::Organization {
        id: Id::from_u128(1),
        name: "org".to_owned(),
        default_app_id: Id::from_u128(2),
        created_at: NOW,
        revoked_links: Vec::new(),
        operational_app_id: None,
    });
    let all = [
        (KEY, vec![Scope::Admin], None),
        (PRODUCER_KEY, vec![Scope::EventsWrite], None),
        ("pr_expired", vec![Scope::Admin], Some(NOW)),
    ];
    for (number, (text, scopes, expires_at)) in all.into_iter().enumerate() {
        registry.put_key(ApiKey {
            id: Id::from_u128(10 + number as u128),
            org_id: Id::from_u128(1),
            app_id: None,
            name: text.to_owned(),
            scopes,
            hash: auth::key_hash(text),
            created_at: NOW,
            expires_at,
            rate_per_s: None,
            installation: false,
            makers: Vec::new(),
            feature_flags: Vec::new(),
            portal: false,
        });
    }
    registry
}

fn call(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpRequest {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    HttpRequest {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        query,
        headers: map,
        body: Bytes::copy_from_slice(body),
        remote: None,
        request_id: "r-1".to_owned(),
    }
}

/// Checks a request without a store. 200 stands for requests that would reach the store.
fn check(http_request: &HttpRequest) -> Result<(), ApiError> {
    let (registry, settings) = (registry(), settings());
    let found = Api::new(native::mount(), Vec::new()).find(http_request);
    let principal = found.identify(http_request, &registry, &settings, NOW)?;
    let bytes_max = found.admit(http_request, principal.as_ref(), &settings)?;
    if http_request.body.len() > bytes_max {
        return Err(ApiError::too_large(bytes_max));
    }
    let route = found.route().expect("admitted calls have a route");
    route.body.admit_bytes(&http_request.headers, &http_request.body)?;
    let query = Params::parse(http_request.query.as_deref(), route.query, EmptyValues::Refused)?;
    query.limit()?;
    if let Some(principal) = &principal {
        crate::api::idempotency::key_of(http_request, principal)?;
        check_body(route, http_request, principal, &registry)?;
    }
    Ok(())
}

/// The checks of a body or an id before the store is read.
fn check_body(
    route: &Route,
    http_request: &HttpRequest,
    principal: &Principal,
    registry: &Registry,
) -> Result<(), ApiError> {
    let place = publish::AppLookup { registry, tenant: principal.tenant };
    match (route.verb, route.path) {
        (RouteMethod::Post, "/v1/events") => publish::read_one(&http_request.body, &place, None).map(drop),
        (RouteMethod::Post, "/v1/webhooks") => {
            let object = JsonObject::read(strict(&http_request.body)?, String::new());
            let object = object.map_err(|field_error| ApiError::invalid(vec![field_error]))?;
            webhooks::read_new(object, &place, &TargetPolicy::default()).map(drop)
        }
        (RouteMethod::Get, "/v1/events/{id}") => {
            let id = http_request.path.rsplit('/').next().unwrap_or_default();
            id.parse::<EventId>().map(drop).map_err(|_| ApiError::not_found("event"))
        }
        _ => Ok(()),
    }
}

fn status(http_request: &HttpRequest) -> u16 {
    check(http_request).map_or_else(|api_error| api_error.status.as_u16(), |()| 200)
}

const BEARER: (&str, &str) = ("authorization", "Bearer pr_all");

#[test]
fn every_native_route_is_found_under_its_own_pattern() {
    let api = Api::new(native::mount(), Vec::new());
    for route in native::routes::ROUTES {
        let path = route.path.replace("{id}", "019cbd70-9d78-7320-aa3a-de3497964cb8");
        let found = api.find(&call(route.verb.as_str(), &path, &[], b""));
        assert_eq!(found.pattern(), route.path);
        assert!(found.route().is_some_and(|hit| std::ptr::eq(hit, route)), "{} {path}", route.verb.as_str());
    }
}

#[test]
fn another_method_gets_the_list_of_methods() {
    for (method, path, allow) in [
        ("DELETE", "/v1/events", "POST, GET, HEAD"),
        ("PUT", "/v1/webhooks/019cbd70-9d78-7320-aa3a-de3497964cb8", "GET, HEAD, PATCH, DELETE"),
        ("POST", "/healthz", "GET, HEAD"),
    ] {
        let api_error = check(&call(method, path, &[BEARER], b"")).unwrap_err();
        assert_eq!(api_error.status, 405);
        assert_eq!(api_error.headers, [(ALLOW, HeaderValue::from_static(allow))]);
    }
    assert_eq!(status(&call("HEAD", "/healthz", &[], b"")), 200);
}

#[test]
fn an_unknown_path_is_not_found_and_needs_a_key_all_the_same() {
    for path in ["/nope", "/v1", "/v1/events/", "/v1//events", "/V1/events", "/v1/%65vents", "/", "*", "/v1/events/%zz"]
    {
        assert_eq!(status(&call("GET", path, &[BEARER], b"")), 404, "{path}");
        assert_eq!(status(&call("GET", path, &[], b"")), 401, "{path}");
    }
}

#[test]
fn a_key_is_one_bearer_token_that_is_known_and_alive() {
    for (headers, expected, code) in [
        (&[][..], 401, "credentials_missing"),
        (&[("authorization", "Bearer ")], 401, "credentials_malformed"),
        (&[("authorization", "Basic cHJfYWxs")], 401, "credentials_malformed"),
        (&[("authorization", "pr_all")], 401, "credentials_malformed"),
        (&[("authorization", "Bearer pr_all pr_all")], 401, "credentials_malformed"),
        (&[("authorization", "Bearer pr_unknown")], 401, "credentials_wrong"),
        (&[("authorization", "Bearer pr_expired")], 401, "key_expired"),
        (&[BEARER, ("authorization", "Bearer other")], 400, "ambiguous_credentials"),
    ] {
        let api_error = check(&call("GET", "/v1/webhooks", headers, b"")).unwrap_err();
        assert_eq!((api_error.status.as_u16(), api_error.code), (expected, code));
        assert_eq!(api_error.headers.is_empty(), expected != 401, "a 401 has a challenge");
    }
    assert_eq!(status(&call("GET", "/v1/webhooks", &[("authorization", "bearer  pr_all")], b"")), 200);
}

#[test]
fn scopes_come_before_the_request_and_the_installation_needs_its_own_key() {
    let producer = [("authorization", "Bearer pr_producer"), ("content-type", "text/plain")];
    assert_eq!(status(&call("POST", "/v1/webhooks", &producer, b"x")), 403);
    assert_eq!(status(&call("POST", "/v1/events", &producer, b"x")), 415);
    assert_eq!(check(&call("GET", "/v1/organizations", &[BEARER], b"")).unwrap_err().code, "installation_only");
}

#[test]
fn metrics_are_open_behind_a_key_or_not_here() {
    let hash = auth::key_hash("scrape");
    for (access, headers, expected) in [
        (MetricsAccess::Everybody, &[][..], 200),
        (MetricsAccess::Key(hash), &[], 401),
        (MetricsAccess::Key(hash), &[("authorization", "Bearer pr_all")], 401),
        (MetricsAccess::Key(hash), &[("authorization", "Bearer scrape")], 200),
        (MetricsAccess::Elsewhere, &[], 404),
    ] {
        let http_request = call("GET", "/metrics", headers, b"");
        let found = Api::new(native::mount(), Vec::new()).find(&http_request);
        let settings = ApiSettings { metrics: access, ..settings() };
        let identified = found.identify(&http_request, &registry(), &settings, NOW);
        assert_eq!(identified.map_or_else(|api_error| api_error.status.as_u16(), |_| 200), expected, "{access:?}");
    }
}

#[test]
fn bodies_have_the_size_of_their_route() {
    let settings = settings();
    for (method, path, expected) in [
        ("POST", "/v1/events", 1024 * 1024),
        ("POST", "/v1/events/batch", 16 * 1024 * 1024),
        ("GET", "/v1/events", 64 * 1024),
    ] {
        let http_request = call(method, path, &[BEARER, ("content-type", "application/json")], b"");
        let found = Api::new(native::mount(), Vec::new()).find(&http_request);
        let principal = found.identify(&http_request, &registry(), &settings, NOW).unwrap();
        assert_eq!(found.admit(&http_request, principal.as_ref(), &settings), Ok(expected), "{path}");
    }
}

/// A row of the corpus as a request. `None` if its bytes never become one, or if it describes a running server.
fn row_call(row: &Value) -> Option<HttpRequest> {
    const OTHERS: [i64; 3] = [29, 67, 69];
    const RAW_CALLS: [i64; 1] = [5];
    let id = row["id"].as_i64().unwrap();
    if OTHERS.contains(&id) || (row.get("raw").is_some() && !RAW_CALLS.contains(&id)) {
        return None;
    }
    let fill = |text: &str| {
        text.replace("{EVENTS}", "/v1/events")
            .replace("{WEBHOOKS}", "/v1/webhooks")
            .replace("{ID}", "019cbd70-9d78-7320-aa3a-de3497964cb8")
            .replace("{PRODUCER_KEY}", PRODUCER_KEY)
            .replace("{KEY}", KEY)
            .replace("<a*129>", &"a".repeat(129))
            .replace("<a*256>", &"a".repeat(256))
    };
    let body = match row["body"].as_str().unwrap_or_default() {
        "<7b2274797065223a22fffe227d hex>" => b"{\"type\":\"\xff\xfe\"}".to_vec(),
        "<endless chunks>" => vec![b' '; 1024 * 1024 + 1],
        text => fill(text).into_bytes(),
    };
    let mut made = call(row["method"].as_str()?, &fill(row["path"].as_str()?), &[], &body);
    if let Some(headers) = row["headers"].as_object() {
        if headers.contains_key("x-1..x-1000") {
            return None;
        }
        for (name, value) in headers {
            let value = fill(value.as_str()?);
            made.headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value.parse().ok()?);
        }
    } else if id == 5 {
        made.headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer pr_all"));
        made.headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
    }
    Some(made)
}

#[test]
fn bad_requests_get_the_expected_status() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../../../tests/data/bad_requests.json")).unwrap();
    let mut checked = 0;
    for row in &rows {
        let Some(http_request) = row_call(row) else { continue };
        let mut expected = vec![row["expect"].as_u64().unwrap()];
        expected.extend(row["also_accept"].as_array().into_iter().flatten().filter_map(Value::as_u64));
        // A valid publish would reach the store, which this test does not have.
        let accepted = if expected.contains(&202) { 200 } else { 0 };
        let got = status(&http_request);
        assert!(got == accepted || expected.contains(&u64::from(got)), "{}: {got}", row["name"]);
        checked += 1;
    }
    assert_eq!(checked, 25, "of {} rows", rows.len());
}
