//! Forbidden targets in every form: at creation, by a change, through a dialect, and by names that resolve to other
//! addresses at delivery, test and replay.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use postrider::engine::network::{BoxFuture, Conn, ListenAddr, Listener, Network, RealNetwork};
use postrider::server::ServerLimits;
use serde_json::{Value, json};

use crate::security::support::{Instance, eventually, rows, text};

const CORPUS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hostile_urls.json"));

fn corpus(stage: &str) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_str(CORPUS).expect("a corpus");
    rows.into_iter().filter(|row| row["stage"] == stage).collect()
}

/// A network with scripted names, which records every connection.
#[derive(Default)]
struct Names {
    addresses: Mutex<Vec<IpAddr>>,
    /// The addresses of every look-up after the first. `None` for the same.
    changes_to: Mutex<Option<Vec<IpAddr>>>,
    connected: Mutex<Vec<SocketAddr>>,
}

impl Names {
    fn answer(&self, addresses: &[IpAddr]) {
        *self.addresses.lock().expect("whole") = addresses.to_vec();
    }

    fn connected(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut *self.connected.lock().expect("whole"))
    }
}

impl Network for Names {
    /// Connecting fails. The test checks that it was tried.
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        self.connected.lock().expect("whole").push(addr);
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let mut addresses = self.addresses.lock().expect("whole");
        let answer = addresses.clone();
        if let Some(next) = self.changes_to.lock().expect("whole").take() {
            *addresses = next;
        }
        Box::pin(std::future::ready(Ok(answer)))
    }

    fn listen<'a>(&'a self, at: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        RealNetwork.listen(at)
    }
}

async fn instance(names: &Arc<Names>) -> Instance {
    Instance::over(names.clone(), ServerLimits::default(), |settings| settings.delivery.allow = Vec::new()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_url_of_the_corpus_is_taken_or_refused_by_every_way_to_give_one() {
    let instance = instance(&Arc::default()).await;
    let client = &instance.first;
    let mut wrong = Vec::new();
    for row in corpus("create") {
        let (url, allowed) = (text(&row, "url"), row["expect"] == "allow");
        let good = client.post("/v1/webhooks", json!({ "url": "https://example.com/" })).await.expect(201);
        let path = format!("/v1/webhooks/{}", text(&good, "id"));
        let ways = [
            ("created", client.post("/v1/webhooks", json!({ "url": url })).await, 201),
            ("changed", client.patch(&path, json!({ "url": url })).await, 200),
        ];
        for (way, answer, good) in ways {
            let expected = if allowed { good } else { 422 };
            if answer.status.as_u16() != expected {
                wrong.push(format!("{way}: {row}: {}", answer.body));
            }
            if !allowed && answer.json()["errors"][0]["pointer"] != "/url" {
                wrong.push(format!("{way}: {row}: {}", answer.body));
            }
        }
        let dialect = json!({ "name": "name", "url": url });
        let answer =
            client.call(http::Method::POST, "/api/v0/webhooks", &devdraft(&instance), &dialect.to_string()).await;
        if answer.status.is_success() != allowed {
            wrong.push(format!("devdraft: {row}: {} {}", answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first key as Devdraft's clients show theirs.
fn devdraft(instance: &Instance) -> [(&'static str, &'static str); 2] {
    let registry = instance.daemon.engine.store.registry();
    let key = registry.key_by_hash(&postrider::api::auth::key_hash(&instance.first.key)).expect("a key");
    [("x-client-key", key.id.to_string().leak()), ("x-client-secret", instance.first.key.clone().leak())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_answers_with_a_closed_address_is_never_connected_to() {
    let names = Arc::new(Names::default());
    let instance = instance(&names).await;
    let client = &instance.first;
    let (own, port) = (instance.address.ip(), instance.address.port());
    for row in corpus("dial") {
        let url = text(&row, "url").replace(".net/", &format!(".net:{port}/"));
        let addresses = row["dns"].as_array().expect("addresses").iter().map(|address| match address.as_str() {
            Some("<own address>") => own,
            address => address.expect("text").parse().expect("an address"),
        });
        names.answer(&addresses.collect::<Vec<_>>());
        let fields = json!({ "url": url, "retry_schedule_s": "none", "event_types": ["a"] });
        let webhook = client.post("/v1/webhooks", fields).await.expect(201);
        let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
        let event = client.post("/v1/events", json!({ "type": "a", "data": 1 })).await.expect(202);
        let attempts = format!("{path}/attempts");
        let made = eventually("an attempt", async || rows(client, &attempts).await.into_iter().next()).await;
        let tried = client.post(&format!("{path}/test"), json!({})).await.expect(200);
        for attempt in [&made, &tried] {
            assert_eq!(attempt["outcome"], "blocked_address", "{row}: {attempt}");
            assert_eq!(attempt["error"], "Address not allowed", "no more is said: {attempt}");
            assert_eq!((&attempt["status_code"], &attempt["remote_addr"]), (&Value::Null, &Value::Null));
        }
        let delivery = rows(client, &format!("/v1/events/{}/deliveries", text(&event, "id"))).await.remove(0);
        client.post(&format!("/v1/deliveries/{}/retry", text(&delivery, "id")), json!({})).await.expect(202);
        client.post("/v1/replays", json!({ "webhook_id": webhook["id"] })).await.expect(202);
        eventually("the retry and the replay", async || {
            instance.clock.advance_ms(1_000);
            (rows(client, &attempts).await.len() >= 3).then_some(())
        })
        .await;
        assert!(rows(client, &attempts).await.iter().all(|attempt| attempt["outcome"] == "blocked_address"), "{row}");
        assert_eq!(names.connected(), [], "{row}");
        client.delete(&path).await.expect(204);
    }
}

/// The name resolves to a permitted address at the check and to a forbidden one later. Only checked addresses are
/// connected to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let names = Arc::new(Names::default());
    let instance = instance(&names).await;
    let public: IpAddr = "93.184.216.34".parse().expect("an address");
    for (n, closed) in
        ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe"].iter().enumerate()
    {
        names.answer(&[public]);
        *names.changes_to.lock().expect("whole") = Some(vec![closed.parse().expect("an address")]);
        let url = format!("https://rebinding-{n}.example.net/");
        let fields = json!({ "url": url, "retry_schedule_s": [1], "event_types": ["a"] });
        let webhook = instance.first.post("/v1/webhooks", fields).await.expect(201);
        let path = format!("/v1/webhooks/{}", text(&webhook, "id"));
        for _ in 0..3 {
            instance.first.post(&format!("{path}/test"), json!({})).await.expect(200);
        }
        for connected in names.connected() {
            assert_eq!(connected.ip(), public, "{closed}");
        }
        instance.first.delete(&path).await.expect(204);
    }
}
