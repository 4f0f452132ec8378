//! A webhook that one shape made or changed reads the same through the others and natively. Sending back the fields
//! that a shape shows changes nothing.

use http::Method;
use postrider::model::webhook::DisabledReason;
use postrider::model::{Time, Webhook, WebhookId};
use postrider::rules::dfns_id;
use postrider::store::{Command, StateCommand};
use serde_json::{Map, Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of};
use crate::dialects::errors::request;

const START: Time = Time(1_772_704_800_000);
const URL: &str = "https://a.example/in";
const CAMPAIGN: &str = "019cbd9e-0000-7000-8000-00000000000c";

fn call(bench: &mut Bench, dialect: &str, method: Method, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = request(bench, dialect, ADMIN, method.clone(), path, &body);
    assert!(response.status.is_success(), "{method} {path} {body}: {}", String::from_utf8_lossy(&response.body));
    if response.body.is_empty() { Value::Null } else { body_of(&response) }
}

fn get(bench: &mut Bench, dialect: &str, path: &str) -> Value {
    call(bench, dialect, Method::GET, path, &Value::Null)
}

/// The patterns that sent.dm's families stand for.
fn patterns(shown: &Value, is_sent: bool) -> Vec<String> {
    let mut patterns = Vec::new();
    for name in shown["event_types"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        match shown["event_filters"][name].as_array() {
            Some(subs) => patterns.extend(subs.iter().map(|sub| format!("{name}.{}", sub.as_str().unwrap()))),
            None if is_sent && !name.contains(['.', '*']) => patterns.extend([name.to_owned(), format!("{name}.**")]),
            None => patterns.push(name.to_owned()),
        }
    }
    patterns
}

/// Compares all shapes with the native API.
fn all_agree(bench: &mut Bench, id: WebhookId, step: &str) {
    let bearer = format!("Bearer {ADMIN}");
    let native = body_of(&bench.get(&format!("/v1/webhooks/{id}"), &[("authorization", &bearer)]));
    let (is_on, types) = (native["status"] != "disabled", native["event_types"].as_array().unwrap().clone());
    let every = if types.is_empty() { vec![json!("*")] } else { types.clone() };
    let sent = get(bench, "sentdm", &format!("/v3/webhooks/{id}"))["data"].clone();
    let instantly = get(bench, "instantly", &format!("/api/v2/webhooks/{id}"));
    let dfns = get(bench, "dfns", &format!("/webhooks/{}", dfns_id::webhook(id)));
    let everlytic = get(bench, "everlytic", &format!("/transactional/email/v1/webhooks/{id}"))["webhook"].clone();
    let devdraft = get(bench, "devdraft", &format!("/api/v0/webhooks/{id}"));
    for (shown, name, url, on) in [
        (&sent, Some("display_name"), "endpoint_url", sent["is_active"] == json!(true)),
        (&instantly, Some("name"), "target_hook_url", instantly["status"] == json!(1)),
        (&dfns, None, "url", dfns["status"] == json!("Enabled")),
        (&everlytic, None, "url", everlytic["status"] == json!("enabled")),
        (&devdraft, Some("name"), "url", devdraft["isActive"] == json!(true)),
    ] {
        assert_eq!((&shown[url], on), (&native["url"], is_on), "{step}: {shown}");
        assert_eq!(name.map(|name| &shown[name]), name.map(|_| &native["name"]), "{step}: {shown}");
    }
    assert_eq!((&dfns["events"], &everlytic["event_types"]), (&json!(every), &json!(every)), "{step}");
    assert_eq!(json!(patterns(&sent, native["field_set"] == "sent")), json!(every), "{step}: {sent}");
    let one = match types.as_slice() {
        [] => json!("all_events"),
        [only] => only.clone(),
        _ => Value::Null,
    };
    assert_eq!(instantly["event_type"], one, "{step}");
    assert_eq!(sent["timeout_seconds"].as_u64().unwrap(), native["timeout_ms"].as_u64().unwrap().div_ceil(1_000));
    assert_eq!(sent["retry_count"], native["retry_schedule_s"].as_array().unwrap().len());
}

fn stored(bench: &Bench, id: WebhookId) -> Webhook {
    Webhook::clone(bench.store.registry().webhook_by_id(id).unwrap())
}

fn only(shown: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), shown[*name].clone())).collect::<Map<_, _>>().into()
}

/// The fields that a shape takes, as it shows them.
fn sent_back_changes_nothing(bench: &mut Bench, id: WebhookId, step: &str) {
    let before = stored(bench, id);
    let path = format!("/v3/webhooks/{id}");
    let shown = get(bench, "sentdm", &path)["data"].clone();
    let fields = ["display_name", "endpoint_url", "event_types", "event_filters", "retry_count", "timeout_seconds"];
    call(bench, "sentdm", Method::PUT, &path, &only(&shown, &fields));
    assert_eq!(stored(bench, id), before, "{step}: {shown}");
    let path = format!("/api/v2/webhooks/{id}");
    let shown = get(bench, "instantly", &path);
    let fields = ["target_hook_url", "campaign", "name", "event_type", "custom_interest_value", "headers"];
    call(bench, "instantly", Method::PATCH, &path, &only(&shown, &fields));
    assert_eq!(stored(bench, id), before, "{step}: {shown}");
}

#[test]
fn every_shape_reads_a_webhook_that_another_one_made_and_changed() {
    let mut bench = Bench::new(START);
    let sent = json!({
        "endpoint_url": URL, "display_name": "Orders", "event_types": ["message", "order"],
        "event_filters": {"order": ["paid"]}, "retry_count": 1, "timeout_seconds": 5,
    });
    let instantly = json!({
        "target_hook_url": URL, "event_type": "email_sent", "campaign": CAMPAIGN, "headers": {"authorization": "Basic x"},
    });
    let devdraft = json!({ "name": "Payments", "url": URL });
    for (dialect, path, body) in [
        ("sentdm", "/v3/webhooks", sent),
        ("instantly", "/api/v2/webhooks", instantly),
        ("devdraft", "/api/v0/webhooks", devdraft),
    ] {
        let made = call(&mut bench, dialect, Method::POST, path, &body);
        let id = made["data"]["id"].as_str().or(made["id"].as_str()).unwrap().trim_start_matches("wh_");
        let id = WebhookId::from_u128(u128::from_str_radix(&id.replace('-', ""), 16).unwrap());
        all_agree(&mut bench, id, dialect);
        sent_back_changes_nothing(&mut bench, id, dialect);
        let (v3, v2, v0) =
            (format!("/v3/webhooks/{id}"), format!("/api/v2/webhooks/{id}"), format!("/api/v0/webhooks/{id}"));
        let toggle = format!("{v3}/toggle-status");
        for (number, (by, method, path, change)) in [
            ("sentdm", Method::PUT, &v3, json!({ "event_types": ["invoice"], "display_name": "Invoices" })),
            ("instantly", Method::PATCH, &v2, json!({ "event_type": "invoice.paid", "headers": {"x-a": "1"} })),
            (
                "sentdm",
                Method::PUT,
                &v3,
                json!({ "event_types": ["a", "b.c", "d.*"], "event_filters": {"a": ["x", "y"]} }),
            ),
            ("sentdm", Method::PATCH, &toggle, json!({ "is_active": false })),
            ("devdraft", Method::PATCH, &v0, json!({ "isActive": true, "name": "Again" })),
            ("devdraft", Method::PATCH, &v0, json!({ "isActive": false, "url": "https://b.example/" })),
            ("instantly", Method::POST, &format!("{v2}/resume"), Value::Null),
            ("instantly", Method::PATCH, &v2, json!({ "event_type": "all_events", "campaign": null, "name": null })),
            ("sentdm", Method::POST, &format!("{v3}/rotate-secret"), json!({})),
        ]
        .into_iter()
        .enumerate()
        {
            let step = format!("made by {dialect}, step {number} by {by}");
            call(&mut bench, by, method, path, &change);
            all_agree(&mut bench, id, &step);
            sent_back_changes_nothing(&mut bench, id, &step);
        }
        let now = bench.now;
        let gone = StateCommand::AutoDisable { id, reason: DisabledReason::Gone, seen_at: now };
        bench.apply(Command::State(gone)).0.unwrap();
        all_agree(&mut bench, id, "gone");
        assert_eq!(get(&mut bench, "instantly", &v2)["timestamp_error"], json!(now));
        call(&mut bench, "sentdm", Method::DELETE, &v3, &Value::Null);
        assert!(bench.store.registry().webhook_by_id(id).is_none());
    }
}
