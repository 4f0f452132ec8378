//! Requests as the vendors' published clients send them, and answers as those clients read them.

use http::Method;
use postrider::api::dialects::DIALECTS;
use postrider::api::native;
use postrider::api::route::RouteMethod;
use postrider::model::webhook::WebhookStatus;
use postrider::model::{Scope, Time, WebhookId};
use postrider::rules::dfns_id;
use postrider::rules::signing;
use serde_json::{Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of, ok};
use crate::dialects::errors::{request, shown};

const START: Time = Time(1_772_704_800_000);
const HOOKS: &str = "/api/v0/webhooks";
const PLAIN_SECRET: &str = "a-shared_secret-of-32-characters";

fn devdraft(bench: &mut Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = request(bench, "devdraft", ADMIN, method, path, &body);
    let shown = if response.body.is_empty() { Value::Null } else { body_of(&response) };
    (response.status.as_u16(), shown)
}

fn hooks(bench: &mut Bench, count: usize) {
    for number in 0..count {
        bench.webhook(|webhook| {
            webhook.name = format!("hook {number}");
            webhook.status = if number % 2 == 0 { WebhookStatus::Enabled } else { WebhookStatus::Disabled };
        });
    }
}

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no array: {rows}"));
    rows.iter().map(|row| row["name"].as_str().unwrap().trim_start_matches("hook ")).collect()
}

/// PyPI `devdraft` 1.0.0, `devdraft-sdk` 1.0.9 and the TypeScript client read a plain array.
#[test]
fn a_devdraft_list_is_an_array_unless_a_page_is_asked_for() {
    let mut bench = Bench::new(START);
    hooks(&mut bench, 12);
    let newest = ["11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1", "0"];
    for (query, from, to) in [
        ("", 0, 10),
        ("?skip=1", 1, 11),
        ("?take=12", 0, 12),
        ("?skip=1&take=2", 1, 3),
        ("?skip=&take=", 0, 10),
        ("?page=", 0, 10),
    ] {
        let (status, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}{query}"), Value::Null);
        assert_eq!((status, names(&list).as_slice()), (200, &newest[from..to]), "{query}");
    }
    for (query, first, rows, total) in [
        ("?page=1", "11", 12, 12),
        ("?limit=2", "11", 2, 12),
        ("?active=false", "11", 6, 6),
        ("?page=2&limit=5", "6", 5, 12),
    ] {
        let (status, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}{query}"), Value::Null);
        let found = names(&list["data"]);
        assert_eq!((status, found[0], found.len()), (200, first, rows), "{query}");
        assert_eq!(list["pagination"]["total"], total, "{query}");
    }
}

/// The vendor's pages call both a `number`, and its Python client sends floats as they are.
#[test]
fn devdraft_numbers_may_be_written_with_a_zero_fraction() {
    let mut bench = Bench::new(START);
    hooks(&mut bench, 4);
    for (query, expected) in [
        ("skip=0.0&take=10.0", vec!["3", "2", "1", "0"]),
        ("skip=1.0&take=2", vec!["2", "1"]),
        ("skip=1&take=2.00", vec!["2", "1"]),
    ] {
        let (status, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}?{query}"), Value::Null);
        assert_eq!((status, names(&list)), (200, expected), "{query}");
    }
    for query in ["page=1.0", "page=1.0&limit=20.0"] {
        let (status, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}?{query}"), Value::Null);
        assert_eq!((status, names(&list["data"]).len()), (200, 4), "{query}");
    }
    for query in ["skip=0.5", "take=1.5", "take=0.0", "take=101.0", "skip=-1.0", "skip=1.", "skip=.0", "skip=1e1"] {
        let (status, error) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}?{query}"), Value::Null);
        assert_eq!((status, &error["message"]), (400, &json!("Invalid query parameter")), "{query}");
    }
    let (_, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}?take=1"), Value::Null);
    let path = format!("{HOOKS}/{}", list[0]["id"].as_str().unwrap());
    for (query, status) in [("events_limit=5.0", 200), ("events_limit=5.5", 400), ("events_limit=51.0", 400)] {
        assert_eq!(devdraft(&mut bench, Method::GET, &format!("{path}?{query}"), Value::Null).0, status, "{query}");
    }
}

#[test]
fn a_removed_devdraft_webhook_is_shown_as_it_was() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|webhook| webhook.name = "Payments".into());
    let path = format!("{HOOKS}/{}", hook.id);
    bench.key("pr_reader", &[Scope::WebhooksRead], None);
    // A key without `webhooks:secret` sees the mask, and so does a removal by any key.
    let before = ok(&request(&mut bench, "devdraft", "pr_reader", Method::GET, &path, ""));
    bench.now = bench.now.plus_ms(1_000);
    let (status, removed) = devdraft(&mut bench, Method::DELETE, &path, Value::Null);
    assert_eq!(status, 200);
    let mut expected = before;
    expected["message"] = json!("Webhook deleted successfully");
    expected["webhook_id"] = expected["id"].clone();
    expected["deleted_at"] = json!(bench.now);
    assert_eq!(removed, expected);
    assert_eq!(bench.store.registry().webhooks().count(), 0);
    assert_eq!(devdraft(&mut bench, Method::DELETE, &path, Value::Null).0, 404);
}

/// The vendor's page: at least 32 characters of letters, digits, `_` and `-`.
#[test]
fn a_devdraft_secret_may_be_plain_text_and_is_the_key_as_it_stands() {
    let mut bench = Bench::new(START);
    let given = json!({ "name": "Payments", "url": "https://a.example/in", "signing_secret": PLAIN_SECRET });
    let (status, made) = devdraft(&mut bench, Method::POST, HOOKS, given);
    assert_eq!((status, &made["signing_secret"]), (201, &json!(PLAIN_SECRET)));
    let path = format!("{HOOKS}/{}", made["id"].as_str().unwrap());
    assert_eq!(devdraft(&mut bench, Method::GET, &path, Value::Null).1["signing_secret"], PLAIN_SECRET);

    let id = made["id"].as_str().unwrap().strip_prefix("wh_").unwrap();
    let id = WebhookId::from_u128(u128::from_str_radix(id, 16).unwrap());
    let webhook = bench.store.registry().webhook(bench.tenant(), id).unwrap().clone();
    let secrets: Vec<&str> = webhook.live_secrets(bench.now).map(|secret| secret.text.as_str()).collect();
    let ids = signing::SignedIds { event_id: postrider::model::Id::MIN, webhook_id: id };
    let headers = signing::sign(&webhook.signature, secrets, ids, 1_772_704_800, b"{}").unwrap();
    let value = |name| headers.iter().find(|(own, _)| *own == name).unwrap().1.as_str();
    let signed = format!("{}.{}.{{}}", value("webhook-id"), value("webhook-timestamp"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, PLAIN_SECRET.as_bytes());
    let expected = ring::hmac::sign(&key, signed.as_bytes());
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(expected);
    assert_eq!(value("webhook-signature"), format!("v1,{expected}"));

    for (text, status) in [
        ("x".repeat(31), 400),
        ("x".repeat(32), 200),
        ("x".repeat(128), 200),
        ("x".repeat(129), 400),
        (format!("{PLAIN_SECRET} "), 400),
        (PLAIN_SECRET.replace('-', "+"), 400),
        // The prefix promises base64 of 24 to 75 bytes.
        (format!("whsec_{}", "-_".repeat(20)), 400),
        (format!("whsec_{}", "AAAA".repeat(25)), 200),
        (format!("whsec_{}", "AAAA".repeat(26)), 400),
    ] {
        let (got, answer) = devdraft(&mut bench, Method::PATCH, &path, json!({ "signing_secret": text }));
        assert_eq!(got, status, "{text}: {answer}");
        assert_eq!(answer.to_string().contains("whsec_ and base64 of 24 to 75 bytes"), status == 400, "{answer}");
    }
    // The native API takes the Standard Webhooks form only.
    let bearer = format!("Bearer {ADMIN}");
    let body = json!({ "url": "https://a.example/in", "secret": PLAIN_SECRET }).to_string();
    let refused = bench.call(Method::POST, "/v1/webhooks", &[("authorization", &bearer)], &body);
    assert_eq!(refused.status, 422, "{:?}", refused.body);
}

#[test]
fn devdrafts_client_key_may_be_missing_but_not_wrong() {
    let mut bench = Bench::new(START);
    let own = shown(&bench, "devdraft", ADMIN);
    let (key, secret) = (own[0].1.clone(), own[1].1.as_str());
    for (given, status) in [
        (vec![], 200),
        (vec![key.as_str()], 200),
        (vec![""], 200),
        (vec!["x"], 401),
        (vec!["019cbd9e-0000-7000-8000-000000000000"], 401),
        (vec![key.as_str(), key.as_str()], 401),
    ] {
        let mut headers = vec![("x-client-secret", secret)];
        headers.extend(given.iter().map(|key| ("x-client-key", *key)));
        assert_eq!(bench.get(HOOKS, &headers).status.as_u16(), status, "{given:?}");
    }
    assert_eq!(bench.get(HOOKS, &[("x-client-key", &key)]).status, 401);
}

/// npm `@sentdm/sentdm` 0.32.0 sends `null` as an empty value.
#[test]
fn an_empty_value_is_an_absent_one_in_every_dialect() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|_| {});
    let (dfns, uuid) = (dfns_id::webhook(hook.id), hook.id);
    for (dialect, path, rest) in [
        ("instantly", "/api/v2/webhook-events".to_owned(), ""),
        ("instantly", "/api/v2/webhook-events/summary".to_owned(), ""),
        ("dfns", "/webhooks".to_owned(), ""),
        ("dfns", format!("/webhooks/{dfns}/events"), ""),
        ("everlytic", "/transactional/email/v1/webhooks".to_owned(), ""),
        ("sentdm", "/v3/webhooks".to_owned(), "page=1&page_size=20"),
        ("sentdm", format!("/v3/webhooks/{uuid}/events"), "page=1&page_size=20"),
        ("devdraft", HOOKS.to_owned(), ""),
        ("devdraft", format!("{HOOKS}/{uuid}"), ""),
    ] {
        let dialect_routes = DIALECTS.iter().find(|own| own.name == dialect).unwrap().routes;
        let pattern = path.replace(&uuid.to_string(), "{id}").replace(&dfns, "{id}");
        let route = dialect_routes.iter().find(|route| {
            let own = route.path.replace("{webhook_id}", "{id}");
            route.verb == RouteMethod::Get && own == pattern
        });
        let route = route.unwrap_or_else(|| panic!("{dialect} has no {pattern}"));
        let plain = ok(&request(&mut bench, dialect, ADMIN, Method::GET, &format!("{path}?{rest}"), ""));
        assert!(!route.query.is_empty());
        for param in route.query.iter().filter(|param| !rest.contains(&format!("{}=", param.name))) {
            for empty in [format!("{}=", param.name), param.name.to_owned()] {
                let target = format!("{path}?{rest}&{empty}");
                let response = request(&mut bench, dialect, ADMIN, Method::GET, &target, "");
                assert_eq!(ok(&response), plain, "{target}");
            }
        }
    }
    // An empty required parameter counts as missing.
    let response = request(&mut bench, "sentdm", ADMIN, Method::GET, "/v3/webhooks?page=&page_size=20", "");
    assert_eq!(response.status, 400);
    // A repeated parameter stays a mistake, and the native API accepts no empty value.
    let response = request(&mut bench, "sentdm", ADMIN, Method::GET, "/v3/webhooks?page=&page=1&page_size=20", "");
    assert_eq!(response.status, 400);
    let bearer = format!("Bearer {ADMIN}");
    assert_eq!(bench.get("/v1/webhooks?search=", &[("authorization", &bearer)]).status, 400);
}

/// HEAD is safe (RFC 9110 section 9.2.1). Audit lines about a read are permitted.
#[test]
fn head_changes_nothing_on_any_route() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|webhook| webhook.retry_schedule_s = vec![]);
    let path = "/transactional/email/v1/webhooks/failed/reprocess";
    let response = request(&mut bench, "everlytic", ADMIN, Method::HEAD, path, "");
    assert_eq!(response.status, 405);
    assert_eq!(response.headers["allow"], "GET");
    assert!(bench.ordered.is_empty(), "{:?}", bench.ordered);
    let mut routes: Vec<(&str, &str)> =
        native::mount().routes().iter().filter(is_get).map(|r| ("native", r.path)).collect();
    for dialect in DIALECTS {
        routes.extend(dialect.routes.iter().filter(is_get).map(|route| (dialect.name, route.path)));
    }
    assert!(routes.len() > 20, "{routes:?}");
    for (name, path) in routes {
        let id = if name == "dfns" { dfns_id::webhook(hook.id) } else { hook.id.to_string() };
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { id.as_str() } else { segment });
        let target = segments.collect::<Vec<_>>().join("/");
        bench.ordered.clear();
        let key = if name == "native" { "instantly" } else { name };
        request(&mut bench, key, ADMIN, Method::HEAD, &target, "");
        let changes: Vec<&String> = bench.ordered.iter().filter(|command| *command != "ReadSecret").collect();
        assert!(changes.is_empty(), "HEAD {target}: {changes:?}");
    }
    request(&mut bench, "everlytic", ADMIN, Method::GET, path, "");
    assert_eq!(bench.ordered, ["CreateJobs"], "GET acts");
}

fn is_get(route: &&postrider::api::route::Route) -> bool {
    route.verb == RouteMethod::Get
}

/// The rule of sent.dm's receivers (github sentdm/n8n-nodes-sent, `signature.ts`): the whole header is one value.
#[test]
fn a_sent_receiver_accepts_the_new_secret_during_a_rotation() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (new, old) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
    let ids = signing::SignedIds { event_id: postrider::model::Id::MIN, webhook_id: postrider::model::Id::MAX };
    let scheme = [postrider::model::webhook::SignatureScheme::Sent];
    let headers = signing::sign(&scheme, [new, old], ids, 1_772_704_800, b"{}").unwrap();
    let value = |name| headers.iter().find(|(own, _)| *own == name).unwrap().1.as_str();
    let given = value("x-webhook-signature").strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok());
    let given = given.unwrap_or_else(|| panic!("not one value: {}", value("x-webhook-signature")));
    let key = STANDARD.decode(new.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = format!("{}.{}.{{}}", value("x-webhook-id"), value("x-webhook-timestamp"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    assert!(ring::hmac::verify(&key, signed.as_bytes(), &given).is_ok());
}
