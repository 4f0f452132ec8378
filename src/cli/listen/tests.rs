//! Tests of `listen --create` against an API in this process: its requests, and that no webhook stays behind.

use std::{convert::Infallible, sync::Mutex};

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::*;
use crate::cli::{Cli, Verb};

/// The lines of all requests, with their bodies.
type Asked = Arc<Mutex<Vec<String>>>;

/// Answers every POST with `status` and `answer`, and everything else with 204.
async fn api(status: u16, answer: &'static str) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| {
                let log = Arc::clone(&log);
                async move {
                    let line = format!("{} {}", request.method(), request.uri());
                    let status = if request.method() == "POST" { status } else { 204 };
                    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    let reports = format!("{line} {}", String::from_utf8_lossy(&body));
                    log.lock().expect("not poisoned").push(reports.trim_end().to_owned());
                    let body = if status == 204 { "" } else { answer };
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                    Ok::<_, Infallible>(response.unwrap_or_default())
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (url, asked)
}

const REFUSED: &str = r#"{"title":"Invalid values","errors":[{"pointer":"/url","detail":"the address is not one that may be sent to, unless delivery.allow of the daemon names it; those of cloud metadata never are"}]}"#;

fn listen(line: &str) -> Listen {
    match Cli::try_parse_from(line.split(' ')).expect("it parses").verb {
        Verb::Listen(listen) => listen,
        other => panic!("{other:?} is another verb"),
    }
}

fn lines(asked: &Asked) -> Vec<String> {
    asked.lock().expect("not poisoned").clone()
}

#[tokio::test]
async fn a_webhook_is_made_and_removed_again() {
    let (url, asked) = api(201, r#"{"id":"w-1","secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#).await;
    let client = Client::new(&url, None).expect("a client");
    let verb = listen("postrider listen --create --event-type a.*,b --app app_019cbd70-9d78-7320-aa3a-de3497964cb8");
    let made = verb.create_webhook(&client, "http://127.0.0.1:9/").await.expect("it was made");
    made.remove(&client).await.expect("it was removed");
    let app = r#""app_id":"019cbd70-9d78-7320-aa3a-de3497964cb8""#;
    let body =
        r#"{"url":"http://127.0.0.1:9/","name":"postrider listen","event_types":["a.*","b"],"#.to_owned() + app + "}";
    assert_eq!(lines(&asked), [format!("POST /v1/webhooks {body}"), "DELETE /v1/webhooks/w-1".to_owned()]);
}

#[tokio::test]
async fn a_refused_address_says_which_setting_to_look_at() {
    let (url, _) = api(422, REFUSED).await;
    let client = Client::new(&url, None).expect("a client");
    let made = listen("postrider listen --create").create_webhook(&client, "http://127.0.0.1:9/").await;
    let exit = made.map(|made| made.id).expect_err("it was refused");
    assert!(exit.text().contains("`postrider serve --dev`"), "{}", exit.text());
}

#[tokio::test]
async fn a_webhook_whose_secret_is_of_no_use_does_not_stay() {
    let (url, asked) = api(201, r#"{"id":"w-1"}"#).await;
    let client = Client::new(&url, None).expect("a client");
    let made = listen("postrider listen --create").create_webhook(&client, "http://127.0.0.1:9/").await;
    assert!(made.is_err());
    assert_eq!(lines(&asked).last().map(String::as_str), Some("DELETE /v1/webhooks/w-1"));
}
