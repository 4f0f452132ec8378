//! The receiver behind `postrider listen`: receives requests on loopback, checks their signatures, and answers with the
//! given status or with the answer of the `--forward` URL.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};

use super::{
    seen::Seen,
    verify::{Secret, SignatureCheck, check_signature},
};
use crate::cli::moment::now_ms;
use crate::http_client::HttpEndpoint;

const BODY_BYTES_MAX: usize = 32 << 20;
const CONNECTIONS_MAX: usize = 1_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed accept, so that a full file table causes no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answers of the receiver, and the secrets that it checks with.
pub struct Receiver {
    pub secrets: Vec<Secret>,
    /// Whether a request with a bad signature is answered like any other. Else it is answered 401.
    pub accepts_bad: bool,
    /// The first so many requests are answered 500.
    pub fail: u64,
    /// The status of all other answers.
    pub status: StatusCode,
    /// The endpoint whose answers replace `status`.
    pub forward: Option<HttpEndpoint>,
    pub received: AtomicU64,
    /// Receives the requests after they are answered. A full channel delays the answer.
    pub reports: mpsc::Sender<Seen>,
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed, so a permit always comes.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let receiver = Arc::clone(&receiver);
                tokio::spawn(async move {
                    connection(stream, receiver).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, receiver: Arc<Receiver>) {
    let service = service_fn(|request| answer(request, Arc::clone(&receiver)));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // An error of the connection concerns the sender. Its requests were reported.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, receiver: Arc<Receiver>) -> Result<Response<Full<Bytes>>, Infallible> {
    let at_ms = now_ms();
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is not whole, or too large"));
    };
    let body = body.to_bytes();
    let signature_check = check_signature(&receiver.secrets, &parts.headers, &body, at_ms / 1000);
    let response = match signature_check {
        SignatureCheck::Bad(why) if !receiver.accepts_bad => plain(StatusCode::UNAUTHORIZED, why),
        _ => receiver.respond(&parts, &body).await,
    };
    let seen = Seen {
        at_ms,
        signature_check,
        method: parts.method,
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
        status: response.status().as_u16(),
    };
    // Fails only while the verb is ending, after its reader has gone.
    let _ = receiver.reports.send(seen).await;
    Ok(response)
}

impl Receiver {
    async fn respond(&self, parts: &http::request::Parts, body: &Bytes) -> Response<Full<Bytes>> {
        if self.received.fetch_add(1, Ordering::Relaxed) < self.fail {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "failing as told by --fail");
        }
        let Some(place) = &self.forward else {
            return plain(self.status, "");
        };
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = end_to_end(&parts.headers);
        if let Some(path) = parts.uri.path_and_query().filter(|path| path.as_str() != "/") {
            *request.uri_mut() = path.clone().into();
        }
        match place.exchange(request).await {
            Ok(answer) => {
                let (answered, body) = answer.into_parts();
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = answered.status;
                *response.headers_mut() = end_to_end(&answered.headers);
                response
            }
            Err(error) => plain(StatusCode::BAD_GATEWAY, &format!("{}: {error}", place.written())),
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// The headers without those of one connection (RFC 9110 §7.6.1) and those that the next request sets anew.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::HeaderName::from_static("keep-alive"),
    ] {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests;
