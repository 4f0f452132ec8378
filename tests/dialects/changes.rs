//! Writes of the shapes: Devdraft's webhooks, Dfns's ping, Everlytic's reprocessing. They use the same commands and
//! checks as the native routes.

use http::Method;
use postrider::model::job::JobStatus;
use postrider::model::webhook::WebhookStatus;
use postrider::model::{Scope, Time, Webhook, WebhookId};
use postrider::rules::dfns_id;
use postrider::store::{Command, EventInput, ListWindow, PartitionCommand, Receipt};
use serde_json::{Value, json};

use crate::dialects::bench::{ADMIN, Bench, DAY_MS, finished, json as body_of, ok};
use crate::dialects::errors::request;

const START: Time = Time(1_772_704_800_000);
const HOOKS: &str = "/api/v0/webhooks";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn devdraft(bench: &mut Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = request(bench, "devdraft", ADMIN, method, path, &body);
    let shown = if response.body.is_empty() { Value::Null } else { body_of(&response) };
    (response.status.as_u16(), shown)
}

fn stored(bench: &Bench, shown: &Value) -> Option<Webhook> {
    let id = shown["id"].as_str().unwrap().strip_prefix("wh_").unwrap();
    let id = WebhookId::from_u128(u128::from_str_radix(id, 16).unwrap());
    bench.store.registry().webhook(bench.tenant(), id).map(|webhook| Webhook::clone(webhook))
}

#[test]
fn a_devdraft_webhook_lives_from_create_to_delete() {
    let mut bench = Bench::new(START);
    let given = json!({ "name": "Payments", "url": "https://api.example.com/in", "signing_secret": SECRET });
    let (status, made) = devdraft(&mut bench, Method::POST, HOOKS, given);
    assert_eq!(
        (status, &made["name"], &made["isActive"], &made["encrypted"]),
        (201, &json!("Payments"), &json!(true), &json!(false))
    );
    assert_eq!(made["signing_secret"], SECRET);
    let stats = json!({
        "total_events": 0, "successful_deliveries": 0, "failed_deliveries": 0, "last_delivery": null,
        "success_rate": null, "average_response_time": null, "last_24h_events": 0, "last_24h_failures": 0,
    });
    assert_eq!(made["delivery_stats"], stats);
    assert_eq!(stored(&bench, &made).unwrap().app_id, bench.app.id);

    let path = format!("{HOOKS}/{}", made["id"].as_str().unwrap());
    bench.now = bench.now.plus_ms(1_000);
    let (status, changed) = devdraft(&mut bench, Method::PATCH, &path, json!({ "isActive": false, "encrypted": true }));
    assert_eq!((status, &changed["isActive"], &changed["encrypted"]), (200, &json!(false), &json!(true)));
    assert_eq!(changed["signing_secret"], "whsec_********");
    assert_eq!(changed["updated_at"], bench.now.to_string());
    assert_eq!(stored(&bench, &made).unwrap().status, WebhookStatus::Disabled);

    assert_eq!(devdraft(&mut bench, Method::DELETE, &path, Value::Null).0, 200);
    assert_eq!(stored(&bench, &made), None);
    let (status, gone) = devdraft(&mut bench, Method::GET, &path, Value::Null);
    let told = format!("No webhook found with ID: {}", made["id"].as_str().unwrap());
    assert_eq!((status, gone["details"].as_str()), (404, Some(told.as_str())));
    assert_eq!(bench.ordered, ["CreateWebhook", "UpdateWebhook", "RemoveWebhook"]);
}

#[test]
fn a_webhook_without_a_secret_gets_one() {
    let mut bench = Bench::new(START);
    let (_, made) =
        devdraft(&mut bench, Method::POST, HOOKS, json!({ "name": "Payments", "url": "https://a.example/in" }));
    let secret = made["signing_secret"].as_str().unwrap();
    assert!(postrider::rules::signing::parse_secret(secret).is_ok(), "{secret}");
}

#[test]
fn devdraft_bodies_are_judged_as_native_ones_and_named_as_the_page_names_them() {
    let mut bench = Bench::new(START);
    let (_, made) =
        devdraft(&mut bench, Method::POST, HOOKS, json!({ "name": "Payments", "url": "https://a.example/in" }));
    let path = format!("{HOOKS}/{}", made["id"].as_str().unwrap());
    let good = json!({ "name": "Payments", "url": "https://a.example/in" });
    for (field, value, says) in [
        ("name", json!("ab"), "name must have 3 to 100 characters"),
        ("url", json!("ftp://a.example/"), "URL must be a valid HTTPS endpoint"),
        ("url", json!("http://127.0.0.1/"), "url "),
        ("isActive", json!("yes"), "isActive must be true or false"),
        ("encrypted", json!(1), "encrypted must be true or false"),
        ("signing_secret", json!("short"), "signing_secret must be 32 to 128 letters"),
        ("event_types", json!([]), "event_types is not a known field"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        for (method, path) in [(Method::POST, HOOKS), (Method::PATCH, path.as_str())] {
            let (status, told) = devdraft(&mut bench, method.clone(), path, body.clone());
            let message = if field == "url" { "Invalid webhook URL format" } else { "Validation failed" };
            assert_eq!((status, &told["message"]), (400, &json!(message)), "{method} {field} {value}");
            assert!(told["details"].as_str().unwrap().contains(says), "{told}");
        }
    }
    for (body, says) in [(json!({}), "name is required; url is required"), (json!([]), "body must be an object")] {
        let (status, told) = devdraft(&mut bench, Method::POST, HOOKS, body);
        assert_eq!((status, told["details"].as_str()), (400, Some(says)));
    }
    assert_eq!(bench.ordered, ["CreateWebhook"]);
}

#[test]
fn a_new_secret_is_a_rotation_and_needs_the_scope() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|_| {});
    let path = format!("{HOOKS}/{}", hook.id);
    let new = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let body = json!({ "signing_secret": new, "name": "Renamed" });
    bench.key("pr_writer", &[Scope::WebhooksWrite], None);
    let response = request(&mut bench, "devdraft", "pr_writer", Method::PATCH, &path, &body.to_string());
    assert_eq!(response.status, 403);
    assert!(bench.ordered.is_empty());
    let (status, _) = devdraft(&mut bench, Method::PATCH, &path, body.clone());
    let after = bench.store.registry().webhook_by_id(hook.id).unwrap().clone();
    assert_eq!((status, after.name.as_str(), after.secrets.len()), (200, "Renamed", 2));
    assert_eq!(after.secrets[0].text, new);
    assert_eq!(after.secrets[1].expires_at, Some(START.plus_ms(DAY_MS)));
    // The repeated request changes nothing.
    let (status, _) = devdraft(&mut bench, Method::PATCH, &path, body);
    assert_eq!((status, bench.ordered.len()), (200, 2), "{:?}", bench.ordered);
}

#[test]
fn a_paused_webhook_reads_as_on_and_stays_paused_when_it_is_sent_back() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|webhook| webhook.status = WebhookStatus::Paused);
    let path = format!("{HOOKS}/{}", hook.id);
    let (_, shown) = devdraft(&mut bench, Method::GET, &path, Value::Null);
    assert_eq!(shown["isActive"], true);
    let (status, _) = devdraft(&mut bench, Method::PATCH, &path, json!({ "isActive": true, "name": "Renamed" }));
    let after = bench.store.registry().webhook_by_id(hook.id).unwrap().clone();
    assert_eq!((status, after.status, after.name.as_str()), (200, WebhookStatus::Paused, "Renamed"));
    for (dialect, target, pointer, on) in [
        ("dfns", format!("/webhooks/{}", dfns_id::webhook(hook.id)), "/status", json!("Enabled")),
        ("everlytic", format!("/transactional/email/v1/webhooks/{}", hook.id), "/webhook/status", json!("enabled")),
        ("sentdm", format!("/v3/webhooks/{}", hook.id), "/data/is_active", json!(true)),
    ] {
        let shown = ok(&request(&mut bench, dialect, ADMIN, Method::GET, &target, ""));
        assert_eq!(shown.pointer(pointer), Some(&on), "{dialect}");
    }
}

#[test]
fn the_same_idempotency_key_makes_one_webhook() {
    let mut bench = Bench::new(START);
    let body = json!({ "name": "Payments", "url": "https://a.example/in" }).to_string();
    let admin = bench.admin.id.to_string();
    let headers = [("x-client-key", admin.as_str()), ("x-client-secret", ADMIN), ("idempotency-key", "once")];
    let first = bench.call(Method::POST, HOOKS, &headers, &body);
    let again = bench.call(Method::POST, HOOKS, &headers, &body);
    assert_eq!((first.status.as_u16(), &first.body), (201, &again.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other = bench.call(Method::POST, HOOKS, &headers, &body.replace("Payments", "Others"));
    assert_eq!(other.status, 409);
    assert_eq!(bench.store.registry().webhooks().count(), 1);
}

#[test]
fn devdraft_lists_by_page_and_by_skip_and_take() {
    let mut bench = Bench::new(START);
    for number in 0..5 {
        bench.webhook(|webhook| {
            webhook.name = format!("hook {number}");
            webhook.status = if number % 2 == 0 { WebhookStatus::Enabled } else { WebhookStatus::Disabled };
        });
    }
    let names = |rows: &Value| -> Vec<String> {
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().trim_start_matches("hook ").to_owned())
            .collect()
    };
    for (query, expected, total) in [
        ("?page=1", vec!["4", "3", "2", "1", "0"], 5),
        ("?page=2&limit=2", vec!["2", "1"], 5),
        ("?page=4&limit=2", vec![], 5),
        ("?active=true&limit=2", vec!["4", "2"], 3),
        ("?active=false", vec!["3", "1"], 2),
    ] {
        let (status, list) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}{query}"), Value::Null);
        assert_eq!(
            (status, names(&list["data"]), &list["pagination"]["total"]),
            (200, expected.iter().map(|s| s.to_string()).collect(), &json!(total)),
            "{query}"
        );
    }
    let (_, plain) = devdraft(&mut bench, Method::GET, &format!("{HOOKS}?skip=1&take=2"), Value::Null);
    assert_eq!(names(&plain), ["3", "2"]);
}

#[test]
fn a_ping_is_one_request_and_leaves_nothing() {
    let mut bench = Bench::new(START);
    let hook = bench.webhook(|_| {});
    let path = format!("/webhooks/{}/ping", dfns_id::webhook(hook.id));
    let event = EventInput::new("a", "{}");
    let (_, fresh) = bench.publish(event);
    for (status_code, expected) in [
        (Some(200), json!({ "status": "200" })),
        (Some(500), json!({ "status": "500", "error": "Internal Server Error" })),
        (None, json!({ "status": "connect_timeout", "error": "Connection timeout" })),
    ] {
        bench.test_send = Some(finished(&fresh[0], START, status_code, 5).made);
        let response = request(&mut bench, "dfns", ADMIN, Method::POST, &path, "{}");
        assert_eq!(ok(&response), expected);
    }
    let response = request(&mut bench, "dfns", ADMIN, Method::POST, &path, "{\"a\":1}");
    assert_eq!(response.status, 400);
    assert!(bench.ordered.is_empty());
    let events = ok(&request(&mut bench, "dfns", ADMIN, Method::GET, &path.replace("ping", "events"), ""));
    assert_eq!(events, json!({ "items": [] }));
}

#[test]
fn reprocessing_sends_failures_of_seven_days_again() {
    let mut bench = Bench::new(START);
    let other = bench.app("other");
    let hook = bench.webhook(|webhook| webhook.retry_schedule_s = vec![]);
    bench.webhook(|webhook| {
        webhook.app_id = other.id;
        webhook.retry_schedule_s = vec![];
    });
    let publish = |bench: &mut Bench, app, status| {
        let event = EventInput { app, ..EventInput::new("a", "{}") };
        let (published, fresh) = bench.publish(event);
        let outcome = finished(&fresh[0], bench.now, Some(status), 5);
        bench.record(outcome);
        published.event.id
    };
    publish(&mut bench, None, 500);
    bench.now = bench.now.plus_ms(8 * DAY_MS);
    let failed = publish(&mut bench, None, 500);
    publish(&mut bench, None, 200);
    let foreign = publish(&mut bench, Some(other.id), 500);
    bench.key("pr_own", &[Scope::EventsWrite], Some(bench.app.id));
    let path = "/transactional/email/v1/webhooks/failed/reprocess";
    for (key, jobs) in [("pr_own", 1), (ADMIN, 3)] {
        let response = request(&mut bench, "everlytic", key, Method::GET, path, "");
        assert_eq!(ok(&response), json!({ "status": true }));
        let window = ListWindow::newest(10);
        assert_eq!(bench.store.jobs(bench.tenant(), window).unwrap().rows.len(), jobs, "{key}");
    }
    assert_eq!(bench.ordered, ["CreateJobs", "CreateJobs"], "all apps of a request are one command");
    for job in bench.store.running_jobs().unwrap() {
        loop {
            let Ok(Receipt::Job(job)) = bench
                .apply(Command::Partition(PartitionCommand::AdvanceJob { id: job.id, limit: 100, make_max: 100 }))
                .0
            else {
                break;
            };
            assert_eq!(job.status, JobStatus::Running);
        }
    }
    for (event, made) in [(failed, 2), (foreign, 2)] {
        assert_eq!(bench.store.deliveries_of(event, bench.now).unwrap().len(), made);
    }
    assert_eq!(bench.store.figures(hook.id, bench.now).unwrap().sums.deliveries, 4, "three deliveries, and one replay");
    let refused = request(&mut bench, "everlytic", "pr_own", Method::GET, "/transactional/email/v1/webhooks", "");
    assert_eq!(refused.status, 403);
}
