//! The result of whole and of broken responses.

use std::time::Duration;

use crate::engine::sender::limits::INTERIM_ANSWERS_MAX;
use crate::engine::sender::tests::receiver::TestReceiver;
use crate::engine::sender::tests::{BRIEF, PATIENT, post, send, sender};
use crate::engine::sender::{RESPONSE_BODY_BYTES_MAX, RESPONSE_HEADERS_STORED_BYTES_MAX};
use crate::model::AttemptOutcome;

#[tokio::test]
async fn a_whole_response_is_reported_as_received() {
    let answer = "HTTP/1.1 503 Whatever\r\nRetry-After: 120\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbusy";
    let receiver = TestReceiver::responding(answer).await;
    let got = send(&receiver.url(), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(503)));
    assert_eq!(got.error.as_deref(), Some("Service Unavailable"));
    assert_eq!(got.retry_after.as_deref(), Some("120"));
    assert_eq!(got.response_body, b"busy");
    assert_eq!(got.remote_addr, Some(receiver.addr));
    let headers: Vec<_> = got.response_headers.iter().collect();
    assert_eq!(headers, [("retry-after", "120"), ("x-a", "1"), ("x-a", "2"), ("content-length", "4")]);
    assert_eq!(got.response_time_ms, Some(got.timings.total));
    assert!(got.timings.connect.is_some() && got.timings.first_byte.is_some());
    assert_eq!((got.timings.dns, got.timings.tls), (None, None));
}

#[tokio::test]
async fn a_request_arrives_as_it_was_given() {
    let receiver = TestReceiver::responding("HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut request = post(&format!("{}?a=b#c", receiver.url()), PATIENT);
    request.headers.push("x-twice", b"1");
    request.headers.push("x-twice", b"2");
    let got = sender().send(&request).await;
    assert_eq!((got.outcome, got.status_code, got.error), (AttemptOutcome::HttpStatus, Some(204), None));
    let expected = format!(
        "POST /hook?a=b HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nx-twice: 1\r\nx-twice: 2\r\n\
         content-length: 7\r\n\r\n{{\"a\":1}}",
        receiver.addr
    );
    assert_eq!(receiver.requests(), [expected]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver =
        TestReceiver::responding("HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n").await;
    let got = send(&receiver.url(), PATIENT).await;
    assert_eq!((got.status_code, got.error.as_deref()), (Some(302), Some("Found")));
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn informational_responses_are_skipped() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let receiver = TestReceiver::responding(answer).await;
    let got = send(&receiver.url(), PATIENT).await;
    assert_eq!((got.status_code, &got.response_body[..]), (Some(200), &b"ok"[..]));
}

#[tokio::test]
async fn informational_responses_are_bounded() {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let receiver = TestReceiver::responding(HINT.repeat(INTERIM_ANSWERS_MAX) + OK).await;
    let sender = sender();
    for nth in 1..=2 {
        // Each request has its own count.
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "request {nth}");
    }
    assert_eq!(receiver.connections(), 1);

    let one_more = TestReceiver::responding(HINT.repeat(INTERIM_ANSWERS_MAX + 1) + OK).await;
    let endless = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.repeat("HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000).as_bytes()).await;
    })
    .await;
    let one_by_one = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.repeat(b"HTTP/1.1 100 Continue\r\n\r\n").await;
    })
    .await;
    for (nth, receiver) in [one_more, endless, one_by_one].into_iter().enumerate() {
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::RequestError, None), "{nth}");
        assert_eq!(got.detail.as_deref(), Some("the receiver sent more than 20 interim answers (1xx)"), "{nth}");
    }
}

#[tokio::test]
async fn a_silent_receiver_is_a_timeout_at_the_deadline() {
    let receiver = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.stay_silent().await;
    })
    .await;
    let got = send(&receiver.url(), BRIEF).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::Timeout, None));
    assert_eq!(got.error.as_deref(), Some("Request timeout"));
    assert_eq!(got.response_time_ms, None);
}

#[tokio::test]
async fn the_deadline_covers_a_head_and_a_body_that_drip() {
    let every = Duration::from_millis(5);
    let head = TestReceiver::start(move |mut stream| async move {
        stream.request().await;
        stream.say("HTTP/1.1 200 OK\r\nX: ").await;
        stream.drip(b"a", every).await;
    })
    .await;
    let got = send(&head.url(), BRIEF).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::Timeout, None));

    let body = TestReceiver::start(move |mut stream| async move {
        stream.request().await;
        stream.say("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n").await;
        stream.drip(b"a", every).await;
    })
    .await;
    let got = send(&body.url(), BRIEF).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::Timeout, Some(200)));
    assert!(got.response_body.starts_with(b"a"));
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_connection_dropped() {
    let heads = [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for head in heads {
        let receiver = TestReceiver::start(move |mut stream| async move {
            stream.request().await;
            stream.say(head).await;
            stream.repeat(b"5\r\naaaaa\r\n").await;
        })
        .await;
        let sender = sender();
        let got = sender.send(&post(&receiver.url(), PATIENT)).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)), "{head}");
        assert_eq!(got.response_body.len(), RESPONSE_BODY_BYTES_MAX, "{head}");
        assert_eq!(sender.idle_connections(), 0, "{head}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_http_is_a_request_error() {
    let floods: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>no head</html>\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ];
    for bytes in floods {
        let receiver = TestReceiver::responding(bytes).await;
        let got = send(&receiver.url(), PATIENT).await;
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::RequestError, None), "{shown}");
        assert_eq!(got.error.as_deref(), Some("Invalid response"), "{shown}");
        assert!(got.detail.is_some(), "{shown}");
    }
}

#[tokio::test]
async fn odd_header_lines_leave_the_status_as_it_is() {
    for line in ["X-A: 1\r\n  folded", "X-A : 1", "X A: 1", "no colon", "X-\u{e9}: 1", "X-A: \u{e9}", "X-A:", ": 1"] {
        let receiver =
            TestReceiver::responding(format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok")).await;
        let got = send(&receiver.url(), PATIENT).await;
        assert_eq!(
            (got.outcome, got.status_code),
            (AttemptOutcome::HttpStatus, Some(200)),
            "{line:?}: {:?}",
            got.detail
        );
        assert_eq!(got.response_body, b"ok", "{line:?}");
    }
}

#[tokio::test]
async fn blanks_in_a_row_in_the_status_line_leave_the_status_as_it_is() {
    let receiver = TestReceiver::responding(b"HTTP/1.1  200  OK\r\nContent-Length: 2\r\n\r\nok").await;
    let got = send(&receiver.url(), PATIENT).await;
    assert_eq!((got.status_code, got.response_body.as_slice()), (Some(200), b"ok".as_slice()), "{:?}", got.detail);
}

#[tokio::test]
async fn framing_in_doubt_is_an_error() {
    for line in ["Content-Length: 2, 3", "Content-Length: two", "Content-Length: 2\r\n 3", "Content-Length: 3"] {
        let receiver =
            TestReceiver::responding(format!("HTTP/1.1 200 OK\r\n{line}\r\nContent-Length: 2\r\n\r\nok")).await;
        let got = send(&receiver.url(), PATIENT).await;
        assert_eq!(got.outcome, AttemptOutcome::RequestError, "{line:?}");
    }
}

#[tokio::test]
async fn a_million_headers_are_not_read_to_the_end() {
    for line in ["x-one-of-many: 1\r\n", "x", "x: "] {
        let receiver = TestReceiver::start(move |mut stream| async move {
            stream.request().await;
            stream.say("HTTP/1.1 200 OK\r\n").await;
            stream.repeat(line.repeat(1000).as_bytes()).await;
        })
        .await;
        let got = send(&receiver.url(), PATIENT).await;
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::RequestError, None), "{line}");
    }
}

#[tokio::test]
async fn an_answer_with_many_headers_has_its_status_and_framing() {
    for count in [99, 100, 101, 300, 5_000] {
        let lines: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        let receiver = TestReceiver::responding(format!("HTTP/1.1 503 no\r\n{lines}Content-Length: 2\r\n\r\nok")).await;
        let got = send(&receiver.url(), PATIENT).await;
        assert_eq!(
            (got.outcome, got.status_code),
            (AttemptOutcome::HttpStatus, Some(503)),
            "{count}: {:?}",
            got.detail
        );
        assert_eq!((&got.response_body[..], got.response_headers.len()), (&b"ok"[..], 100), "{count}");
    }
}

#[tokio::test]
async fn stored_headers_are_capped() {
    let long = "x".repeat(9_000);
    let head = format!("HTTP/1.1 200 OK\r\nA: {long}\r\nB: {long}\r\nContent-Length: 0\r\n\r\n");
    let receiver = TestReceiver::responding(head).await;
    let got = send(&receiver.url(), PATIENT).await;
    let stored: usize = got.response_headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    assert_eq!((got.status_code, got.response_headers.len()), (Some(200), 1));
    assert!(stored <= RESPONSE_HEADERS_STORED_BYTES_MAX);
}

#[tokio::test]
async fn a_broken_connection_is_distinguished_from_an_ended_response() {
    let reset = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.say("HTTP/1.1 200 OK\r\nContent-Le").await;
        stream.reset();
    })
    .await;
    let got = send(&reset.url(), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectReset, None));
    assert_eq!(got.error.as_deref(), Some("Connection reset"));

    let closed = TestReceiver::start(|mut stream| async move {
        stream.request().await;
    })
    .await;
    let got = send(&closed.url(), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectReset, None));

    let truncated = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    })
    .await;
    let got = send(&truncated.url(), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectReset, Some(200)));
    assert_eq!(got.response_body, b"abc");

    let ended = TestReceiver::start(|mut stream| async move {
        stream.request().await;
        stream.say("HTTP/1.0 200 OK\r\n\r\nall").await;
    })
    .await;
    let got = send(&ended.url(), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(200)));
    assert_eq!(got.response_body, b"all");
}

#[tokio::test]
async fn a_response_before_the_whole_body_was_sent_is_a_response() {
    let receiver = TestReceiver::start(|mut stream| async move {
        // The receiver reads only the head. A body of this size does not fit into the socket's buffers.
        let mut some = [0; 512];
        let _ = tokio::io::AsyncReadExt::read(&mut stream.tcp, &mut some).await;
        stream.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
        stream.stay_silent().await;
    })
    .await;
    let sender = sender();
    let mut request = post(&receiver.url(), PATIENT);
    request.body = vec![b'x'; 32 << 20].into();
    let got = sender.send(&request).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::HttpStatus, Some(413)));
    assert_eq!(sender.idle_connections(), 0);
}
