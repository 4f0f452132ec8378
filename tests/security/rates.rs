//! A key's own rate, on a clock that the test moves.

use http::Method;
use serde_json::json;

use crate::security::support::{Answer, Instance, text};

fn wait_s(answer: &Answer) -> u64 {
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "rate_limited"));
    answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_makes_as_many_requests_as_it_may_and_is_told_when_to_come_back() {
    let instance = Instance::start().await;
    let make = async |rate: f64| {
        let body = json!({ "name": "k", "scopes": ["events:read", "events:write"], "rate_per_s": rate });
        let made = instance.first.post("/v1/keys", body).await.expect(201);
        instance.client(text(&made, "key"))
    };
    let (five, slow) = (make(5.0).await, make(0.1).await);
    for _ in 0..5 {
        five.get("/v1/events").await.expect(200);
    }
    assert_eq!(wait_s(&five.get("/v1/events").await), 1);
    // A rejected request has no effect, on every route.
    let event = json!({ "type": "a.b", "data": 1 }).to_string();
    assert_eq!(wait_s(&five.call(Method::POST, "/v1/events", &[], &event).await), 1);
    assert_eq!(instance.first.get("/v1/events").await.expect(200)["data"], json!([]));
    // Other keys, and requests without one, are not limited.
    slow.get("/v1/events").await.expect(200);
    instance.client("").get("/healthz").await.expect(200);
    assert_eq!(wait_s(&slow.get("/v1/events").await), 10);
    instance.clock.advance_ms(200);
    five.get("/v1/events").await.expect(200);
    wait_s(&five.get("/v1/events").await);
    // A refusal costs nothing, so a client that keeps asking is admitted in time.
    instance.clock.advance_ms(800);
    for _ in 0..4 {
        five.get("/v1/events").await.expect(200);
    }
    wait_s(&five.get("/v1/events").await);
    // An idle hour does not save up an hour's requests.
    instance.clock.advance_ms(3_600_000);
    for _ in 0..5 {
        five.get("/v1/events").await.expect(200);
    }
    wait_s(&five.get("/v1/events").await);
    slow.get("/v1/events").await.expect(200);
    wait_s(&slow.get("/v1/events").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_back_locks_no_caller_out() {
    let instance = Instance::start().await;
    let body = json!({ "name": "k", "scopes": ["events:read"], "rate_per_s": 1.0 });
    let made = instance.first.post("/v1/keys", body).await.expect(201);
    let client = instance.client(text(&made, "key"));
    client.get("/v1/events").await.expect(200);
    wait_s(&client.get("/v1/events").await);
    instance.clock.jump_to(crate::security::support::START.minus_ms(3_600_000));
    wait_s(&client.get("/v1/events").await);
    instance.clock.advance_ms(1_000);
    client.get("/v1/events").await.expect(200);
}
