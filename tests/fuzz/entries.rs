//! Entry points for bytes from outside: functions of bytes that panic if a promise is broken. The fuzz targets
//! (`fuzz/`) and the smoke run beside this file call the same ones.

use std::sync::Arc;

use postrider::api::cursor::{self, CursorKind};
use postrider::api::native::cloudevents;
use postrider::kv::codec;
use postrider::kv::wal::Wal;
use postrider::model::job::Job;
use postrider::model::{ApiKey, App, Attempt, Delivery, Event, Organization, Webhook};
use postrider::rules::filter::Filter;
use postrider::rules::json;
use postrider::rules::target::{self, TargetHost, TargetPolicy};
use postrider::store::PartitionRow;
use postrider::store::{AuditRow, Disk};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The name of an entry, and its function.
pub type Entry = (&'static str, fn(&[u8]));

/// All entries.
pub const ENTRIES: [Entry; 10] = [
    ("url", url),
    ("rows", rows),
    ("wal", wal),
    ("cursors", cursors),
    ("filters", filters),
    ("json", strict_json),
    ("cloudevents", cloud_events),
    ("requests", super::requests::requests),
    ("mounts", super::requests::of_mounts),
    ("answers", super::answers::answers),
];

/// A URL that passes has one meaning. Checked again it passes again, the sender reads the same host and port from it,
/// and an address in it may be connected to.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let open =
        TargetPolicy::parse(&["0.0.0.0/0".into(), "::/0".into(), "*.internal".into()], &[], false).expect("a policy");
    for policy in [TargetPolicy::default(), open] {
        let Ok(passed) = target::check_url(&text, &policy) else { continue };
        let again = target::check_url(&passed.url, &policy).expect("a URL that passed passes again");
        assert_eq!(
            (&again.host, again.port, &again.path_and_query),
            (&passed.host, passed.port, &passed.path_and_query)
        );
        let sent = postrider::engine::sender::SendTarget::parse(&text, None).expect("a URL that passed can be sent to");
        let host = passed.host.to_string();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        assert_eq!((sent.origin.host.trim_end_matches('.'), sent.origin.port), (bare, passed.port));
        if let TargetHost::Ip(ip) = passed.host {
            target::check_addrs(&passed.host, &[ip], passed.port, &policy).expect("the guard at the connection agrees");
            assert!(!ip.to_canonical().is_loopback() || policy.own.is_empty());
        }
    }
}

/// Bytes with a right checksum, which may be a row or not. A row reads back as it was written.
pub fn rows(bytes: &[u8]) {
    fn as_row<T: Serialize + DeserializeOwned>(sealed: &[u8]) {
        if let Some(value) = codec::decode::<T>(sealed) {
            let written = codec::encode(&value);
            let again = codec::decode::<T>(&written).expect("a written row reads back");
            assert_eq!(codec::encode(&again), written);
        }
    }
    // Bytes as found on a disk, and bytes with an adapted checksum.
    for sealed in [bytes.to_vec(), codec::encode_bytes(bytes)] {
        as_row::<Event>(&sealed);
        as_row::<Delivery>(&sealed);
        as_row::<Attempt>(&sealed);
        as_row::<Webhook>(&sealed);
        as_row::<Organization>(&sealed);
        as_row::<App>(&sealed);
        as_row::<ApiKey>(&sealed);
        as_row::<AuditRow>(&sealed);
        as_row::<Job>(&sealed);
        as_row::<PartitionRow>(&sealed);
        as_row::<postrider::model::webhook::WebhookState>(&sealed);
    }
}

/// A write-ahead log of any bytes has records, no records, or an error, and takes no more memory than it has bytes.
pub fn wal(bytes: &[u8]) {
    let disk = Arc::new(OneFile(bytes.to_vec()));
    let wal = Wal::open(&*disk).expect("a write-ahead log");
    for (partition, epoch) in [(0, 0), (1, 0), (1, 1)] {
        // Two epochs that are not consecutive are an error.
        let mut records = 0;
        let _ = wal.records_after(partition, epoch, |_, _| records += 1);
        assert!(records <= bytes.len());
    }
}

/// A disk of one file that takes no change.
#[derive(Debug)]
struct OneFile(Vec<u8>);

impl redb::StorageBackend for OneFile {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        out.fill(0);
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        Ok(())
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn write(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

impl Disk for OneFile {
    fn open(&self, _: &str, _: bool) -> std::io::Result<Box<dyn redb::StorageBackend>> {
        Ok(Box::new(OneFile(self.0.clone())))
    }
    fn exists(&self, _: &str) -> std::io::Result<bool> {
        Ok(true)
    }
    fn list(&self, _: &str) -> std::io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn rename(&self, _: &str, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn len(&self, _: &str) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn free_bytes(&self) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
    fn describe(&self) -> String {
        "one file".into()
    }
}

/// A cursor is the only text for its position, and has one kind.
pub fn cursors(bytes: &[u8]) {
    const KINDS: [CursorKind; 10] = [
        CursorKind::Events,
        CursorKind::Deliveries,
        CursorKind::Attempts,
        CursorKind::Webhooks,
        CursorKind::Apps,
        CursorKind::Keys,
        CursorKind::Organizations,
        CursorKind::Replays,
        CursorKind::Audit,
        CursorKind::Feed,
    ];
    let text = String::from_utf8_lossy(bytes);
    let read = KINDS.iter().filter_map(|kind| Some((*kind, cursor::read(*kind, &text)?)));
    let read: Vec<_> = read.collect();
    assert!(read.len() <= 1, "{text:?} is a cursor of several kinds");
    for (kind, position) in read {
        assert_eq!(cursor::write(kind, position), text);
    }
}

/// A filter and the data for it, with a zero between them. An accepted filter is accepted again from its own text, and
/// gives the same result.
pub fn filters(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (filter, data) = (&bytes[..at], bytes.get(at + 1..).unwrap_or(b"{}"));
    let Ok(filter) = Filter::parse_text(filter) else { return };
    let again = Filter::parse_text(filter.as_json().as_bytes()).expect("its own text is a filter");
    assert_eq!(filter.matches(data), again.matches(data));
}

/// Text that passes the strict reading is JSON to other parsers too.
pub fn strict_json(bytes: &[u8]) {
    if postrider::api::request_context::strict(bytes).is_ok() {
        let read = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
        // Numbers beyond a double are valid JSON, which this reader cannot represent.
        assert!(read.as_ref().err().is_none_or(|error| error.to_string().contains("number out of range")), "{read:?}");
    }
    let _ = json::escape_token(&String::from_utf8_lossy(bytes));
}

/// A CloudEvent in each mode. An accepted event has the required attributes.
pub fn cloud_events(bytes: &[u8]) {
    let call = super::requests::call_of(&[b"POST /v1/events\n", bytes].concat());
    let Some(call) = call else { return };
    let whole = super::requests::with_body(&call, bytes);
    for mode in [cloudevents::CloudEventsMode::Structured, cloudevents::CloudEventsMode::Binary] {
        for call in [&call, &whole] {
            if let Ok(event) = cloudevents::read_one(mode, call, None) {
                assert!(
                    !event.attributes.event_type.is_empty() && event.attributes.event_type.len() <= 128,
                    "{:?}",
                    event.attributes.event_type
                );
                assert!(postrider::api::request_context::strict(&event.data).is_ok(), "its data is JSON");
            }
        }
    }
    let _ = cloudevents::read_batch(&whole.body, None);
}
