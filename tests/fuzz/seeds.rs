//! The seeds of fuzzing: right and wrong inputs of every kind, and their parts.

use base64::Engine as _;
use postrider::kv::codec;
use serde_json::Value;

const URLS: &str = include_str!("../data/hostile_urls.json");
const REQUESTS: &str = include_str!("../data/bad_requests.json");

/// The seeds of the entry `name`.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    let texts = |all: &[&str]| all.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    match name {
        "url" => texts_of(URLS, "url"),
        "rows" => stored(),
        "wal" => vec![vec![0; 64], vec![0xff; 64], [&64_u32.to_le_bytes()[..], &[0; 60]].concat()],
        "cursors" => {
            texts(&["evntAAAAAAAAAAAAAAAAAAAAAA", "feed000000000000000000000A", "dlvr", "hook_____________________w"])
        }
        "filters" => texts(&[
            "{\"path\":\"/a/b\",\"gte\":5}\0{\"a\":{\"b\":5.0}}",
            "{\"all\":[{\"path\":\"/a\",\"in\":[1,\"x\",null]},{\"any\":[{\"path\":\"/b\",\"prefix\":\"y\"}]},{\"not\":{\"path\":\"/c\",\"exists\":true}}]}\0{\"a\":1e0,\"b\":\"yes\"}",
            "{\"path\":\"\",\"eq\":{\"a\":[1,2,{\"b\":12345678901234567890.25}]}}\0{\"a\":[1,2]}",
            "{\"path\":\"/~0~1\",\"lt\":-1e-400}\0{\"~/\":-0}",
        ]),
        "json" => texts(&[
            "{\"a\":[1,2.5e-3,\"\\ud83d\\ude00\\u0000\",null,true],\"b\":{}}",
            "[[[[]]]]",
            "{\"a\":1,\"\\u0061\":2}",
            "\"\\ud800\"",
            "1e400",
        ]),
        "cloudevents" => texts(&[
            "content-type: application/cloudevents+json\n\n{\"specversion\":\"1.0\",\"type\":\"a.b\",\"source\":\"/s\",\"id\":\"1\",\"time\":\"2026-01-01T00:00:00Z\",\"data\":{\"a\":1}}",
            "{\"specversion\":\"1.0\",\"type\":\"a.b\",\"source\":\"/s\",\"id\":\"1\",\"data_base64\":\"AAEC\",\"datacontenttype\":\"image/png\",\"traceparent\":\"x\"}",
            "ce-specversion: 1.0\nce-type: a.b\nce-source: /s\nce-id: %C3%A4\nce-ext: 1\ncontent-type: text/plain\n\nhello",
            "[{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"s\",\"id\":\"1\"},{}]",
        ]),
        "requests" => requests(),
        "mounts" => on_each_route(),
        "answers" => texts(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\na: b\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\nretry-after: Wed, 21 Oct 2099 07:28:00 GMT\r\n\r\n",
            "HTTP/1.0 302 Found\r\nlocation: http://127.0.0.1/\r\nset-cookie: a=\"b\"; path=/\r\n\r\nbody",
            "HTTP/1.1 204 No Content\r\nconnection: close\r\nx: \u{ff}\r\n\r\n",
        ]),
        other => panic!("{other} begins with nothing"),
    }
}

/// Requests on the first 60 routes of each mount, with the parameters and the body that most routes accept.
fn on_each_route() -> Vec<Vec<u8>> {
    let id = "0195a000-0000-7000-8000-000000000000";
    let body = r#"{"type":"a.b","data":{},"url":"https://example.com/","name":"n","scopes":["admin"],"event_types":["*"],"page":1,"limit":10}"#;
    let heads = [
        format!("{id}?limit=10&cursor=x"),
        format!("{id}?page=1&pageSize=5&status=active&from=2026-01-01T00:00:00Z"),
        "1?offset=0".into(),
    ];
    let with =
        |route: u8, head: &String| format!("{}{head}\ncontent-type: application/json\n\n{body}", char::from(route));
    let on_mount = |mount: u8| {
        let routes = (0..60).flat_map(|route| heads.iter().map(move |head| (route, head)));
        routes.map(move |(route, head)| [vec![mount], with(route, head).into_bytes()].concat()).collect::<Vec<_>>()
    };
    (0..super::requests::mounts().len() as u8).flat_map(on_mount).collect()
}

fn texts_of(corpus: &str, member: &str) -> Vec<Vec<u8>> {
    let rows: Vec<Value> = serde_json::from_str(corpus).expect("a corpus");
    rows.iter().filter_map(|row| Some(row[member].as_str()?.as_bytes().to_vec())).collect()
}

/// Rows as a store holds them, without their checksum.
fn stored() -> Vec<Vec<u8>> {
    let plain = |sealed: Vec<u8>| codec::decode_bytes(&sealed).expect("whole").to_vec();
    let id = uuid::Uuid::from_u128(0x0195_a000_0000_7000_8000_0000_0000_0000);
    let webhook = postrider::model::Webhook::new(postrider::model::Id::MIN, postrider::model::Id::MIN);
    vec![
        plain(codec::encode(&webhook)),
        plain(codec::encode(&postrider::model::webhook::WebhookState::default())),
        plain(codec::encode(&(id.as_bytes(), "name", 1_772_704_800_000_i64))),
        plain(codec::encode(&(id, id, "name", "uid", vec!["admin"], 1_u64, None::<u8>))),
    ]
}

/// A request on every route of every mount, and those of the corpus.
fn requests() -> Vec<Vec<u8>> {
    let id = "0195a000-0000-7000-8000-000000000000";
    let mut all = Vec::new();
    let mounts = postrider::api::dialects::mounts(|_| true);
    for mount in mounts.iter().chain([&postrider::api::native::mount()]) {
        for route in mount.routes() {
            let path = route.path.split('/').map(|part| if part.starts_with('{') { id } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            let query = route.query.iter().map(|param| format!("{}=1", param.name)).collect::<Vec<_>>().join("&");
            let body =
                r#"{"type":"a.b","data":{},"url":"https://example.com/","name":"n","scopes":["admin"],"events":[]}"#;
            let head = format!("{} {path}?{query}\ncontent-type: application/json", route.verb.as_str());
            all.push(format!("{head}\n\n{body}").into_bytes());
            all.push(
                format!("{} {path}\ncontent-type: application/json\nidempotency-key: a\n\n{{}}", route.verb.as_str())
                    .into_bytes(),
            );
        }
    }
    let corpus: Vec<Value> = serde_json::from_str(REQUESTS).expect("a corpus");
    for row in &corpus {
        let (Some(method), Some(path), Some(body)) =
            (row["method"].as_str(), row["path"].as_str(), row["body"].as_str())
        else {
            continue;
        };
        let path = path.replace("{EVENTS}", "/v1/events").replace("{WEBHOOKS}", "/v1/webhooks").replace("{ID}", id);
        all.push(format!("{method} {path}\ncontent-type: application/json\n\n{body}").into_bytes());
    }
    all
}

/// Parts of inputs, which mutations insert at any position.
pub fn words() -> Vec<Vec<u8>> {
    let texts = [
        "127.0.0.1",
        "0x7f",
        "[::ffff:",
        "%2e",
        "@",
        "#",
        "\\",
        "://",
        "xn--",
        "localhost",
        "\u{3002}",
        "\u{ff10}",
        ":0",
        "..",
        "null",
        "true",
        "-0",
        "1e999",
        "\\ud800",
        "\\u0000",
        "{\"a\":",
        "[[",
        "]]",
        "\"\"",
        "\"type\":",
        "\"data\":",
        "?cursor=",
        "&limit=",
        "%00",
        "%ff",
        "+",
        "\r\n",
        "\n\n",
        "\0",
        ": ",
        "content-type: application/json",
        "transfer-encoding: chunked",
        "content-length: 18446744073709551615",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "0\r\n\r\n",
    ];
    let mut words: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    words.extend([
        vec![0xff; 4],
        vec![0xdc; 1],
        vec![0xdd, 0xff, 0xff, 0xff, 0xff],
        vec![0xc1],
        vec![0xca, 0x7f, 0xc0, 0, 0],
    ]);
    words.push(base64::engine::general_purpose::STANDARD.encode([0xfb; 30]).into_bytes());
    words
}
