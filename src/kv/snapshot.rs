//! One file as it was committed at one moment. Short-lived: while it is held, redb frees nothing written since.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction};

use crate::kv::error::{Error, Result};
use crate::kv::memtable::MemTableView;
use crate::kv::tables::{TABLES, Table};

type Open = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A read transaction, with each table opened when it is first asked for.
pub struct Snapshot {
    name: Arc<str>,
    transaction: ReadTransaction,
    /// Goes before what redb has.
    memtable: MemTableView,
    tables: [OnceCell<Open>; TABLES],
    /// Last, so that the file is let go after what reads it.
    file: Option<Arc<crate::kv::segment::Segment>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("file", &self.name).finish_non_exhaustive()
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// What the visitor of a scan wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanStep {
    Go,
    Stop,
}

impl Snapshot {
    pub(crate) fn new(
        file: Option<Arc<crate::kv::segment::Segment>>,
        name: Arc<str>,
        transaction: ReadTransaction,
        memtable: MemTableView,
    ) -> Snapshot {
        Snapshot { name, transaction, memtable, tables: Default::default(), file }
    }

    pub fn file(&self) -> &str {
        &self.name
    }

    fn table(&self, table: Table) -> Result<&Open> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.transaction.open_table(table.definition()).map_err(|e| self.failed(e.into()))?;
        Ok(cell.get_or_init(|| open))
    }

    /// What `read` makes of the value at `key`.
    pub fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        #[cfg(test)]
        examined::note(&examined::ROWS);
        if let Some(change) = self.memtable.get(table, key) {
            return Ok(change.map(read));
        }
        let found = self.table(table)?.get(key).map_err(|e| self.failed(e.into()))?;
        Ok(found.map(|value| read(value.value())))
    }

    /// Shows keys and values of `from ..= to` to `visit`, smallest first or greatest first, until it stops.
    pub fn scan(
        &self,
        table: Table,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        way: Direction,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ScanStep>,
    ) -> Result<()> {
        if empty(from, to) {
            return Ok(());
        }
        let mut memtable = self.memtable.range(table, (from, to), way).peekable();
        let mut range = self.table(table)?.range::<&[u8]>((from, to)).map_err(|e| self.failed(e.into()))?;
        let mut step = || {
            let entry = match way {
                Direction::Up => range.next(),
                Direction::Down => range.next_back(),
            };
            entry.transpose().map_err(|e| self.failed(e.into()))
        };
        let mut stored = step()?;
        loop {
            let order = match (&stored, memtable.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((newer, _))) if way == Direction::Up => key.value().cmp(newer),
                (Some((key, _)), Some((newer, _))) => (*newer).cmp(key.value()),
            };
            #[cfg(test)]
            examined::note(&examined::KEYS);
            let next = match (order, &stored) {
                (Ordering::Less, Some((key, value))) => visit(key.value(), value.value())?,
                // Of a row that changed the newer value is shown, or nothing if it is gone.
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

    /// How many rows a table has.
    pub fn rows(&self, table: Table) -> Result<u64> {
        let open = self.table(table)?;
        let mut rows = crate::kv::segment::table_rows(open).map_err(|e| self.failed(e))?;
        for (key, value) in self.memtable.range(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up) {
            let was = open.get(key).map_err(|e| self.failed(e.into()))?.is_some();
            rows = rows + u64::from(value.is_some()) - u64::from(was);
        }
        Ok(rows)
    }

    /// Bytes of keys, values and what redb needs to find them. Reads the whole table.
    pub fn live_bytes(&self, table: Table) -> Result<u64> {
        crate::kv::segment::table_live_bytes(self.table(table)?).map_err(|e| self.failed(e))
    }

    /// The error for a row of this file that does not read back.
    pub fn damaged(&self, table: Table, key: &[u8]) -> Error {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::Damaged { file: self.name.to_string(), table: table.name(), key }
    }

    /// The error of a row whose seal does not open; the key is that of one id.
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

/// What this thread has looked at, so that tests see how much a read costs whatever the machine.
#[cfg(test)]
pub mod examined {
    use std::cell::Cell;
    use std::thread::LocalKey;

    thread_local! {
        /// Rows asked for by their key.
        pub static ROWS: Cell<u64> = const { Cell::new(0) };
        /// Entries that scans came by.
        pub static KEYS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn note(counter: &'static LocalKey<Cell<u64>>) {
        counter.set(counter.get() + 1);
    }

    /// `(rows, keys)` since the last time.
    pub fn take() -> (u64, u64) {
        (ROWS.take(), KEYS.take())
    }
}
