//! The store on a real disk: the cost of a durable batch, and of a million waiting deliveries.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bytes::Bytes;
use postrider::kv::disk::DiskTraffic;
use postrider::model::attempt::{AttemptMade, AttemptOutcome, Timings};
use postrider::model::id::WebhookId;
use postrider::model::{AppId, Scope, Time};
use postrider::store::{
    Applied, AppliedBatch, AttemptReport, Caller, Command, Dispatch, EventInput, FINGERPRINTS_MAX, NewKey, Opened,
    PartitionCommand, ROW_PAYLOAD_BYTES_MAX, RealDisk, Receipt, StateCommand, StoreOptions, TenantScope, WriteRequest,
    open,
};
use tempfile::TempDir;

use crate::rounds::Rounds;
use crate::rules::webhook;

const START: Time = Time(1_772_704_800_000);
const DAY_MS: i64 = 86_400_000;
/// Events of one batch while the index is filled.
const FILL_BATCH: usize = 2_000;
/// Webhooks that share a tenth of the index. One webhook has the rest.
const SMALL_WEBHOOKS: usize = 1_000;
const SLICE: usize = 256;
const SLICE_BYTES_MAX: usize = 8 << 20;

/// Measures a batch of publishes, then the outcomes of their deliveries, at the batch sizes of group commit.
pub fn apply(rounds: &mut Rounds) {
    if !rounds.wants("apply") {
        return;
    }
    for size in [1, 16, 64, 256, 1_024] {
        let mut bench = Bench::new();
        bench.webhook(0, vec![]);
        let mut waiting = Vec::new();
        rounds.durable(&format!("apply: publish {size} events of 1 KiB"), size, || {
            let (batch, written) = bench.publish(&vec!["a".to_owned(); size], 1_024);
            waiting.push(batch.effects.fresh);
            written
        });
        rounds.durable(&format!("apply: record {size} delivered"), size, || {
            let dispatches = waiting.pop().unwrap_or_default();
            bench.record(&dispatches, 200)
        });
    }
}

/// Measures the due index with `entries`: nine tenths belong to one webhook that never answers, the rest to a thousand
/// others.
pub fn due(rounds: &mut Rounds, entries: u64) {
    if !rounds.wants("due") {
        return;
    }
    let mut bench = Bench::new();
    let large = bench.webhook(0, vec!["large".into()]);
    let small: Vec<WebhookId> =
        (1..=SMALL_WEBHOOKS).map(|number| bench.webhook(number, vec![format!("small.{number}")])).collect();
    let began = Instant::now();
    let mut made = 0;
    while made < entries as usize {
        let types: Vec<String> = (made..made + FILL_BATCH).map(type_in_index).collect();
        bench.publish(&types, 64);
        made += FILL_BATCH;
    }
    println!("due: {made} entries made in {:.1} s", began.elapsed().as_secs_f64());
    bench.now = bench.now.plus_ms(1_000);
    let (store, now) = (bench.opened.store.clone(), bench.now);
    rounds.pure("due: heads of 1,001 webhooks", || store.due_heads().expect("the heads").len());
    rounds.pure("due: first entry of a small webhook", || {
        store.due(small[500], None, now, 1, SLICE_BYTES_MAX).expect("a slice").ready.len()
    });
    rounds.pure("due: first 256 of the large webhook, whole slice", || {
        store.due(large, None, now, SLICE, SLICE_BYTES_MAX).expect("a slice").ready.len()
    });
    let half = store.due(large, None, now, 20 * SLICE, usize::MAX).expect("a slice").last;
    rounds.pure("due: 256 from the middle on, whole slice", || {
        store.due(large, half, now, SLICE, SLICE_BYTES_MAX).expect("a slice").ready.len()
    });
    rounds.durable("due: publish 256 more", SLICE, || bench.publish(&vec!["large".to_owned(); SLICE], 64).1);
    rounds.durable("due: record 256 delivered", SLICE, || bench.record_slice(large, 200));
    rounds.durable("due: record 256 failed, due again later", SLICE, || bench.record_slice(large, 500));
    // Every handle keeps the data directory locked.
    drop(store);
    bench.reopen(rounds);
}

/// Every tenth entry belongs to one of the small webhooks in turn.
fn type_in_index(number: usize) -> String {
    if number.is_multiple_of(10) { format!("small.{}", number / 10 % SMALL_WEBHOOKS + 1) } else { "large".into() }
}

struct Bench {
    opened: Opened,
    traffic: Arc<DiskTraffic>,
    app: AppId,
    caller: Option<Caller>,
    now: Time,
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let place = if built.is_dir() { built } else { std::env::temp_dir() };
        let folder = TempDir::with_prefix_in("postrider-micro-", place).expect("a folder");
        let (opened, traffic) = open_at(&folder, START);
        let mut bench = Bench { opened, traffic, app: AppId::MIN, caller: None, now: START, folder };
        let key = NewKey {
            name: "first".into(),
            scopes: vec![Scope::Admin],
            hash: [1; 32],
            installation: true,
            ..NewKey::default()
        };
        match bench.one(Command::State(StateCommand::CreateOrganization { name: "default".into(), key })) {
            Receipt::Organization { organization, app, key } => {
                let tenant = TenantScope { org: organization.id, app: None };
                bench.app = app.id;
                bench.caller =
                    Some(Caller { key: key.id, tenant, remote_addr: None, request_id: "r".into(), portal_link: None });
            }
            other => panic!("{other:?}"),
        }
        bench
    }

    fn webhook(&mut self, number: usize, types: Vec<String>) -> WebhookId {
        let mut webhook = webhook(number as u128, types);
        webhook.app_id = self.app;
        match self.one(Command::State(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None })) {
            Receipt::Webhook(webhook) => webhook.id,
            other => panic!("{other:?}"),
        }
    }

    fn one(&mut self, command: Command) -> Receipt {
        let request = WriteRequest { caller: self.caller.clone(), idempotency: None, command };
        let mut batch = self.opened.writer.apply(&[request], self.now);
        match batch.results.pop() {
            Some(Ok(Applied { receipt, .. })) => receipt,
            other => panic!("{other:?}"),
        }
    }

    /// Applies a batch, all of which must succeed. Returns it and the bytes that it wrote.
    fn all(&mut self, requests: &[WriteRequest]) -> (AppliedBatch, u64) {
        let before = self.traffic.written_bytes.load(Relaxed);
        self.now = self.now.plus_ms(1);
        let batch = self.opened.writer.apply(requests, self.now);
        assert!(batch.results.iter().all(Result::is_ok), "{:?}", batch.results.iter().find(|result| result.is_err()));
        (batch, self.traffic.written_bytes.load(Relaxed) - before)
    }

    fn publish(&mut self, types: &[String], payload_bytes: usize) -> (AppliedBatch, u64) {
        let data = Bytes::from(format!("\"{}\"", "x".repeat(payload_bytes - 2)));
        let app = Some(self.app);
        let event = |event_type: &String| EventInput { app, ..EventInput::new(event_type, data.clone()) };
        let requests: Vec<WriteRequest> = types
            .iter()
            .map(|of| WriteRequest {
                caller: self.caller.clone(),
                idempotency: None,
                command: Command::Partition(PartitionCommand::Publish(vec![event(of)])),
            })
            .collect();
        self.all(&requests)
    }

    fn record(&mut self, dispatches: &[Dispatch], status: u16) -> u64 {
        let outcome =
            |dispatch| WriteRequest::internal(PartitionCommand::Record(Box::new(finished(dispatch, self.now, status))));
        let requests: Vec<WriteRequest> = dispatches.iter().map(outcome).collect();
        self.all(&requests).1
    }

    fn record_slice(&mut self, webhook: WebhookId, status: u16) -> u64 {
        let slice = self.opened.store.due(webhook, None, self.now, SLICE, SLICE_BYTES_MAX).expect("a slice");
        self.record(&slice.ready, status)
    }

    /// Closes and opens the store, and shows the time of opening.
    fn reopen(self, rounds: &mut Rounds) {
        let Bench { opened, folder, now, .. } = self;
        drop(opened);
        rounds.durable("due: open the store", 1, || {
            drop(open_at(&folder, now));
            0
        });
    }
}

fn open_at(folder: &TempDir, now: Time) -> (Opened, Arc<DiskTraffic>) {
    let disk = RealDisk::lock(folder.path()).expect("a data directory");
    let traffic = disk.traffic();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64 ^ now.0 as u64;
    let random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let options = StoreOptions {
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        partition_max_bytes: 1 << 40,
        min_free_bytes: 0,
        row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: FINGERPRINTS_MAX,
    };
    (open(Arc::new(disk), options, &[7; 32], now, Box::new(random)).expect("a store"), traffic)
}

/// An outcome as the sender records it, headers included.
fn finished(dispatch: &Dispatch, at: Time, status: u16) -> AttemptReport {
    let success = (200..300).contains(&status);
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let made = AttemptMade {
        number: dispatch.number,
        trigger: dispatch.trigger,
        url: "https://hooks.example.com/in".into(),
        signed_at: at.seconds(),
        started_at: at,
        finished_at: at.plus_ms(20),
        success,
        outcome: if success { AttemptOutcome::Success } else { AttemptOutcome::HttpStatus },
        status_code: Some(status),
        error: (!success).then(|| "Internal Server Error".into()),
        response_time_ms: Some(20),
        remote_addr: Some("192.0.2.1:443".into()),
        request_headers: [
            header("content-type", "application/json"),
            header("webhook-id", "019cc2f4-6a00-7000-8000-000000000007"),
            header("webhook-timestamp", "1772704800"),
            header("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
            header("user-agent", "Postrider/0.1"),
        ]
        .into_iter()
        .collect(),
        response_headers: [header("content-length", "2"), header("date", "Thu, 05 Mar 2026 10:00:00 GMT")]
            .into_iter()
            .collect(),
        response_body: Some("ok".into()),
        timings: Timings { total: 20, ..Timings::default() },
        ..AttemptMade::default()
    };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}
