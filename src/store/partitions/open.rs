//! Opening a data directory: makes missing files, loads the registry, and repairs the traces of a crash.
//!
//! Invariant: opening costs time for the partitions that may change. Archived partitions are not touched.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use crate::model::id::{DeliveryId, Id, Stamp, WebhookId};
use crate::model::webhook::{DeliveryOrder, Webhook, WebhookState};
use crate::model::{ApiKey, App, Delivery, EventType, Organization, Time};

use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::Result;
use crate::kv::payload::erased_in;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::kv::wal::Wal;
use crate::store::apply::{FanoutCache, IdSource, ordered_queues, retry_waits};
use crate::store::command::{PartitionCommand, WriteRequest};
use crate::store::commit_log::CommitAppender;
use crate::store::event_names::NameRuns;
use crate::store::idempotency::index::{IdempotencyIndex, NEWEST_MAX as FINGERPRINTS_MAX};
use crate::store::partitions::set::{
    PARTITIONS, Partition, PartitionRow, PartitionSet, STATE_FILE, StoreOptions, has_partitions,
};
use crate::store::partitions::state_age::{older, older_than_unlisted, unlisted};
use crate::store::partitions::tenant_figures;
use crate::store::partitions::{last_dropped, last_seen};
use crate::store::read::lists::Store;
use crate::store::read::lookup::{decoded, delivery_anywhere, last_id};
use crate::store::registry::Registry;
use crate::store::replication::{CommitMark, CommitPublisher};
use crate::store::secrets::master_key;
use crate::store::secrets::vault::{KEY_BYTES, Vault};
use crate::store::writer::Writer;

/// An opened store: its reader, its writer, and the requests to apply first.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    pub writer: Writer,
    /// Requests that repair the state after a crash between two files.
    pub first: Vec<WriteRequest>,
    /// Whether this is the first start: the store has no organization.
    pub is_new: bool,
}

/// Opens the store on `disk`, or makes it.
///
/// # Errors
/// The error names a wrong master key, a damaged or newer file, or a failing disk. Nothing is changed then.
pub fn open(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    master_key: &[u8; KEY_BYTES],
    now: Time,
    random: Box<dyn FnMut() -> u64 + Send>,
) -> Result<Opened> {
    open_with_ids(disk, options, master_key, now, random, Box::new(Stamp::after(0)))
}

/// Like `open`, for a node of a cluster that has appended its fence: each commit is in the commit log first. The store
/// has every commit up to the fence.
///
/// # Errors
/// Those of `open`. `appender` is dropped then.
pub fn open_in_cluster(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    master_key: &[u8; KEY_BYTES],
    now: Time,
    random: Box<dyn FnMut() -> u64 + Send>,
    appender: CommitAppender,
) -> Result<Opened> {
    open_parts(disk, options, master_key, now, (random, Box::new(Stamp::after(0))), Some(appender))
}

/// Like `open`, with ids from another source. A test that loads a given history passes the history's own.
pub fn open_with_ids(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    key: &[u8; KEY_BYTES],
    now: Time,
    random: Box<dyn FnMut() -> u64 + Send>,
    ids: Box<dyn IdSource>,
) -> Result<Opened> {
    open_parts(disk, options, key, now, (random, ids), None)
}

fn open_parts(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    key: &[u8; KEY_BYTES],
    now: Time,
    (mut random, ids): (Box<dyn FnMut() -> u64 + Send>, Box<dyn IdSource>),
    appender: Option<CommitAppender>,
) -> Result<Opened> {
    let master = Vault::new(key);
    if disk.exists(STATE_FILE).map_err(|e| crate::kv::error::io(STATE_FILE, e))? {
        master_key::check(&*disk, &master)?;
    } else {
        refuse_orphans(&*disk)?;
        master_key::create_state(&*disk, &master, &mut random)?;
    }
    let state = Arc::new(Segment::open(&*disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?);
    let vault = Vault::new(&master_key::data_key(&state.snapshot()?, &master)?);
    let partition_set = Arc::new(PartitionSet::new(disk, options, vault, state));
    let last = load_state(&partition_set)?;
    let wal = Wal::open(&*partition_set.disk)?;
    remove_unlisted(&partition_set, &wal)?;
    let mut writer = Writer {
        partition_set: partition_set.clone(),
        ids,
        random,
        active: 0,
        figures: HashMap::new(),
        counts_tenants: tenant_figures::stored(&partition_set)?.is_some(),
        fanouts: FanoutCache::default(),
        name_runs: NameRuns::default(),
        idempotency: IdempotencyIndex::new(FINGERPRINTS_MAX),
        failed_files: Default::default(),
        audit_backlog: Vec::new(),
        space: Default::default(),
        wal,
        checkpoint: None,
        flushing_bytes: 0,
        sealing_checkpoints: 0,
        is_roll_uncertain: false,
        backup: Weak::new(),
        now,
        last_seen: last_seen::stored(&partition_set)?.unwrap_or(Time::ZERO),
        publisher: CommitPublisher::default(),
        appender,
        sealed_batch: Default::default(),
        checkpoint_schedule: Default::default(),
        checkpoint_runner: Default::default(),
    };
    writer.ids.rise_above(last);
    writer.load_partitions(now)?;
    if let Err(error) = writer.require_wal() {
        // The disk may be full. The next checkpoint says the same.
        writer.mark_failed(&error);
    }
    let mut first = writer.broken_queues()?;
    first.extend(waits_to_shorten(&partition_set, now)?);
    let is_new = partition_set.registry().organizations.is_empty();
    Ok(Opened { store: Store { partition_set }, writer, first, is_new })
}

/// Commands that cut the waits of all partitions if the clock was accepted as set back: the daemon may have ended right
/// after that.
fn waits_to_shorten(partition_set: &PartitionSet, now: Time) -> Result<Vec<WriteRequest>> {
    if last_seen::ids_ahead(partition_set)?.is_none_or(|ahead| ahead <= now) {
        return Ok(Vec::new());
    }
    Ok(partition_set.open_partitions().iter().map(|partition| retry_waits::shorten(partition.first)).collect())
}

/// Refuses partitions without `state.redb`: a new store would remove them as unlisted.
fn refuse_orphans(disk: &dyn Disk) -> Result<()> {
    if has_partitions(disk).map_err(|e| crate::kv::error::io(PARTITIONS, e))? {
        let error = std::io::Error::new(std::io::ErrorKind::NotFound, "missing, and yet there are partitions");
        return Err(crate::kv::error::io(STATE_FILE, error));
    }
    Ok(())
}

/// Reads organizations, apps, keys, webhooks, states and the list of partitions. Returns their greatest id.
pub(in crate::store) fn load_state(partition_set: &PartitionSet) -> Result<u128> {
    let state = partition_set.state()?.snapshot()?;
    let mut registry = Registry::default();
    let mut last = last_dropped::stored(&state)?;
    partition_set.raise_newest(DeliveryId::from_u128(last));
    each(&state, Table::Organizations, |_, value| {
        codec::decode::<Organization>(value).map(|o| registry.put_organization(o))
    })?;
    each(&state, Table::Apps, |_, value| codec::decode::<App>(value).map(|a| registry.put_app(a)))?;
    each(&state, Table::Keys, |_, value| codec::decode::<ApiKey>(value).map(|k| registry.put_key(k)))?;
    state.scan(Table::Webhooks, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
        let sealed = codec::decode_bytes(value).ok_or_else(|| state.damaged(Table::Webhooks, key))?;
        let plain = partition_set.vault.open(key, sealed).ok_or_else(|| state.sealed(Table::Webhooks, key))?;
        let webhook = rmp_serde::from_slice::<Webhook>(&plain).map_err(|_| state.damaged(Table::Webhooks, key))?;
        registry.put_webhook(Arc::new(webhook));
        Ok(ScanStep::Go)
    })?;
    each(&state, Table::EventTypeRegistry, |_, value| {
        codec::decode::<EventType>(value).map(|event_type| registry.put_event_type(event_type))
    })?;
    let mut removed = HashMap::new();
    each(&state, Table::Tombstones, |key, value| {
        Some(removed.insert(tables::first_id(key)?, codec::decode::<Time>(value)?))
    })?;
    each(&state, Table::States, |key, value| {
        partition_set.update_state(tables::first_id(key)?, codec::decode::<WebhookState>(value)?);
        Some(())
    })?;
    let mut listed = Vec::new();
    each(&state, Table::Partitions, |key, value| {
        let first = u128::from_be_bytes(key.try_into().ok()?);
        last = last.max(first);
        codec::decode::<PartitionRow>(value).map(|row| listed.push((first, row)))
    })?;
    for table in
        [Table::Organizations, Table::Apps, Table::Keys, Table::Webhooks, Table::Tombstones, Table::Jobs, Table::Audit]
    {
        state.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Down, |key, _| {
            last = last.max(tables::first_id::<Webhook>(key).map_or(0, |id| id.as_u128()));
            Ok(ScanStep::Stop)
        })?;
    }
    partition_set.set_registry(registry);
    partition_set.set_removed(removed);
    partition_set.set_partitions(&listed);
    Ok(last)
}

/// Passes every row of a table to `read`. A row for which it returns `None` is damaged.
fn each<T>(snapshot: &Snapshot, table: Table, mut read: impl FnMut(&[u8], &[u8]) -> Option<T>) -> Result<()> {
    snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| match read(key, value) {
        Some(_) => Ok(ScanStep::Go),
        None => Err(snapshot.damaged(table, key)),
    })
}

/// Removes files that are not listed: they were made before a cut, or delisted before it.
///
/// # Errors
/// A file that is newer than a listed one has events: `state.redb` is of an earlier moment. Nothing is removed then.
pub(in crate::store) fn remove_unlisted(partition_set: &PartitionSet, wal: &Wal) -> Result<()> {
    let disk = &*partition_set.disk;
    let unlisted = unlisted(disk, |first| partition_set.partition(first).is_some())?;
    let oldest = partition_set.partitions().first().map_or(0, |oldest| oldest.first);
    if let Some(words) = older_than_unlisted(&partition_set.disk, &unlisted, oldest, wal)? {
        return Err(older(words));
    }
    for name in unlisted {
        let name = format!("{PARTITIONS}/{name}");
        disk.remove(&name).map_err(|e| crate::kv::error::io(&name, e))?;
    }
    Ok(())
}

impl Writer {
    /// Opens the partitions that may change, loads their states and fingerprints, and begins the first partition.
    fn load_partitions(&mut self, now: Time) -> Result<()> {
        // The commit that archives a partition is in `state.redb`, so no archived one has a greater mark.
        let mut mark = CommitMark::stored(&self.partition_set.state()?.snapshot()?)?;
        for partition in &self.partition_set.partitions() {
            let row = partition.row();
            if !row.sealed {
                self.active = partition.first;
            }
            if !row.archived {
                // Others are opened for reading, so that a bounded number is open at once.
                if partition.first == self.active {
                    self.open_for_writing(partition)?;
                }
                if partition.first != self.active {
                    self.overwrite_erased(partition)?;
                }
                let snapshot = self.partition_set.snapshot(partition)?;
                let last = last_id(&snapshot)?;
                self.ids.rise_above(last);
                self.partition_set.raise_newest(Id::from_u128(last));
                self.load_states(&snapshot)?;
                mark = mark.max(CommitMark::stored(&snapshot)?);
            } else if let Some(last) = row.last {
                self.ids.rise_above(last);
                self.partition_set.raise_newest(Id::from_u128(last));
            }
        }
        let run = self.appender.as_ref().map_or(now.0, |appender| appender.last().writer as i64);
        self.publisher.0.resume(mark.unwrap_or_default(), run);
        if self.active == 0 {
            self.roll(now)?;
        }
        self.load_fingerprints(self.fingerprint_horizon(now))
    }

    /// Overwrites payloads that were erased in a sealed partition before a kill.
    fn overwrite_erased(&mut self, partition: &Arc<Partition>) -> Result<()> {
        if erased_in(&self.partition_set.snapshot(partition)?)?.is_empty() {
            return Ok(());
        }
        self.open_for_writing(partition)?;
        self.partition_set.close(partition)
    }

    pub(in crate::store) fn load_states(&self, snapshot: &Snapshot) -> Result<()> {
        for id in self.partition_set.registry().webhooks.keys() {
            if let Some(row) =
                decoded::<crate::store::figures::SumsRow>(snapshot, Table::Figures, &tables::figures(*id, 0))?
            {
                self.partition_set.update_state(*id, row.state);
            }
        }
        Ok(())
    }

    /// Requests for ordered queues whose head has no due entry: a crash came between the end of the previous head and
    /// the promotion of this one. And requests for the queues of webhooks that are not ordered: a crash came before their
    /// deliveries were taken out, or an earlier version left them.
    pub(in crate::store) fn broken_queues(&self) -> Result<Vec<WriteRequest>> {
        let mut heads: HashMap<(WebhookId, u64), DeliveryId> = HashMap::new();
        let mut unordered: BTreeSet<(WebhookId, u128)> = BTreeSet::new();
        let registry = self.partition_set.registry();
        for partition in self.partition_set.open_partitions() {
            let snapshot = self.partition_set.snapshot(&partition)?;
            let mut from = Key::new();
            loop {
                let mut found = None;
                snapshot.scan(Table::Queue, (Bound::Included(&from), Bound::Unbounded), Direction::Up, |key, _| {
                    found = tables::read_queue(key);
                    Ok(ScanStep::Stop)
                })?;
                let Some((webhook, key_hash, delivery)) = found else { break };
                if registry.webhooks.get(&webhook).is_some_and(|webhook| webhook.ordered == DeliveryOrder::No) {
                    unordered.insert((webhook, partition.first));
                }
                let head = heads.entry((webhook, key_hash)).or_insert(delivery);
                *head = (*head).min(delivery);
                from = match key_hash.checked_add(1) {
                    Some(next) => tables::queue(webhook, next, DeliveryId::MIN),
                    None => tables::queue(webhook.next(), 0, DeliveryId::MIN),
                };
            }
        }
        let mut requests = Vec::new();
        for ((webhook, key_hash), delivery) in heads {
            let found = delivery_anywhere(&self.partition_set, delivery)?;
            let Some(row) = found.filter(|d: &Delivery| !d.status.is_final()) else { continue };
            let Some(home) = self.partition_set.partition_of(row.event_id.as_u128()) else { continue };
            let due = tables::due(webhook, row.next_attempt_at.unwrap_or(Time::ZERO), delivery);
            if self.partition_set.snapshot(&home)?.get(Table::Due, &due, |_| ())?.is_none() {
                requests.push(WriteRequest::internal(PartitionCommand::PromoteQueueHead {
                    webhook,
                    key_hash,
                    delivery,
                    event: row.event_id,
                }));
            }
        }
        requests.extend(unordered.into_iter().map(|(webhook, partition)| ordered_queues::dissolve(webhook, partition)));
        Ok(requests)
    }
}
