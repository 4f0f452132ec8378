//! The bad requests beside the corpus: a name, the request, and the answer. Every POST, PATCH and PUT has the key, a
//! JSON content type and a right length unless its row says otherwise. `<none>` omits a header.

pub enum Body {
    None,
    Text(String),
    Bytes(Vec<u8>),
    /// A `Content-Length` of this many bytes, none of which is sent.
    Announced(usize),
}

pub struct Row {
    pub name: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    pub status: u16,
    /// The expected code. Empty for any.
    pub code: &'static str,
    /// A pointer that must be among the `errors`. Empty if none is required.
    pub pointer: &'static str,
}

impl Row {
    fn of(name: &str, method: &str, target: &str, body: Body, status: u16) -> Row {
        let (name, method, target) = (name.to_owned(), method.to_owned(), target.to_owned());
        Row { name, method, target, headers: Vec::new(), body, status, code: "", pointer: "" }
    }

    fn with(mut self, name: &'static str, value: &str) -> Row {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn code(self, code: &'static str) -> Row {
        Row { code, ..self }
    }

    fn at(self, pointer: &'static str) -> Row {
        Row { pointer, ..self }
    }
}

fn get(name: &str, target: &str, status: u16) -> Row {
    Row::of(name, "GET", target, Body::None, status)
}

fn event(name: &str, body: &str, status: u16) -> Row {
    Row::of(name, "POST", "{EVENTS}", Body::Text(body.to_owned()), status)
}

fn webhook(name: &str, body: &str, status: u16) -> Row {
    Row::of(name, "POST", "{WEBHOOKS}", Body::Text(body.to_owned()), status)
}

/// A webhook with a valid URL and one wrong field.
fn field(name: &str, field: &str, pointer: &'static str) -> Row {
    webhook(name, &format!("{{\"url\":\"https://example.com/\",{field}}}"), 422).at(pointer)
}

const GOOD: &str = r#"{"type":"a.b","data":{}}"#;
const NOBODY: &str = "0195a000-0000-7000-8000-000000000000";

pub fn rows() -> Vec<Row> {
    [credentials(), framing(), bodies(), events(), batches(), webhooks(), changes(), queries(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn credentials() -> Vec<Row> {
    vec![
        get("wrong key", "{EVENTS}", 401).with("authorization", "Bearer pr_wrong").code("credentials_wrong"),
        get("no scheme", "{EVENTS}", 401).with("authorization", "{KEY}"),
        get("basic", "{EVENTS}", 401).with("authorization", "Basic eDp5"),
        get("key with a tab", "{EVENTS}", 401).with("authorization", "Bearer {KEY}\tx"),
        get("a very long key", "{EVENTS}", 401).with("authorization", &format!("Bearer {}", "a".repeat(20_000))),
        get("producer lists webhooks", "{WEBHOOKS}", 403)
            .with("authorization", "Bearer {PRODUCER_KEY}")
            .code("scope_missing"),
        Row::of("producer makes a key", "POST", "/v1/keys", Body::Text("{}".into()), 403)
            .with("authorization", "Bearer {PRODUCER_KEY}"),
        get("credentials before Host", "{EVENTS}", 401).with("authorization", "<none>").with("host", "evil.example"),
        get("Host before Origin", "{EVENTS}", 421).with("host", "evil.example").with("origin", "https://evil.example"),
        get("rebound host", "{EVENTS}", 421).with("host", "evil.example:8080").code("host_not_allowed"),
        get("private address as host", "{EVENTS}", 421).with("host", "192.168.1.1"),
        get("loopback name below another", "{EVENTS}", 421).with("host", "localhost.evil.example"),
        get("origin null", "{EVENTS}", 403).with("origin", "null").code("origin_not_allowed"),
        get("origin of another port", "{EVENTS}", 403).with("origin", "http://localhost:1"),
        get("two origins", "{EVENTS}", 403).with("origin", "http://localhost").with("origin", "https://evil.example"),
        Row::of("origin before scope", "DELETE", "{WEBHOOKS}/{ID}", Body::None, 403)
            .with("authorization", "Bearer {PRODUCER_KEY}")
            .with("origin", "https://evil.example")
            .code("origin_not_allowed"),
        get("two authorization headers in other case", "{EVENTS}", 400)
            .with("AUTHORIZATION", "Bearer {KEY}")
            .with("authorization", "Bearer other"),
    ]
}

fn framing() -> Vec<Row> {
    let chunks = |text: &str| Body::Text(text.to_owned());
    let long = format!("/v1/events?search={}", "a".repeat(9 * 1024));
    vec![
        get("two hosts", "{EVENTS}", 400).with("host", "localhost").with("Host", "localhost"),
        get("empty host", "{EVENTS}", 400).with("host", ""),
        get("host with a path", "{EVENTS}", 400).with("host", "localhost/x"),
        get("host with a user", "{EVENTS}", 400).with("host", "user@localhost"),
        get("target of 9 KiB", &long, 414).code("target_too_long"),
        get("101 headers", "{EVENTS}", 431).with("x-many", &format!("a{}", "\r\nx-m: a".repeat(101))),
        get("70 KiB of one header", "{EVENTS}", 431).with("x-long", &"a".repeat(70 * 1024)).code("headers_too_large"),
        get("space before the colon", "{EVENTS}", 400).with("x-a ", "b"),
        get("folded header", "{EVENTS}", 400).with("x-a", "b\r\n c"),
        get("NUL in a header", "{EVENTS}", 400).with("x-a", "b\0c"),
        get("HTTP/1.1 without a version", "{EVENTS}\r\nx:", 400),
        get("target without a slash", "v1/events", 400),
        get("absolute form of another host", "http://evil.example/v1/events", 400),
        get("absolute form without a path", "http://localhost", 404),
        get("a space in the target", "/v1/ev ents", 400),
        get("asterisk", "*", 404),
        Row::of("CONNECT", "CONNECT", "evil.example:443", Body::None, 400),
        Row::of("TRACE", "TRACE", "{EVENTS}", Body::None, 405).code("method_not_allowed"),
        Row::of("OPTIONS", "OPTIONS", "{EVENTS}", Body::None, 405),
        Row::of("a made-up method", "BREW", "{EVENTS}", Body::None, 405),
        Row::of("get in small letters", "get", "{EVENTS}", Body::None, 405),
        Row::of("a method that is none", "G(T", "{EVENTS}", Body::None, 400),
        event("length and chunks", "0\r\n\r\n", 400).with("transfer-encoding", "chunked").with("content-length", "5"),
        event("chunked twice", "0\r\n\r\n", 400).with("transfer-encoding", "chunked, chunked"),
        event("chunked in two headers", "0\r\n\r\n", 400)
            .with("transfer-encoding", "chunked")
            .with("Transfer-Encoding", "chunked"),
        event("gzip, chunked", "0\r\n\r\n", 400).with("transfer-encoding", "gzip, chunked"),
        event("identity", GOOD, 400).with("transfer-encoding", "identity"),
        event("two equal lengths", GOOD, 400).with("content-length", "24").with("Content-Length", "25"),
        event("negative length", GOOD, 400).with("content-length", "-1"),
        event("length with a plus", GOOD, 400).with("content-length", "+24"),
        event("hexadecimal length", GOOD, 400).with("content-length", "0x18"),
        event("length over 64 bits", GOOD, 400).with("content-length", "99999999999999999999"),
        Row::of("chunk size over 64 bits", "POST", "{EVENTS}", chunks("fffffffffffffffff\r\nx"), 400)
            .with("transfer-encoding", "chunked"),
        Row::of("chunk without its end", "POST", "{EVENTS}", chunks("2\r\n{}x\r\n0\r\n\r\n"), 400)
            .with("transfer-encoding", "chunked"),
        Row::of("body that does not come", "POST", "{EVENTS}", Body::Announced(10), 408).code("request_timeout"),
        get("request id with a line break encoded is replaced, path unknown", "/v1/%0d%0aevil", 404),
    ]
}

fn bodies() -> Vec<Row> {
    let deep = |open: &str, close: &str| {
        format!("{{\"type\":\"a.b\",\"data\":{}{}}}", open.repeat(2_000), close.repeat(2_000))
    };
    vec![
        event("no content type", GOOD, 415).with("content-type", "<none>"),
        event("form", "type=a.b", 415).with("content-type", "application/x-www-form-urlencoded"),
        event("multipart", GOOD, 415).with("content-type", "multipart/form-data; boundary=x"),
        event("json in latin-1", GOOD, 415).with("content-type", "application/json; charset=iso-8859-1"),
        event("two content types", GOOD, 415)
            .with("content-type", "application/json")
            .with("Content-Type", "text/plain"),
        event("gzip", GOOD, 415).with("content-encoding", "gzip").code("unsupported_content_encoding"),
        event("identity encoding", GOOD, 415).with("content-encoding", "identity"),
        webhook("webhook as gzip", "{}", 415).with("content-encoding", "br"),
        Row::of("patch as text", "PATCH", "{WEBHOOKS}/{ID}", Body::Text("{}".into()), 415)
            .with("content-type", "text/plain"),
        Row::of("body over the limit by its length", "POST", "{EVENTS}", Body::Announced(2 << 20), 413)
            .code("body_too_large"),
        Row::of("body over the limit", "POST", "{EVENTS}", Body::Bytes(vec![b' '; (1 << 20) + 1]), 413),
        Row::of("webhook over the limit", "POST", "{WEBHOOKS}", Body::Announced((1 << 20) + 1), 413),
        Row::of("batch over the limit", "POST", "{EVENTS}/batch", Body::Announced((16 << 20) + 1), 413),
        event("not json", "hello", 400).code("malformed_json"),
        event("byte order mark", "\u{feff}{}", 400),
        event("trailing comma", r#"{"type":"a.b","data":{},}"#, 400),
        event("comment", r#"{"type":"a.b",/**/"data":{}}"#, 400),
        event("NaN", r#"{"type":"a.b","data":NaN}"#, 400),
        event("leading zero", r#"{"type":"a.b","data":01}"#, 400),
        event("single quotes", "{'type':'a.b','data':{}}", 400),
        event("two documents", r#"{"type":"a.b","data":{}}{}"#, 400),
        event("control character in a string", "{\"type\":\"a.b\",\"data\":\"\u{1}\"}", 400),
        event("bad escape", r#"{"type":"a.b","data":"\x41"}"#, 400),
        event("lone surrogate", r#"{"type":"a.b","data":"\ud800"}"#, 400).code("lone_surrogate"),
        event("lone low surrogate, small hex", r#"{"type":"a.b","data":"\udfff\ud83d"}"#, 400).code("lone_surrogate"),
        event("duplicate deep inside", r#"{"type":"a.b","data":{"x":{"a":1,"\u0061":2}}}"#, 400)
            .code("duplicate_member"),
        Row::of(
            "overlong utf-8",
            "POST",
            "{EVENTS}",
            Body::Bytes(b"{\"type\":\"a.b\",\"data\":\"\xc0\xaf\"}".to_vec()),
            400,
        )
        .code("invalid_utf8"),
        Row::of(
            "surrogate in utf-8",
            "POST",
            "{EVENTS}",
            Body::Bytes(b"{\"type\":\"a.b\",\"data\":\"\xed\xa0\x80\"}".to_vec()),
            400,
        ),
        event("2,000 arrays deep", &deep("[", "]"), 400),
        event("2,000 objects deep", &deep("{\"a\":", "}").replace("{\"a\":}", "{\"a\":1}"), 400),
        webhook("webhook not json", "url", 400),
        webhook("webhook lone surrogate", r#"{"url":"https://example.com/","name":"\ud800"}"#, 400),
    ]
}

fn events() -> Vec<Row> {
    let metadata = |count: usize, value: usize| {
        let members: Vec<String> = (0..count).map(|n| format!("\"k{n}\":\"{}\"", "v".repeat(value))).collect();
        format!("{{\"type\":\"a.b\",\"data\":{{}},\"metadata\":{{{}}}}}", members.join(","))
    };
    let with = |field: &str| format!("{{\"type\":\"a.b\",\"data\":{{}},{field}}}");
    vec![
        event("an array", "[]", 422),
        event("a string", "\"a\"", 422),
        event("null", "null", 422),
        event("empty object", "{}", 422).at("/type"),
        event("no data", r#"{"type":"a.b"}"#, 422).at("/data"),
        event("no type", r#"{"data":{}}"#, 422).at("/type"),
        event("empty type", r#"{"type":"","data":{}}"#, 422).at("/type"),
        event("type with a space", r#"{"type":"a b","data":{}}"#, 422).at("/type"),
        event("type with a star", r#"{"type":"a.*","data":{}}"#, 422).at("/type"),
        event("type with a line break", r#"{"type":"a\r\nb","data":{}}"#, 422).at("/type"),
        event("type as a number", r#"{"type":1,"data":{}}"#, 422).at("/type"),
        event("type as null", r#"{"type":null,"data":{}}"#, 422).at("/type"),
        event("type outside ascii", r#"{"type":"ä","data":{}}"#, 422).at("/type"),
        event("unknown field", &with(r#""typo":1"#), 422).at("/typo"),
        event("read-only field", &with(r#""received_at":"2026-01-01T00:00:00Z""#), 422).at("/received_at"),
        event("occurred_at in words", &with(r#""occurred_at":"yesterday""#), 422).at("/occurred_at"),
        event("occurred_at as a number", &with(r#""occurred_at":1"#), 422).at("/occurred_at"),
        event("event_id too long", &with(&format!("\"event_id\":\"{}\"", "a".repeat(300))), 422).at("/event_id"),
        event("empty event_id", &with(r#""event_id":"""#), 422).at("/event_id"),
        event("channels as text", &with(r#""channels":"eu""#), 422).at("/channels"),
        event("metadata as an array", &with(r#""metadata":[]"#), 422).at("/metadata"),
        event("metadata with a number", &with(r#""metadata":{"a":1}"#), 422),
        event("metadata of a thousand members", &metadata(1_000, 1), 422),
        event("metadata of long values", &metadata(1, 100_000), 422),
        event("deliver_at after the retention", &with(r#""deliver_at":"2027-01-01T00:00:00Z""#), 422).at("/deliver_at"),
        event("app of nobody", &with(&format!("\"app_id\":\"{NOBODY}\"")), 404),
        event("subject as an object", &with(r#""subject":{}"#), 422).at("/subject"),
        event("Idempotency-Key twice", GOOD, 422)
            .with("idempotency-key", "a")
            .with("Idempotency-Key", "b")
            .code("invalid_header"),
        event("empty Idempotency-Key", GOOD, 422).with("idempotency-key", ""),
        event("Idempotency-Key with a space", GOOD, 422).with("idempotency-key", "a b"),
        event("Idempotency-Key outside ascii", GOOD, 422).with("idempotency-key", "ä"),
        event("CloudEvent without a source", "{}", 422)
            .with("ce-specversion", "1.0")
            .with("ce-type", "a.b")
            .with("ce-id", "1"),
        event("CloudEvent of another version", "{}", 422)
            .with("ce-specversion", "0.3")
            .with("ce-type", "a.b")
            .with("ce-id", "1")
            .with("ce-source", "/x"),
        event("CloudEvent without anything", "{}", 422).with("content-type", "application/cloudevents+json"),
        event("CloudEvents that are none", "{}", 422).with("content-type", "application/cloudevents-batch+json"),
    ]
}

fn batches() -> Vec<Row> {
    let batch = |name: &str, body: String, status| Row::of(name, "POST", "{EVENTS}/batch", Body::Text(body), status);
    let mut items = [GOOD; 8];
    items[7] = r#"{"type":"a b","data":{}}"#;
    let many = vec![GOOD; 1_001].join(",");
    let twice = r#"{"type":"a.b","data":1,"event_id":"same"},{"type":"a.b","data":2,"event_id":"same"}"#;
    vec![
        batch("one bad item of eight", format!("{{\"events\":[{}]}}", items.join(",")), 422).at("/events/7/type"),
        batch("an item that is no object", format!("{{\"events\":[{GOOD},1]}}"), 422).at("/events/1"),
        batch("empty batch", r#"{"events":[]}"#.to_owned(), 422).at("/events"),
        batch("1,001 events", format!("{{\"events\":[{many}]}}"), 422).at("/events"),
        batch("no events", "{}".to_owned(), 422).at("/events"),
        batch("events as an object", r#"{"events":{}}"#.to_owned(), 422).at("/events"),
        batch("bare array", "[]".to_owned(), 422),
        batch("something beside the events", format!("{{\"events\":[{GOOD}],\"dry\":true}}"), 422).at("/dry"),
        batch("the same event_id with other bytes", format!("{{\"events\":[{twice}]}}"), 409).code("event_id_conflict"),
        batch(
            "duplicate member in the third item",
            format!("{{\"events\":[{GOOD},{GOOD},{{\"type\":\"a\",\"type\":\"a\"}}]}}"),
            400,
        ),
    ]
}

fn webhooks() -> Vec<Row> {
    let url = |name: &str, url: &str| webhook(name, &format!("{{\"url\":\"{url}\"}}"), 422).at("/url");
    let long = format!("https://example.com/{}", "a".repeat(2_049 - 20));
    let schedule = format!("\"retry_schedule_s\":[{}]", vec!["1"; 10_000].join(","));
    let types = format!("\"event_types\":[{}]", vec!["\"a.b\""; 100_000].join(","));
    let deep = format!("\"filter\":{}{}{}", "{\"not\":".repeat(20), r#"{"path":"/a","eq":1}"#, "}".repeat(20));
    let leaves = format!("\"filter\":{{\"all\":[{}]}}", vec![r#"{"path":"/a","eq":1}"#; 65].join(","));
    vec![
        webhook("no url", "{}", 422).at("/url"),
        url("url of 2,049 bytes", &long),
        url("ftp", "ftp://example.com/"),
        url("javascript", "javascript:alert(1)"),
        url("file", "file:///etc/passwd"),
        url("user in the url", "https://user:pass@example.com/"),
        url("fragment", "https://example.com/#x"),
        url("no host", "https://"),
        url("loopback", "http://127.0.0.1/"),
        url("loopback in octal", "http://0177.0.0.1/"),
        url("loopback as one number", "http://2130706433/"),
        url("loopback in six", "http://[::1]/"),
        url("loopback mapped", "http://[::ffff:127.0.0.1]/"),
        url("localhost", "http://localhost/"),
        url("single label", "http://intranet/"),
        url("blocked port", "https://example.com:6379/"),
        url("a space", "https://exa mple.com/"),
        url("url as a number within text", "8080"),
        webhook("url as a number", r#"{"url":1}"#, 422).at("/url"),
        field("unknown field", r#""colour":"red""#, "/colour"),
        field("read-only id", &format!("\"id\":\"{NOBODY}\""), "/id"),
        field("read-only state", r#""consecutive_failures":0"#, "/consecutive_failures"),
        field("unknown method", r#""method":"head""#, "/method"),
        field("unknown status", r#""status":"on""#, "/status"),
        field("unknown field set", r#""field_set":"xml""#, "/field_set"),
        field("unknown auth", r#""auth":{"type":"digest"}"#, "/auth/type"),
        field("auth without its token", r#""auth":{"type":"bearer"}"#, "/auth/token"),
        field("line break in a token", r#""auth":{"type":"bearer","token":"a\r\nEvil: 1"}"#, "/auth/token"),
        field(
            "auth header that frames",
            r#""auth":{"type":"header","name":"content-length","value":"1"}"#,
            "/auth/name",
        ),
        field("header name with a space", r#""headers":{"x a":"b"}"#, "/headers/x a"),
        field("hop-by-hop header", r#""headers":{"Connection":"close"}"#, "/headers/Connection"),
        field("signature header", r#""headers":{"Webhook-Signature":"v1,x"}"#, "/headers/Webhook-Signature"),
        field("short secret", r#""secret":"whsec_YWJj""#, "/secret"),
        field("secret without its prefix", r#""secret":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#, "/secret"),
        field("timeout too short", r#""timeout_ms":999"#, "/timeout_ms"),
        field("timeout as a fraction", r#""timeout_ms":1500.5"#, "/timeout_ms"),
        field("timeout over every number", r#""timeout_ms":1e400"#, "/timeout_ms"),
        field("in flight zero", r#""max_in_flight":0"#, "/max_in_flight"),
        field("rate zero", r#""rate_limit_per_s":0"#, "/rate_limit_per_s"),
        field("negative rate", r#""rate_limit_per_s":-1"#, "/rate_limit_per_s"),
        field("unknown preset", r#""retry_schedule_s":"sometimes""#, "/retry_schedule_s"),
        field("negative pause", r#""retry_schedule_s":[-1]"#, "/retry_schedule_s/0"),
        field("10,000 retries", &schedule, "/retry_schedule_s"),
        field("100,000 types", &types, "/event_types"),
        field("type pattern in the middle", r#""event_types":["a.*.b"]"#, "/event_types/0"),
        field("signature unknown", r#""signature":["rot13"]"#, "/signature/0"),
        field("tls that is no certificate", r#""tls":{"ca_pem":"x"}"#, "/tls/ca_pem"),
        field("filter 20 deep", &deep, "/filter/not/not/not/not/not/not/not/not"),
        field("filter of 65 leaves", &leaves, "/filter/all/64"),
        field("filter with an unknown operator", r#""filter":{"path":"/a","like":"x"}"#, "/filter/like"),
        field("name too long", &format!("\"name\":\"{}\"", "n".repeat(101)), "/name"),
        webhook("app of nobody", &format!("{{\"url\":\"https://example.com/\",\"app_id\":\"{NOBODY}\"}}"), 404),
    ]
}

fn changes() -> Vec<Row> {
    let patch =
        |name: &str, body: &str, status| Row::of(name, "PATCH", "{WEBHOOKS}/{ID}", Body::Text(body.to_owned()), status);
    vec![
        patch("patch an unknown field", r#"{"colour":"red"}"#, 422).at("/colour"),
        patch("patch the id", &format!("{{\"id\":\"{NOBODY}\"}}"), 422).at("/id"),
        patch("patch created_at", r#"{"created_at":"2020-01-01T00:00:00Z"}"#, 422).at("/created_at"),
        patch("patch the secret", r#"{"secret":"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#, 422).at("/secret"),
        patch("patch the circuit", r#"{"circuit":"closed"}"#, 422).at("/circuit"),
        patch("patch the url away", r#"{"url":null}"#, 422).at("/url"),
        patch("patch to a private url", r#"{"url":"http://10.0.0.1/"}"#, 422).at("/url"),
        patch("patch as an array", "[]", 422),
        patch("patch without a body", "", 400),
        Row::of("patch nobody", "PATCH", &format!("{{WEBHOOKS}}/{NOBODY}"), Body::Text("{}".into()), 404),
        Row::of("put", "PUT", "{WEBHOOKS}/{ID}", Body::Text("{}".into()), 405).code("method_not_allowed"),
        Row::of("delete all", "DELETE", "{WEBHOOKS}", Body::None, 405),
        Row::of(
            "rotate to a bad secret",
            "POST",
            "{WEBHOOKS}/{ID}/rotate-secret",
            Body::Text(r#"{"secret":"x"}"#.into()),
            422,
        )
        .at("/secret"),
        Row::of(
            "rotate for a century",
            "POST",
            "{WEBHOOKS}/{ID}/rotate-secret",
            Body::Text(r#"{"overlap_s":3153600000}"#.into()),
            422,
        )
        .at("/overlap_s"),
        Row::of("pause with fields", "POST", "{WEBHOOKS}/{ID}/pause", Body::Text(r#"{"why":"x"}"#.into()), 422)
            .at("/why"),
        Row::of("retry nobody", "POST", &format!("/v1/deliveries/{NOBODY}/retry"), Body::None, 404),
        Row::of("erase nobody", "DELETE", &format!("{{EVENTS}}/{NOBODY}/data"), Body::None, 404),
        Row::of("delete a key of nobody", "DELETE", &format!("/v1/keys/{NOBODY}"), Body::None, 404),
    ]
}

fn queries() -> Vec<Row> {
    vec![
        get("limit in words", "{EVENTS}?limit=abc", 400),
        get("limit over 250", "{EVENTS}?limit=251", 400),
        get("empty limit", "{EVENTS}?limit=", 400),
        get("limit with a plus", "{EVENTS}?limit=%2B1", 400),
        get("limit over 64 bits", "{EVENTS}?limit=99999999999999999999", 400),
        get("unknown parameter", "{EVENTS}?sort=type", 400),
        get("parameter in capitals", "{EVENTS}?Limit=1", 400),
        get("bad cursor", "{EVENTS}?cursor=!!!", 400),
        get("cursor of another list", "{EVENTS}?cursor=AAAA", 400),
        get("from in words", "{EVENTS}?from=today", 400),
        get("the 30th of February", "{EVENTS}?from=2026-02-30T00:00:00Z", 400),
        get("year 999999", "{EVENTS}?to=999999-01-01T00:00:00Z", 400),
        get("bad percent", "{EVENTS}?search=%zz", 400),
        get("half a percent", "{EVENTS}?search=%f", 400),
        get("no utf-8 in the query", "{EVENTS}?search=%ff%fe", 400),
        get("unknown status", "/v1/deliveries?status=lost", 400),
        get("status code in words", "/v1/deliveries?status_code=ok", 400),
        get("webhook_id that is none", "/v1/deliveries?webhook_id=1", 400),
        get("wait too long", "{WEBHOOKS}/{ID}/feed?wait_s=31", 400),
        get("a body parameter in the query", "{WEBHOOKS}/{ID}?url=x", 400),
    ]
}

fn others() -> Vec<Row> {
    let key = |name: &str, body: &str| Row::of(name, "POST", "/v1/keys", Body::Text(body.to_owned()), 422);
    let replay =
        |name: &str, body: &str, status| Row::of(name, "POST", "/v1/replays", Body::Text(body.to_owned()), status);
    vec![
        get("id that is no uuid", "{EVENTS}/1", 404),
        get("id in braces", &format!("{{EVENTS}}/{{{NOBODY}}}"), 404),
        get("dots in the path", "/v1/../v1/events", 404),
        get("dots encoded", "/v1/%2e%2e/events", 404),
        get("slash at the end", "{EVENTS}/", 404),
        get("two slashes", "//v1/events", 404),
        get("path in capitals", "/V1/EVENTS", 404),
        get("NUL in the path", "/v1/events/%00", 404),
        get("bad percent in the path", "/v1/events/%zz", 404),
        key("key without scopes", r#"{"name":"k"}"#).at("/scopes"),
        key("key with no scope", r#"{"name":"k","scopes":[]}"#).at("/scopes"),
        key("key with an unknown scope", r#"{"name":"k","scopes":["root"]}"#).at("/scopes/0"),
        key("key of the installation", r#"{"name":"k","scopes":["admin"],"installation":true}"#).at("/installation"),
        key("key with its own text", r#"{"name":"k","scopes":["admin"],"key":"mine"}"#).at("/key"),
        key("key with a negative rate", r#"{"name":"k","scopes":["admin"],"rate_per_s":-1}"#).at("/rate_per_s"),
        Row::of(
            "app with a uuid for a uid",
            "POST",
            "/v1/apps",
            Body::Text(format!("{{\"name\":\"a\",\"uid\":\"{NOBODY}\"}}")),
            422,
        )
        .at("/uid"),
        Row::of("app without a name", "POST", "/v1/apps", Body::Text("{}".into()), 422).at("/name"),
        Row::of(
            "organization with a line break",
            "POST",
            "/v1/organizations",
            Body::Text(r#"{"name":"a\nb"}"#.into()),
            422,
        )
        .at("/name"),
        replay("replay of nothing", "{}", 422),
        replay("replay of nobody", &format!("{{\"webhook_id\":\"{NOBODY}\"}}"), 404),
        replay(
            "replay backwards",
            r#"{"webhook_id":"{ID}","from":"2026-02-01T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#,
            422,
        )
        .at("/to"),
        get("post only", "{EVENTS}/batch", 405),
    ]
}
