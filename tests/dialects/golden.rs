//! The worked scenario, loaded by commands, answers every golden case with the same compact text. The order of members
//! and the form of numbers are the same. `tests/golden/` has the collected cases.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider::api::dialects::DIALECTS;
use postrider::api::{ApiError, ErrorContext, HttpResponse, auth};
use postrider::model::attempt::AttemptOutcome;
use postrider::model::id::Id;
use postrider::model::webhook::{SigningSecret, Webhook, WebhookAuth};
use postrider::model::{Attempt, Event, Scope, Time};
use postrider::store::{AppChange, Command, Dispatch, EventInput, StateCommand};
use serde_json::Value;

use crate::dialects::bench::{ADMIN, Bench, finished, ok, options, webhook};

const READER: &str = "pr_reader";
const NOBODY: &str = "pr_nobody";
const PROFILE: &str = "pr_profile";

fn file(name: &str) -> Value {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

fn id(value: &Value) -> u128 {
    value.as_str().unwrap().parse::<Id<postrider::model::Webhook>>().unwrap().as_u128()
}

fn ms(value: &Value) -> Time {
    Time(value.as_i64().unwrap())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The scenario in a store, as of the moment that the cases were made for.
fn load(change: impl FnOnce(&mut Webhook)) -> Bench {
    let scenario = file("scenario");
    let (organization, app) = (&scenario["organization"], &scenario["app"]);
    let born = Id::<()>::from_u128(id(&organization["id"])).time();
    let mut bench = Bench::with(born, options(), &[id(&organization["id"]), id(&app["id"])]);
    bench
        .apply(Command::State(StateCommand::UpdateApp {
            id: bench.app.id,
            change: AppChange { name: text(&app["name"]), ..AppChange::default() },
        }))
        .0
        .unwrap();
    bench.key(READER, &[Scope::EventsRead, Scope::WebhooksRead], None);
    bench.key(NOBODY, &[Scope::KeysRead], None);
    bench.key(PROFILE, &[Scope::EventsRead, Scope::WebhooksRead], Some(bench.app.id));
    load_webhook(&mut bench, &scenario["webhook"], change);
    for event in scenario["events"].as_array().unwrap() {
        load_event(&mut bench, &scenario, event);
    }
    bench.now = scenario["as_of"].as_str().unwrap().parse().unwrap();
    bench
}

fn load_webhook(bench: &mut Bench, given: &Value, change: impl FnOnce(&mut Webhook)) {
    bench.now = ms(&given["created_at"]);
    bench.next_ids(&[id(&given["id"])]);
    let offsets: Vec<u32> =
        given["retry_offsets_s"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap() as u32).collect();
    let waits = std::iter::once(&0).chain(&offsets).zip(&offsets).map(|(before, this)| this - before);
    let kinds = given["event_kinds"].as_array().unwrap();
    let mut new = Webhook {
        name: text(&given["name"]).unwrap(),
        url: text(&given["url"]).unwrap(),
        event_types: kinds.iter().filter_map(text).collect(),
        retry_schedule_s: waits.collect(),
        timeout_ms: given["timeout_ms"].as_u64().unwrap() as u32,
        secrets: vec![SigningSecret {
            text: text(&given["signing_secret"]).unwrap(),
            created_at: Time::ZERO,
            expires_at: None,
        }],
        ..webhook()
    };
    change(&mut new);
    let made = bench.webhook(|webhook| *webhook = new);
    bench.now = ms(&given["updated_at"]);
    bench.update(Webhook { description: Some("for orders".into()), ..Webhook::clone(&made) });
}

fn load_event(bench: &mut Bench, scenario: &Value, event: &Value) {
    let of_event = |rows: &Value| -> Vec<Value> {
        rows.as_array().unwrap().iter().filter(|row| row["event_id"] == event["id"]).cloned().collect()
    };
    let (deliveries, attempts) = (of_event(&scenario["deliveries"]), of_event(&scenario["attempts"]));
    bench.now = ms(&event["received_at"]);
    bench.next_ids(&[id(&event["id"]), id(&deliveries[0]["id"])]);
    let mut new = EventInput::new(text(&event["kind"]).unwrap(), event["data"].to_string());
    new.occurred_at = Some(ms(&event["occurred_at"]));
    new.attributes.subject = text(&event["lead_email"]);
    // The store plans retries on whole seconds, and the scenario does not. The end of an event cuts the plan, if it has
    // one.
    new.attributes.expires_at = attempts.iter().find_map(|attempt| attempt["next_attempt_at"].as_i64()).map(Time);
    let (published, fresh) = bench.publish(new);
    assert_eq!((published.event.id.as_u128(), fresh.len()), (id(&event["id"]), 1));
    let mut dispatch = fresh.into_iter().next().unwrap();
    for attempt in attempts {
        load_attempt(bench, &mut dispatch, &attempt);
    }
}

fn load_attempt(bench: &mut Bench, dispatch: &mut Dispatch, attempt: &Value) {
    let started = ms(&attempt["started_at"]);
    let took = (attempt["finished_at"].as_i64().unwrap() - started.0) as u32;
    let status = attempt["status_code"].as_u64().map(|code| code as u16);
    let mut outcome = finished(dispatch, started, status, took);
    outcome.attempt_id = Some(Id::from_u128(id(&attempt["id"])));
    outcome.made.response_body = text(&attempt["response_body"]);
    assert_eq!(outcome.made.error, text(&attempt["error_message"]));
    assert_eq!(outcome.made.outcome.as_str(), attempt["outcome"].as_str().unwrap());
    bench.now = outcome.made.finished_at;
    bench.record(outcome);
    dispatch.number += 1;
}

#[test]
fn the_store_holds_the_scenario() {
    let scenario = file("scenario");
    let bench = load(|_| {});
    for given in scenario["deliveries"].as_array().unwrap() {
        let found = bench.store.delivery(bench.tenant(), Id::from_u128(id(&given["id"])), bench.now).unwrap().unwrap();
        assert_eq!(found.created_at, ms(&given["created_at"]));
        assert_eq!(found.next_attempt_at, given["next_attempt_at"].as_i64().map(Time));
        assert_eq!(found.completed_at, given["completed_at"].as_i64().map(Time));
    }
    for given in scenario["attempts"].as_array().unwrap() {
        let found: Attempt =
            bench.store.attempt(bench.tenant(), Id::from_u128(id(&given["id"])), bench.now).unwrap().unwrap();
        assert_eq!(found.next_attempt_at, given["next_attempt_at"].as_i64().map(Time));
        assert_eq!(found.retry_of.map(|id| id.to_string()), text(&given["retry_of"]));
        assert_eq!(found.made.outcome == AttemptOutcome::Success, given["success"].as_bool().unwrap());
    }
    for given in scenario["events"].as_array().unwrap() {
        let found: Event =
            bench.store.event(bench.tenant(), Id::from_u128(id(&given["id"])), bench.now).unwrap().unwrap();
        assert_eq!((found.received_at, found.occurred_at), (ms(&given["received_at"]), ms(&given["occurred_at"])));
    }
}

/// The headers of a case, with those of a key in the place of their descriptions.
fn headers(bench: &Bench, request: &Value) -> Vec<(String, String)> {
    let given = request["headers"].as_object().cloned().unwrap_or_default();
    let described = |word: &str| given.values().any(|value| value.as_str().is_some_and(|text| text.contains(word)));
    let key = match () {
        () if described("<no ") => NOBODY,
        () if described("<profile key>") => PROFILE,
        () => ADMIN,
    };
    let shown = |name: &str, value: &Value| match name.to_ascii_lowercase().as_str() {
        "authorization" if value.as_str().is_some_and(|text| text.starts_with("Basic")) => {
            format!("Basic {}", STANDARD.encode(format!("me:{key}")))
        }
        "authorization" => format!("Bearer {key}"),
        "x-api-key" | "x-client-secret" => key.to_owned(),
        "x-client-key" => key_id(bench, key),
        _ => value.as_str().unwrap().to_owned(),
    };
    given.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

fn key_id(bench: &Bench, text: &str) -> String {
    bench.store.registry().key_by_hash(&auth::key_hash(text)).unwrap().id.to_string()
}

fn answer(bench: &mut Bench, case: &Value) -> HttpResponse {
    if case["name"] == "internal_error" {
        // No request leads there.
        let dialect = DIALECTS.iter().find(|dialect| dialect.name == "sentdm").unwrap();
        let occasion = ErrorContext {
            request_id: "r",
            now: bench.now,
            pattern: "/v3/webhooks/{id}/events",
            verb: None,
            slashes: 4,
        };
        return (dialect.render)(&ApiError::internal("a mistake"), &occasion);
    }
    let headers = headers(bench, &case["request"]);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    bench.get(case["request"]["path"].as_str().unwrap(), &headers)
}

/// Cases of one file with a wrong answer, as text.
fn differences(name: &str, plain: &mut Bench, with_auth: &mut Bench) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in file(name)["cases"].as_array().unwrap() {
        let case_name = case["name"].as_str().unwrap();
        let bench = if case_name == "get_with_basic_auth" { &mut *with_auth } else { &mut *plain };
        let response = answer(bench, case);
        let expected = case.get("body").map_or(String::new(), Value::to_string).replace("<principal>", NOBODY);
        let body = std::str::from_utf8(&response.body).unwrap();
        let is_status = u64::from(response.status.as_u16()) == case["status"].as_u64().unwrap();
        if !is_status || without_volatile(body, case) != without_volatile(&expected, case) {
            wrong.push(format!("{name} {case_name}: {}\n  is     {body}\n  should {expected}", response.status));
        }
        for (header, value) in case["response_headers"].as_object().into_iter().flatten() {
            if response.headers.get(header.as_str()).map(|v| v.as_bytes()) != value.as_str().map(str::as_bytes) {
                wrong.push(format!("{name} {case_name}: header {header}"));
            }
        }
    }
    wrong
}

/// The text with null at every volatile pointer. Without such pointers the text itself, so that every space counts.
fn without_volatile(body: &str, case: &Value) -> String {
    let Some(pointers) = case["volatile"].as_array() else { return body.to_owned() };
    let mut value: Value = serde_json::from_str(body).unwrap();
    for pointer in pointers {
        let place = value.pointer_mut(pointer.as_str().unwrap()).expect("a volatile member is there all the same");
        assert!(place.is_string());
        *place = Value::Null;
    }
    value.to_string()
}

#[test]
fn every_golden_case_is_answered_as_it_is_written() {
    let mut plain = load(|_| {});
    let auth = WebhookAuth::Basic { username: "hook".into(), password: "secret".into() };
    let mut with_auth = load(|webhook| webhook.auth = Some(auth));
    let mut wrong = Vec::new();
    for name in ["000_instantly", "001_dfns", "002_everlytic", "003_sentdm", "004_devdraft"] {
        wrong.extend(differences(name, &mut plain, &mut with_auth));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_key_that_may_not_read_secrets_sees_a_mask_and_leaves_no_audit() {
    let mut bench = load(|_| {});
    let path = format!("/api/v0/webhooks/{}", file("scenario")["webhook"]["id"].as_str().unwrap());
    for (key, secret, ordered) in
        [(READER, "whsec_********", vec![]), (ADMIN, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", vec!["ReadSecret"])]
    {
        let id = key_id(&bench, key);
        let response = bench.get(&path, &[("x-client-key", &id), ("x-client-secret", key)]);
        assert_eq!(ok(&response)["signing_secret"], secret);
        assert_eq!(bench.ordered, ordered);
    }
}
