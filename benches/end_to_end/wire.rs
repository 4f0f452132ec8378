//! A minimal HTTP/1.1 client and parser for the load generator and the sink. It costs the same for every server, so
//! that the measurement is the server's.
//!
//! Invariant: an answer is read to its last byte before the next request goes out on its connection.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Maximum size of a head. A larger one is a mistake of the server.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The part of an answer that the generator uses. The connection keeps the body.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: u16,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
}

/// A kept-alive connection to the server under test.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    body: Vec<u8>,
    closing: bool,
}

impl Connection {
    pub async fn open(to: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, read: Vec::with_capacity(READ_BYTES), body: Vec::new(), closing: false })
    }

    /// Sends a request and reads its complete answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        if self.closing {
            *self = Connection::open(self.stream.peer_addr()?).await?;
        }
        self.stream.write_all(request).await?;
        self.read.clear();
        let head_end = loop {
            match head_end(&self.read) {
                Some(end) => break end,
                None if self.read.len() > HEAD_BYTES_MAX => return Err(broken("a head without an end")),
                None => self.fill().await?,
            }
        };
        let head = &self.read[..head_end];
        let status = std::str::from_utf8(head.get(9..12).unwrap_or_default()).ok().and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| broken("no status line"))?;
        let retry_after_s = header(head, "retry-after").and_then(number);
        self.closing = header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        let length = header(head, "content-length").and_then(number);
        let chunked = header(head, "transfer-encoding").is_some();
        self.body.clear();
        match length {
            _ if status == 204 || status == 304 => {}
            Some(length) => self.read_body(head_end, length as usize).await?,
            None if chunked => self.read_chunks(head_end).await?,
            None => return Err(broken("a body without a length")),
        }
        Ok(Answer { status, retry_after_s })
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// A header of the last answer, by its name in lower case.
    pub fn answered(&self, name: &str) -> Option<&[u8]> {
        header(&self.read, name)
    }

    async fn read_body(&mut self, from: usize, length: usize) -> io::Result<()> {
        while self.read.len() < from + length {
            self.fill().await?;
        }
        self.body.extend_from_slice(&self.read[from..from + length]);
        Ok(())
    }

    async fn read_chunks(&mut self, mut at: usize) -> io::Result<()> {
        loop {
            let line_end = loop {
                match self.read[at..].windows(2).position(|pair| pair == b"\r\n") {
                    Some(end) => break at + end,
                    None => self.fill().await?,
                }
            };
            let size = std::str::from_utf8(&self.read[at..line_end]).ok();
            let size = size.and_then(|text| usize::from_str_radix(text.split(';').next()?.trim(), 16).ok());
            let size = size.ok_or_else(|| broken("a bad chunk"))?;
            let from = line_end + 2;
            while self.read.len() < from + size + 2 {
                self.fill().await?;
            }
            if size == 0 {
                return Ok(());
            }
            self.body.extend_from_slice(&self.read[from..from + size]);
            at = from + size + 2;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.read.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A `GET` with a header line of its own.
pub fn get(path: &str, host: SocketAddr, line: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{line}\r\n\r\n").into_bytes()
}

/// A request with a body and `token` as its bearer token.
pub fn request(method: &str, path: &str, host: SocketAddr, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    if let Some(token) = token {
        request.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    if !body.is_empty() {
        request.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// The offset of the body, once the whole head has arrived.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\r') {
        if bytes[from + at..].starts_with(b"\r\n\r\n") {
            return Some(from + at + 4);
        }
        from += at + 1;
    }
    None
}

/// The value of a header, by its name in lower case.
pub fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (given, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        given.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// A header's value as a number.
pub fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
