//! The sender's HTTP/1.1 against hyper's: the same bytes of a response, cut at every place, lead to the same attempt.
//!
//! They differ on purpose where `may_differ` says so.

use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::sender::RESPONSE_BODY_BYTES_MAX;
use crate::engine::sender::http1::{CountingSocket, ExchangeError, HttpConnection, ResponseEnd, Wire};
use crate::engine::sender::limits::RESPONSE_HEAD_BYTES_MAX;

/// Responses whose pieces and mutations are tried.
const RESPONSES: [&str; 26] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbusy",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2;a=b\r\nok\r\nA \r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nall of it",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nX-A: 1\r\n  folded\r\nX-B : 2\r\nX C: 3\r\nno colon\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
    "SSH-2.0-OpenSSH_9.6\r\n",
];

/// A stream that a script answers: the pieces, one for each read, once a request was written.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    closes: bool,
    is_asked: bool,
    /// Whether the next read waits, as between two packets.
    waits: bool,
}

#[derive(Clone)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn new(pieces: &[&[u8]], closes: bool) -> Self {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| piece.to_vec()).collect();
        Self(Arc::new(Mutex::new(Script { pieces, closes, is_asked: false, waits: false })))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut script = self.0.lock().unwrap();
        if !script.is_asked || std::mem::take(&mut script.waits) {
            return Poll::Pending;
        }
        let Some(mut piece) = script.pieces.pop_front() else {
            return if script.closes { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let rest = piece.split_off(piece.len().min(into.remaining()));
        into.put_slice(&piece);
        if rest.is_empty() {
            script.waits = true;
        } else {
            script.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().is_asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The result of a request.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Seen {
    status: Option<u16>,
    /// Sorted, because hyper groups repeated names.
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    end: &'static str,
    is_reusable: bool,
}

/// Polls until the future is ready, or nothing moves any more.
fn drive<T>(future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
    (0..200).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

fn ours(pieces: &[&[u8]], closes: bool) -> Seen {
    let wire = Wire::Plain(CountingSocket::new(Box::new(Scripted::new(pieces, closes))));
    let mut link = HttpConnection::over(wire, "192.0.2.1:80".parse().unwrap());
    let mut seen = Seen::default();
    let exchange = async {
        let write_head = |out: &mut Vec<u8>| out.extend_from_slice(b"POST / HTTP/1.1\r\n\r\n");
        let framed = link.ask(Bytes::new(), RESPONSE_HEAD_BYTES_MAX, write_head).await?;
        let (framing, keeps_open) = (framed.framing()?, framed.keeps_open());
        seen.status = Some(framed.head.status);
        let pairs = framed.head.headers.iter();
        seen.headers = pairs.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
        link.read_body(framing, keeps_open, &mut seen.body).await
    };
    seen.end = match drive(exchange) {
        None => "waits",
        Some(Ok(ResponseEnd::Whole | ResponseEnd::Cut)) => "read",
        Some(Err(ExchangeError::Ended)) => "ended",
        Some(Err(ExchangeError::Fault(_))) => "refused",
        Some(Err(ExchangeError::Io(why))) => panic!("{why}"),
    };
    seen.is_reusable = link.is_idle() && (0..4).all(|_| link.is_quiet(&mut Context::from_waker(Waker::noop())));
    seen.headers.sort();
    seen
}

fn hypers(pieces: &[&[u8]], closes: bool) -> Seen {
    let io = TokioIo::new(Scripted::new(pieces, closes));
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder
        .max_header_size(RESPONSE_HEAD_BYTES_MAX)
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .max_headers(RESPONSE_HEAD_BYTES_MAX)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let (mut requests, connection) = drive(builder.handshake::<_, Full<Bytes>>(io)).unwrap().unwrap();
    let mut connection = Some(Box::pin(connection));
    let mut turn = move |cx: &mut Context<'_>| {
        if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            connection = None;
        }
        connection.is_some()
    };
    let mut seen = Seen::default();
    let mut response = Box::pin(requests.send_request(http::Request::post("/").body(Full::default()).unwrap()));
    let exchange = async {
        let response = std::future::poll_fn(|cx| {
            turn(cx);
            response.as_mut().poll(cx)
        })
        .await?;
        let (head, mut body) = response.into_parts();
        seen.status = Some(head.status.as_u16());
        let pairs = head.headers.iter();
        seen.headers = pairs.map(|(name, value)| (name.as_str().to_owned(), lossy(value.as_bytes()))).collect();
        while let Some(data) = std::future::poll_fn(|cx| next_data(&mut body, &mut turn, cx)).await {
            let room = RESPONSE_BODY_BYTES_MAX - seen.body.len();
            let data = data?;
            seen.body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                break;
            }
        }
        hyper::Result::Ok(())
    };
    seen.end = match drive(exchange) {
        None => "waits",
        Some(Ok(())) => "read",
        Some(Err(why)) if why.is_incomplete_message() => "ended",
        Some(Err(why)) if is_end_of_body(&why) => "ended",
        Some(Err(_)) => "refused",
    };
    let mut cx = Context::from_waker(Waker::noop());
    let is_open = (0..4).all(|_| turn(&mut cx));
    seen.is_reusable = is_open && requests.is_ready() && seen.end == "read";
    seen.headers.sort();
    seen
}

fn lossy(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).into_owned().into_bytes()
}

fn next_data(
    body: &mut Incoming,
    turn: &mut impl FnMut(&mut Context<'_>) -> bool,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Bytes>>> {
    loop {
        let mut frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_pending() {
            turn(cx);
            frame = Pin::new(&mut *body).poll_frame(cx);
        }
        match std::task::ready!(frame) {
            None => return Poll::Ready(None),
            Some(Err(why)) => return Poll::Ready(Some(Err(why))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }
}

fn is_end_of_body(why: &hyper::Error) -> bool {
    let source = std::error::Error::source(why).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
}

/// Whether both may differ on these bytes.
fn may_differ(bytes: &[u8], ours: &Seen, hypers: &Seen) -> bool {
    let head = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let only_reuse = Seen { is_reusable: hypers.is_reusable, ..ours.clone() } == *hypers;
    // A length beside a transfer coding ends our connection, and HTTP/1.0 always does.
    let is_not_reused = !ours.is_reusable
        && only_reuse
        && (head.contains("http/1.0") || head.contains("content-length") && head.contains("transfer-encoding"));
    // Trailers are not checked, because they are not stored.
    let has_odd_trailers = hypers.end == "refused" && hypers.status == ours.status && head.contains("chunked");
    // hyper checks a part of a head only if it arrived first.
    let is_refused_early = ours.end == "refused" && hypers.status.is_none() && hypers.end != "read";
    // hyper's client refuses a status line with several blanks in a row, which curl reads.
    let has_blanks = |line: &str| line.contains("http/1.") && line.contains("  ");
    let has_many_blanks = hypers.end == "refused" && hypers.status.is_none() && head.lines().any(has_blanks);
    is_not_reused || has_odd_trailers && ours.end != "refused" || is_refused_early || has_many_blanks
}

fn compare(pieces: &[&[u8]], closes: bool) {
    let (ours, hypers) = (ours(pieces, closes), hypers(pieces, closes));
    let bytes = pieces.concat();
    assert!(
        ours == hypers || may_differ(&bytes, &ours, &hypers),
        "{:?}\npieces {:?}, closes {closes}\nours   {ours:?}\nhyper's {hypers:?}",
        String::from_utf8_lossy(&bytes),
        pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(),
    );
}

#[test]
fn a_response_cut_at_every_byte_is_read_as_by_hyper() {
    for response in RESPONSES {
        let bytes = response.as_bytes();
        for cut in 0..bytes.len() {
            for closes in [false, true] {
                compare(&[&bytes[..cut], &bytes[cut..]], closes);
                compare(&[&bytes[..cut]], closes);
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        compare(&single, true);
    }
}

#[test]
fn a_mutated_response_is_read_as_by_hyper() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    const BYTES: &[u8] = b"\r\n\t :;,\0\x7f\xff09afAZ-=1HTTP";
    for round in 0..20_000 {
        let mut bytes = RESPONSES[random(RESPONSES.len())].as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = BYTES[random(BYTES.len())],
                1 => bytes.insert(at, BYTES[random(BYTES.len())]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => {
                    let other = RESPONSES[random(RESPONSES.len())].as_bytes();
                    bytes.splice(at..at, other[random(other.len())..].iter().copied());
                }
                _ => {
                    let line = bytes[at..].split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
                    bytes.splice(at..at, line);
                }
            }
        }
        let cut = random(bytes.len());
        compare(&[&bytes[..cut], &bytes[cut..]], round % 2 == 0);
    }
}
