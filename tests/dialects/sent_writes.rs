//! sent.dm's webhooks are written in its shape: fields, flaws, sandbox, repeated requests and the round trip.

use http::Method;
use postrider::model::webhook::{DisabledReason, FieldSet, SignatureScheme, Webhook, WebhookStatus};
use postrider::model::{AttemptMade, AttemptOutcome, Scope, Time, WebhookId};
use serde_json::{Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of, ok};
use crate::dialects::errors::request;

const START: Time = Time(1_772_704_800_000);
const HOOKS: &str = "/v3/webhooks";
const URL: &str = "https://a.example/in";

fn sent(bench: &mut Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = request(bench, "sentdm", ADMIN, method, path, &body);
    let shown = if response.body.is_empty() { Value::Null } else { body_of(&response) };
    (response.status.as_u16(), shown)
}

fn made(bench: &mut Bench, body: Value) -> Value {
    let (status, answer) = sent(bench, Method::POST, HOOKS, body);
    assert_eq!(status, 201, "{answer}");
    answer["data"].clone()
}

fn path_of(shown: &Value) -> String {
    format!("{HOOKS}/{}", shown["id"].as_str().unwrap())
}

fn stored(bench: &Bench, shown: &Value) -> Option<Webhook> {
    let id: WebhookId = shown["id"].as_str().unwrap().parse().unwrap();
    bench.store.registry().webhook(bench.tenant(), id).map(|webhook| Webhook::clone(webhook))
}

#[test]
fn a_sent_webhook_lives_from_create_to_delete() {
    let mut bench = Bench::new(START);
    let given = json!({
        "display_name": "Orders", "endpoint_url": URL, "event_types": ["message", "template"],
        "event_filters": {"message": ["delivered", "read"]}, "retry_count": 5, "timeout_seconds": 10,
    });
    let made = made(&mut bench, given.clone());
    for name in ["display_name", "endpoint_url", "event_types", "event_filters", "retry_count", "timeout_seconds"] {
        assert_eq!(made[name], given[name], "{name}");
    }
    assert!(postrider::rules::signing::parse_secret(made["signing_secret"].as_str().unwrap()).is_ok());
    assert_eq!((&made["is_active"], &made["updated_at"]), (&json!(true), &Value::Null));
    assert_eq!(made["customer_id"], bench.app.id.to_string());
    let webhook = stored(&bench, &made).unwrap();
    assert_eq!(webhook.event_types, ["message.delivered", "message.read", "template", "template.**"]);
    assert_eq!((webhook.signature.as_slice(), webhook.field_set), ([SignatureScheme::Sent].as_slice(), FieldSet::Sent));
    assert_eq!(
        (webhook.retry_schedule_s.as_slice(), webhook.timeout_ms),
        ([60, 120, 240, 480, 960].as_slice(), 10_000)
    );

    let path = path_of(&made);
    let mut read = ok(&request(&mut bench, "sentdm", ADMIN, Method::GET, &path, ""))["data"].take();
    assert_eq!(read["signing_secret"], Value::Null);
    read["signing_secret"] = made["signing_secret"].clone();
    assert_eq!(read, made);

    bench.now = bench.now.plus_ms(1_000);
    let (status, changed) =
        sent(&mut bench, Method::PUT, &path, json!({ "display_name": "Refunds", "event_filters": null }));
    let changed = &changed["data"];
    assert_eq!((status, &changed["display_name"], &changed["event_filters"]), (200, &json!("Refunds"), &Value::Null));
    assert_eq!((&changed["signing_secret"], &changed["retry_count"]), (&Value::Null, &json!(5)));
    assert_eq!(changed["event_types"], given["event_types"]);
    assert!(!changed["updated_at"].is_null());
    let webhook = stored(&bench, &made).unwrap();
    assert_eq!(webhook.event_types, ["message", "message.**", "template", "template.**"]);

    assert_eq!(sent(&mut bench, Method::DELETE, &path, Value::Null), (204, Value::Null));
    assert_eq!(stored(&bench, &made), None);
    assert_eq!(sent(&mut bench, Method::GET, &path, Value::Null).0, 404);
    assert_eq!(bench.ordered, ["CreateWebhook", "UpdateWebhook", "RemoveWebhook"]);
}

/// The vendor's n8n node compares these fields with the sent ones, and sends them again if they differ.
#[test]
fn sent_fields_are_read_back_and_sending_them_again_changes_nothing() {
    let mut bench = Bench::new(START);
    for (types, filters) in [
        (json!(["message"]), Value::Null),
        (json!(["message", "contact"]), json!({"contact": ["opt_in", "opt_out"]})),
        (json!(["*"]), Value::Null),
    ] {
        let given = json!({
            "display_name": "n8n", "endpoint_url": URL, "event_types": types, "event_filters": filters,
            "retry_count": 2, "timeout_seconds": 30,
        });
        let made = made(&mut bench, given.clone());
        let (status, again) = sent(&mut bench, Method::PUT, &path_of(&made), given.clone());
        assert_eq!((status, &again["data"]["updated_at"]), (200, &Value::Null), "{again}");
        for (name, value) in given.as_object().unwrap() {
            assert_eq!(&again["data"][name], value, "{name}");
        }
    }
    assert_eq!(bench.ordered, ["CreateWebhook"; 3]);
}

#[test]
fn a_native_webhook_that_is_sent_back_as_shown_stays_as_it_is() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|webhook| {
        webhook.event_types = vec!["invoice".into(), "order.*".into()];
        webhook.retry_schedule_s = vec![5; 9];
        webhook.timeout_ms = 1_500;
    });
    let path = format!("{HOOKS}/{}", hook.id);
    let (_, shown) = sent(&mut bench, Method::GET, &path, Value::Null);
    let mut body = json!({});
    for name in ["display_name", "endpoint_url", "event_types", "event_filters", "retry_count", "timeout_seconds"] {
        body[name] = shown["data"][name].clone();
    }
    let (status, again) = sent(&mut bench, Method::PUT, &path, body);
    assert_eq!((status, &again["data"]), (200, &shown["data"]));
    assert_eq!(bench.store.registry().webhook_by_id(hook.id), Some(&hook));
    assert_eq!(sent(&mut bench, Method::PUT, &path, json!({ "retry_count": 8 })).0, 400);
}

#[test]
fn a_webhook_is_turned_off_and_on_and_a_paused_one_stays_paused() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    assert_eq!((&made["display_name"], &made["event_types"]), (&json!("a.example"), &json!(["*"])));
    assert_eq!((&made["retry_count"], &made["timeout_seconds"]), (&json!(3), &json!(30)));
    let toggle = format!("{}/toggle-status", path_of(&made));
    for (wanted, status) in [
        (true, WebhookStatus::Enabled),
        (false, WebhookStatus::Disabled),
        (false, WebhookStatus::Disabled),
        (true, WebhookStatus::Enabled),
    ] {
        let (code, answer) = sent(&mut bench, Method::PATCH, &toggle, json!({ "is_active": wanted }));
        assert_eq!((code, &answer["data"]["is_active"]), (200, &json!(wanted)));
        let webhook = stored(&bench, &made).unwrap();
        let reason = (!wanted).then_some(DisabledReason::Manual);
        assert_eq!((webhook.status, webhook.disabled_reason), (status, reason));
    }
    let webhook = stored(&bench, &made).unwrap();
    bench.update(Webhook { status: WebhookStatus::Paused, ..webhook });
    assert_eq!(sent(&mut bench, Method::PATCH, &toggle, json!({ "is_active": true })).0, 200);
    assert_eq!(stored(&bench, &made).unwrap().status, WebhookStatus::Paused);
    let (code, answer) = sent(&mut bench, Method::PATCH, &toggle, json!({}));
    assert_eq!((code, &answer["error"]["details"]), (400, &json!({ "is_active": ["is required"] })));
}

#[test]
fn a_rotation_voids_the_old_secret_and_needs_its_scope() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    let path = format!("{}/rotate-secret", path_of(&made));
    bench.key("pr_writer", &[Scope::WebhooksWrite], None);
    let refused = request(&mut bench, "sentdm", "pr_writer", Method::POST, &path, "");
    assert_eq!((refused.status.as_u16(), refused.headers["x-error-code"].to_str().unwrap()), (403, "AUTH_004"));
    for body in [Value::Null, json!({}), json!({ "sandbox": false })] {
        let (status, answer) = sent(&mut bench, Method::POST, &path, body);
        let secrets = stored(&bench, &made).unwrap().secrets;
        assert_eq!((status, secrets.len()), (200, 1));
        assert_eq!(answer["data"], json!({ "signing_secret": secrets[0].text }));
        assert_ne!(made["signing_secret"], secrets[0].text);
    }
}

#[test]
fn a_test_says_whether_it_was_delivered_and_stores_nothing() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    let path = format!("{}/test", path_of(&made));
    let failed = AttemptMade { outcome: AttemptOutcome::HttpStatus, status_code: Some(503), ..AttemptMade::default() };
    let silent =
        AttemptMade { outcome: AttemptOutcome::Timeout, error: Some("timed out".into()), ..AttemptMade::default() };
    let good = AttemptMade { success: true, status_code: Some(200), ..AttemptMade::default() };
    for (attempt, success, message) in [
        (good, true, "Test event delivered successfully"),
        (failed, false, "Test event delivery failed with status 503"),
        (silent, false, "Test event delivery failed: timed out"),
    ] {
        bench.test_send = Some(attempt);
        let (status, answer) = sent(&mut bench, Method::POST, &path, json!({ "event_type": "message.delivered" }));
        assert_eq!((status, &answer["data"]), (200, &json!({ "success": success, "message": message })));
    }
    for (body, says) in [
        (json!({}), "Event type is required"),
        (json!({ "event_type": null }), "Event type is required"),
        (json!({ "event_type": "a b" }), "event_type must be 1 to 256"),
        (json!({ "event_type": "postrider.x" }), "event_type must not begin with postrider."),
    ] {
        let (status, answer) = sent(&mut bench, Method::POST, &path, body);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("VALIDATION_001")));
        assert!(answer["error"]["message"].as_str().unwrap().starts_with(says), "{answer}");
    }
    assert_eq!(bench.ordered, ["CreateWebhook"]);
}

#[test]
fn every_flaw_is_named_by_the_vendors_field() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    let path = path_of(&made);
    for (field, value, key) in [
        ("display_name", json!("a\u{0}b"), "display_name"),
        ("endpoint_url", json!("ftp://a.example/"), "endpoint_url"),
        ("endpoint_url", json!("http://127.0.0.1/"), "endpoint_url"),
        ("endpoint_url", json!(5), "endpoint_url"),
        ("event_types", json!("message"), "event_types"),
        ("event_types", json!(["a b"]), "event_types.0"),
        ("event_types", json!(["ok", "a b"]), "event_types.1"),
        ("event_types", json!(["ok", "x".repeat(254)]), "event_types.1"),
        ("event_types", json!((0..251).map(|n| format!("f{n}")).collect::<Vec<_>>()), "event_types"),
        ("event_filters", json!({"absent": ["x"]}), "event_filters"),
        ("event_filters", json!({"message": "x"}), "event_filters"),
        ("retry_count", json!(0), "retry_count"),
        ("retry_count", json!(6), "retry_count"),
        ("timeout_seconds", json!(4), "timeout_seconds"),
        ("timeout_seconds", json!(121), "timeout_seconds"),
        ("sandbox", json!("yes"), "sandbox"),
        ("sender_profile", json!({ "event_types": [] }), "sender_profile"),
        ("unknown", json!(1), "unknown"),
    ] {
        let mut body = json!({ "display_name": "Orders", "endpoint_url": URL });
        body[field] = value.clone();
        for (method, path) in [(Method::POST, HOOKS), (Method::PUT, path.as_str())] {
            let (status, answer) = sent(&mut bench, method.clone(), path, body.clone());
            let error = &answer["error"];
            assert_eq!((status, &error["code"]), (400, &json!("VALIDATION_001")), "{method} {field} {value}: {answer}");
            assert!(error["details"][key][0].is_string(), "{method} {field} {value}: {answer}");
            if field == "endpoint_url" {
                assert_eq!(error["message"], "Endpoint URL must be a valid HTTP or HTTPS URL");
            }
        }
    }
    let (status, answer) = sent(&mut bench, Method::POST, HOOKS, json!({}));
    assert_eq!((status, &answer["error"]["details"]), (400, &json!({ "endpoint_url": ["is required"] })));
    let profile =
        json!({ "display_name": "Orders", "endpoint_url": URL, "sender_profile": null, "event_filters": null });
    assert_eq!(sent(&mut bench, Method::POST, HOOKS, profile).0, 201);
    for (method, rest) in
        [(Method::PUT, ""), (Method::DELETE, ""), (Method::PATCH, "/toggle-status"), (Method::POST, "/test")]
    {
        let absent = format!("{HOOKS}/019cbd9e-0000-7000-8000-000000000000{rest}");
        let (status, answer) = sent(&mut bench, method, &absent, json!({}));
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("RESOURCE_008")), "{rest}");
    }
}

#[test]
fn a_sandbox_is_judged_and_answered_and_changes_nothing() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    let path = path_of(&made);
    let (status, tried) = sent(&mut bench, Method::POST, HOOKS, json!({ "endpoint_url": URL, "sandbox": true }));
    assert_eq!(status, 201);
    assert_ne!(tried["data"]["id"], made["id"]);
    assert_ne!(tried["data"]["signing_secret"], made["signing_secret"]);
    assert!(tried["data"]["signing_secret"].as_str().unwrap().starts_with("whsec_"));
    let (status, tried) = sent(&mut bench, Method::PUT, &path, json!({ "display_name": "Tried", "sandbox": true }));
    assert_eq!((status, &tried["data"]["display_name"]), (200, &json!("Tried")));
    let (status, tried) = sent(
        &mut bench,
        Method::PATCH,
        &format!("{path}/toggle-status"),
        json!({ "is_active": false, "sandbox": true }),
    );
    assert_eq!((status, &tried["data"]["is_active"]), (200, &json!(false)));
    let (status, tried) = sent(&mut bench, Method::POST, &format!("{path}/rotate-secret"), json!({ "sandbox": true }));
    assert_eq!(status, 200);
    assert_ne!(tried["data"]["signing_secret"], made["signing_secret"]);
    let (status, tried) =
        sent(&mut bench, Method::POST, &format!("{path}/test"), json!({ "event_type": "a.b", "sandbox": true }));
    assert_eq!((status, &tried["data"]["success"]), (200, &json!(true)));
    for (method, path, body) in [
        (Method::POST, HOOKS.to_owned(), json!({ "endpoint_url": "ftp://a.example/", "sandbox": true })),
        (Method::PUT, path.clone(), json!({ "retry_count": 9, "sandbox": true })),
        (Method::POST, format!("{path}/test"), json!({ "sandbox": true })),
    ] {
        assert_eq!(sent(&mut bench, method, &path, body).0, 400, "{path}");
    }
    assert_eq!(bench.ordered, ["CreateWebhook"]);
    assert_eq!(bench.store.registry().webhooks().count(), 1);
}

/// A write with an `Idempotency-Key`.
fn keyed(bench: &mut Bench, key: &str, call: (Method, &str), body: &str) -> postrider::api::HttpResponse {
    let headers = [("x-api-key", ADMIN), ("idempotency-key", key)];
    bench.call(call.0, call.1, &headers, body)
}

#[test]
fn a_repeated_write_gets_its_first_answer() {
    let mut bench = Bench::new(START);
    bench.test_send = Some(AttemptMade { success: true, status_code: Some(200), ..AttemptMade::default() });
    let made = made(&mut bench, json!({ "endpoint_url": URL }));
    let path = path_of(&made);
    let (toggle, rotate, test) =
        (format!("{path}/toggle-status"), format!("{path}/rotate-secret"), format!("{path}/test"));
    let new = json!({ "endpoint_url": URL }).to_string();
    for (number, (method, path, body, status)) in [
        (Method::POST, HOOKS, new.as_str(), 201),
        (Method::PUT, &path, r#"{"display_name":"Second"}"#, 200),
        (Method::PUT, &path, r#"{"display_name":"Second","retry_count":3}"#, 200),
        (Method::PATCH, &toggle, r#"{"is_active":false}"#, 200),
        (Method::POST, &rotate, "{}", 200),
        (Method::POST, &test, r#"{"event_type":"a.b"}"#, 200),
        (Method::DELETE, &path, "", 204),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key_{number}-a");
        let first = keyed(&mut bench, &key, (method.clone(), path), body);
        let commands = bench.ordered.len();
        let again = keyed(&mut bench, &key, (method.clone(), path), body);
        assert_eq!((first.status.as_u16(), again.status.as_u16()), (status, status), "{method} {path}");
        // A repeated secret is a read of it, which the audit notes.
        let noted: &[&str] = if path == HOOKS || path == rotate { &["NoteShownAgain"] } else { &[] };
        assert_eq!(bench.ordered[commands..], *noted, "{method} {path}: {:?}", bench.ordered);
        assert_eq!(again.headers["idempotent-replayed"], "true", "{method} {path}");
        assert_eq!(again.headers["x-original-request-id"], "req_7X9zKp2jDw");
        assert!(
            !first.headers.contains_key("idempotent-replayed") && !first.headers.contains_key("x-original-request-id")
        );
        if status != 204 {
            assert_eq!(body_of(&again)["data"], body_of(&first)["data"], "{method} {path}");
            let other = keyed(&mut bench, &key, (method.clone(), path), r#"{"sandbox":false}"#);
            assert_eq!((other.status.as_u16(), body_of(&other)["error"]["code"].as_str()), (409, Some("CONFLICT_001")));
        }
    }
    for key in ["a b", "a/b", "a.b", &"x".repeat(256)] {
        let refused = keyed(&mut bench, key, (Method::POST, HOOKS), &new);
        assert_eq!(
            (refused.status.as_u16(), body_of(&refused)["error"]["code"].as_str()),
            (400, Some("VALIDATION_007"))
        );
    }
}

#[test]
fn a_webhook_is_made_for_the_profile_that_is_named() {
    let mut bench = Bench::new(START);
    let other = bench.app("other");
    let profile = other.id.to_string();
    let body = json!({ "endpoint_url": URL }).to_string();
    let response = bench.call(Method::POST, HOOKS, &[("x-api-key", ADMIN), ("x-profile-id", &profile)], &body);
    assert_eq!((response.status.as_u16(), &response.headers["x-profile-id"]), (201, &profile.parse().unwrap()));
    let made = body_of(&response)["data"].clone();
    assert_eq!(made["customer_id"], profile);
    assert_eq!(sent(&mut bench, Method::PUT, &path_of(&made), json!({})).0, 404, "not of the default app");
    let twice = [("x-api-key", ADMIN), ("x-profile-id", profile.as_str()), ("x-profile-id", profile.as_str())];
    let refused = bench.call(Method::GET, &path_of(&made), &twice, "");
    assert_eq!((refused.status.as_u16(), body_of(&refused)["error"]["code"].as_str()), (400, Some("VALIDATION_003")));
}

/// A profile stands for a key of its own, which has keys of idempotency of its own.
#[test]
fn two_profiles_may_use_one_idempotency_key() {
    let mut bench = Bench::new(START);
    let other = bench.app("other").id.to_string();
    let body = json!({ "endpoint_url": URL }).to_string();
    let plain = [("x-api-key", ADMIN), ("idempotency-key", "k")];
    let profiled = [plain[0], plain[1], ("x-profile-id", other.as_str())];
    let first = body_of(&bench.call(Method::POST, HOOKS, &plain, &body))["data"].clone();
    let second = bench.call(Method::POST, HOOKS, &profiled, &body);
    assert_eq!(second.status, 201);
    assert_ne!(body_of(&second)["data"]["id"], first["id"]);
}
