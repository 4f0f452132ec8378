//! Stores idempotency keys as rows, one per event id or `Idempotency-Key`.
//!
//! A commit writes the rows together with their events. The index loads them at start and reads them to check a hint.

use std::ops::Bound;

use crate::model::Time;
use crate::model::id::EventId;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::idempotency::index::{Fingerprint, Hint, IdempotencyIndex, KeyKind, NEWEST_MAX};
use crate::store::partitions::set::PartitionSet;

/// Number of rows that are read at start before they are inserted.
const READ_MAX: usize = 4 * NEWEST_MAX;

/// Puts a row into the write batch that points from `fingerprint` to `id`.
pub fn put_key(write_batch: &mut WriteBatch, id: EventId, kind: KeyKind, fingerprint: Fingerprint) {
    let mut key = tables::one(id);
    key.push(kind as u8);
    write_batch.put_bytes(Table::IdempotencyKeys, key, &fingerprint.to_be_bytes());
}

impl PartitionSet {
    /// The ids whose rows have `fingerprint` and that `hint` points to. Their events need not be the sought ones.
    pub fn candidates(&self, fingerprint: Fingerprint, hint: Hint) -> Result<Vec<EventId>> {
        let (first, last) = match hint {
            Hint::At(id) => return Ok(vec![id]),
            Hint::Within(first, last) => (first, last),
        };
        let mut found = Vec::new();
        let home = self.partition_of(first.as_u128()).map_or(0, |partition| partition.first);
        for partition in self.partitions() {
            if (home..=last.as_u128()).contains(&partition.first) {
                let mut ended = [0xff; 17];
                ended[..16].copy_from_slice(last.as_bytes());
                let range = (Bound::Included(first.as_bytes().as_slice()), Bound::Included(ended.as_slice()));
                scan_fingerprints(&self.snapshot(&partition)?, range, |print, id| {
                    found.extend((print == fingerprint).then_some(id));
                })?;
            }
        }
        Ok(found)
    }
}

impl IdempotencyIndex {
    /// Loads the fingerprints of a partition's ids that are newer than the index's newest and not older than `window`.
    pub(in crate::store) fn load(&mut self, snapshot: &Snapshot, window: Time) -> Result<()> {
        let from = self.newest().map_or(EventId::MIN, |newest| newest.next()).max(EventId::floor(window));
        let range = (Bound::Included(from.as_bytes().as_slice()), Bound::Unbounded);
        let mut read = Vec::new();
        scan_fingerprints(snapshot, range, |print, id| {
            read.push((print, id));
            if read.len() == READ_MAX {
                self.insert_loaded(std::mem::take(&mut read));
            }
        })?;
        self.insert_loaded(read);
        Ok(())
    }
}

fn scan_fingerprints(
    snapshot: &Snapshot,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    mut visit: impl FnMut(Fingerprint, EventId),
) -> Result<()> {
    snapshot.scan(Table::IdempotencyKeys, range, Direction::Up, |key, value| {
        let print = codec::decode_bytes(value).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(print), Some(id)) = (print, tables::first_id(key)) else {
            return Err(snapshot.damaged(Table::IdempotencyKeys, key));
        };
        visit(print, id);
        Ok(ScanStep::Go)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::backup::tests::opened_again;
    use crate::store::command::{
        Applied, Command, EventInput, IdempotencyKey, PartitionCommand, Receipt, WriteRequest,
    };
    use crate::store::partitions::open::Opened;
    use crate::store::verify::tests::{NOW, store};

    const PARTITIONS: usize = 3;

    fn publish(
        opened: &mut Opened,
        names: impl Iterator<Item = String>,
        idempotency: Option<IdempotencyKey>,
    ) -> Vec<Applied> {
        let app = opened.store.registry().apps.keys().next().copied();
        let event = |name| {
            let mut event = EventInput { app, ..EventInput::new("a", "1") };
            event.attributes.event_id = Some(name);
            event
        };
        let orders: Vec<WriteRequest> = names
            .map(|name| WriteRequest {
                caller: None,
                idempotency: idempotency.clone(),
                command: Command::Partition(PartitionCommand::Publish(vec![event(name)])),
            })
            .collect();
        opened.writer.apply(&orders, NOW).results.into_iter().map(|result| result.unwrap()).collect()
    }

    /// A number of names that turns the map into a run.
    fn names(partition: usize) -> impl Iterator<Item = String> {
        (0..NEWEST_MAX).map(move |number| format!("{partition}/{number}"))
    }

    fn events(applied: &[Applied]) -> Vec<(EventId, bool)> {
        let lists = applied.iter().map(|applied| match &applied.receipt {
            Receipt::Published(list) => list.iter().map(|published| (published.event.id, published.duplicate)),
            other => panic!("{other:?}"),
        });
        lists.flatten().collect()
    }

    #[test]
    fn a_published_event_id_is_found_in_every_partition_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        let mut made = Vec::new();
        for partition in 0..PARTITIONS {
            made.push(events(&publish(&mut opened, names(partition), None)));
            opened.writer.roll(NOW).unwrap();
        }
        assert!(made.iter().flatten().all(|(_, duplicate)| !duplicate));
        for start in 0..2 {
            for (partition, made) in made.iter().enumerate() {
                let again = events(&publish(&mut opened, names(partition), None));
                assert_eq!(again, made.iter().map(|(id, _)| (*id, true)).collect::<Vec<_>>());
            }
            let fresh = publish(&mut opened, std::iter::once(format!("fresh {start}")), None);
            assert!(!events(&fresh)[0].1);
            drop(opened);
            opened = opened_again(folder.path());
        }
    }

    #[test]
    fn an_answer_is_replayed_from_every_partition() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        let idempotency = IdempotencyKey { key: [9; 32], request: [1; 32], extra: None, secret: false };
        let first = publish(&mut opened, std::iter::once("kept".into()), Some(idempotency.clone()));
        for partition in 0..PARTITIONS {
            publish(&mut opened, names(partition), None);
            opened.writer.roll(NOW).unwrap();
            let again = publish(&mut opened, std::iter::once("another".into()), Some(idempotency.clone()));
            assert!(again[0].replayed && !first[0].replayed);
            assert_eq!(events(&again), events(&first));
        }
    }
}
