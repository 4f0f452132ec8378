//! The stream under HTTP: a socket that records whether a byte was written to it, and TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::engine::network::Conn;

/// The stream under HTTP: plain or TLS.
pub(in crate::engine) enum Wire {
    Plain(CountingSocket),
    Tls(Box<TlsStream<CountingSocket>>),
}

impl Wire {
    /// The stream that carries HTTP.
    pub fn stream(&mut self) -> Pin<&mut dyn Conn> {
        match self {
            Wire::Plain(stream) => Pin::new(stream),
            Wire::Tls(stream) => Pin::new(stream),
        }
    }

    /// Whether a byte left since the last `forget_writes`.
    pub fn wrote(&self) -> bool {
        match self {
            Wire::Plain(socket) => socket.wrote,
            Wire::Tls(stream) => stream.get_ref().0.wrote,
        }
    }

    /// Begins to watch for the first byte that leaves.
    pub fn forget_writes(&mut self) {
        match self {
            Wire::Plain(socket) => socket.wrote = false,
            Wire::Tls(stream) => stream.get_mut().0.wrote = false,
        }
    }

    /// The stream that carries HTTP, for another protocol.
    pub fn into_conn(self) -> Box<dyn Conn> {
        match self {
            Wire::Plain(socket) => socket.conn,
            Wire::Tls(stream) => stream,
        }
    }
}

/// A socket that records whether any byte was written to it. It lies under TLS, so it sees every byte that leaves.
pub(in crate::engine) struct CountingSocket {
    conn: Box<dyn Conn>,
    wrote: bool,
}

impl CountingSocket {
    pub fn new(conn: Box<dyn Conn>) -> Self {
        Self { conn, wrote: false }
    }

    fn record(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.wrote |= matches!(written, Poll::Ready(Ok(count)) if count > 0);
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
