//! `Idempotency-Key` on every POST: the same request gets the first answer and changes nothing, and another one is
//! refused.

use http::Method;
use serde_json::json;

use crate::support::daemon::text;
use crate::support::{Act, Receiver, TestDaemon};

#[tokio::test]
async fn every_post_gives_its_first_answer_again_also_after_a_restart() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    let webhook = daemon.webhook(&receiver.url(), json!({ "event_types": ["a"] })).await;
    let event = daemon.publish("a", json!(1)).await;
    let delivery = daemon.delivery_in(&event, "delivered").await;
    receiver.always(Act::status(500));
    let waiting = daemon.publish("a", json!(2)).await;
    let open = daemon.delivery_in(&waiting, "retrying").await;
    receiver.always(Act::status(200));
    let (hook, event_id) = (text(&webhook, "id").to_owned(), text(&waiting, "id").to_owned());
    let posts = [
        ("/v1/events".to_owned(), json!({ "type": "b", "data": 1 }), json!({ "type": "b", "data": 2 })),
        (
            "/v1/events/batch".to_owned(),
            json!({ "events": [{ "type": "b", "data": 1 }] }),
            json!({ "events": [{ "type": "b", "data": 2 }] }),
        ),
        (
            "/v1/webhooks".to_owned(),
            json!({ "url": receiver.url(), "event_types": ["x"] }),
            json!({ "url": receiver.url() }),
        ),
        (format!("/v1/webhooks/{hook}/rotate-secret"), json!({}), json!({ "overlap_s": 1 })),
        (format!("/v1/webhooks/{hook}/test"), json!({}), json!({ "type": "other" })),
        (format!("/v1/webhooks/{hook}/pause"), json!({}), json!({ "no": 1 })),
        (format!("/v1/webhooks/{hook}/resume"), json!({}), json!({ "no": 1 })),
        (format!("/v1/deliveries/{}/cancel", text(&open, "id")), json!({}), json!({ "no": 1 })),
        (format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({}), json!({ "no": 1 })),
        (format!("/v1/events/{event_id}/cancel"), json!({}), json!({ "no": 1 })),
        ("/v1/replays".to_owned(), json!({ "webhook_id": hook, "types": ["none"] }), json!({ "webhook_id": hook })),
        (
            "/v1/replays".to_owned(),
            json!({ "webhook_id": hook, "dry_run": true }),
            json!({ "webhook_id": hook, "dry_run": true, "types": ["x"] }),
        ),
        ("/v1/apps".to_owned(), json!({ "name": "second" }), json!({ "name": "third" })),
        (
            "/v1/keys".to_owned(),
            json!({ "name": "k", "scopes": ["events:read"] }),
            json!({ "name": "k", "scopes": ["admin"] }),
        ),
        ("/v1/organizations".to_owned(), json!({ "name": "other" }), json!({ "name": "third" })),
    ];
    let mut firsts = Vec::new();
    for (number, (path, body, _)) in posts.iter().enumerate() {
        let first = daemon.post_once(path, &format!("key-{number}"), body.clone()).await;
        assert!(first.status.is_success(), "{path}: {first:?}");
        assert_eq!(first.header("idempotent-replayed"), None, "{path}");
        firsts.push(first);
    }
    let count = receiver.take(4).await.len();
    daemon.restart().await;
    for (number, (path, body, other)) in posts.iter().enumerate() {
        let again = daemon.post_once(path, &format!("key-{number}"), body.clone()).await;
        assert_eq!((again.status, &again.body), (firsts[number].status, &firsts[number].body), "{path}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
        let refused = daemon.post_once(path, &format!("key-{number}"), other.clone()).await;
        assert!(refused.status == 409 || refused.status == 422, "{path}: {refused:?}");
    }
    assert_eq!((receiver.count(), count), (4, 4), "nothing was sent again");
    assert_eq!(daemon.get("/v1/apps").await["data"].as_array().unwrap().len(), 2);
    // After the window it is a new request.
    daemon.advance_s(86_400);
    let later = daemon.post_once("/v1/apps", "key-12", json!({ "name": "second" })).await;
    assert_eq!((later.status.as_u16(), later.header("idempotent-replayed")), (201, None));
}

#[tokio::test]
async fn an_answer_with_a_secret_is_kept_for_ten_minutes() {
    let daemon = TestDaemon::start().await;
    let body = json!({ "name": "k", "scopes": ["events:read"] });
    let first = daemon.post_once("/v1/keys", "k-1", body.clone()).await;
    daemon.advance_s(599);
    let again = daemon.post_once("/v1/keys", "k-1", body.clone()).await;
    assert_eq!(again.body, first.body);
    daemon.advance_s(1);
    let late = daemon.post_once("/v1/keys", "k-1", body).await;
    assert_eq!(late.expect(409)["code"], "answer_expired");
}

#[tokio::test]
async fn an_idempotency_key_belongs_to_its_caller_and_a_refusal_is_not_stored() {
    let daemon = TestDaemon::start().await;
    let made = daemon.post("/v1/keys", json!({ "name": "k", "scopes": ["events:write"] })).await;
    let other = daemon.with_key(text(&made, "key"));
    let body = json!({ "type": "a", "data": 1 });
    let first = daemon.post_once("/v1/events", "same", body.clone()).await.expect(202);
    let second = other.post_once("/v1/events", "same", body.clone()).await.expect(202);
    assert_ne!(first["id"], second["id"]);
    let bad = daemon.post_once("/v1/events", "again", json!({ "type": "a" })).await;
    assert_eq!(bad.status, 422);
    assert_eq!(daemon.post_once("/v1/events", "again", body).await.status, 202);
    let headers = [("content-type", "application/json"), ("idempotency-key", "a b")];
    let refused = daemon.call(Method::POST, "/v1/events", &headers, r#"{"type":"a","data":1}"#).await;
    assert_eq!(refused.expect(422)["code"], "invalid_header");
}
