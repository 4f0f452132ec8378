//! One connection to a receiver: its HTTP state and its stream.
//!
//! The current request drives its connection. There is no task per connection, so a response costs one wake-up, and an
//! abandoned request closes its connection. An idle connection is checked when it is reused and at each pool sweep.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::{fmt, io};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::engine::network::Conn;
use crate::engine::sender::limits::{INTERIM_ANSWERS_MAX, RESPONSE_BUFFER_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};

/// A connection on which one request at a time can be sent.
pub(in crate::engine) struct HttpConnection {
    requests: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    connection: Option<Box<Connection<TokioIo<Wire>, Full<Bytes>>>>,
    progress: Arc<RequestProgress>,
    /// The checked address that it is connected to.
    pub remote: SocketAddr,
}

impl HttpConnection {
    /// Sets HTTP/1.1 up on a stream and sends nothing. `progress` is that of the stream's `CountingSocket`.
    pub async fn over(wire: Wire, progress: Arc<RequestProgress>, remote: SocketAddr) -> hyper::Result<Self> {
        let (requests, connection) = Builder::new()
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(RESPONSE_BUFFER_BYTES_MAX)
            // Only the status line and the framing decide an attempt, so other odd header lines are tolerated, as curl
            // and Python's http.client do.
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(wire))
            .await?;
        Ok(Self { requests, connection: Some(Box::new(connection)), progress, remote })
    }

    /// Queues a request on the connection. `drive` sends it.
    pub fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        self.progress.wrote.store(false, Ordering::Relaxed);
        self.progress.interim.store(0, Ordering::Relaxed);
        let progress = self.progress.clone();
        hyper::ext::on_informational(&mut request, move |_| {
            progress.interim.fetch_add(1, Ordering::Relaxed);
        });
        self.requests.send_request(request)
    }

    /// Reads and writes until the socket would block. The future of the response or of its body gets an error.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(&mut **connection).poll(cx).is_ready()
        {
            // Dropping the connection fails a request that is still queued on it.
            self.connection = None;
        }
    }

    /// Whether any byte of the last request reached the socket. If not, the receiver cannot have seen it.
    pub fn wrote(&self) -> bool {
        self.progress.wrote.load(Ordering::Relaxed)
    }

    /// Fails once the receiver has sent more than `INTERIM_ANSWERS_MAX` interim answers to the current request.
    pub fn check_interim(&self) -> Result<(), TooManyInterimAnswers> {
        self.progress.check_interim()
    }

    /// Whether the connection can carry another request, as of the last `drive`.
    pub fn is_idle(&self) -> bool {
        self.connection.is_some() && self.requests.is_ready()
    }
}

/// The course of the current request, as the socket and HTTP see it.
#[derive(Default)]
pub(in crate::engine) struct RequestProgress {
    /// Whether a byte of the request reached the socket.
    wrote: AtomicBool,
    /// Number of interim answers (1xx).
    interim: AtomicUsize,
}

impl RequestProgress {
    fn check_interim(&self) -> Result<(), TooManyInterimAnswers> {
        if self.interim.load(Ordering::Relaxed) > INTERIM_ANSWERS_MAX { Err(TooManyInterimAnswers) } else { Ok(()) }
    }
}

/// The error of a receiver that answers without an end and never finally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct TooManyInterimAnswers;

impl fmt::Display for TooManyInterimAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receiver sent more than {INTERIM_ANSWERS_MAX} interim answers (1xx)")
    }
}

impl Error for TooManyInterimAnswers {}

/// The stream under HTTP: plain or TLS.
pub(in crate::engine) enum Wire {
    Plain(CountingSocket),
    Tls(Box<TlsStream<CountingSocket>>),
}

impl Wire {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Conn> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream),
            Wire::Tls(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

/// A socket that records whether any byte was written to it, and stops to read after too many interim answers. It lies
/// under TLS, so it sees every byte that leaves.
pub(in crate::engine) struct CountingSocket {
    conn: Box<dyn Conn>,
    progress: Arc<RequestProgress>,
}

impl CountingSocket {
    /// The socket, and the progress of the requests on it.
    pub fn new(conn: Box<dyn Conn>) -> (Self, Arc<RequestProgress>) {
        let progress = Arc::new(RequestProgress::default());
        (Self { conn, progress: progress.clone() }, progress)
    }

    fn record(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(n)) if n > 0) {
            self.progress.wrote.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncRead for CountingSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.progress.check_interim().map_err(io::Error::other)?;
        Pin::new(&mut self.conn).poll_read(cx, into)
    }
}

impl AsyncWrite for CountingSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.conn).poll_write(cx, bytes);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.conn).poll_write_vectored(cx, slices);
        self.record(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}
