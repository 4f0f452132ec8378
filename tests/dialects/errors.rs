//! Errors below a dialect's prefix have that dialect's envelope and status, and never another's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use postrider::api::HttpResponse;
use postrider::model::{Id, Scope, Time};
use postrider::rules::dfns_id;
use serde_json::{Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of};

const START: Time = Time(1_772_704_800_000);
const NOBODY: &str = "pr_nobody";
const ABSENT: &str = "019cbd9e-0000-7000-8000-000000000000";

/// One dialect, with the requests of its clients.
struct Client {
    name: &'static str,
    /// A list, an unserved path below the prefix, and a path with a malformed id.
    list: &'static str,
    nowhere: &'static str,
    bad_id: &'static str,
    not_found: String,
    /// Whether a body has the members of an error.
    envelope: fn(&Value) -> bool,
}

fn clients() -> [Client; 5] {
    let absent: u128 = ABSENT.parse::<Id<postrider::model::Webhook>>().unwrap().as_u128();
    [
        Client {
            name: "instantly",
            list: "/api/v2/webhook-events",
            nowhere: "/api/v2/campaigns",
            bad_id: "/api/v2/webhook-events/x",
            not_found: format!("/api/v2/webhook-events/{ABSENT}"),
            envelope: |body| names(body) == ["statusCode", "error", "message"],
        },
        Client {
            name: "dfns",
            list: "/webhooks",
            nowhere: "/webhooks/a/b/c/d",
            bad_id: "/webhooks/x",
            not_found: format!("/webhooks/{}", dfns_id::webhook(Id::from_u128(absent))),
            envelope: |body| names(body) == ["error"] && names(&body["error"]) == ["message"],
        },
        Client {
            name: "everlytic",
            list: "/transactional/email/v1/webhooks",
            nowhere: "/transactional/email/v1/messages",
            bad_id: "/transactional/email/v1/webhooks/x",
            not_found: format!("/transactional/email/v1/webhooks/{ABSENT}"),
            envelope: |body| {
                let inner = &body["error"]["errors"][0];
                names(body) == ["code", "message", "error"]
                    && names(inner) == ["domain", "reason", "message", "locationType", "location"]
            },
        },
        Client {
            name: "sentdm",
            list: "/v3/webhooks?page=1&page_size=20",
            nowhere: "/v3/messages",
            bad_id: "/v3/webhooks/x",
            not_found: format!("/v3/webhooks/{ABSENT}"),
            envelope: |body| {
                names(body) == ["success", "data", "error", "meta"]
                    && names(&body["error"]) == ["code", "message", "details", "doc_url"]
                    && names(&body["meta"]) == ["request_id", "timestamp", "version"]
                    && body["success"] == false
            },
        },
        Client {
            name: "devdraft",
            list: "/api/v0/webhooks",
            nowhere: "/api/v0/payments",
            bad_id: "/api/v0/webhooks/x",
            not_found: format!("/api/v0/webhooks/wh_{absent:032x}"),
            envelope: |body| names(body) == ["statusCode", "message", "error", "details"],
        },
    ]
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The headers by which a dialect's client shows a key.
pub fn shown(bench: &Bench, dialect: &str, key: &str) -> Vec<(&'static str, String)> {
    let hash = postrider::api::auth::key_hash(key);
    let id = bench.store.registry().key_by_hash(&hash).map_or_else(|| ABSENT.to_owned(), |key| key.id.to_string());
    match dialect {
        "instantly" | "dfns" | "svix" => vec![("authorization", format!("Bearer {key}"))],
        "everlytic" => vec![("authorization", format!("Basic {}", STANDARD.encode(format!("anyone:{key}"))))],
        "sentdm" => vec![("x-api-key", key.to_owned())],
        _ => vec![("x-client-key", id), ("x-client-secret", key.to_owned())],
    }
}

/// A call by a dialect's client.
pub fn request(bench: &mut Bench, dialect: &str, key: &str, method: Method, target: &str, body: &str) -> HttpResponse {
    let headers = shown(bench, dialect, key);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    bench.call(method, target, &headers, body)
}

fn bench() -> Bench {
    let mut bench = Bench::new(START);
    bench.key(NOBODY, &[Scope::KeysRead], None);
    bench
}

/// The status and the body. The body has the dialect's form and, if it names its status, the right one.
fn failed(client: &Client, response: &HttpResponse, status: u16, what: &str) -> Value {
    let shown = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status.as_u16(), status, "{} {what}: {shown}", client.name);
    if client.name == "sentdm" && matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        assert_eq!(shown, "", "{} {what}", client.name);
        assert!(response.headers.contains_key("x-error-code"));
        return Value::Null;
    }
    let body = body_of(response);
    assert!((client.envelope)(&body), "{} {what}: {shown}", client.name);
    body
}

#[test]
fn without_a_good_key_there_is_nothing_to_see() {
    let mut bench = bench();
    for client in clients() {
        for target in [client.list, client.nowhere, client.bad_id] {
            let response = bench.get(target, &[]);
            failed(&client, &response, 401, "no credentials");
            assert!(response.headers.contains_key("www-authenticate"), "{}", client.name);
            let response = request(&mut bench, client.name, "pr_unknown", Method::GET, target, "");
            failed(&client, &response, 401, "an unknown key");
        }
        // Credentials of one dialect are invalid for another, unless it uses the same header.
        for other in clients() {
            let same = client.name == other.name
                || ["instantly", "dfns"].contains(&client.name) == ["instantly", "dfns"].contains(&other.name);
            if !same {
                let response = {
                    let headers = shown(&bench, other.name, ADMIN);
                    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    bench.get(client.list, &headers)
                };
                failed(&client, &response, 401, other.name);
            }
        }
    }
}

#[test]
fn a_key_of_another_pair_is_none() {
    let mut bench = bench();
    let own = shown(&bench, "devdraft", ADMIN);
    let other = shown(&bench, "devdraft", NOBODY);
    for headers in [vec![&own[0]], vec![&other[0], &own[1]], vec![&own[0], &other[1]]] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(bench.get("/api/v0/webhooks", &headers).status, 401, "{headers:?}");
    }
    let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(bench.get("/api/v0/webhooks", &headers).status, 200);
}

#[test]
fn a_key_without_the_scope_is_forbidden_before_anything_else_is_looked_at() {
    let mut bench = bench();
    for client in clients() {
        for target in [client.list.to_owned(), client.bad_id.to_owned(), format!("{}?nonsense=1", client.not_found)] {
            let response = request(&mut bench, client.name, NOBODY, Method::GET, &target, "");
            failed(&client, &response, 403, &target);
        }
    }
}

#[test]
fn every_mistake_has_the_dialects_own_envelope_and_status() {
    let mut bench = bench();
    for client in clients() {
        let (bad_id, not_found) = if client.name == "everlytic" { (400, 400) } else { (400, 404) };
        let mut get = |target: &str| request(&mut bench, client.name, ADMIN, Method::GET, target, "");
        let body = failed(&client, &get(client.bad_id), bad_id, "bad id");
        if client.name == "everlytic" {
            assert_eq!((&body["code"], &body["message"]), (&json!(412), &json!("Webhook not found")));
        }
        failed(&client, &get(&client.not_found), not_found, "not found");
        failed(&client, &get(client.nowhere), 404, "nowhere");
        let sep = if client.list.contains('?') { '&' } else { '?' };
        failed(&client, &get(&format!("{}{sep}nonsense=1", client.list)), 400, "unknown parameter");
        failed(&client, &get(&format!("{}{sep}%zz=1", client.list)), 400, "malformed query");
        failed(&client, &get(&format!("{}/%ff", client.list.split('?').next().unwrap())), 404, "malformed path");
        let response = request(&mut bench, client.name, ADMIN, Method::PUT, client.list, "");
        failed(&client, &response, 405, "wrong method");
        assert!(response.headers["allow"].to_str().unwrap().starts_with("GET"), "{}", client.name);
    }
}

#[test]
fn wrong_values_of_parameters_are_named() {
    let mut bench = bench();
    let hook = bench.webhook(|_| {});
    let (dfns, uuid) = (dfns_id::webhook(hook.id), hook.id);
    for (dialect, target, says) in [
        ("instantly", "/api/v2/webhook-events?limit=0".to_owned(), "limit"),
        ("instantly", "/api/v2/webhook-events?limit=101".to_owned(), "limit"),
        ("instantly", "/api/v2/webhook-events?success=1".to_owned(), "success"),
        ("instantly", "/api/v2/webhook-events?starting_after=x".to_owned(), "starting_after"),
        ("instantly", "/api/v2/webhook-events?from=2026-02-30".to_owned(), "from"),
        ("instantly", "/api/v2/webhook-events/summary?from=2026-03-05&to=2026-03-04".to_owned(), "to"),
        ("dfns", format!("/webhooks/{dfns}/events?limit=201"), "limit"),
        ("dfns", format!("/webhooks/{dfns}/events?limit=0"), "limit"),
        ("dfns", format!("/webhooks/{dfns}/events?deliveryFailed=yes"), "deliveryFailed"),
        ("dfns", format!("/webhooks/{dfns}/events?paginationToken=x"), "paginationToken"),
        ("everlytic", "/transactional/email/v1/webhooks?page=0".to_owned(), "page"),
        ("sentdm", format!("/v3/webhooks/{uuid}/events"), "Page must be 1 or greater"),
        ("sentdm", format!("/v3/webhooks/{uuid}/events?page=1"), "Page size must be between 1 and 100"),
        ("sentdm", format!("/v3/webhooks/{uuid}/events?page=0&page_size=1"), "Page must be 1 or greater"),
        ("sentdm", format!("/v3/webhooks/{uuid}/events?page=1&page_size=0"), "Page size"),
        ("sentdm", "/v3/webhooks?page=1&page_size=1&is_active=maybe".to_owned(), "is_active"),
        ("devdraft", format!("/api/v0/webhooks/{uuid}?events_limit=0"), "events_limit"),
        ("devdraft", format!("/api/v0/webhooks/{uuid}?include_events=1"), "include_events"),
        ("devdraft", "/api/v0/webhooks?limit=101".to_owned(), "limit"),
    ] {
        let response = request(&mut bench, dialect, ADMIN, Method::GET, &target, "");
        let clients = clients();
        let client = clients.iter().find(|client| client.name == dialect).unwrap();
        let body = failed(client, &response, 400, &target);
        assert!(body.to_string().contains(says), "{target}: {body}");
    }
}

#[test]
fn objects_of_others_are_not_found() {
    let mut bench = bench();
    let other = bench.app("other");
    let (hook, foreign) = (bench.webhook(|_| {}), bench.webhook(|webhook| webhook.app_id = other.id));
    let scopes = [Scope::EventsRead, Scope::WebhooksRead];
    bench.key("pr_own", &scopes, Some(bench.app.id));
    for (webhook, status) in [(hook.id, 200), (foreign.id, 404)] {
        for (dialect, target) in [
            ("dfns", format!("/webhooks/{}", dfns_id::webhook(webhook))),
            ("everlytic", format!("/transactional/email/v1/webhooks/{webhook}")),
            ("sentdm", format!("/v3/webhooks/{webhook}")),
            ("devdraft", format!("/api/v0/webhooks/{webhook}")),
        ] {
            let expected = if dialect == "everlytic" && status == 404 { 400 } else { status };
            let response = request(&mut bench, dialect, "pr_own", Method::GET, &target, "");
            assert_eq!(response.status.as_u16(), expected, "{target}");
        }
    }
}

#[test]
fn a_profile_is_the_organizations_to_name() {
    let mut bench = bench();
    let other = bench.app("other");
    let (hook, foreign) = (bench.webhook(|_| {}), bench.webhook(|webhook| webhook.app_id = other.id));
    bench.key("pr_profile", &[Scope::WebhooksRead], Some(other.id));
    let (own, other, absent) = (bench.app.id.to_string(), other.id.to_string(), ABSENT.to_owned());
    for (key, profile, webhook, status) in [
        (ADMIN, None, hook.id, 200),
        (ADMIN, None, foreign.id, 404),
        (ADMIN, Some(&own), hook.id, 200),
        (ADMIN, Some(&other), hook.id, 404),
        (ADMIN, Some(&other), foreign.id, 200),
        (ADMIN, Some(&absent), foreign.id, 404),
        ("pr_profile", None, foreign.id, 200),
        ("pr_profile", None, hook.id, 404),
        ("pr_profile", Some(&other), foreign.id, 403),
    ] {
        let mut headers = vec![("x-api-key", key)];
        headers.extend(profile.map(|id| ("x-profile-id", id.as_str())));
        let response = bench.get(&format!("/v3/webhooks/{webhook}"), &headers);
        assert_eq!(response.status.as_u16(), status, "{key} {profile:?} {webhook}");
        let echoed = response.headers.get("x-profile-id").and_then(|value| value.to_str().ok());
        assert_eq!(echoed, profile.map(String::as_str).filter(|_| status == 200));
    }
    let response = bench.get(&format!("/v3/webhooks/{}", hook.id), &[("x-api-key", ADMIN), ("x-profile-id", "x")]);
    assert_eq!((response.status.as_u16(), body_of(&response)["error"]["code"].as_str()), (400, Some("VALIDATION_003")));
}

#[test]
fn a_dialect_that_is_off_is_not_there() {
    let mut bench = bench();
    let on: Vec<_> = postrider::api::dialects::DIALECTS.iter().filter(|d| d.name != "dfns").copied().collect();
    bench.mount(&on);
    let bearer = format!("Bearer {ADMIN}");
    let response = bench.get("/webhooks", &[("authorization", &bearer)]);
    assert_eq!((response.status.as_u16(), body_of(&response)["code"].as_str()), (404, Some("route_not_found")));
    assert_eq!(bench.get("/api/v2/webhook-events", &[("authorization", &bearer)]).status, 200);
}

#[test]
fn a_prefix_ends_where_its_segment_ends() {
    let mut bench = bench();
    let bearer = format!("Bearer {ADMIN}");
    for path in ["/webhooksx", "/api/v2x/webhook-events", "/v3x", "/v1/webhooks/x"] {
        let response = bench.get(path, &[("authorization", &bearer)]);
        assert_eq!(response.headers["content-type"], "application/problem+json", "{path}");
    }
}
