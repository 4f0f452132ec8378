//! The two ceilings, each a process of its own: a bare server that only accepts, and a relay that only passes on. They
//! are this same program, started with a hidden argument.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use postrider::model::Id;
use postrider::model::webhook::SignatureScheme;
use postrider::rules::signing::{SignedIds, Signer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::sink::SECRET;

/// The text that a rival prints before its address once it accepts.
pub const READY: &str = "rival: listening on ";

/// Server (a) reads the body and answers 202.
pub async fn bare() -> std::io::Result<()> {
    serve(|request: Request<Incoming>| async move {
        match request.into_body().collect().await {
            Ok(_) => StatusCode::ACCEPTED,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    })
    .await
}

/// Server (b) reads the body, sends it to `fanout` paths of the sink over at most `connections` kept connections, reads
/// the answers, and answers 202. It stores and queues nothing. With `signs` it signs each request as Postrider does by
/// default.
pub async fn relay(sink: SocketAddr, fanout: usize, connections: usize, signs: bool) -> std::io::Result<()> {
    let signer = signs.then(|| Signer::new(&[SignatureScheme::Standard], [SECRET]).expect("a secret"));
    let (idle, permits, sent) = (Mutex::default(), Semaphore::new(connections), AtomicU64::new(1));
    let pool = Arc::new(Pool { sink, idle, permits, signer, sent });
    serve(move |request: Request<Incoming>| {
        let pool = pool.clone();
        async move {
            let Ok(body) = request.into_body().collect().await else { return StatusCode::BAD_REQUEST };
            let body = body.to_bytes();
            let sending: Vec<_> =
                (1..fanout).map(|number| tokio::spawn(pool.clone().send(number, body.clone()))).collect();
            let mut all = pool.send(0, body).await;
            for one in sending {
                all &= one.await.unwrap_or(false);
            }
            if all { StatusCode::ACCEPTED } else { StatusCode::BAD_GATEWAY }
        }
    })
    .await
}

async fn serve<F, A>(answer: F) -> std::io::Result<()>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = StatusCode> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{READY}{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move {
                    let mut response = Response::new(Full::new(Bytes::new()));
                    *response.status_mut() = answer.await;
                    Ok::<_, Infallible>(response)
                }
            });
            // A peer that closes ends its connection.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Kept connections to the sink.
struct Pool {
    sink: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    permits: Semaphore,
    signer: Option<Signer>,
    /// Numbers of the requests, which stand for ids.
    sent: AtomicU64,
}

impl Pool {
    /// Sends a body. Returns whether the sink accepted it.
    async fn send(self: Arc<Self>, number: usize, body: Bytes) -> bool {
        let Ok(_permit) = self.permits.acquire().await else { return false };
        let idle = self.idle.lock().expect("the pool").pop();
        let kept = idle.filter(|sender| !sender.is_closed());
        let sender = match kept {
            Some(sender) => Some(sender),
            None => self.connect().await,
        };
        let Some(mut sender) = sender else { return false };
        let request = Request::post(format!("/w/{number:05}"))
            .header(header::HOST, self.sink.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        let signature = self.signer.as_ref().map(|signer| self.signed(signer, &body)).into_iter().flatten();
        let request = signature.fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Full::new(body)).expect("a request");
        if sender.ready().await.is_err() {
            return false;
        }
        let Ok(response) = sender.send_request(request).await else { return false };
        let success = response.status().is_success();
        let read = response.into_body().collect().await.is_ok();
        self.idle.lock().expect("the pool").push(sender);
        success && read
    }

    fn signed(&self, signer: &Signer, body: &[u8]) -> Vec<(&'static str, String)> {
        let number = u128::from(self.sent.fetch_add(1, Ordering::Relaxed));
        let ids = SignedIds { event_id: Id::from_u128(number), webhook_id: Id::from_u128(number) };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        signer.headers(ids, now_s, body)
    }

    async fn connect(&self) -> Option<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.sink).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }
}
