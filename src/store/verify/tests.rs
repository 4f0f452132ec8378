//! Tests that every missing row and every dangling index row is reported.

use std::ops::Bound;
use std::sync::Arc;

use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{Key, PARTITION_TABLES, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::attempt::{AttemptMade, AttemptOutcome};
use crate::model::id::{AppId, OrganizationId};
use crate::model::webhook::{DeliveryOrder, Webhook};
use crate::model::{Scope, Time};
use crate::store::idempotency::index::KeyKind;
use crate::store::verify::VerifyReport;
use crate::store::{
    AppSettings, Applied, AttemptReport, Caller, Command, EventInput, IdempotencyKey, NewKey, Opened, PartitionCommand,
    RealDisk, Receipt, StateCommand, StoreOptions, TenantScope, WriteRequest,
};
use crate::store::{Dispatch, open};

pub(in crate::store) const NOW: Time = Time(1_772_704_800_000);

/// A store with rows in every table of its one partition.
pub(in crate::store) fn store(folder: &tempfile::TempDir) -> Opened {
    let disk = Arc::new(RealDisk::lock(folder.path()).unwrap());
    let options = StoreOptions {
        retention_ms: 1 << 40,
        idempotency_window_ms: 1 << 40,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
        row_payload_bytes_max: crate::store::ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: 448,
    };
    let mut number = 0;
    let random = move || {
        number += 1;
        number
    };
    let mut opened = open(disk, options, &[7; 32], NOW, Box::new(random)).unwrap();
    let key = NewKey {
        name: "first".into(),
        scopes: vec![Scope::Admin],
        hash: [1; 32],
        installation: true,
        ..NewKey::default()
    };
    let made = apply(&mut opened, WriteRequest::internal(StateCommand::CreateOrganization { name: "one".into(), key }));
    let Receipt::Organization { organization, key, .. } = made.0 else { panic!("{:?}", made.0) };
    let tenant = TenantScope { org: organization.id, app: None };
    let by = Caller { key: key.id, tenant, remote_addr: None, request_id: "r".into(), portal_link: None };
    let mut ask = |command, kept: Option<u8>| {
        let idempotency = kept.map(|n| IdempotencyKey { key: [n; 32], request: [n; 32], extra: None, secret: false });
        apply(&mut opened, WriteRequest { caller: Some(by.clone()), idempotency, command })
    };
    for ordered in [DeliveryOrder::No, DeliveryOrder::Webhook] {
        ask(
            Command::State(StateCommand::CreateWebhook { webhook: Box::new(webhook(ordered)), of_app_max: None }),
            None,
        );
    }
    let event = |name: &str| {
        // One payload is in two rows, the others are in the blob file.
        let mut event = EventInput::new("a", "x".repeat(if name == "two" { 8_100 } else { 9_000 }));
        event.attributes.event_id = Some(name.into());
        event.attributes.subject = Some("them".into());
        event
    };
    let first = ask(Command::Partition(PartitionCommand::Publish(vec![event("one")])), Some(1)).1;
    let mut ending = event("three");
    ending.attributes.expires_at = Some(NOW.plus_ms(60_000));
    let next = ask(Command::Partition(PartitionCommand::Publish(vec![event("two"), ending])), None).1;
    // Two deliveries expire, and one of them has failed already.
    let expired = next.iter().find(|dispatch| dispatch.event.attributes.expires_at.is_some()).unwrap();
    let expire = PartitionCommand::Expire { delivery: expired.delivery_id, event: expired.event.id };
    ask(Command::Partition(expire), None);
    for (dispatch, success) in [(&first[0], true), (&first[1], false)] {
        ask(Command::Partition(PartitionCommand::Record(Box::new(finished(dispatch, success)))), None);
    }
    ask(Command::Partition(PartitionCommand::Retry { id: first[0].delivery_id }), Some(2));
    let app = second_app(&mut opened, by);
    let of_app = EventInput { app: Some(app), ..EventInput::new("of.app", "1") };
    apply(&mut opened, WriteRequest::internal(PartitionCommand::Publish(vec![of_app])));
    opened
}

/// Makes an app that is not the default one.
fn second_app(opened: &mut Opened, by: Caller) -> AppId {
    let app = AppSettings { name: "second".into(), ..AppSettings::default() };
    let command = Command::State(StateCommand::CreateApp { app });
    match apply(opened, WriteRequest { caller: Some(by), idempotency: None, command }).0 {
        Receipt::App(app) => app.id,
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) fn apply(opened: &mut Opened, request: WriteRequest) -> (Receipt, Vec<Dispatch>) {
    let mut batch = opened.writer.apply(&[request], NOW);
    match batch.results.remove(0) {
        Ok(Applied { receipt, .. }) => (receipt, batch.effects.fresh),
        Err(refusal) => panic!("{refusal}"),
    }
}

pub(in crate::store) fn webhook(ordered: DeliveryOrder) -> Webhook {
    Webhook {
        name: "hook".into(),
        url: "https://hooks.example.com/in".into(),
        signature: vec![],
        retry_schedule_s: vec![5],
        max_in_flight: 1,
        ordered,
        disable_after_s: 0,
        created_at: NOW,
        updated_at: NOW,
        ..Webhook::new(OrganizationId::MIN, AppId::MIN)
    }
}

pub(in crate::store) fn finished(dispatch: &Dispatch, success: bool) -> AttemptReport {
    let made = AttemptMade {
        number: dispatch.number,
        trigger: dispatch.trigger,
        started_at: NOW,
        finished_at: NOW,
        success,
        outcome: if success { AttemptOutcome::Success } else { AttemptOutcome::HttpStatus },
        status_code: Some(if success { 200 } else { 503 }),
        response_time_ms: Some(7),
        ..AttemptMade::default()
    };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}

fn walk(opened: &Opened) -> VerifyReport {
    opened.store.verify(&mut |_| {}).unwrap()
}

/// All rows of a table of the one partition.
fn rows(opened: &Opened, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let partition = opened.store.partition_set.partitions().pop().unwrap();
    let mut rows = Vec::new();
    let all = (Bound::Unbounded, Bound::Unbounded);
    let snapshot = opened.store.partition_set.snapshot(&partition).unwrap();
    snapshot
        .scan(table, all, Direction::Up, |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(ScanStep::Go)
        })
        .unwrap();
    rows
}

/// Changes one row, verifies the store, and restores the row.
fn with_change(opened: &Opened, table: Table, key: &[u8], value: Option<&[u8]>) -> VerifyReport {
    let partition = opened.store.partition_set.partitions().pop().unwrap();
    let file = opened.store.partition_set.read(&partition).unwrap();
    let set = |value: Option<&[u8]>| {
        let mut write_batch = WriteBatch::on(file.snapshot().unwrap());
        write_batch.set(table, Key::from_slice(key), value.map(<[u8]>::to_vec));
        file.commit(write_batch).unwrap();
    };
    let before = rows(opened, table).into_iter().find(|(other, _)| other == key).map(|(_, value)| value);
    set(value);
    let report = walk(opened);
    set(before.as_deref());
    report
}

#[test]
fn a_sound_store_has_no_problems() {
    let folder = tempfile::tempdir().unwrap();
    let opened = store(&folder);
    let report = walk(&opened);
    assert_eq!((report.problems, report.files, report.to_release), (vec![], 2, 0));
    for table in PARTITION_TABLES {
        assert!(!rows(&opened, table).is_empty(), "nothing is in {}", table.name());
    }
}

#[test]
fn a_row_that_is_missing_is_noticed_in_every_table_of_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let opened = store(&folder);
    // Opening a file checks the schema. A stored answer without its idempotency key is not a defect.
    for table in PARTITION_TABLES.into_iter().filter(|table| !matches!(table, Table::Meta | Table::Answers)) {
        for (key, _) in rows(&opened, table) {
            let report = with_change(&opened, table, &key, None);
            let noticed = !report.is_sound() || report.to_release > 0;
            assert!(noticed, "no check misses {key:02x?} of {}", table.name());
        }
    }
    assert!(walk(&opened).is_sound());
}

#[test]
fn a_row_that_stands_for_nothing_is_noticed_in_every_table_of_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let opened = store(&folder);
    for table in PARTITION_TABLES.into_iter().filter(|table| *table != Table::Meta) {
        for (mut key, value) in rows(&opened, table) {
            if table == Table::IdempotencyKeys && key.last() == Some(&(KeyKind::Answer as u8)) {
                // It may be stored under any id. Only its answer is checked.
                continue;
            }
            let middle = key.len() / 2;
            key[middle] ^= 0x40;
            let report = with_change(&opened, table, &key, Some(&value));
            assert!(!report.is_sound(), "no check minds {key:02x?} in {}", table.name());
        }
    }
    assert!(walk(&opened).is_sound());
}

#[test]
fn an_altered_value_is_noticed_in_every_table_of_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let opened = store(&folder);
    for table in PARTITION_TABLES {
        for (key, mut value) in rows(&opened, table) {
            let Some(byte) = value.get_mut(2) else { continue };
            *byte ^= 1;
            let report = with_change(&opened, table, &key, Some(&value));
            assert!(!report.is_sound(), "no check minds the value of {key:02x?} in {}", table.name());
        }
    }
    assert!(walk(&opened).is_sound());
}
