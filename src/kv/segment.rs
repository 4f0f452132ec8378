//! A segment: one redb file with its memtable, made under a temporary name and read by snapshots.
//!
//! Invariant: a file under its final name contains its schema row. A power cut while the file is made leaves a
//! temporary one.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, Database, Durability, ReadOnlyDatabase, ReadableDatabase, ReadableTable};

use crate::kv::blob_range::BLOBS_END_KEY;
use crate::kv::blobs::BlobFile;
use crate::kv::checksums::ChecksummedFile;
use crate::kv::codec;
use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::memtable::{Layer, MemTable, MemTableView};
use crate::kv::payload;
use crate::kv::scan::Direction;
use crate::kv::snapshot::{ReadFile, Snapshot};
use crate::kv::tables::{ALL_TABLES, Key, Table};
use crate::kv::wal::{EPOCH_KEY, LostRecords, NEEDED_KEY, Wal, WalPosition, WalRecord};
use crate::kv::write_batch::WriteBatch;

/// The newest schema that this program reads.
pub const SCHEMA: u32 = 2;
/// The schema of a new file.
pub const FIRST_SCHEMA: u32 = 1;
/// The schema of `state.redb` once a blob file has a payload. A program of an earlier version would remove blob files
/// as unlisted files, so it must refuse such a store.
pub const BLOBS_SCHEMA: u32 = 2;
/// Maximum rows that one redb cursor writes. The cursor holds copies of its rows until it is closed.
const RUN_ROWS_MAX: usize = 256;
/// Length of the webhook id that a key begins with.
const ID_BYTES: usize = 16;
/// Bytes of redb's page cache for the active segment.
pub const ACTIVE_CACHE_BYTES: usize = 8 << 20;
/// Bytes of redb's page cache for another segment that is open for writing.
pub const OTHER_CACHE_BYTES: usize = 4 << 20;
/// Bytes of redb's page cache for a segment that is open for reading only.
pub const READ_CACHE_BYTES: usize = 1 << 20;
/// Key in `meta` of the file's schema.
pub const SCHEMA_KEY: &[u8] = b"schema";

/// One open redb file.
#[derive(Debug)]
pub struct Segment {
    name: Arc<str>,
    database: DatabaseHandle,
    schema: AtomicU32,
    /// Large payloads of the rows in this file.
    blobs: BlobFile,
    /// Set when an operation fails. redb answers nothing more until the file is opened again.
    failed: AtomicBool,
    /// Changes that are durable in the write-ahead log and not in redb yet.
    memtable: Mutex<MemTable>,
    /// Serialises flushes, so that an older flush never overwrites a newer one.
    flush_lock: Mutex<()>,
}

enum DatabaseHandle {
    Write(Box<Database>),
    Read(Box<ReadOnlyDatabase>),
}

impl std::fmt::Debug for DatabaseHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DatabaseHandle::Write(_) => "Write",
            DatabaseHandle::Read(_) => "Read",
        })
    }
}

/// The mode in which a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    Write,
    Read,
    /// For reading, after redb has verified every page. A file that was not closed cleanly is repaired.
    Check,
}

impl Segment {
    /// Makes a new file with `tables` and the rows `first` in it, entirely or not at all.
    pub fn create(disk: &dyn Disk, name: &str, tables: &[Table], first: &[(Table, &[u8], Vec<u8>)]) -> Result<()> {
        let temporary = format!("{name}.new");
        if disk.exists(&temporary).map_err(|e| io(name, e))? {
            disk.remove(&temporary).map_err(|e| io(name, e))?;
        }
        let made = Segment::fill(disk, name, &temporary, tables, first)
            .and_then(|()| disk.rename(&temporary, name).map_err(|e| io(name, e)));
        if made.is_err() {
            // On a full disk this frees the space that is missing. If it fails, the next start removes the file.
            let _ = disk.remove(&temporary);
        }
        made
    }

    fn fill(
        disk: &dyn Disk,
        name: &str,
        temporary: &str,
        tables: &[Table],
        first: &[(Table, &[u8], Vec<u8>)],
    ) -> Result<()> {
        let failed = |error| storage(name, error);
        let backend = disk.open(temporary, true).and_then(ChecksummedFile::open).map_err(|e| io(name, e))?;
        let database = builder(1 << 20).create_with_backend(backend).map_err(|e| failed(e.into()))?;
        let transaction = begin(&database, Durability::Immediate).map_err(failed)?;
        for table in tables {
            transaction.open_table(table.definition()).map_err(|e| failed(e.into()))?;
        }
        {
            let mut meta = transaction.open_table(Table::Meta.definition()).map_err(|e| failed(e.into()))?;
            meta.insert(SCHEMA_KEY, codec::encode(&FIRST_SCHEMA).as_slice()).map_err(|e| failed(e.into()))?;
        }
        for (table, key, value) in first {
            let mut table = transaction.open_table(table.definition()).map_err(|e| failed(e.into()))?;
            table.insert(*key, value.as_slice()).map_err(|e| failed(e.into()))?;
        }
        transaction.commit().map_err(|e| failed(e.into()))?;
        database.close().map_err(|e| failed(e.into()))
    }

    /// Opens an existing file. A schema newer than `SCHEMA` is refused before anything is written.
    pub fn open(disk: &dyn Disk, name: &str, access: OpenMode, cache_bytes: usize) -> Result<Segment> {
        let backend = disk.open(name, false).and_then(ChecksummedFile::open).and_then(refuse_empty);
        let backend = backend.map_err(|e| io(name, e))?;
        let mut builder = builder(cache_bytes);
        builder.set_check_integrity_on_open(access == OpenMode::Check);
        let opened = catch_panic(name, || match access {
            OpenMode::Write | OpenMode::Check => {
                builder.create_with_backend(backend).map(|database| DatabaseHandle::Write(Box::new(database)))
            }
            OpenMode::Read => {
                builder.open_read_only_with_backend(backend).map(|database| DatabaseHandle::Read(Box::new(database)))
            }
        })?;
        let database = opened.map_err(|e| storage(name, e.into()))?;
        let file = Segment {
            name: name.into(),
            database,
            schema: AtomicU32::default(),
            blobs: BlobFile::open(disk, name)?,
            failed: AtomicBool::default(),
            memtable: Mutex::default(),
            flush_lock: Mutex::default(),
        };
        file.check_schema()?;
        file.blobs.resume(file.stored(BLOBS_END_KEY, codec::decode::<u64>)?.unwrap_or(0))?;
        Ok(file)
    }

    /// Opens an existing file for reading. If the file was not closed cleanly, it is opened for writing, which repairs
    /// it, and is read through that handle. To close and open it once more would need space that a full disk lacks.
    pub fn open_for_reading(disk: &dyn Disk, name: &str) -> Result<Segment> {
        match Segment::open(disk, name, OpenMode::Read, READ_CACHE_BYTES) {
            Err(error) if error.needs_repair() => Segment::open(disk, name, OpenMode::Write, OTHER_CACHE_BYTES),
            opened => opened,
        }
    }

    fn check_schema(&self) -> Result<()> {
        let found = Snapshot::new(None, self.name.clone(), self.begin_read()?, MemTableView::default())
            .get(Table::Meta, SCHEMA_KEY, codec::decode::<u32>)?
            .flatten();
        match found {
            Some(found @ FIRST_SCHEMA..=SCHEMA) => {
                self.schema.store(found, Ordering::Relaxed);
                Ok(())
            }
            Some(found) => Err(Error::Newer { file: self.name.to_string(), found, known: SCHEMA }),
            None => Err(Error::Damaged { file: self.name.to_string(), table: "meta", key: "schema".into() }),
        }
    }

    /// The path of the file, below the directory of its disk.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The blob file beside the segment.
    pub fn blobs(&self) -> &BlobFile {
        &self.blobs
    }

    /// The schema of the file.
    pub fn schema(&self) -> u32 {
        self.schema.load(Ordering::Relaxed)
    }

    /// Raises the schema to `schema` in a durable commit, unless it is as high already.
    pub fn raise_schema(self: &Arc<Segment>, schema: u32) -> Result<()> {
        if self.schema() >= schema {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.snapshot()?);
        write_batch.put(Table::Meta, Key::from_slice(SCHEMA_KEY), &schema);
        self.commit(write_batch)?;
        self.schema.store(schema, Ordering::Relaxed);
        Ok(())
    }

    /// Continues the blob file behind the last payload that the replayed records name.
    ///
    /// # Errors
    /// `BlobsDamaged` if acknowledged payloads are missing.
    pub fn resume_blobs(self: &Arc<Segment>) -> Result<()> {
        let end = self.snapshot()?.get(Table::Meta, BLOBS_END_KEY, codec::decode::<u64>)?.flatten();
        self.blobs.resume(end.unwrap_or(0))
    }

    /// Overwrites erased payloads that a crash or a failure may have left. The rows that say so must be durable.
    pub fn finish_erasures(self: &Arc<Segment>) -> Result<()> {
        self.blobs.erase(payload::erased_in(&self.snapshot()?)?)
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// A snapshot of the committed state. It stays valid while it is held.
    pub fn snapshot(self: &Arc<Segment>) -> Result<Snapshot> {
        loop {
            let (generation, view) = {
                let memtable = self.memtable();
                (memtable.generation, memtable.view())
            };
            let transaction = self.begin_read()?;
            // If the generations differ, a flush ran in between and the view is older than the transaction.
            if self.memtable().generation == generation {
                return Ok(Snapshot::new(Some(self.clone()), self.name.clone(), transaction, view));
            }
        }
    }

    fn memtable(&self) -> MutexGuard<'_, MemTable> {
        self.memtable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_read(&self) -> Result<redb::ReadTransaction> {
        let transaction = match &self.database {
            DatabaseHandle::Write(database) => database.begin_read(),
            DatabaseHandle::Read(database) => database.begin_read(),
        };
        transaction.map_err(|e| {
            self.set_failed();
            storage(&self.name, e.into())
        })
    }

    /// Commits a write batch durably, together with the memtable. The commit has two phases and quick repair, so
    /// opening the file after a kill takes a millisecond, and redb never trusts a producer's payload as a checksum.
    pub fn commit(&self, write_batch: WriteBatch) -> Result<()> {
        let _giving = self.flush_lock();
        let held = self.memtable().view();
        if !held.is_empty() {
            self.write_view(&held, Durability::None)?;
            // The rows are freed with the view, after the lock is released.
            self.memtable().clear();
        }
        let tables = write_batch.changes().into_iter();
        let changes = tables.map(|(table, changes)| (table, changes.iter().map(|(k, v)| (k.as_slice(), v.as_deref()))));
        self.write(changes, Durability::Immediate).map_err(|error| storage(&self.name, error))
    }

    /// Makes changes visible that the write-ahead log has already made durable. `flush` or the next `commit` writes
    /// them to redb.
    pub fn insert(&self, changes: Layer) {
        self.memtable().insert(changes);
    }

    /// The last epoch of the write-ahead log that redb contains.
    pub fn epoch(&self) -> Result<u64> {
        Ok(self.stored(EPOCH_KEY, codec::decode::<u64>)?.unwrap_or(0))
    }

    /// Whether the write-ahead log may have records that redb lacks. `false` after a clean stop and for a file of an
    /// older version.
    pub fn needs_wal(&self) -> Result<bool> {
        Ok(self.stored(NEEDED_KEY, codec::decode::<bool>)?.unwrap_or(false))
    }

    /// A row of `meta` that redb contains.
    fn stored<T>(&self, key: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let stored = Snapshot::new(None, self.name.clone(), self.begin_read()?, MemTableView::default());
        Ok(stored.get(Table::Meta, key, decode)?.flatten())
    }

    /// Reads the records that redb does not contain from the write-ahead log of `partition` into the memtable. `None`
    /// if there are none.
    ///
    /// # Errors
    /// `WalDamaged` if acknowledged records are missing.
    pub fn replay_wal(&self, partition: u128, wal: &Wal) -> Result<Option<WalPosition>> {
        let epoch = self.epoch()?;
        if self.needs_wal()? {
            wal.check(partition, epoch)?;
        }
        let mut last = epoch + 1;
        wal.records_after(partition, epoch, |epoch, record| self.insert_record(&mut last, epoch, record))
    }

    /// Like `replay_wal`, up to the first damage.
    pub fn salvage_wal(&self, partition: u128, wal: &Wal) -> Result<LostRecords> {
        let epoch = self.epoch()?;
        let mut last = epoch + 1;
        wal.salvage(partition, epoch, |epoch, record| self.insert_record(&mut last, epoch, record))
    }

    /// Inserts a record. `last` is the epoch of the record before it, whose layers are frozen if this is another.
    fn insert_record(&self, last: &mut u64, epoch: u64, record: WalRecord) {
        if epoch != *last {
            self.freeze(*last);
            *last = epoch;
        }
        let mut layer = Layer::default();
        record.into_iter().for_each(|(table, changes)| layer[table as usize] = changes);
        self.insert(layer);
    }

    /// Whether the memtable has so many layers that a flush is due.
    pub fn has_many_layers(&self) -> bool {
        self.memtable().has_many_layers()
    }

    /// Whether frozen layers wait for a flush.
    pub fn is_flushing(&self) -> bool {
        self.memtable().is_frozen()
    }

    /// Freezes the memtable at the end of `epoch` for the next `flush`. The previous flush must have ended.
    pub fn freeze(&self, epoch: u64) {
        let mut mark = Layer::default();
        mark[Table::Meta as usize].insert(Key::from_slice(EPOCH_KEY), Some(codec::encode(&epoch)));
        mark[Table::Meta as usize].insert(Key::from_slice(NEEDED_KEY), Some(codec::encode(&true)));
        let mut memtable = self.memtable();
        memtable.insert(mark);
        memtable.freeze();
    }

    /// Writes the frozen layers into redb in one durable commit. Batches and reads go on meanwhile.
    pub fn flush(&self) -> Result<()> {
        let _giving = self.flush_lock();
        let leaving = self.memtable().frozen();
        if leaving.is_empty() {
            return Ok(());
        }
        self.write_view(&leaving, Durability::Immediate)?;
        self.memtable().flushed();
        Ok(())
    }

    fn flush_lock(&self) -> MutexGuard<'_, ()> {
        self.flush_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_view(&self, view: &MemTableView, durability: Durability) -> Result<()> {
        let all = || (Bound::Unbounded, Bound::Unbounded);
        let tables = ALL_TABLES.into_iter().map(|table| (table, view.range(table, all(), Direction::Up).peekable()));
        let changes = tables.filter_map(|(table, mut changes)| changes.peek().is_some().then_some((table, changes)));
        self.write(changes, durability).map_err(|error| storage(&self.name, error))
    }

    fn write<'a, C>(
        &self,
        changes: impl Iterator<Item = (Table, C)>,
        durability: Durability,
    ) -> std::result::Result<(), redb::Error>
    where
        C: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let DatabaseHandle::Write(database) = &self.database else {
            return Err(redb::Error::Io(std::io::ErrorKind::ReadOnlyFilesystem.into()));
        };
        let transaction = begin(database, durability)?;
        for (table, changes) in changes {
            let mut open = transaction.open_table(table.definition())?;
            let mut changes = changes.peekable();
            if table.is_appended() {
                let last = open.last()?.map(|(key, _)| key.value().to_vec());
                let is_new = |key: &[u8]| last.as_deref().is_none_or(|last| key > last);
                while let Some((key, value)) = changes.next_if(|(key, _)| !is_new(key)) {
                    put(&mut open, key, value)?;
                }
                insert_runs(&mut open, &mut changes, |_, _| true)?;
            } else if table.is_in_runs() {
                insert_runs(&mut open, &mut changes, is_of_same_webhook)?;
            }
            for (key, value) in changes {
                put(&mut open, key, value)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Compacts the file: moves its last pages into its holes, truncates it and closes it. It must not be open
    /// elsewhere.
    pub(crate) fn compact(mut self) -> Result<()> {
        if let DatabaseHandle::Write(database) = &mut self.database {
            database.compact().map_err(|error| storage(&self.name, error.into()))?;
        }
        self.close()
    }

    /// Closes the file, so that the next open needs no repair.
    pub fn close(self) -> Result<()> {
        match self.database {
            DatabaseHandle::Write(database) => database.close(),
            DatabaseHandle::Read(database) => database.close(),
        }
        .map_err(|e| storage(&self.name, e.into()))
    }
}

fn put(
    table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    value: Option<&[u8]>,
) -> std::result::Result<(), redb::Error> {
    match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    Ok(())
}

/// Whether a key belongs to the same webhook as the one before it. The first row of each webhook is inserted by itself,
/// because a cursor for one row saves nothing.
fn is_of_same_webhook(last: &[u8], key: &[u8]) -> bool {
    key.get(..ID_BYTES).is_some_and(|webhook| last.starts_with(webhook))
}

/// Inserts changes through redb cursors, one for each run of new keys. `is_next` says whether a key, after the last one
/// written, is worth a cursor.
fn insert_runs<'a>(
    table: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    changes: &mut std::iter::Peekable<impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>>,
    is_next: impl Fn(&[u8], &[u8]) -> bool,
) -> std::result::Result<(), redb::Error> {
    let mut last: &[u8] = &[];
    while let Some(&(first, value)) = changes.peek() {
        let mut rows = 0;
        let is_run = value.is_some() && is_next(last, first);
        last = first;
        if is_run {
            let mut gap = table.upper_bound_mut(Bound::Excluded(first))?;
            while let Some(&(key, Some(value))) = changes.peek()
                && rows < RUN_ROWS_MAX
            {
                match gap.insert_before(key, value) {
                    Ok(()) => {}
                    Err(redb::CursorError::UnorderedKey) => break,
                    Err(error) => return Err(cursor_error(error)),
                }
                rows += 1;
                last = key;
                changes.next();
            }
            gap.close()?;
        }
        // The key is not worth a cursor, exists already, or is removed.
        if rows == 0 {
            put(table, first, value)?;
            changes.next();
        }
    }
    Ok(())
}

fn cursor_error(error: redb::CursorError) -> redb::Error {
    match error {
        redb::CursorError::Storage(error) => error.into(),
        other => redb::Error::Corrupted(other.to_string()),
    }
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

fn begin(database: &Database, durability: Durability) -> std::result::Result<redb::WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(durability)?;
    transaction.set_quick_repair(matches!(durability, Durability::Immediate));
    Ok(transaction)
}

/// Turns a panic of redb into an error. redb panics on some damage, such as an altered allocator state. Such damage
/// must cost one file and not the thread.
pub(crate) fn catch_panic<T>(name: &str, read: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).map_err(|_| Error::Damaged {
        file: name.to_owned(),
        table: "the file itself",
        key: "its pages".into(),
    })
}

impl ReadFile for Segment {
    fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn blobs(&self) -> &BlobFile {
        &self.blobs
    }
}

/// Refuses a file without pages, because redb would make an empty database of it.
fn refuse_empty(file: ChecksummedFile) -> std::io::Result<ChecksummedFile> {
    match redb::StorageBackend::len(&file)? {
        0 => {
            let words = "it was cut short, and no page is left of it; put the file back, or restore a backup";
            Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, words))
        }
        _ => Ok(file),
    }
}

fn storage(file: &str, source: redb::Error) -> Error {
    Error::Storage { file: file.to_owned(), source }
}
