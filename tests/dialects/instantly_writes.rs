//! Instantly's webhooks: read and written in its shape.

use http::Method;
use postrider::model::webhook::{DisabledReason, FieldSet, Webhook, WebhookStatus};
use postrider::model::{AttemptMade, AttemptOutcome, Scope, Time, WebhookId};
use postrider::store::{Command, StateCommand};
use serde_json::{Value, json};

use crate::dialects::bench::{ADMIN, Bench, json as body_of, ok};
use crate::dialects::errors::request;

const START: Time = Time(1_772_704_800_000);
const HOOKS: &str = "/api/v2/webhooks";
const URL: &str = "https://a.example/in";
const CAMPAIGN: &str = "019cbd9e-0000-7000-8000-00000000000c";

fn instantly(bench: &mut Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = request(bench, "instantly", ADMIN, method, path, &body);
    (response.status.as_u16(), body_of(&response))
}

fn made(bench: &mut Bench, body: Value) -> Value {
    let (status, answer) = instantly(bench, Method::POST, HOOKS, body);
    assert_eq!(status, 200, "{answer}");
    answer
}

fn path_of(shown: &Value) -> String {
    format!("{HOOKS}/{}", shown["id"].as_str().unwrap())
}

fn stored(bench: &Bench, shown: &Value) -> Option<Webhook> {
    let id: WebhookId = shown["id"].as_str().unwrap().parse().unwrap();
    bench.store.registry().webhook(bench.tenant(), id).map(|webhook| Webhook::clone(webhook))
}

#[test]
fn an_instantly_webhook_lives_from_create_to_delete() {
    let mut bench = Bench::new(START);
    let given = json!({
        "target_hook_url": URL, "campaign": CAMPAIGN, "name": "Replies", "event_type": "reply_received",
        "custom_interest_value": null, "headers": { "x-source": "crm", "Authorization": "Basic abc" },
    });
    let made = made(&mut bench, given.clone());
    let expected = json!({
        "id": made["id"], "organization": bench.organization.id, "campaign": CAMPAIGN, "name": "Replies",
        "target_hook_url": URL, "event_type": "reply_received", "custom_interest_value": null,
        "headers": { "Authorization": "********", "x-source": "crm" },
        "timestamp_created": START, "status": 1, "timestamp_error": null,
    });
    let mask = made["headers"]["Authorization"].clone();
    assert_ne!(mask, "Basic abc");
    assert_eq!(
        made,
        json!({ "headers": { "Authorization": mask, "x-source": "crm" } })
            .as_object()
            .map(|own| {
                let mut expected = expected.clone();
                expected["headers"] = own["headers"].clone();
                expected
            })
            .unwrap()
    );
    let webhook = stored(&bench, &made).unwrap();
    assert_eq!(
        (webhook.event_types.as_slice(), webhook.channels.as_slice()),
        (["reply_received".to_owned()].as_slice(), [CAMPAIGN.to_owned()].as_slice())
    );
    assert_eq!((webhook.field_set, webhook.signature.len()), (FieldSet::Flat, 0));
    assert_eq!(webhook.retry_schedule_s, [5, 10, 15]);
    let path = path_of(&made);
    assert_eq!(instantly(&mut bench, Method::GET, &path, Value::Null), (200, made.clone()));

    bench.now = bench.now.plus_ms(1_000);
    // A field that is left out stays, and a masked value keeps the stored one.
    let change = json!({ "name": "Other", "headers": { "Authorization": mask, "x-new": "1" } });
    let (status, changed) = instantly(&mut bench, Method::PATCH, &path, change);
    assert_eq!((status, &changed["name"], &changed["campaign"]), (200, &json!("Other"), &json!(CAMPAIGN)));
    let headers = stored(&bench, &made).unwrap().headers;
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers.len(), 2, "{headers:?}");
    assert!(headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("authorization") && *value == "Basic abc"));
    let change = json!({ "headers": { "AUTHORIZATION": mask } });
    assert_eq!(instantly(&mut bench, Method::PATCH, &path, change).0, 200);
    let headers = stored(&bench, &made).unwrap().headers;
    assert_eq!(headers.values().collect::<Vec<_>>(), ["Basic abc"], "a header's name has no case");
    let change = json!({ "headers": { "x-token": mask } });
    assert_eq!(instantly(&mut bench, Method::PATCH, &path, change).0, 400, "the mask of nothing");
    let cleared =
        json!({ "name": null, "campaign": null, "event_type": null, "headers": null, "custom_interest_value": null });
    let (status, changed) = instantly(&mut bench, Method::PATCH, &path, cleared);
    assert_eq!((status, &changed["name"], &changed["campaign"]), (200, &json!("a.example"), &Value::Null));
    assert_eq!((&changed["event_type"], &changed["headers"]), (&json!("all_events"), &Value::Null));

    assert_eq!(instantly(&mut bench, Method::DELETE, &path, Value::Null), (200, changed));
    let (status, gone) = instantly(&mut bench, Method::GET, &path, Value::Null);
    assert_eq!((status, &gone["message"]), (404, &json!("Resource not found")));
    assert_eq!(bench.ordered, ["CreateWebhook", "UpdateWebhook", "UpdateWebhook", "UpdateWebhook", "RemoveWebhook"]);
}

#[test]
fn every_flaw_is_a_400_in_the_vendors_words() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "target_hook_url": URL }));
    let path = path_of(&made);
    for (field, value, says) in [
        ("target_hook_url", json!("ftp://a.example/"), "body/target_hook_url "),
        ("target_hook_url", json!("http://127.0.0.1/"), "body/target_hook_url "),
        ("target_hook_url", Value::Null, "body must have required property 'target_hook_url'"),
        ("name", json!(5), "body/name must be a string"),
        ("campaign", json!("x"), "body/campaign must match format \"uuid\""),
        ("event_type", json!(["a"]), "body/event_type must be a string"),
        ("event_type", json!("a b"), "body/event_type must "),
        ("custom_interest_value", json!(1), "body/custom_interest_value cannot be taken"),
        ("headers", json!("x"), "body/headers must be an object"),
        ("headers", json!({ "x-a": 5 }), "body/headers/x-a "),
        ("headers", json!({ "host": "x" }), "body/headers/host "),
        ("unknown", json!(1), "body must NOT have additional properties: 'unknown'"),
    ] {
        let mut body = json!({ "target_hook_url": URL });
        body[field] = value.clone();
        for (method, path) in [(Method::POST, HOOKS), (Method::PATCH, path.as_str())] {
            let (status, answer) = instantly(&mut bench, method.clone(), path, body.clone());
            assert_eq!(
                (status, &answer["statusCode"], &answer["error"]),
                (400, &json!(400), &json!("Bad Request")),
                "{method} {field} {value}: {answer}"
            );
            assert!(answer["message"].as_str().unwrap().starts_with(says), "{method} {field} {value}: {answer}");
        }
    }
    assert_eq!(bench.ordered, ["CreateWebhook"]);
    for (path, says) in [("x", 400), ("019cbd9e-0000-7000-8000-000000000000", 404)] {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            assert_eq!(instantly(&mut bench, method, &format!("{HOOKS}/{path}"), json!({})).0, says);
        }
    }
    bench.key("pr_reader", &[Scope::WebhooksRead], None);
    for (method, rest, scope) in
        [(Method::PATCH, "", "update"), (Method::DELETE, "", "delete"), (Method::POST, "/resume", "update")]
    {
        let refused = request(&mut bench, "instantly", "pr_reader", method, &format!("{path}{rest}"), "{}");
        let says = format!("This API key does not have the scope webhooks:{scope}");
        assert_eq!((refused.status.as_u16(), &body_of(&refused)["message"]), (403, &json!(says)));
    }
}

#[test]
fn a_list_goes_on_after_a_webhook_and_is_filtered() {
    let mut bench = Bench::new(START);
    let all = made(&mut bench, json!({ "target_hook_url": URL }));
    let one = made(&mut bench, json!({ "target_hook_url": URL, "event_type": "email_sent" }));
    let of = made(&mut bench, json!({ "target_hook_url": URL, "campaign": CAMPAIGN }));
    let several = bench.webhook(|webhook| {
        webhook.event_types = vec!["a".into(), "b".into()];
        webhook.channels = vec![CAMPAIGN.into(), "x".into()];
    });
    let ids = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect()
    };
    let mut get = |query: &str| instantly(&mut bench, Method::GET, &format!("{HOOKS}{query}"), Value::Null).1;
    let (a, b, c, d) = (json!(several.id), of["id"].clone(), one["id"].clone(), all["id"].clone());
    let first = get("?limit=2");
    assert_eq!((ids(&first), &first["next_starting_after"]), (vec![a.clone(), b.clone()], &b));
    let second = get(&format!("?limit=2&starting_after={}", b.as_str().unwrap()));
    assert_eq!((ids(&second), second.get("next_starting_after")), (vec![c.clone(), d.clone()], None));
    assert_eq!(ids(&get(&format!("?campaign={}", CAMPAIGN.to_uppercase()))), std::slice::from_ref(&b));
    assert_eq!(ids(&get("?event_type=email_sent")), [c]);
    assert_eq!(ids(&get("?event_type=all_events")), [b, d]);
    let shown = get("");
    assert_eq!((&shown["items"][0]["event_type"], &shown["items"][0]["campaign"]), (&Value::Null, &Value::Null));
    assert_eq!(get("?limit=101")["statusCode"], 400);
    let names = get("/event-types");
    assert!(names["items"].as_array().unwrap().contains(&json!("email_sent")), "{names}");
    // A null that several types are shown as does not clear them.
    let path = format!("{HOOKS}/{}", several.id);
    let (status, _) = instantly(&mut bench, Method::PATCH, &path, json!({ "event_type": null, "campaign": null }));
    assert_eq!((status, bench.store.registry().webhook_by_id(several.id)), (200, Some(&several)));
}

#[test]
fn a_disabled_webhook_says_since_when_and_is_resumed() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "target_hook_url": URL }));
    let path = path_of(&made);
    let (resume, id) = (format!("{path}/resume"), made["id"].as_str().unwrap().parse().unwrap());
    assert_eq!(instantly(&mut bench, Method::POST, &resume, Value::Null), (200, made.clone()));
    bench.now = bench.now.plus_ms(5_000);
    let at = bench.now;
    let disable = StateCommand::AutoDisable { id, reason: DisabledReason::Failures, seen_at: at };
    bench.apply(Command::State(disable)).0.unwrap();
    bench.now = bench.now.plus_ms(5_000);
    // A later change does not move the time.
    assert_eq!(instantly(&mut bench, Method::PATCH, &path, json!({ "name": "Later" })).0, 200);
    let (_, shown) = instantly(&mut bench, Method::GET, &path, Value::Null);
    assert_eq!((&shown["status"], &shown["timestamp_error"]), (&json!(-1), &json!(at)));
    let (status, resumed) = instantly(&mut bench, Method::POST, &resume, Value::Null);
    assert_eq!((status, &resumed["status"], &resumed["timestamp_error"]), (200, &json!(1), &Value::Null));
    let webhook = stored(&bench, &made).unwrap();
    bench.update(Webhook { status: WebhookStatus::Disabled, ..webhook });
    let (_, by_hand) = instantly(&mut bench, Method::GET, &path, Value::Null);
    assert_eq!((&by_hand["status"], &by_hand["timestamp_error"]), (&json!(-1), &Value::Null));
    assert_eq!(instantly(&mut bench, Method::POST, &resume, json!({})).1["status"], 1);
    let webhook = stored(&bench, &made).unwrap();
    bench.update(Webhook { status: WebhookStatus::Paused, ..webhook });
    assert_eq!(instantly(&mut bench, Method::POST, &resume, Value::Null).0, 200);
    assert_eq!(stored(&bench, &made).unwrap().status, WebhookStatus::Enabled);
}

#[test]
fn a_test_shows_its_outcome() {
    let mut bench = Bench::new(START);
    let made = made(&mut bench, json!({ "target_hook_url": URL }));
    let path = format!("{}/test", path_of(&made));
    let attempt = AttemptMade {
        outcome: AttemptOutcome::HttpStatus,
        status_code: Some(500),
        response_time_ms: Some(12),
        error: Some("Internal Server Error".into()),
        ..AttemptMade::default()
    };
    bench.test_send = Some(attempt.clone());
    let (status, answer) = instantly(&mut bench, Method::POST, &path, Value::Null);
    let expected = json!({
        "success": false, "message": "Test webhook failed", "response_time_ms": 12, "status_code": 500,
        "error": "Internal Server Error",
    });
    assert_eq!((status, answer), (200, expected));
    bench.test_send = Some(AttemptMade { success: true, status_code: Some(200), error: None, ..attempt });
    let (_, answer) = instantly(&mut bench, Method::POST, &path, Value::Null);
    assert_eq!((&answer["success"], &answer["error"]), (&json!(true), &Value::Null));
    assert_eq!(bench.ordered, ["CreateWebhook"]);
}

#[test]
fn a_repeated_write_gets_its_first_answer() {
    let mut bench = Bench::new(START);
    bench.test_send = Some(AttemptMade { success: true, status_code: Some(200), ..AttemptMade::default() });
    let made = made(&mut bench, json!({ "target_hook_url": URL }));
    let path = path_of(&made);
    let (test, resume) = (format!("{path}/test"), format!("{path}/resume"));
    let new = json!({ "target_hook_url": URL }).to_string();
    let bearer = format!("Bearer {ADMIN}");
    for (number, (method, path, body)) in [
        (Method::POST, HOOKS, new.as_str()),
        (Method::PATCH, &path, r#"{"name":"Second"}"#),
        (Method::PATCH, &path, r#"{"name":"Second","campaign":null}"#),
        (Method::POST, &test, ""),
        (Method::POST, &resume, ""),
        (Method::DELETE, &path, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("key {number}").replace(' ', "-");
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", &key)];
        let first = bench.call(method.clone(), path, &headers, body);
        let commands = bench.ordered.len();
        let again = bench.call(method.clone(), path, &headers, body);
        assert_eq!(ok(&again), ok(&first), "{method} {path}");
        assert_eq!(bench.ordered.len(), commands, "{method} {path}");
        assert_eq!(again.headers["idempotent-replayed"], "true", "{method} {path}");
    }
}
