//! Every change, every replay and every reading of a secret leaves a line: its caller, action, time and address.

use http::Method;
use postrider::engine::clock::Clock as _;
use serde_json::{Value, json};

use crate::security::support::{Client, Instance, START, delivered, echo, rows, text};

const FROM_WHERE: &str = "127.0.0.1";

/// One daemon, and its audit lines so far.
struct Book {
    instance: Instance,
    /// The id of the calling key.
    key: String,
    lines: usize,
}

impl Book {
    async fn open() -> Book {
        let instance = Instance::start().await;
        let keys = rows(&instance.first, "/v1/keys").await;
        let key = text(&keys[0], "id").to_owned();
        let lines = rows(&instance.first, "/v1/audit").await.len();
        Book { instance, key, lines }
    }

    fn client(&self) -> &Client {
        &self.instance.first
    }

    /// Makes a request, and checks that it wrote exactly this line.
    async fn does(&mut self, method: Method, path: &str, body: Value, action: &str, target: &str) -> Value {
        self.instance.clock.advance_ms(1_000);
        let name = format!("request-{action}-{}", self.lines);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.client().call(method, path, &[("x-request-id", &name)], &body).await;
        assert!(answer.status.is_success(), "{action}: {} {}", answer.status, answer.body);
        let answer = if answer.body.is_empty() { Value::Null } else { answer.json() };
        let target = if target.is_empty() { text(&answer, "id") } else { target };
        let all = rows(self.client(), "/v1/audit").await;
        assert_eq!(all.len(), self.lines + 1, "{action}: one further line");
        self.lines += 1;
        let line = &all[0];
        assert_eq!(line["action"], action);
        assert_eq!(line["target"], target, "{action}");
        assert_eq!(line["key_id"], self.key.as_str(), "{action}: who");
        assert_eq!(line["remote_addr"], FROM_WHERE, "{action}: from where");
        assert_eq!(line["request_id"], name, "{action}");
        assert_eq!(text(line, "at"), self.instance.clock.now().to_string(), "{action}: when");
        let members: Vec<&String> = line.as_object().expect("an object").keys().collect();
        assert_eq!(
            members,
            ["id", "at", "key_id", "action", "target", "remote_addr", "request_id", "portal_link_id", "changes"]
        );
        assert!(line["changes"].is_object() || line["changes"].is_array(), "{line}");
        answer
    }

    /// Makes a request that changes nothing.
    async fn does_nothing(&mut self, method: Method, path: &str, body: Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.client().call(method.clone(), path, &[], &body).await;
        assert!(answer.status.as_u16() < 500, "{}", answer.body);
        assert_eq!(rows(self.client(), "/v1/audit").await.len(), self.lines, "{method} {path} is no line");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_leaves_its_audit_line_and_nothing_else_does() {
    let mut book = Book::open().await;
    let receiver = echo().await;
    let (post, patch, delete) = (Method::POST, Method::PATCH, Method::DELETE);

    let app = book.does(post.clone(), "/v1/apps", json!({ "name": "n" }), "app.create", "").await;
    let app_path = format!("/v1/apps/{}", text(&app, "id"));
    book.does(patch.clone(), &app_path, json!({ "name": "m" }), "app.update", text(&app, "id")).await;
    let key = json!({ "name": "k", "scopes": ["events:read"] });
    let key = book.does(post.clone(), "/v1/keys", key, "key.create", "").await;
    let key_path = format!("/v1/keys/{}", text(&key, "id"));
    book.does(delete.clone(), &key_path, Value::Null, "key.delete", text(&key, "id")).await;
    book.does(post.clone(), "/v1/organizations", json!({ "name": "o" }), "organization.create", "").await;

    let url = json!({ "url": format!("http://{receiver}/") });
    let webhook = book.does(post.clone(), "/v1/webhooks", url, "webhook.create", "").await;
    let id = text(&webhook, "id").to_owned();
    let path = format!("/v1/webhooks/{id}");
    for (below, action) in
        [("/pause", "webhook.pause"), ("/resume", "webhook.resume"), ("/rotate-secret", "webhook.rotate_secret")]
    {
        let target = &id;
        book.does(post.clone(), &format!("{path}{below}"), json!({}), action, target).await;
    }
    book.does(Method::GET, &format!("{path}/secret"), Value::Null, "webhook.read_secret", &id).await;
    let auth = json!({ "auth": { "type": "bearer", "token": "secret-token" }, "timeout_ms": 2000 });
    book.does(patch.clone(), &path, auth, "webhook.update", &id).await;
    let line = &rows(book.client(), "/v1/audit").await[0];
    assert_eq!(line["changes"], json!(["auth", "timeout_ms"]), "the changed fields, without their values");

    // Deliveries and publishing are the history of events, and not changes of configuration.
    let (_, delivery) = {
        let event = json!({ "type": "a.b", "data": 1 });
        delivered(book.client(), json!({ "url": format!("http://{receiver}/") }), event).await
    };
    book.lines += 1;
    let delivery_id = text(&delivery, "id").to_owned();
    let event_id = text(&delivery, "event_id").to_owned();
    let retry = format!("/v1/deliveries/{delivery_id}/retry");
    book.does(post.clone(), &retry, json!({}), "delivery.retry", &delivery_id).await;
    let replay = book.does(post.clone(), "/v1/replays", json!({ "webhook_id": id }), "replay.create", "").await;
    book.does_nothing(post.clone(), "/v1/replays", json!({ "webhook_id": id, "dry_run": true })).await;
    let cancel = format!("/v1/replays/{}/cancel", text(&replay, "id"));
    let answer = book.client().post(&cancel, json!({})).await;
    assert!([200, 409].contains(&answer.status.as_u16()), "{}", answer.body);
    if answer.status == 200 {
        book.lines += 1;
    }

    let later = START.plus_ms(3_600_000).to_string();
    let waits = json!({ "type": "a.b", "data": 1, "deliver_at": later });
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(text(&book.client().post("/v1/events", waits.clone()).await.expect(202), "id").to_owned());
    }
    let rows_of = rows(book.client(), &format!("/v1/events/{}/deliveries", waiting[0])).await;
    let first = text(&rows_of[0], "id").to_owned();
    let cancel = format!("/v1/deliveries/{first}/cancel");
    book.does(post.clone(), &cancel, json!({}), "delivery.cancel", &first).await;
    book.does_nothing(post.clone(), &cancel, json!({})).await;
    let cancel = format!("/v1/events/{}/cancel", waiting[1]);
    book.does(post.clone(), &cancel, json!({}), "event.cancel", &waiting[1]).await;
    let data = format!("/v1/events/{event_id}/data");
    book.does(delete.clone(), &data, Value::Null, "event.erase", &event_id).await;

    book.does_nothing(Method::GET, "/v1/webhooks", Value::Null).await;
    book.does_nothing(Method::GET, &path, Value::Null).await;
    book.does_nothing(patch.clone(), &path, json!({})).await;
    book.does_nothing(post.clone(), "/v1/events", json!({ "type": "a.b", "data": 1 })).await;
    book.does_nothing(post.clone(), "/v1/webhooks", json!({ "url": "nonsense" })).await;
    book.does(delete.clone(), &path, Value::Null, "webhook.delete", &id).await;
    book.does_nothing(delete.clone(), &path, Value::Null).await;
    book.does(delete.clone(), &app_path, Value::Null, "app.delete", text(&app, "id")).await;
    let said = Value::Array(rows(book.client(), "/v1/audit").await).to_string();
    assert!(!said.contains("secret-token") && !said.contains("whsec_"), "{said}");
}

/// A stored answer that shows a secret again is a reading of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_shown_again_by_idempotency_key_is_listed() {
    let book = Book::open().await;
    let client = book.client();
    let once = [("idempotency-key", "k")];
    for (path, body, action) in [
        ("/v1/webhooks", json!({ "url": "https://example.com/" }), "webhook.read_secret"),
        ("/v1/keys", json!({ "name": "k", "scopes": ["events:read"] }), "key.read"),
        ("/v1/organizations", json!({ "name": "o" }), "key.read"),
    ] {
        let first = client.call(Method::POST, path, &once, &body.to_string()).await;
        let again = client.call(Method::POST, path, &once, &body.to_string()).await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(first.expect(201), again.expect(201));
        if path == "/v1/organizations" {
            // That key's organization has its own audit.
            continue;
        }
        let line = &rows(client, "/v1/audit").await[0];
        assert_eq!((line["action"].as_str(), line["changes"]["replayed"].as_bool()), (Some(action), Some(true)));
        assert_eq!(line["key_id"], book.key.as_str());
    }
}

/// The key's organization knows who made an organization. The new organization sees only that it was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_does_not_learn_who_runs_the_installation() {
    let book = Book::open().await;
    let made = book.client().post("/v1/organizations", json!({ "name": "o" })).await.expect(201);
    let own = rows(&book.instance.client(text(&made, "key")), "/v1/audit").await;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0]["action"], "organization.create");
    assert!(own[0]["key_id"].is_null() && own[0]["remote_addr"].is_null() && own[0]["request_id"].is_null());
    let ours = rows(book.client(), "/v1/audit").await;
    assert_eq!(
        (ours[0]["action"].as_str(), ours[0]["key_id"].as_str()),
        (Some("organization.create"), Some(&*book.key))
    );
}

/// Actions of the daemon itself are listed without a key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_the_daemon_disables_is_listed() {
    let book = Book::open().await;
    let gone = gone().await;
    let client = book.client();
    let webhook = client.post("/v1/webhooks", json!({ "url": format!("http://{gone}/") })).await.expect(201);
    client.post("/v1/events", json!({ "type": "a.b", "data": 1 })).await.expect(202);
    let line = crate::security::support::eventually("a line", async || {
        rows(client, "/v1/audit").await.into_iter().find(|line| line["action"] == "webhook.disable")
    })
    .await;
    assert_eq!(line["target"], webhook["id"]);
    assert!(line["key_id"].is_null());
    assert_eq!(line["changes"], json!({ "reason": "gone" }));
}

/// A receiver that answers 410.
async fn gone() -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = [0; 4096];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_is_filtered_by_object_key_and_action() {
    let mut book = Book::open().await;
    let url = json!({ "url": format!("http://{}/", echo().await) });
    let webhook = book.does(Method::POST, "/v1/webhooks", url.clone(), "webhook.create", "").await;
    let id = text(&webhook, "id").to_owned();
    book.does(Method::POST, "/v1/webhooks", url, "webhook.create", "").await;
    for (below, action) in [("pause", "webhook.pause"), ("resume", "webhook.resume")] {
        book.does(Method::POST, &format!("/v1/webhooks/{id}/{below}"), json!({}), action, &id).await;
    }
    let actions = async |query: &str| -> Vec<String> {
        let lines = rows(book.client(), &format!("/v1/audit?{query}")).await;
        lines.iter().map(|line| text(line, "action").to_owned()).collect()
    };
    assert_eq!(actions(&format!("target={id}")).await, ["webhook.resume", "webhook.pause", "webhook.create"]);
    assert_eq!(actions(&format!("target={id}&action=webhook.pause")).await, ["webhook.pause"]);
    assert_eq!(actions("action=webhook.").await.len(), 4);
    assert_eq!(actions("action=webhook").await, Vec::<String>::new());
    assert_eq!(actions(&format!("key_id={}&action=webhook.create", book.key)).await.len(), 2);
    assert_eq!(actions(&format!("key_id={id}")).await, Vec::<String>::new());
}
