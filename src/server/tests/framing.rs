//! Tests of framing: accepted messages, and refusals of all others.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::super::LINGER_BYTES_MAX;
use super::{BODY_BYTES_MAX, ServerLimits, limits, request, run};

/// Malformed, smuggled or ambiguous heads and bodies. Each gets a 400 and a closed connection.
const MALFORMED: [(&str, &str); 25] = [
    ("both lengths", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("both lengths, the other way round", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("both lengths, in capitals", "TRANSFER-ENCODING: CHUNKED\r\nCONTENT-LENGTH: 5\r\n\r\n0\r\n\r\n"),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    ("a list of lengths", "Content-Length: 5, 5\r\n\r\nhello"),
    ("a signed length", "Content-Length: +5\r\n\r\nhello"),
    ("a negative length", "Content-Length: -1\r\n\r\n"),
    ("a hexadecimal length", "Content-Length: 0x5\r\n\r\nhello"),
    ("a length without end", "Content-Length: 99999999999999999999999\r\n\r\n"),
    ("an unknown coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a coding before chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("a coding after chunked", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice in one", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("a folded line", "X: a\r\n b\r\n\r\n"),
    ("a header without colon", "X\r\n\r\n"),
    ("a header without name", ": x\r\n\r\n"),
    ("a NUL in a header", "X: a\0b\r\n\r\n"),
    ("a chunk size that is none", "Transfer-Encoding: chunked\r\n\r\nZZ\r\n"),
    ("a chunk size that overflows", "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
    ("a chunk that is longer than it says", "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
    ("two hosts", "Host: localhost\r\n\r\n"),
    ("two keys", "Authorization: Bearer other\r\n\r\n"),
    ("a coding the version has not", "Transfer-Encoding: \r\n\r\n"),
];

#[tokio::test]
async fn an_ambiguous_message_is_refused_and_the_connection_closed() {
    let running = run(limits()).await;
    for (defect, rest) in MALFORMED {
        let mut client = running.connect().await;
        client.say(format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n{rest}")).await;
        let answer = client.answer().await.unwrap_or_else(|| panic!("{defect}: no answer"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed_request"), "{defect}");
        assert_eq!(answer.header("connection"), Some("close"), "{defect}");
        assert!(client.is_closed().await, "{defect}");
    }
    assert!(running.is_well().await);
}

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    let running = run(limits()).await;
    for bytes in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
        "GET http://other/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        "GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /heal thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x03\x03",
        "{\"no\": \"http\"}\r\n\r\n",
    ] {
        let answer = running.request(bytes).await.unwrap_or_else(|| panic!("{bytes:?}: no answer"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed_request"), "{bytes:?}");
        assert!(answer.header("x-request-id").unwrap().starts_with("made-"));
    }
    let in_clear = running.request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert_eq!((in_clear.status, in_clear.code().as_str()), (505, "http_version"));
    assert!(running.is_well().await);
}

#[tokio::test]
async fn heads_are_bounded_by_target_count_and_size() {
    let running = run(limits()).await;
    let target = |length: usize| request(&format!("GET /{}", "a".repeat(length - 1)), "", "");
    let many = |count: usize| request("GET /healthz", &"x-a: b\r\n".repeat(count), "");
    let large = |length: usize| request("GET /healthz", &format!("x: {}\r\n", "a".repeat(length)), "");
    for (bytes, status, code) in [
        (target(8 * 1024), 404, "refused"),
        (target(8 * 1024 + 1), 414, "target_too_long"),
        (target(60_000), 414, "target_too_long"),
        (target(100_000), 414, "target_too_long"),
        (target(10_000_000), 414, "target_too_long"),
        (many(99), 431, "headers_too_large"),
        (many(1_000), 431, "headers_too_large"),
        (many(100_000), 431, "headers_too_large"),
        (large(64 * 1024), 431, "headers_too_large"),
        (large(10_000_000), 431, "headers_too_large"),
    ] {
        let answer = running.request(&bytes).await.unwrap_or_else(|| panic!("{} bytes: no answer", bytes.len()));
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{} bytes", bytes.len());
        assert!(answer.header("date").is_some());
    }
    for bytes in [many(98), large(63 * 1024)] {
        assert_eq!(running.request(&bytes).await.unwrap().status, 200, "{} bytes", bytes.len());
    }
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_by_its_length_or_as_it_comes() {
    let running = run(limits()).await;
    let fits = "x".repeat(BODY_BYTES_MAX);
    let sized = |length: usize| request("POST /v1/events", &format!("Content-Length: {length}\r\n"), &fits);
    let answer = running.request(sized(BODY_BYTES_MAX)).await.unwrap();
    assert_eq!(answer.status, 202);
    assert!(answer.body.ends_with(&fits));
    let answer = running.request(sized(BODY_BYTES_MAX + 1)).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));

    let mut client = running.connect().await;
    client.say(request("POST /v1/events", "Transfer-Encoding: chunked\r\n", "")).await;
    let (mut read, mut write) = client.tcp.into_split();
    let flood = tokio::spawn(async move {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        let mut chunks = 0;
        while write.write_all(chunk.as_bytes()).await.is_ok() {
            chunks += 1;
        }
        chunks
    });
    let mut answer = vec![0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut read, &mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    // The connection is cut after `LINGER_BYTES_MAX`, so the flood can write only as much more as the sockets buffer.
    assert!(flood.await.unwrap() < 2 * LINGER_BYTES_MAX / 0x1000);
    assert!(running.is_well().await);
}

#[tokio::test]
async fn a_client_that_first_sends_its_whole_body_reads_the_refusal() {
    let running = run(ServerLimits { linger: Duration::from_secs(20), ..limits() }).await;
    let large = "x".repeat(32 << 20);
    let sized = request("POST /v1/events", &format!("Content-Length: {}\r\n", large.len()), &large);
    let mut client = running.connect().await;
    client.tcp.write_all(sized.as_bytes()).await.expect("the body is taken");
    let answer = client.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn an_encoded_body_is_refused_after_the_key() {
    let running = run(limits()).await;
    let encoded = request("POST /v1/events", "Content-Encoding: gzip\r\nContent-Length: 2\r\n", "ab");
    let answer = running.request(&encoded).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_content_encoding"));
    let answer = running.request(encoded.replace("Bearer k", "Bearer no")).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_malformed() {
    let running = run(limits()).await;
    for headers in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = running.connect().await;
        client.say(request("POST /v1/events", headers, "5\r\nab")).await;
        client.tcp.shutdown().await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed_request"), "{headers}");
    }
}
