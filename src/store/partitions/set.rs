//! The partition set: the store's files, and the registry in memory that reads and the writer share.
//!
//! Invariant: a listed partition exists, and a start removes unlisted files. Only partitions that may change are open
//! for writing. At most `IDLE_FILES_MAX` others are open, for reading.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::model::id::{DeliveryId, IdMap, WebhookId};
use crate::model::webhook::WebhookState;
use crate::model::{Time, Webhook};

use crate::kv::blobs::{blobs_of, segment_of};
use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::Result;
use crate::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{PARTITION_TABLES, Table};
use crate::kv::wal::NEEDED_KEY;
use crate::store::recent_figures::RecentFigures;
use crate::store::registry::Registry;
use crate::store::secrets::vault::Vault;

/// Name of the file of small rows that live long. A directory with this file is a store.
pub const STATE_FILE: &str = "state.redb";
/// Name of the folder of partitions, below the data directory.
pub const PARTITIONS: &str = "partitions";

/// Maximum number of idle partitions that are open at once: those of a month, with a new one each day.
const IDLE_FILES_MAX: usize = 48;

/// The list's row of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionRow {
    /// Whether the partition is no longer the active one.
    pub sealed: bool,
    /// Whether nothing in it is due and `totals` includes its sums.
    pub archived: bool,
    /// The greatest id in it. `None` while that may still rise.
    pub last: Option<u128>,
    /// The last hour of the figures in it. `None` while that may still rise, and in the rows of earlier versions.
    #[serde(default)]
    pub last_hour: Option<u32>,
}

/// One partition: its row of the list, and its open segment.
#[derive(Debug)]
pub struct Partition {
    pub first: u128,
    row: Mutex<PartitionRow>,
    file: Mutex<Option<(OpenMode, Arc<Segment>)>>,
}

impl Partition {
    pub fn new(first: u128, row: PartitionRow) -> Partition {
        Partition { first, row: Mutex::new(row), file: Mutex::new(None) }
    }

    /// The partition's row of the list.
    pub fn row(&self) -> PartitionRow {
        *self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_row(&self, row: PartitionRow) {
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = row;
    }

    /// The partition's segment, if it is open.
    pub fn opened(&self) -> Option<Arc<Segment>> {
        let slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(|(_, file)| file.clone())
    }

    /// Whether the partition may contain an id.
    pub fn may_contain(&self, id: u128) -> bool {
        self.first <= id && self.row().last.is_none_or(|last| id <= last)
    }

    /// The path of the partition's file, below the data directory.
    pub fn file_name(&self) -> String {
        format!("{PARTITIONS}/{}.redb", uuid::Uuid::from_u128(self.first).hyphenated())
    }

    /// The file of its large payloads, which is missing if there are none.
    pub fn blobs_name(&self) -> String {
        blobs_of(&self.file_name())
    }
}

/// The first id that the name of a partition's file encodes.
pub fn first_of(file_name: &str) -> Option<u128> {
    let id = file_name.strip_suffix(".redb")?;
    uuid::Uuid::try_parse(id).ok().map(|id| id.as_u128())
}

/// The first id of the partition that a file in the folder belongs to: its own file, or its blob file.
pub fn owner_of(file_name: &str) -> Option<u128> {
    first_of(file_name).or_else(|| first_of(&segment_of(file_name)?))
}

/// Whether the directory contains partitions. They are no store without `state.redb`, which lists them.
///
/// # Errors
/// The folder cannot be read.
pub fn has_partitions(disk: &dyn Disk) -> std::io::Result<bool> {
    match disk.list(PARTITIONS) {
        Ok(names) => Ok(names.iter().any(|name| first_of(name).is_some())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Settings of the store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub retention_ms: i64,
    pub idempotency_window_ms: i64,
    pub partition_max_bytes: u64,
    pub min_free_bytes: u64,
    /// Payloads of more bytes are written to the blob file instead of rows.
    pub row_payload_bytes_max: usize,
    /// Maximum number of fingerprints of idempotency keys in the map before they become a run.
    pub fingerprints_max: usize,
}

/// The files of a store, and the state in memory that reads and the writer share.
#[derive(Debug)]
pub struct PartitionSet {
    pub disk: Arc<dyn Disk>,
    pub options: StoreOptions,
    pub vault: Vault,
    /// `None` only while it is being reopened, or if that failed.
    state: RwLock<Option<Arc<Segment>>>,
    partitions: RwLock<BTreeMap<u128, Arc<Partition>>>,
    idle: Mutex<VecDeque<u128>>,
    registry: ArcSwap<Registry>,
    removed: ArcSwap<HashMap<WebhookId, Time>>,
    states: RwLock<IdMap<Webhook, WebhookState>>,
    /// The newest committed delivery or attempt. Ids are committed in their order, so no smaller id appears later.
    newest: Mutex<DeliveryId>,
    /// Whether a write has found no space, as far as the writer knows.
    space_missing: AtomicBool,
    /// Attempts of the last day.
    pub recent: RecentFigures,
}

impl PartitionSet {
    pub fn new(disk: Arc<dyn Disk>, options: StoreOptions, vault: Vault, state: Arc<Segment>) -> PartitionSet {
        PartitionSet {
            disk,
            options,
            vault,
            state: RwLock::new(Some(state)),
            partitions: RwLock::default(),
            idle: Mutex::default(),
            registry: ArcSwap::default(),
            removed: ArcSwap::default(),
            states: RwLock::default(),
            newest: Mutex::new(DeliveryId::MIN),
            space_missing: AtomicBool::default(),
            recent: RecentFigures::default(),
        }
    }

    /// Whether the free space is below the floor. `false` if it is unknown.
    pub fn is_below_floor(&self) -> bool {
        self.disk.free_bytes().is_ok_and(|free| free < self.options.min_free_bytes)
    }

    /// Whether a write has found no space, as far as the writer knows.
    pub fn is_space_missing(&self) -> bool {
        self.space_missing.load(Ordering::Relaxed)
    }

    pub fn set_space_missing(&self, is_missing: bool) {
        self.space_missing.store(is_missing, Ordering::Relaxed);
    }

    /// The segment of `state.redb`.
    ///
    /// # Errors
    /// The file is being reopened, or reopening it failed.
    pub fn state(&self) -> Result<Arc<Segment>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        state.ok_or_else(|| crate::kv::error::io(STATE_FILE, std::io::ErrorKind::NotConnected.into()))
    }

    /// The registry as of the last commit to `state.redb`.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.load_full()
    }

    pub fn set_registry(&self, registry: Registry) {
        self.registry.store(Arc::new(registry));
    }

    /// Removed webhooks that may have open deliveries, with the times of their removal.
    pub fn removed(&self) -> Arc<HashMap<WebhookId, Time>> {
        self.removed.load_full()
    }

    pub fn set_removed(&self, removed: HashMap<WebhookId, Time>) {
        self.removed.store(Arc::new(removed));
    }

    /// The webhook's newest known state. The default state if none is known.
    pub fn webhook_state(&self, id: WebhookId) -> WebhookState {
        self.states.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or_default()
    }

    /// Stores a webhook's state, unless a newer one is known.
    pub fn update_state(&self, id: WebhookId, state: WebhookState) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let known = states.entry(id).or_default();
        if state.sequence >= known.sequence {
            *known = state;
        }
    }

    pub fn remove_state(&self, id: WebhookId) {
        self.states.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Replaces the list of partitions. Known partitions stay open, unlisted ones are dropped.
    pub fn set_partitions(&self, listed: &[(u128, PartitionRow)]) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.retain(|first, _| listed.iter().any(|(other, _)| other == first));
        for &(first, row) in listed {
            partitions.entry(first).or_insert_with(|| Arc::new(Partition::new(first, row))).set_row(row);
        }
    }

    /// Every delivery up to this id is committed or never will be.
    pub fn newest(&self) -> DeliveryId {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that everything up to `id` is committed.
    pub fn raise_newest(&self, id: DeliveryId) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = id.max(*newest);
    }

    /// All partitions, oldest first.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Partitions that may have due deliveries, oldest first.
    pub fn open_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions().into_iter().filter(|p| !p.row().archived).collect()
    }

    /// The listed partition with this first id.
    pub fn partition(&self, first: u128) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&first).cloned()
    }

    /// The partition of the events that were received when `id` was made.
    pub fn partition_of(&self, id: u128) -> Option<Arc<Partition>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.range(..=id).next_back().map(|(_, partition)| partition.clone())
    }

    pub fn add_partition(&self, partition: Partition) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.insert(partition.first, Arc::new(partition));
    }

    pub fn take_partition(&self, first: u128) -> Option<Arc<Partition>> {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&first)
    }

    /// Makes the file of a new partition. The file says from its beginning that it needs the write-ahead log, because
    /// no later commit would say so before the first record.
    pub fn create_partition(&self, partition: &Partition) -> Result<()> {
        let needed = (Table::Meta, NEEDED_KEY, codec::encode(&true));
        Segment::create(&*self.disk, &partition.file_name(), &PARTITION_TABLES, &[needed])
    }

    /// The partition's segment, opened for reading if it is closed. Only the writer opens the active partition, because
    /// it replays the write-ahead log.
    pub fn read(&self, partition: &Partition) -> Result<Arc<Segment>> {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            // Two segments of one file may be open for reading: the failed one is closed by its last reader.
            Some((OpenMode::Read, file)) if file.has_failed() => *slot = None,
            Some((_, file)) => return Ok(file.clone()),
            None => {}
        }
        if !partition.row().sealed {
            return Err(crate::kv::error::io(&partition.file_name(), std::io::ErrorKind::NotConnected.into()));
        }
        let file = Arc::new(Segment::open_for_reading(&*self.disk, &partition.file_name())?);
        *slot = Some((OpenMode::Read, file.clone()));
        drop(slot);
        self.close_oldest_idle(partition.first);
        Ok(file)
    }

    /// Opens the partition's segment for reading, after redb has verified every page.
    pub fn check(&self, partition: &Partition) -> Result<Arc<Segment>> {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = None;
        let file = Arc::new(Segment::open(&*self.disk, &partition.file_name(), OpenMode::Check, OTHER_CACHE_BYTES)?);
        *slot = Some((OpenMode::Check, file.clone()));
        Ok(file)
    }

    /// The partition's segment, open for writing. Waits for short reads of a segment that was open for reading only.
    pub fn write(&self, partition: &Partition, cache_bytes: usize) -> Result<Arc<Segment>> {
        self.write_prepared(partition, cache_bytes, |_| Ok(()))
    }

    /// Like `write`. `prepare` runs on a segment that is opened here, before readers see it: until then they wait.
    ///
    /// # Errors
    /// The file does not open, or `prepare` failed. The partition is closed then.
    pub fn write_prepared(
        &self,
        partition: &Partition,
        cache_bytes: usize,
        prepare: impl FnOnce(&Arc<Segment>) -> Result<()>,
    ) -> Result<Arc<Segment>> {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((OpenMode::Write, file)) = &*slot {
            return Ok(file.clone());
        }
        self.open_prepared(partition, &mut slot, cache_bytes, prepare)
    }

    /// Closes the partition's segment and opens it again for writing. Readers wait meanwhile, so none finds it closed
    /// or unprepared.
    ///
    /// # Errors
    /// The file does not open, or `prepare` failed. The partition is closed then.
    pub fn reopen_prepared(
        &self,
        partition: &Partition,
        cache_bytes: usize,
        prepare: impl FnOnce(&Arc<Segment>) -> Result<()>,
    ) -> Result<Arc<Segment>> {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        self.open_prepared(partition, &mut slot, cache_bytes, prepare)
    }

    fn open_prepared(
        &self,
        partition: &Partition,
        slot: &mut Option<(OpenMode, Arc<Segment>)>,
        cache_bytes: usize,
        prepare: impl FnOnce(&Arc<Segment>) -> Result<()>,
    ) -> Result<Arc<Segment>> {
        // A failed segment reports its failure again when it is closed, and is closed all the same. Nothing was written
        // through a segment that was open for reading.
        if let Some((_, file)) = slot.take() {
            let _ = close_when_unused(file);
        }
        let file = Arc::new(Segment::open(&*self.disk, &partition.file_name(), OpenMode::Write, cache_bytes)?);
        if let Err(error) = prepare(&file) {
            let _ = close_when_unused(file);
            return Err(error);
        }
        *slot = Some((OpenMode::Write, file.clone()));
        Ok(file)
    }

    /// Whether the partition's file is open for writing.
    pub fn is_open_for_writing(&self, partition: &Partition) -> bool {
        let slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(&*slot, Some((OpenMode::Write, _)))
    }

    /// Closes the partition's segment. The next use opens it again.
    pub fn close(&self, partition: &Partition) -> Result<()> {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            Some((_, file)) => close_when_unused(file),
            None => Ok(()),
        }
    }

    /// Closes the partition's segment if no reader has it. Its content is durable, so an error of closing it does not
    /// matter.
    pub fn close_if_unused(&self, partition: &Partition) {
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((access, file)) = slot.take() {
            match Arc::try_unwrap(file) {
                Ok(file) => drop(file.close()),
                Err(shared) => *slot = Some((access, shared)),
            }
        }
    }

    /// Removes the files of a delisted partition. Readers that have it open read it to the end.
    pub fn discard(&self, partition: &Partition) -> Result<()> {
        // Opened before it is unlinked, for reads that found the partition on the list and have not opened it yet. If
        // it does not open, they fail.
        let _ = self.read(partition);
        let (name, blobs) = (partition.file_name(), partition.blobs_name());
        self.disk.remove(&name).map_err(|e| crate::kv::error::io(&name, e))?;
        match self.disk.exists(&blobs) {
            Ok(true) => self.disk.remove(&blobs).map_err(|e| crate::kv::error::io(&blobs, e)),
            exists => exists.map(drop).map_err(|e| crate::kv::error::io(&blobs, e)),
        }
    }

    /// Closes and opens `state.redb`, which clears redb's latched error.
    pub fn reopen_state(&self) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Two handles on the file must never exist, so the old one is closed before the new one opens. A failed file
        // reports its failure again when it is closed, and is closed all the same.
        if let Some(old) = state.take() {
            let _ = close_when_unused(old);
        }
        *state = Some(Arc::new(Segment::open(&*self.disk, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?));
        Ok(())
    }

    fn close_oldest_idle(&self, opened: u128) {
        let oldest = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|first| *first != opened);
            idle.push_back(opened);
            let too_many = idle.len().saturating_sub(IDLE_FILES_MAX);
            idle.drain(..too_many).collect::<Vec<_>>()
        };
        oldest.into_iter().filter_map(|first| self.partition(first)).for_each(|partition| self.close_idle(&partition));
    }

    /// Drops a segment that is open for reading only. Its last reader closes it.
    pub(in crate::store) fn close_idle(&self, partition: &Partition) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|first| *first != partition.first);
        let mut slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*slot, Some((OpenMode::Read, _))) {
            *slot = None;
        }
    }

    /// Open files that a read found failing. Only the writer can reopen them.
    pub fn failed(&self) -> Vec<u128> {
        let has_failed = |partition: &Arc<Partition>| {
            let slot = partition.file.lock().unwrap_or_else(PoisonError::into_inner);
            slot.as_ref().is_some_and(|(_, file)| file.has_failed())
        };
        let state = self.state().is_ok_and(|file| file.has_failed()).then_some(0);
        state.into_iter().chain(self.partitions().into_iter().filter(has_failed).map(|p| p.first)).collect()
    }

    /// A snapshot of a partition, for reading.
    pub fn snapshot(&self, partition: &Partition) -> Result<Snapshot> {
        self.read(partition)?.snapshot()
    }

    /// Whether nothing in the partition is due or queued.
    pub fn is_idle(&self, partition: &Partition) -> Result<bool> {
        let snapshot = self.snapshot(partition)?;
        Ok(snapshot.rows(Table::Due)? == 0 && snapshot.rows(Table::Queue)? == 0)
    }
}

/// Reads hold a segment for one page, and long lists for one slice, so the wait is short.
fn close_when_unused(mut file: Arc<Segment>) -> Result<()> {
    loop {
        match Arc::try_unwrap(file) {
            Ok(file) => return file.close(),
            Err(shared) => file = shared,
        }
        std::thread::yield_now();
    }
}
