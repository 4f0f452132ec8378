//! One connection to a receiver: the HTTP state on it and the stream under it.
//!
//! The request in hand drives its connection itself. There is no task per connection: a response costs one wake-up, and
//! a request that is given up takes its connection with it. An idle connection is looked at when it is taken again and
//! when the pool is swept.

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
    /// None once it has ended.
    connection: Option<Box<Connection<TokioIo<Wire>, Full<Bytes>>>>,
    wrote: Arc<AtomicBool>,
    /// The vetted address it leads to.
    pub remote: SocketAddr,
}

impl HttpConnection {
    /// Puts HTTP/1.1 on a stream; says nothing on it yet. `wrote` is the one given to the stream's `Metered`.
    pub async fn over(wire: Wire, wrote: Arc<AtomicBool>, remote: SocketAddr) -> hyper::Result<Self> {
        let (requests, connection) = Builder::new()
            .max_header_size(RESPONSE_HEAD_BYTES_MAX)
            .max_buf_size(RESPONSE_BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(wire))
            .await?;
        Ok(Self { requests, connection: Some(Box::new(connection)), wrote, remote })
    }

    /// Hands a request to the connection; it leaves as the connection is driven.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        self.wrote.store(false, Ordering::Relaxed);
        self.requests.send_request(request)
    }

    /// Moves bytes both ways as far as they go. An error reaches whoever waits for the response or its body.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(&mut **connection).poll(cx).is_ready()
        {
            // Dropped at once: that is what tells a request still queued on it.
            self.connection = None;
        }
    }

    /// Whether any byte of the request given last reached the socket. If not, the receiver cannot have seen it.
    pub fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    /// Whether it can carry another request, as far as is known without asking the socket.
    pub fn is_idle(&self) -> bool {
        self.connection.is_some() && self.requests.is_ready()
    }
}

/// The stream below HTTP.
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

/// A socket that remembers whether it took any byte. It lies below TLS, so what it saw is what left.
pub(in crate::engine) struct CountingSocket {
    conn: Box<dyn Conn>,
    wrote: Arc<AtomicBool>,
}

impl CountingSocket {
    pub fn new(conn: Box<dyn Conn>, wrote: Arc<AtomicBool>) -> Self {
        Self { conn, wrote }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
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
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.conn).poll_write_vectored(cx, slices);
        self.note(written)
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
