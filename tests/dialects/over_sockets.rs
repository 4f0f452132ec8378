//! sent.dm's and Instantly's webhooks over real sockets: the receiver checks each delivery by the vendor's rule, during a
//! rotation too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::daemon::text;
use crate::support::{Receiver, Request, TestDaemon};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn sent(daemon: &TestDaemon, method: Method, path: &str, body: Value) -> Answer {
    let headers = [("x-api-key", daemon.key.as_str()), JSON];
    daemon.with_key("").call(method, path, &headers, body.to_string()).await
}

/// The rule of sent.dm's receivers: one `v1,` and base64 over `id.timestamp.body`, not older than 300 s. If a header
/// has a type, it is the body's.
fn sent_accepts(request: &Request, secret: &str, now_s: i64) -> bool {
    let (id, timestamp) = (request.header("x-webhook-id"), request.header("x-webhook-timestamp"));
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    let right = STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed));
    let body = request.json();
    request.header("x-webhook-signature") == format!("v1,{right}")
        && (now_s - timestamp.parse::<i64>().unwrap()).abs() <= 300
        && body["sub_type"] == request.header("x-webhook-event-type")
        && body["event"] == request.header("x-webhook-event-type")
}

/// HEAD is safe (RFC 9110 section 9.2.1), although Everlytic's `reprocess` and the log-in by a link act on GET.
#[tokio::test]
async fn head_of_a_route_that_acts_is_refused() {
    let daemon = TestDaemon::start().await;
    let authorization = format!("Basic {}", STANDARD.encode(format!("u:{}", daemon.key)));
    let client = daemon.with_key("");
    let path = "/transactional/email/v1/webhooks/failed/reprocess";
    let answer = client.call(Method::HEAD, path, &[("authorization", &authorization)], String::new()).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET")));
    assert_eq!(daemon.get("/v1/replays").await["data"], json!([]));
    let answer = client.call(Method::HEAD, "/ui/enter?t=x", &[], String::new()).await;
    assert_eq!(answer.status, 405);
    let answer = daemon.call(Method::HEAD, "/v1/webhooks", &[], String::new()).await;
    assert_eq!(answer.status, 200);
}

/// The caller of a DELETE sees the id of the request in its header only.
#[tokio::test]
async fn a_repeated_delete_names_the_first_request() {
    let daemon = TestDaemon::start().await;
    let made = sent(&daemon, Method::POST, "/v3/webhooks", json!({ "endpoint_url": "https://a.example/" })).await;
    let path = format!("/v3/webhooks/{}", text(&made.json()["data"], "id"));
    let headers = [("x-api-key", daemon.key.as_str()), ("idempotency-key", "gone")];
    let client = daemon.with_key("");
    let first = client.call(Method::DELETE, &path, &headers, String::new()).await;
    let again = client.call(Method::DELETE, &path, &headers, String::new()).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (204, 204));
    assert_eq!(again.header("x-original-request-id"), first.header("x-request-id"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_in_the_words_of_its_shape() {
    let daemon = TestDaemon::start().await;
    let answer = sent(&daemon, Method::POST, "/v3/webhooks", json!({ "x": "x".repeat(1 << 20) })).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["success"]), (413, &json!(false)), "{}", lossy(&answer));
}

fn lossy(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// A request without a body has no `Content-Type` either. It is judged as a request without fields, or as one that
/// needs a body, and never by its media type. Where the API's document requires a body, its lack is refused.
#[tokio::test]
async fn a_request_without_a_body_is_not_judged_by_its_media_type() {
    let daemon = TestDaemon::start().await;
    let id = text(&daemon.webhook("https://hooks.example.com/in", json!({})).await, "id").to_owned();
    let dfns = postrider::rules::dfns_id::webhook(id.parse().unwrap());
    let basic = format!("Basic {}", STANDARD.encode(format!("u:{}", daemon.key)));
    let bearer = format!("Bearer {}", daemon.key);
    let everlytic = "/transactional/email/v1/webhooks";
    let document = daemon.get("/openapi.json").await;
    for (method, path, status) in [
        (Method::POST, everlytic.to_owned(), 400),
        (Method::PUT, format!("{everlytic}/{id}"), 400),
        (Method::POST, "/v3/webhooks".to_owned(), 400),
        (Method::PUT, format!("/v3/webhooks/{id}"), 200),
        (Method::POST, format!("/v3/webhooks/{id}/rotate-secret"), 200),
        (Method::POST, format!("/v3/webhooks/{id}/test"), 400),
        (Method::POST, "/webhooks".to_owned(), 400),
        (Method::PUT, format!("/webhooks/{dfns}"), 200),
        (Method::POST, "/auth/action/init".to_owned(), 400),
        (Method::POST, "/api/v2/webhooks".to_owned(), 400),
        (Method::PATCH, format!("/api/v2/webhooks/{id}"), 200),
        (Method::POST, format!("/api/v2/webhooks/{id}/resume"), 200),
        (Method::POST, "/api/v0/webhooks".to_owned(), 400),
        (Method::PATCH, format!("/api/v0/webhooks/{id}"), 200),
        (Method::POST, "/v1/webhooks".to_owned(), 400),
        (Method::PATCH, format!("/v1/webhooks/{id}"), 400),
        (Method::POST, "/v1/replays".to_owned(), 400),
        (Method::POST, format!("/v1/webhooks/{id}/pause"), 200),
    ] {
        let headers = match path.split('/').nth(1) {
            Some("transactional") => [("authorization", basic.as_str())],
            Some("v3") => [("x-api-key", daemon.key.as_str())],
            _ if path.starts_with("/api/v0") => [("x-client-secret", daemon.key.as_str())],
            _ => [("authorization", bearer.as_str())],
        };
        let answer = daemon.with_key("").call(method.clone(), &path, &headers, String::new()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", lossy(&answer));
        let route = path.replace(&id, "{id}").replace(&dfns, "{id}");
        let operation = &document["paths"][route][method.as_str().to_lowercase()];
        let is_required = operation.get("requestBody").map_or(json!(false), |body| body["required"].clone());
        assert!(is_required == json!(false) || status == 400, "{method} {path}: {operation}");
        if path == everlytic {
            assert_eq!(answer.json()["error"]["errors"][0]["reason"], "invalid");
        }
        if path.ends_with("/test") {
            assert!(lossy(&answer).contains("Event type is required"), "{}", lossy(&answer));
        }
    }
}

#[tokio::test]
async fn a_sent_receiver_accepts_every_delivery_of_a_webhook_made_in_its_shape() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let new = json!({
        "display_name": "Orders", "endpoint_url": receiver.url(), "event_types": ["message"], "retry_count": 1,
        "timeout_seconds": 5,
    });
    let made = sent(&daemon, Method::POST, "/v3/webhooks", new).await.expect(201)["data"].clone();
    let path = format!("/v3/webhooks/{}", text(&made, "id"));
    let first = text(&made, "signing_secret").to_owned();
    let now_s = || postrider::engine::clock::Clock::wall(&*daemon.clock).seconds();

    // A retry has the event id of the first attempt.
    receiver.next_statuses([500]);
    let event = daemon.publish("message.delivered", json!({ "message_id": "m-1" })).await;
    let failed = receiver.next().await;
    daemon.delivery_in(&event, "retrying").await;
    // The wait of 60 s and its spread.
    daemon.advance_s(67);
    let retried = receiver.next().await;
    for request in [&failed, &retried] {
        assert!(sent_accepts(request, &first, now_s()), "{request:?}");
    }
    assert_eq!(failed.header("x-webhook-event-id"), retried.header("x-webhook-event-id"));
    assert_eq!(failed.header("x-webhook-id"), text(&made, "id"));
    let body = failed.json();
    assert_eq!((&body["field"], &body["sub_type"]), (&json!("message"), &json!("message.delivered")));
    assert_eq!((&body["event"], &body["payload"]), (&json!("message.delivered"), &json!({ "message_id": "m-1" })));
    assert_eq!((text(&body, "timestamp").len(), &body["request_id"]), (20, &event["id"]));

    let rotated = sent(&daemon, Method::POST, &format!("{path}/rotate-secret"), json!({})).await.expect(200);
    let second = text(&rotated["data"], "signing_secret").to_owned();
    daemon.publish("message", json!({})).await;
    let plain = receiver.next().await;
    assert!(sent_accepts(&plain, &second, now_s()) && !sent_accepts(&plain, &first, now_s()), "{plain:?}");

    // A native rotation overlaps, and sent.dm's receivers still get one value.
    let native = format!("/v1/webhooks/{}/rotate-secret", text(&made, "id"));
    let third = daemon.post(&native, json!({ "overlap_s": 600 })).await;
    daemon.publish("message.read", json!({})).await;
    assert!(sent_accepts(&receiver.next().await, text(&third, "secret"), now_s()));

    let test = json!({ "event_type": "message.failed" });
    let tested = sent(&daemon, Method::POST, &format!("{path}/test"), test.clone()).await.expect(200);
    assert_eq!(tested["data"], json!({ "success": true, "message": "Test event delivered successfully" }));
    let request = receiver.next().await;
    assert!(sent_accepts(&request, text(&third, "secret"), now_s()));
    assert_eq!(
        (&request.json()["event"], &request.json()["payload"]),
        (&json!("message.failed"), &json!({ "test": true }))
    );
    receiver.next_statuses([410]);
    let tested = sent(&daemon, Method::POST, &format!("{path}/test"), test).await.expect(200);
    assert_eq!(tested["data"]["message"], "Test event delivery failed with status 410");

    assert_eq!(
        sent(&daemon, Method::PATCH, &format!("{path}/toggle-status"), json!({ "is_active": false })).await.status,
        200
    );
    assert_eq!(sent(&daemon, Method::DELETE, &path, Value::Null).await.status, 204);
    assert_eq!(sent(&daemon, Method::GET, &path, Value::Null).await.status, 404);
    let audit = daemon.get("/v1/audit").await;
    let actions: Vec<&str> = audit["data"].as_array().unwrap().iter().map(|row| text(row, "action")).collect();
    for action in ["webhook.create", "webhook.update", "webhook.rotate_secret", "webhook.delete"] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn an_instantly_webhook_gets_flat_bodies_of_its_campaign_with_its_secret_header() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let campaign = "019cbd9e-0000-7000-8000-00000000000c";
    let new = json!({
        "target_hook_url": receiver.url(), "campaign": campaign, "event_type": "reply_received",
        "headers": { "x-webhook-token": "refused" },
    });
    let refused = daemon.try_post("/api/v2/webhooks", new.clone()).await.expect(400);
    assert!(text(&refused, "message").starts_with("body/headers/x-webhook-token"), "{refused}");
    let mut new = new;
    new["headers"] = json!({ "authorization": "Bearer shared" });
    let made = daemon.try_post("/api/v2/webhooks", new).await.expect(200);
    let path = format!("/api/v2/webhooks/{}", text(&made, "id"));
    for (channels, data) in [(json!([]), 1), (json!([campaign]), 2)] {
        let event =
            json!({ "type": "reply_received", "channels": channels, "subject": "a@x.example", "data": { "n": data } });
        daemon.publish_with(event).await;
    }
    let request = receiver.next().await;
    let body = request.json();
    assert_eq!(
        (&body["n"], &body["event_type"], &body["lead_email"]),
        (&json!(2), &json!("reply_received"), &json!("a@x.example"))
    );
    assert_eq!((request.header("authorization"), request.has("webhook-signature")), ("Bearer shared", false));

    let tested = daemon.call(Method::POST, &format!("{path}/test"), &[], "").await.expect(200);
    assert_eq!(
        (&tested["success"], &tested["status_code"], &tested["error"]),
        (&json!(true), &json!(200), &Value::Null)
    );
    assert!(tested["response_time_ms"].is_u64());
    receiver.next().await;

    // A 410 disables the webhook, and resuming enables it again.
    receiver.next_statuses([410]);
    daemon.publish_with(json!({ "type": "reply_received", "channels": [campaign], "data": {} })).await;
    receiver.next().await;
    daemon.webhook_when(&made, |webhook| webhook["status"] == "disabled").await;
    let shown = daemon.get(&path).await;
    assert_eq!((&shown["status"], shown["timestamp_error"].is_string()), (&json!(-1), true));
    let resumed = daemon.call(Method::POST, &format!("{path}/resume"), &[], "").await.expect(200);
    assert_eq!((&resumed["status"], &resumed["timestamp_error"]), (&json!(1), &Value::Null));
    assert_eq!(daemon.delete(&path).await.expect(200)["id"], made["id"]);
}

#[tokio::test]
async fn a_list_of_attempts_ends_a_page_after_16_mib_of_payloads() {
    let (daemon, receiver) = (TestDaemon::start().await, Receiver::start().await);
    let webhook = daemon.webhook(&receiver.url(), json!({})).await;
    let id = text(&webhook, "id").parse().unwrap();
    let large = "x".repeat(900_000);
    for _ in 0..20 {
        daemon.publish("a", json!(large)).await;
    }
    receiver.take(20).await;
    for (list, items, next, token) in [
        ("/api/v2/webhook-events?limit=100".to_owned(), "items", "next_starting_after", "starting_after"),
        (
            format!("/webhooks/{}/events?limit=100", postrider::rules::dfns_id::webhook(id)),
            "items",
            "nextPageToken",
            "paginationToken",
        ),
    ] {
        let first = crate::support::eventually("20 attempts", async || {
            let first = daemon.get(&list).await;
            first[next].is_string().then_some(first)
        })
        .await;
        let count = first[items].as_array().unwrap().len();
        assert_eq!(count, (16 << 20) / 900_000 + 1, "{list}");
        let rest = crate::support::eventually("the last attempts", async || {
            let rest = daemon.get(&format!("{list}&{token}={}", text(&first, next))).await;
            (rest[next].is_null()).then_some(rest)
        })
        .await;
        assert!(!rest[items].as_array().unwrap().is_empty(), "{list}");
    }
}
