//! HTTP/1.1 of the sending side, over httparse (RFC 9112).
//!
//! `request_head` writes a request's head, `response_head` and `response_body` read a response, `connection` moves the
//! bytes. Only `connection` does IO.
//!
//! Only the status line and the framing of a response decide an attempt. Other header lines may be odd, as for curl and
//! Python's http.client. Framing in doubt is an error.

mod buffer;
mod chunks;
mod connection;
mod request_head;
mod response_body;
mod response_head;
mod wire;

pub(in crate::engine) use self::connection::{ExchangeError, HttpConnection};
pub(in crate::engine) use self::request_head::{RequestHead, write_connect_head};
pub(in crate::engine) use self::response_body::ResponseEnd;
pub(in crate::engine) use self::response_head::{ResponseFault, ResponseHead};
pub(in crate::engine) use self::wire::{CountingSocket, Wire};
