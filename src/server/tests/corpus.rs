//! The rows of the corpus of bad requests that concern the server. Tests of the routes have the others.

use std::time::Duration;

use serde_json::Value;

use super::{ServerLimits, TestResponse, TestServer, limits, run};

const CORPUS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bad_requests.json"));

/// The rows that are decided before the route: framing, credentials, origin, unknown paths.
const ROWS: [u64; 13] = [1, 3, 5, 25, 29, 31, 33, 35, 37, 39, 43, 45, 47];

#[tokio::test]
async fn bad_requests_get_the_answer_that_is_written_down() {
    // A short deadline, because one row waits for it.
    let running = run(ServerLimits { head_read: Duration::from_millis(300), ..limits() }).await;
    let corpus: Vec<Value> = serde_json::from_str(CORPUS).unwrap();
    let mut seen = 0;
    for row in corpus.iter().filter(|row| ROWS.contains(&row["id"].as_u64().unwrap())) {
        let name = row["name"].as_str().unwrap();
        let answer = send(&running, row).await;
        let accepted: Vec<&Value> =
            std::iter::once(&row["expect"]).chain(row["also_accept"].as_array().into_iter().flatten()).collect();
        let got = answer.as_ref().map_or(Value::from("close"), |answer| Value::from(answer.status));
        assert!(accepted.contains(&&got), "{name}: {got} and not {accepted:?}");
        if let Some(answer) = answer {
            answer.code();
        }
        assert!(running.is_well().await, "{name}");
        seen += 1;
    }
    assert_eq!(seen, ROWS.len());
    assert!(running.server.open_connections() < 100);
}

async fn send(running: &TestServer, row: &Value) -> Option<TestResponse> {
    let mut client = running.connect().await;
    match row["id"].as_u64().unwrap() {
        // Endless chunks: more than the limit, followed by silence.
        25 => {
            client.say(head(row)).await;
            for _ in 0..100 {
                client.say(format!("1000\r\n{}\r\n", "x".repeat(0x1000))).await;
            }
        }
        // The pauses are longer than the deadline.
        39 => client.say("GET").await,
        43 => client.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await,
        _ => match row["raw"].as_str() {
            Some(raw) => client.say(filled(raw)).await,
            None => client.say(head(row) + &filled(row["body"].as_str().unwrap_or_default())).await,
        },
    }
    client.answer().await
}

fn head(row: &Value) -> String {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", text(&row["method"]), filled(text(&row["path"])));
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        match name.as_str() {
            "x-1..x-1000" => (1..=1000).for_each(|nth| head += &format!("x-{nth}: {}\r\n", text(value))),
            _ => head += &format!("{name}: {}\r\n", filled(text(value))),
        }
    }
    match row["body"].as_str() {
        Some(body) if !body.starts_with('<') => head + &format!("content-length: {}\r\n\r\n", filled(body).len()),
        _ => head + "\r\n",
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn filled(text: &str) -> String {
    [("{EVENTS}", "/v1/events"), ("{WEBHOOKS}", "/v1/webhooks"), ("{KEY}", "k"), ("{ID}", "1")]
        .iter()
        .fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}
