//! Tests the rows examined by counting and paging with a million deliveries.

use std::sync::Arc;

use crate::kv::segment::ACTIVE_CACHE_BYTES;
use crate::kv::snapshot::examined;
use crate::kv::write_batch::WriteBatch;
use crate::model::attempt::{AttemptMade, AttemptOutcome};
use crate::model::figures::Sums;
use crate::model::id::{DeliveryId, Stamp};
use crate::model::webhook::*;
use crate::model::{AppId, OrganizationId};
use crate::store::command::{
    AttemptReport, Caller, Command, EventInput, NewKey, PartitionCommand, Receipt, StateCommand, WriteRequest,
};
use crate::store::figures::SumsRow;
use crate::store::partitions::set::StoreOptions;
use crate::store::read::counts::*;
use crate::store::read::query::{DeliveryQuery, ListWindow, Search};
use crate::store::{Dispatch, Opened, RealDisk};

const START: Time = Time(1_772_704_800_000);
/// Deliveries of which only the keys exist. No measured operation may read more of them.
const BARE: u64 = 1_000_000;
/// Complete deliveries, before and after those.
const WHOLE: u64 = 100;

struct CountsBench {
    _folder: tempfile::TempDir,
    opened: Opened,
    caller: Caller,
    webhook: WebhookId,
}

impl CountsBench {
    fn new() -> CountsBench {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::lock(folder.path()).unwrap());
        let options = StoreOptions {
            retention_ms: 31 * 86_400_000,
            idempotency_window_ms: 86_400_000,
            partition_max_bytes: 1 << 40,
            min_free_bytes: 0,
            row_payload_bytes_max: crate::store::ROW_PAYLOAD_BYTES_MAX,
            fingerprints_max: 448,
        };
        let mut opened = crate::store::open(disk, options, &[7; 32], START, Box::new(|| 7)).unwrap();
        let key = NewKey { name: "first".into(), hash: [1; 32], ..NewKey::default() };
        let request = WriteRequest::internal(StateCommand::CreateOrganization { name: "org".into(), key });
        let Receipt::Organization { organization, key, .. } = opened.apply(request, START).0 else { panic!() };
        let tenant = TenantScope { org: organization.id, app: None };
        let caller = Caller { key: key.id, tenant, remote_addr: None, request_id: "r".into(), portal_link: None };
        let create = StateCommand::CreateWebhook { webhook: Box::new(webhook()), of_app_max: None };
        let request = WriteRequest { caller: Some(caller.clone()), idempotency: None, command: Command::State(create) };
        let Receipt::Webhook(made) = opened.apply(request, START).0 else { panic!() };
        CountsBench { _folder: folder, opened, caller, webhook: made.id }
    }

    /// An event and one failed attempt at its delivery.
    fn publish(&mut self, now: Time) {
        let event = EventInput::new("order.paid", "{}");
        let request = WriteRequest {
            caller: Some(self.caller.clone()),
            idempotency: None,
            command: Command::Partition(PartitionCommand::Publish(vec![event])),
        };
        let (_, fresh) = self.opened.apply(request, now);
        let command = PartitionCommand::Record(Box::new(failed(&fresh[0], now)));
        self.opened.apply(WriteRequest::internal(command), now);
    }

    /// Adds a million keys of deliveries, and their number in the figures.
    fn add_bare(&self, from: Time) {
        let partition_set = &self.opened.store.partition_set;
        let partition = &partition_set.partitions()[0];
        let mut write_batch = WriteBatch::on(partition_set.snapshot(partition).unwrap());
        let mut stamp = Stamp::after(0);
        for number in 0..BARE {
            let id: DeliveryId = stamp.next(from.plus_ms(number as i64), 1);
            write_batch.put_key(Table::DeliveriesByWebhook, tables::pair(self.webhook, id));
        }
        let key = tables::figures(self.webhook, 0);
        let mut row: SumsRow = write_batch.get(Table::Figures, &key).unwrap().unwrap();
        row.sums.add(&Sums { deliveries: BARE, ..Sums::default() });
        write_batch.put(Table::Figures, key, &row);
        partition_set.write(partition, ACTIVE_CACHE_BYTES).unwrap().commit(write_batch).unwrap();
    }
}

impl Opened {
    fn apply(&mut self, request: WriteRequest, now: Time) -> (Receipt, Vec<Dispatch>) {
        let mut batch = self.writer.apply(&[request], now);
        let receipt = batch.results.pop().unwrap().unwrap().receipt;
        (receipt, batch.effects.fresh)
    }
}

fn webhook() -> Webhook {
    Webhook {
        name: "hook".into(),
        url: "https://hooks.example.com/in".into(),
        signature: vec![],
        disable_after_s: 0,
        created_at: START,
        updated_at: START,
        ..Webhook::new(OrganizationId::MIN, AppId::MIN)
    }
}

fn failed(dispatch: &Dispatch, at: Time) -> AttemptReport {
    let made = AttemptMade {
        number: 1,
        started_at: at,
        finished_at: at,
        outcome: AttemptOutcome::HttpStatus,
        status_code: Some(500),
        error: Some("Internal Server Error".into()),
        response_time_ms: Some(1),
        ..AttemptMade::default()
    };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}

#[test]
fn a_million_deliveries_are_counted_without_looking_at_them() {
    let mut bench = CountsBench::new();
    (0..WHOLE).for_each(|n| bench.publish(START.plus_ms(n as i64)));
    (0..WHOLE).for_each(|n| bench.publish(START.plus_ms(10_000_000 + n as i64)));
    bench.add_bare(START.plus_ms(1_000_000));
    let (store, now) = (bench.opened.store.clone(), START.plus_ms(20_000_000));
    let all = BARE + 2 * WHOLE;
    examined::take();

    // The first page: its rows with their related rows, some keys read ahead, and one row of figures.
    let first = store.delivery_slice(bench.webhook, 0, 20, now).unwrap();
    assert_eq!((first.total, first.rows.len()), (all, 20));
    let (rows, keys) = examined::take();
    assert!(rows <= 4 * 20 + 5 && keys <= 200, "{rows} rows, {keys} keys");

    // A page past the end reads the figures only.
    let past = store.delivery_slice(bench.webhook, all, 20, now).unwrap();
    assert_eq!((past.total, past.rows.len()), (all, 0));
    assert_eq!(examined::take(), (1, 0));

    // The last page: every key is passed once, and only the shown rows are read.
    let last = store.delivery_slice(bench.webhook, all - 10, 20, now).unwrap();
    assert_eq!(last.rows.len(), 10);
    assert!(last.rows.is_sorted_by(|a, b| a.delivery.id > b.delivery.id));
    assert_eq!(last.rows[9].delivery.created_at, START);
    let (rows, keys) = examined::take();
    assert!(rows <= 4 * 10 + 5 && keys <= all + 200, "{rows} rows, {keys} keys");

    // A search ends after `COUNTED_ROWS_MAX` rows.
    let query = DeliveryQuery {
        webhook: Some(bench.webhook),
        search: Some(Search::new("ORDER")),
        ..DeliveryQuery::all(bench.caller.tenant, ListWindow::newest(20))
    };
    let found = store.delivery_search(&query, 0, 20, now).unwrap();
    assert_eq!((found.total, found.rows.len()), (WHOLE, 20));
    let (rows, keys) = examined::take();
    let most = COUNTED_ROWS_MAX as u64;
    assert!(rows <= most + 4 * 20 && keys <= most + 200, "{rows} rows, {keys} keys");

    // Figures and attempts by the hour: one row for each hour.
    let figures = store.figures(bench.webhook, now).unwrap();
    assert_eq!((figures.sums.deliveries, figures.sums.attempts), (all, 2 * WHOLE));
    let hours = store.attempts_by_hour(bench.caller.tenant, 0, u32::MAX, now).unwrap();
    assert_eq!(hours.values().map(|hour| (hour.attempts, hour.failures)).collect::<Vec<_>>(), [(WHOLE, WHOLE); 2]);
    let (rows, keys) = examined::take();
    assert!(rows + keys <= 20, "{rows} rows, {keys} keys");

    // The newest deliveries.
    assert_eq!(store.newest_deliveries(bench.webhook, 10, now).unwrap().len(), 10);
    let (rows, keys) = examined::take();
    assert!(rows <= 2 * 10 && keys <= 200, "{rows} rows, {keys} keys");
}
