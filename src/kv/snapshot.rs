//! A snapshot: one segment as it was committed at one moment. While a snapshot lives, redb frees no page written since.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTableMetadata as _, TableError};

use crate::kv::blob_range::BlobRange;
use crate::kv::blobs::BlobFile;
use crate::kv::error::{Error, Result};
use crate::kv::memtable::MemTableView;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{TABLES, Table};

type Open = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A redb read transaction with a view of the memtable. Each table is opened at its first use.
pub struct Snapshot {
    name: Arc<str>,
    transaction: ReadTransaction,
    /// Overrides the rows of redb.
    memtable: MemTableView,
    /// `None` for a table that the file lacks, because an earlier version made it.
    tables: [OnceCell<Option<Open>>; TABLES],
    /// The last field, so that the segment is dropped after its readers.
    file: Option<Arc<dyn ReadFile>>,
}

/// The file that a snapshot reads. It stays open while a snapshot holds it.
pub trait ReadFile: Send + Sync {
    /// Remembers that a read failed, so that the file is opened again.
    fn set_failed(&self);
    /// The blob file beside it.
    fn blobs(&self) -> &BlobFile;
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("file", &self.name).finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(
        file: Option<Arc<dyn ReadFile>>,
        name: Arc<str>,
        transaction: ReadTransaction,
        memtable: MemTableView,
    ) -> Snapshot {
        Snapshot { name, transaction, memtable, tables: Default::default(), file }
    }

    /// The path of the file that the snapshot reads, for errors.
    pub fn file(&self) -> &str {
        &self.name
    }

    fn table(&self, table: Table) -> Result<Option<&Open>> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open.as_ref());
        }
        let open = match self.transaction.open_table(table.definition()) {
            Err(TableError::TableDoesNotExist(_)) if table.is_later_addition() => None,
            open => Some(open.map_err(|e| self.failed(e.into()))?),
        };
        Ok(cell.get_or_init(|| open).as_ref())
    }

    /// Applies `read` to the value at `key`. `None` if there is no row.
    pub fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        #[cfg(test)]
        examined::note(&examined::ROWS);
        if let Some(change) = self.memtable.get(table, key) {
            return Ok(change.map(read));
        }
        let Some(open) = self.table(table)? else { return Ok(None) };
        let found = open.get(key).map_err(|e| self.failed(e.into()))?;
        Ok(found.map(|value| read(value.value())))
    }

    /// Calls `visit` with the keys and values of a range in one direction, until it returns `ScanStep::Stop`.
    pub fn scan(
        &self,
        table: Table,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ScanStep>,
    ) -> Result<()> {
        if empty(from, to) {
            return Ok(());
        }
        let mut memtable = self.memtable.range(table, (from, to), direction).peekable();
        let range = self.table(table)?.map(|open| open.range::<&[u8]>((from, to)));
        let mut range = range.transpose().map_err(|e| self.failed(e.into()))?;
        let mut step = || {
            let entry = range.as_mut().and_then(|range| match direction {
                Direction::Up => range.next(),
                Direction::Down => range.next_back(),
            });
            entry.transpose().map_err(|e| self.failed(e.into()))
        };
        let mut stored = step()?;
        loop {
            let order = match (&stored, memtable.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((newer, _))) if direction == Direction::Up => key.value().cmp(newer),
                (Some((key, _)), Some((newer, _))) => (*newer).cmp(key.value()),
            };
            #[cfg(test)]
            examined::note(&examined::KEYS);
            let next = match (order, &stored) {
                (Ordering::Less, Some((key, value))) => visit(key.value(), value.value())?,
                // A changed row is visited with its newer value, a removed one is skipped.
                _ => match memtable.next() {
                    Some((key, Some(value))) => visit(key, value)?,
                    _ => ScanStep::Go,
                },
            };
            if next == ScanStep::Stop {
                return Ok(());
            }
            if order != Ordering::Greater {
                stored = step()?;
            }
        }
    }

    /// The payload at a place that the row of `data` at `key` names.
    ///
    /// # Errors
    /// The bytes do not have their checksum, or the disk fails.
    pub fn blob(&self, key: &[u8], place: BlobRange) -> Result<Vec<u8>> {
        let Some(file) = &self.file else { return Err(self.damaged(Table::Data, key)) };
        match file.blobs().read(place) {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err(self.damaged(Table::Data, key)),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::Interrupted {
                    file.set_failed();
                }
                Err(file.blobs().failed(error))
            }
        }
    }

    /// The number of rows of a table.
    pub fn rows(&self, table: Table) -> Result<u64> {
        let open = self.table(table)?;
        let mut rows = open.map_or(Ok(0), |open| open.len()).map_err(|e| self.failed(e.into()))?;
        for (key, value) in self.memtable.range(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up) {
            let was = open.map_or(Ok(None), |open| open.get(key)).map_err(|e| self.failed(e.into()))?.is_some();
            rows = rows + u64::from(value.is_some()) - u64::from(was);
        }
        Ok(rows)
    }

    /// The error for a row of this file whose check failed.
    pub fn damaged(&self, table: Table, key: &[u8]) -> Error {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::Damaged { file: self.name.to_string(), table: table.name(), key }
    }

    /// The error for a row whose seal does not open. `key` is a single id.
    pub fn sealed(&self, table: Table, key: &[u8]) -> Error {
        let key = uuid::Uuid::from_slice(key).unwrap_or_default().hyphenated().to_string();
        Error::Sealed { file: self.name.to_string(), table: table.name(), key }
    }

    fn failed(&self, source: redb::Error) -> Error {
        if let Some(file) = &self.file {
            file.set_failed();
        }
        Error::Storage { file: self.name.to_string(), source }
    }
}

/// redb panics on a range that ends before it begins.
fn empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
        _ => false,
    }
}

/// Counters of this thread's reads: tests bound the cost of a read independently of the machine.
#[cfg(test)]
pub mod examined {
    use std::cell::Cell;
    use std::thread::LocalKey;

    thread_local! {
        /// Rows looked up by their key.
        pub static ROWS: Cell<u64> = const { Cell::new(0) };
        /// Entries visited by scans.
        pub static KEYS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn note(counter: &'static LocalKey<Cell<u64>>) {
        counter.set(counter.get() + 1);
    }

    /// `(rows, keys)` since the last call.
    pub fn take() -> (u64, u64) {
        (ROWS.take(), KEYS.take())
    }
}
