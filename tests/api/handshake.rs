//! The CloudEvents webhook handshake: asked before the first delivery and again after a new URL or a day, and its
//! answer honoured.

use serde_json::{Value, json};

use crate::support::daemon::text;
use crate::support::{Act, Receiver, START, TestDaemon, eventually};

/// Consents to every request, at this rate.
fn consent(rate: &str) -> Act {
    let headers = vec![("WebHook-Allowed-Origin", "*".to_owned()), ("WebHook-Allowed-Rate", rate.to_owned())];
    Act::Answer(200, headers, Vec::new())
}

fn methods(receiver: &Receiver) -> Vec<String> {
    receiver.seen().into_iter().map(|request| request.method).collect()
}

#[tokio::test]
async fn a_receiver_is_asked_first_and_again_when_the_place_or_the_day_changes() {
    let mut daemon = TestDaemon::start().await;
    let receiver = Receiver::that(consent("*")).await;
    let fields = json!({ "handshake": true, "auth": { "type": "bearer", "token": "t" }, "rate_limit_per_s": 100 });
    let webhook = daemon.webhook(&receiver.url(), fields).await;
    assert_eq!(receiver.count(), 0, "nothing is asked before there is something to send");
    let event = daemon.publish("a", json!(1)).await;
    let (question, delivery) = (receiver.next().await, receiver.next().await);
    assert_eq!((question.method.as_str(), question.target.as_str()), ("OPTIONS", "/hook"));
    assert_eq!(question.header("webhook-request-origin"), "127.0.0.1");
    assert_eq!(question.header("webhook-request-rate"), "6000");
    assert_eq!(question.header("authorization"), "Bearer t");
    assert!(question.body.is_empty() && !question.has("webhook-id"));
    assert_eq!((delivery.method.as_str(), delivery.header("origin")), ("POST", "127.0.0.1"));
    let done = daemon.delivery_in(&event, "delivered").await;
    let attempt = daemon.attempts(&done).await.remove(0);
    assert_eq!((&attempt["number"], &attempt["request_headers"]["origin"]), (&json!(1), &json!("127.0.0.1")));

    daemon.advance_s(3_600);
    let event = daemon.publish("a", json!(2)).await;
    daemon.delivery_in(&event, "delivered").await;
    assert_eq!(methods(&receiver), ["OPTIONS", "POST", "POST"]);

    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    daemon.patch(&path, json!({ "url": format!("{}/other", receiver.url()) })).await;
    // The rate holds from the time of the grant, which the scheduler may just have received.
    daemon.advance_s(1);
    let event = daemon.publish("a", json!(3)).await;
    daemon.delivery_in(&event, "delivered").await;
    assert_eq!(methods(&receiver)[3..], ["OPTIONS", "POST"]);
    assert_eq!(receiver.seen()[3].target, "/hook/other");

    daemon.advance_s(86_400);
    let event = daemon.publish("a", json!(4)).await;
    daemon.delivery_in(&event, "delivered").await;
    daemon.restart().await;
    let event = daemon.publish("a", json!(5)).await;
    daemon.delivery_in(&event, "delivered").await;
    assert_eq!(methods(&receiver)[5..], ["OPTIONS", "POST", "OPTIONS", "POST"]);
    let attempt = daemon.try_post(&format!("{path}/test"), json!({})).await.expect(200);
    assert_eq!(attempt["success"], true);
    assert_eq!(methods(&receiver)[9..], ["POST"]);
}

#[tokio::test]
async fn without_consent_nothing_is_delivered_and_the_attempt_says_why() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    receiver.next_acts([
        Act::status(200),
        Act::with_header(200, "webhook-allowed-origin", "somebody-else.example"),
        Act::status(405),
        consent("*"),
    ]);
    daemon.webhook(&receiver.url(), json!({ "handshake": true, "retry_schedule_s": [5, 5, 5] })).await;
    let event = daemon.publish("a", json!(1)).await;
    for (attempts, why) in [(1, "WebHook-Allowed-Origin"), (2, "somebody-else.example"), (3, "405 Method Not Allowed")]
    {
        let row = daemon.delivery_when(&event, |row| row["attempts"] == attempts).await;
        assert_eq!((row["status"].as_str(), row["last_outcome"].as_str()), (Some("retrying"), Some("request_error")));
        assert!(text(&row, "last_error").contains(why), "{row}");
        assert_eq!(row["last_status_code"], Value::Null, "no delivery was answered");
        daemon.advance_s(8);
    }
    let done = daemon.delivery_in(&event, "delivered").await;
    assert_eq!(done["attempts"], 4);
    assert_eq!(methods(&receiver), ["OPTIONS", "OPTIONS", "OPTIONS", "OPTIONS", "POST"]);
}

#[tokio::test]
async fn a_receiver_that_cannot_be_asked_is_told_apart_from_one_that_refuses() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::that(Act::Reset).await;
    daemon.webhook(&receiver.url(), json!({ "handshake": true, "retry_schedule_s": "none" })).await;
    let event = daemon.publish("a", json!(1)).await;
    let row = daemon.delivery_in(&event, "failed").await;
    assert_eq!(row["last_outcome"], "connect_reset");
    assert!(text(&row, "last_error").starts_with("the handshake failed"), "{row}");
}

#[tokio::test]
async fn the_allowed_rate_is_an_upper_bound_from_the_first_request_on() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::timed(&daemon.clock).await;
    receiver.always(consent("60"));
    // The webhook's own limit is far above the receiver's grant.
    daemon.webhook(&receiver.url(), json!({ "handshake": true, "rate_limit_per_s": 50 })).await;
    let events: Vec<Value> = (0..6).map(|n| json!({ "type": "a", "data": n })).collect();
    daemon.try_post("/v1/events/batch", json!({ "events": events })).await.expect(202);
    eventually("all six", async || {
        daemon.clock.advance_ms(20);
        (receiver.count() == 7).then_some(())
    })
    .await;
    let posts: Vec<i64> = receiver.seen()[1..].iter().map(|request| request.at.unwrap().since(START)).collect();
    for pair in posts.windows(2) {
        assert!(pair[1] - pair[0] >= 980, "{posts:?}");
    }
}

#[tokio::test]
async fn a_webhook_without_the_handshake_is_not_asked() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    daemon.webhook(&receiver.url(), json!({})).await;
    daemon.publish("a", json!(1)).await;
    let request = receiver.next().await;
    assert_eq!((request.method.as_str(), request.has("origin")), ("POST", false));
}
