//! The client against a hyper server in this process, over TCP and over a unix socket.

use std::{convert::Infallible, sync::Arc};

use http::Response;
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

use super::*;

/// Answers with the request: its line, the headers of interest, and its body. `/v1/missing` is a 404 problem, and
/// `/v1/foreign` is answered with 200 and `ok`.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let mut answer = json!({
        "line": format!("{} {}", request.method(), request.uri()),
        "host": header("host"),
        "authorization": header("authorization"),
        "content_type": header("content-type"),
        "idempotency_key": header("idempotency-key"),
    });
    let missing = request.uri().path() == "/v1/missing";
    let foreign = request.uri().path() == "/v1/foreign";
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    answer["body"] = String::from_utf8_lossy(&body).into();
    let (status, body) = match missing {
        false if foreign => (200, "ok".to_owned()),
        true => (404, json!({"title": "Not found", "detail": "no such thing"}).to_string()),
        false => (200, answer.to_string()),
    };
    let response = Response::builder().status(status).body(Full::from(body));
    Ok(response.unwrap_or_default())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    // An error here appears as an error of the client, which the test checks.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)).await;
}

async fn tcp_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_call_carries_key_query_body_and_idempotency_key() {
    let url = tcp_server().await;
    let client = Client::new(&format!("{url}/below/"), Some(" key-1\n")).expect("a client");
    let call = Call::post(&["webhooks", "a/b ü", "test"])
        .query("limit", Some(5))
        .query("search", Some("a&b"))
        .query("cursor", None::<String>)
        .idempotency_key(Some("once".to_owned()))
        .json(&json!({"a": 1}))
        .expect("it is JSON");
    let seen = client.value(call).await.expect("an answer");
    assert_eq!(seen["line"], "POST /below/v1/webhooks/a%2Fb%20%C3%BC/test?limit=5&search=a%26b");
    assert_eq!(format!("http://{}", seen["host"].as_str().unwrap_or_default()), url);
    assert_eq!(seen["authorization"], "Bearer key-1");
    assert_eq!(seen["content_type"], "application/json");
    assert_eq!(seen["idempotency_key"], "once");
    assert_eq!(seen["body"], "{\"a\":1}");
}

#[tokio::test]
async fn a_call_without_a_body_says_no_content_type_and_no_key_no_authorization() {
    let client = Client::new(&tcp_server().await, Some("")).expect("a client");
    let call = Call::get(&["events"]).query("limit", Some(1)).with_query("limit", "2");
    let seen = client.value(call).await.expect("an answer");
    assert_eq!(seen["line"], "GET /v1/events?limit=2");
    assert!(seen["content_type"].is_null() && seen["authorization"].is_null(), "{seen}");
}

#[tokio::test]
async fn a_problem_ends_the_verb_and_a_missing_daemon_is_another_code() {
    let client = Client::new(&tcp_server().await, None).expect("a client");
    let exit = client.call(Call::get(&["missing"])).await.map(|_| ()).expect_err("it is a 404");
    assert_eq!(exit.code(), 1);
    assert!(exit.text().starts_with("error: Not found: no such thing\nhint: "), "{}", exit.text());

    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let client = Client::new(&format!("http://{closed}"), None).expect("a client");
    let exit = client.call(Call::get(&["events"])).await.map(|_| ()).expect_err("no daemon is there");
    assert_eq!(exit.code(), 69);
    assert!(exit.text().contains("is the daemon running"), "{}", exit.text());
}

#[tokio::test]
async fn an_answer_that_is_not_the_apis_ends_the_verb() {
    let client = Client::new(&tcp_server().await, None).expect("a client");
    let mut called = Vec::new();
    for (call, why) in [
        (Call::get(&["foreign"]), "not the JSON that was expected"),
        (Call::post(&["foreign"]), "not the JSON that was expected"),
        (Call::delete(&["foreign"]), "204 No Content was expected"),
        // JSON, where the API answers without a body.
        (Call::delete(&["keys", "a"]), "204 No Content was expected"),
    ] {
        let exit = client.call(call).await.map(|_| ()).expect_err(why);
        called.push(exit.code());
        assert!(exit.text().contains(why) && exit.text().contains("--url"), "{}", exit.text());
    }
    assert_eq!(called, [1; 4]);
}

#[tokio::test]
async fn a_unix_socket_is_spoken_to_like_a_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = Arc::new(directory.path().join("p.sock"));
    let listener = UnixListener::bind(path.as_ref()).expect("a socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let client = Client::new(&format!("unix:{}", path.display()), None).expect("a client");
    let seen = client.value(Call::get(&["stats"])).await.expect("an answer");
    assert_eq!((seen["line"].as_str(), seen["host"].as_str()), (Some("GET /v1/stats"), Some("localhost")));
}

#[test]
fn a_call_that_cannot_be_sent_is_a_usage_error() {
    assert_eq!(Client::new("nowhere", None).map(|_| ()).map_err(|exit| exit.code()), Err(2));
    let client = Client::new("http://h", Some("a\nb")).expect("a client");
    assert_eq!(client.request(&Call::get(&["x"])).map(|_| ()).map_err(|exit| exit.code()), Err(2));
}
