//! Receivers that break every rule, on real sockets. Each costs one attempt, bounded time and bounded memory, and ends
//! with an outcome that names the fault. The webhook beside them is served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::security::support::{Client, Instance, echo, eventually, rows, text};
use crate::support::process::start;

/// The shortest timeout that a webhook may have.
const TIMEOUT_MS: u64 = 1_000;
/// Maximum memory of the whole program while a hundred receivers flood it. Idle it has about 30 MiB.
const RESIDENT_KIB_MAX: u64 = 300 << 10;

/// A receiver's behaviour after it has read the head of a request.
#[derive(Clone, Copy)]
enum Does {
    /// Sends these bytes and closes.
    Says(&'static [u8]),
    /// Sends these bytes and keeps the connection open.
    SaysAndHolds(&'static [u8]),
    /// Sends the first bytes once and the second ones for ever.
    Repeats(&'static [u8], &'static [u8]),
    /// Sends these bytes and resets the connection.
    SaysAndResets(&'static [u8]),
    /// Sends these bytes before the request.
    Blurts(&'static [u8]),
    /// Reads nothing.
    IsDeaf,
    /// Sends these bytes one at a time.
    Drips(&'static [u8]),
}

async fn receiver(does: Does) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, does));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, does: Does) -> Option<()> {
    match does {
        Does::Blurts(words) => stream.write_all(words).await.ok()?,
        Does::IsDeaf => return hold(stream).await,
        _ => {}
    }
    read_head(&mut stream).await?;
    match does {
        Does::Says(words) => {
            stream.write_all(words).await.ok()?;
            stream.shutdown().await.ok()?;
            hold(stream).await
        }
        Does::SaysAndHolds(words) => {
            stream.write_all(words).await.ok()?;
            hold(stream).await
        }
        Does::Repeats(first, then) => {
            stream.write_all(first).await.ok()?;
            let many = then.repeat(65_536 / then.len() + 1);
            loop {
                stream.write_all(&many).await.ok()?;
            }
        }
        Does::SaysAndResets(words) => {
            stream.write_all(words).await.ok()?;
            stream.set_zero_linger().ok()
        }
        Does::Drips(words) => {
            for byte in words.iter().cycle() {
                stream.write_all(&[*byte]).await.ok()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            None
        }
        Does::Blurts(_) | Does::IsDeaf => hold(stream).await,
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

/// Keeps the connection until the other side closes.
async fn hold(mut stream: TcpStream) -> Option<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await.ok()? > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// A webhook of its own type to a receiver, without retries.
async fn webhook(client: &Client, address: SocketAddr, kind: &str) -> Value {
    let fields = json!({
        "url": format!("http://{address}/"), "event_types": [kind], "retry_schedule_s": "none", "timeout_ms": TIMEOUT_MS,
    });
    client.post("/v1/webhooks", fields).await.expect(201)
}

/// The only attempt that an event with `data` costs.
async fn attempt(client: &Client, does: Does, data: Value) -> Value {
    let webhook = webhook(client, receiver(does).await, "hostile").await;
    client.post("/v1/events", json!({ "type": "hostile", "data": data })).await.expect(202);
    let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
    let ended = eventually("the end", async || {
        let page = rows(client, &format!("{path}/deliveries")).await;
        page.into_iter().find(|row| row["completed_at"].is_string())
    })
    .await;
    assert_eq!(ended["attempts"], 1, "{ended}");
    let made = rows(client, &format!("{path}/attempts")).await.remove(0);
    client.delete(&path).await.expect(204);
    made
}

const CASES: &[(&str, Does, &str)] = &[
    // Invalid heads.
    ("nothing", Does::Says(b""), "connect_reset"),
    ("silence", Does::SaysAndHolds(b""), "timeout"),
    ("a reset", Does::SaysAndResets(b""), "connect_reset"),
    ("mail", Does::Says(b"220 mail.example ESMTP ready\r\n"), "request_error"),
    ("HTTP/0.9", Does::Says(b"<html>hello</html>"), "request_error"),
    ("HTTP/2", Does::Says(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64"), "request_error"),
    ("TLS", Does::Says(b"\x15\x03\x03\x00\x02\x02\x28"), "request_error"),
    ("zeros", Does::Repeats(b"", b"\0"), "request_error"),
    ("half a status line", Does::SaysAndHolds(b"HTTP/1.1 2"), "timeout"),
    ("half a head", Does::SaysAndHolds(b"HTTP/1.1 200 OK\r\nx-a: b\r\n"), "timeout"),
    ("half a head, then the end", Does::Says(b"HTTP/1.1 200 OK\r\nx-a: b\r\n"), "connect_reset"),
    ("a status of four digits", Does::Says(b"HTTP/1.1 2000 OK\r\n\r\n"), "request_error"),
    ("a status of letters", Does::Says(b"HTTP/1.1 OK OK\r\n\r\n"), "request_error"),
    ("no status", Does::Says(b"HTTP/1.1 \r\n\r\n"), "request_error"),
    ("a status of zero", Does::Says(b"HTTP/1.1 000 None\r\n\r\n"), "request_error"),
    ("another version", Does::Says(b"HTTP/3.0 200 OK\r\n\r\n"), "request_error"),
    ("a folded header", Does::Says(b"HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\ncontent-length: 0\r\n\r\n"), "success"),
    ("a space before the colon", Does::Says(b"HTTP/1.1 200 OK\r\nx-a : b\r\n\r\n"), "success"),
    ("a NUL in a header", Does::Says(b"HTTP/1.1 200 OK\r\nx-a: \0\r\n\r\n"), "request_error"),
    ("an endless status line", Does::Repeats(b"HTTP/1.1 200 ", b"A"), "request_error"),
    ("an endless header", Does::Repeats(b"HTTP/1.1 200 OK\r\nx-a: ", b"A"), "request_error"),
    ("endless headers", Does::Repeats(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"), "request_error"),
    ("a dripping head", Does::Drips(b"HTTP/1.1 200 OK\r\n"), "timeout"),
    ("endless 1xx", Does::Repeats(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), "request_error"),
    ("endless 100", Does::Repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "request_error"),
    // Invalid bodies.
    ("an early end", Does::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), "connect_reset"),
    ("a body that never comes", Does::SaysAndHolds(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"), "timeout"),
    ("a reset in the body", Does::SaysAndResets(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), "connect_reset"),
    ("a dripping body", Does::Drips(b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n"), "timeout"),
    (
        "chunks without an end",
        Does::Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "connect_reset",
    ),
    (
        "a chunk that is no number",
        Does::Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\nhello\r\n"),
        "request_error",
    ),
    (
        "a chunk size beyond 64 bits",
        Does::Says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n"),
        "request_error",
    ),
    (
        "an endless chunk extension",
        Does::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;", b"a"),
        "request_error",
    ),
    (
        "endless trailers",
        Does::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n"),
        "request_error",
    ),
    (
        "two lengths",
        Does::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
        "request_error",
    ),
    ("a negative length", Does::Says(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nabc"), "request_error"),
    (
        "a length beyond 64 bits",
        Does::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n"),
        "request_error",
    ),
    // Complete answers that are not a success.
    (
        "another protocol",
        Does::SaysAndHolds(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        "http_status",
    ),
    (
        "a redirect inwards",
        Does::Says(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"),
        "http_status",
    ),
    (
        "a redirect that keeps the method",
        Does::Says(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
        "http_status",
    ),
    ("a status of its own", Does::Says(b"HTTP/1.1 999 Whatever\r\ncontent-length: 0\r\n\r\n"), "http_status"),
    (
        "an authentication demand",
        Does::Says(b"HTTP/1.1 401 No\r\nwww-authenticate: Negotiate\r\ncontent-length: 0\r\n\r\n"),
        "http_status",
    ),
    // Valid answers with invalid additions.
    ("an endless body", Does::Repeats(b"HTTP/1.1 200 OK\r\n\r\n", b"A"), "success"),
    (
        "an endless body in chunks",
        Does::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nA\r\n"),
        "success",
    ),
    (
        "a body of an exabyte",
        Does::Repeats(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000000\r\n\r\n", b"A"),
        "success",
    ),
    (
        "more than was announced",
        Does::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n"),
        "success",
    ),
    (
        "compressed",
        Does::Says(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\0"),
        "success",
    ),
    (
        "a refresh inwards",
        Does::Says(b"HTTP/1.1 200 OK\r\nrefresh: 0;url=http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"),
        "success",
    ),
    (
        "bytes that are no text",
        Does::Says(b"HTTP/1.1 200 \xff\xfe\r\nx-a: \xff\xfe\r\ncontent-length: 2\r\n\r\n\xff\xfe"),
        "success",
    ),
    (
        "100 and then the answer",
        Does::Says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        "success",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_receiver_costs_one_attempt_and_is_named() {
    let instance = Instance::start().await;
    let mut wrong = Vec::new();
    for (what, does, outcome) in CASES {
        let made = attempt(&instance.first, *does, json!(1)).await;
        let total = made["timings_ms"]["total"].as_u64().expect("a time");
        let fits = made["outcome"] == *outcome && made["success"] == (*outcome == "success");
        let kept = made["response_body"].as_str().map_or(0, str::len);
        let headers = made["response_headers"].to_string().len();
        if !fits || total > TIMEOUT_MS + 5_000 || kept > 3 * 16 * 1024 || headers > 64 * 1024 {
            wrong.push(format!("{what}: wanted {outcome}: {made:.600}"));
        }
        if !fits && made["success"] == false && made["error"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{what}: no words"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

/// Answers that come before the request, and receivers that read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_listen_is_given_up_in_time() {
    let instance = Instance::start().await;
    let large = json!("A".repeat(900_000));
    let made = attempt(&instance.first, Does::IsDeaf, large.clone()).await;
    assert_eq!((text(&made, "outcome"), &made["success"]), ("timeout", &json!(false)));
    // The bytes count as an answer or as noise, depending on timing. Either way it is one attempt, and it ends.
    for words in [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".as_slice(), b"220 hello\r\n"] {
        let made = attempt(&instance.first, Does::Blurts(words), large.clone()).await;
        assert!(["success", "request_error", "connect_reset", "timeout"].contains(&text(&made, "outcome")), "{made}");
    }
}

/// Fifty floods at once, and one well-behaved receiver.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_bounded_memory_and_delay_no_other_webhook() {
    let folder = tempfile::tempdir().expect("a directory");
    let variables = [("POSTRIDER_ADMIN_KEY", "the-key-of-floods"), ("POSTRIDER_DELIVERY__ALLOW", "127.0.0.0/8")];
    let program = start(&folder.path().join("data"), &folder.path().join("log"), &variables);
    let client = Client::new(program.address, "the-key-of-floods");
    let floods = [
        Does::Repeats(b"HTTP/1.1 200 OK\r\n\r\n", b"A"),
        Does::Repeats(b"HTTP/1.1 200 OK\r\nx-a: ", b"A"),
        Does::Repeats(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n"),
        Does::Repeats(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
        Does::Repeats(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;", b"a"),
    ];
    for nth in 0..50 {
        webhook(&client, receiver(floods[nth % floods.len()]).await, "flood").await;
    }
    // A long timeout, because fifty floods may slow the machine down for more than a second.
    let patient = json!({
        "url": format!("http://{}/", echo().await), "event_types": ["flood"], "retry_schedule_s": vec![1; 10], "timeout_ms": 120_000,
    });
    let honest = client.post("/v1/webhooks", patient).await.expect(201);
    for _ in 0..3 {
        client.post("/v1/events", json!({ "type": "flood", "data": 1 })).await.expect(202);
    }
    let path = format!("/v1/webhooks/{}/deliveries?status=delivered", text(&honest, "id"));
    eventually("the honest ones", async || (rows(&client, &path).await.len() == 3).then_some(())).await;
    eventually("the end of all", async || {
        let stats = client.get("/v1/stats").await.expect(200);
        (stats["pending_deliveries"] == 0).then_some(())
    })
    .await;
    let resident = program.resident_kib_max();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
    program.stop();
}
