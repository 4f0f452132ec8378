//! One connection to a receiver: its HTTP state and its stream.
//!
//! The current request drives its connection. There is no task per connection, so a response costs one wake-up, and an
//! abandoned request closes its connection. An idle connection is checked when it is reused and at each pool sweep.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::engine::network::Conn;
use crate::engine::sender::limits::{RESPONSE_BUFFER_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};

/// A connection on which one request at a time can be sent.
pub(in crate::engine) struct HttpConnection {
    requests: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    connection: Option<Box<Connection<TokioIo<Wire>, Full<Bytes>>>>,
    /// Whether a byte of the current request reached the socket.
    wrote: Arc<AtomicBool>,
    /// The checked address that it is connected to.
    pub remote: SocketAddr,
}

impl HttpConnection {
    /// Sets HTTP/1.1 up on a stream and sends nothing. `wrote` is the flag of the stream's `CountingSocket`.
    pub async fn over(wire: Wire, wrote: Arc<AtomicBool>, remote: SocketAddr) -> hyper::Result<Self> {
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
        Ok(Self { requests, connection: Some(Box::new(connection)), wrote, remote })
    }

    /// Queues a request on the connection. `drive` sends it.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        self.wrote.store(false, Ordering::Relaxed);
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
        self.wrote.load(Ordering::Relaxed)
    }

    /// Whether the connection can carry another request, as of the last `drive`.
    pub fn is_idle(&self) -> bool {
        self.connection.is_some() && self.requests.is_ready()
    }
}

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

/// A socket that records whether any byte was written to it. It lies under TLS, so it sees every byte that leaves.
pub(in crate::engine) struct CountingSocket {
    conn: Box<dyn Conn>,
    wrote: Arc<AtomicBool>,
}

impl CountingSocket {
    pub fn new(conn: Box<dyn Conn>, wrote: Arc<AtomicBool>) -> Self {
        Self { conn, wrote }
    }

    fn record(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(n)) if n > 0) {
            self.wrote.store(true, Ordering::Relaxed);
        }
        written
    }
}

impl AsyncRead for CountingSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
