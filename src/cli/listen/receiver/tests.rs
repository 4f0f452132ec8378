//! Tests of the receiver on a real socket: its answers, its reports, and the requests that it forwards.

use super::*;
use crate::cli::listen::verify::SignatureCheck;

struct Running {
    place: HttpEndpoint,
    reports: mpsc::Receiver<Seen>,
}

async fn run(fail: u64, status: u16, forward: Option<HttpEndpoint>) -> Running {
    start(fail, status, forward, true).await
}

async fn start(fail: u64, status: u16, forward: Option<HttpEndpoint>, accepts_bad: bool) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let (reports, requests) = mpsc::channel(16);
    let receiver = Receiver {
        secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret")],
        accepts_bad,
        fail,
        status: StatusCode::from_u16(status).expect("a status"),
        forward,
        received: AtomicU64::new(0),
        reports,
    };
    tokio::spawn(serve(listener, Arc::new(receiver)));
    Running { place: HttpEndpoint::parse(&url).expect("a place"), reports: requests }
}

impl Running {
    async fn post(&self, target: &str, body: &'static str) -> Response<Bytes> {
        let request = Request::post(target).header("x-mine", "1").body(Full::from(body));
        self.place.exchange(request.expect("a request")).await.expect("an answer")
    }
}

#[tokio::test]
async fn the_first_requests_fail_and_the_rest_get_the_given_status() {
    let mut running = run(2, 202, None).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(running.post("/in?a=1", "{\"type\":\"x\"}").await.status().as_u16());
    }
    assert_eq!(statuses, [500, 500, 202]);
    let seen = running.reports.recv().await.expect("it was told");
    assert_eq!((seen.target.as_str(), seen.status), ("/in?a=1", 500));
    assert_eq!(&seen.body[..], b"{\"type\":\"x\"}");
    assert_eq!(seen.signature_check, SignatureCheck::Bad("no signature"));
}

#[tokio::test]
async fn a_bad_signature_is_answered_401_and_counts_for_nothing() {
    let mut behind = run(0, 200, None).await;
    let front = start(1, 200, Some(behind.place.clone()), false).await;
    assert_eq!(front.post("/", "forged").await.status().as_u16(), 401);
    assert_eq!(front.post("/", "forged").await.status().as_u16(), 401);
    assert!(behind.reports.try_recv().is_err(), "it is not passed on");
}

#[tokio::test]
async fn forwarded_requests_keep_path_headers_and_body_and_bring_the_answer_back() {
    let mut behind = run(0, 418, None).await;
    let front = run(0, 200, Some(behind.place.clone())).await;
    assert_eq!(front.post("/deep/in?a=1", "hello").await.status().as_u16(), 418);
    let seen = behind.reports.recv().await.expect("it was passed on");
    assert_eq!(seen.target, "/deep/in?a=1");
    assert_eq!(seen.headers.get("x-mine").map(|v| v.as_bytes()), Some(&b"1"[..]));
    assert_eq!(&seen.body[..], b"hello");
}

#[tokio::test]
async fn a_missing_server_behind_is_a_bad_gateway() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let closed_endpoint = HttpEndpoint::parse(&format!("http://{closed}")).expect("a place");
    let front = run(0, 200, Some(closed_endpoint)).await;
    assert_eq!(front.post("/", "x").await.status(), StatusCode::BAD_GATEWAY);
}
