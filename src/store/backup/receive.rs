//! Receives a backup stream and rebuilds the files from their rows.

use std::io::Read;
use std::sync::Arc;

use crate::kv::disk::Disk;
use crate::kv::error::{Error, Result, io};
use crate::kv::memtable::Changes;
use crate::kv::segment::{ACTIVE_CACHE_BYTES, OpenMode, Segment};
use crate::kv::tables::{ALL_TABLES, PARTITION_TABLES, STATE_TABLES, Table};
use crate::kv::write_batch::WriteBatch;
use crate::store::backup::{BackupProgress, FAILED, FILE, OnBackupProgress, ROW, SENDER, STREAM, WHOLE, stream_error};
use crate::store::partitions::set::{PARTITIONS, STATE_FILE, first_of};

/// Bytes of rows that one write batch collects.
const WRITTEN_BYTES: usize = 8 << 20;
/// Maximum length of a value in the stream, in bytes.
const VALUE_BYTES_MAX: usize = 256 << 20;

/// A complete backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedBackup {
    pub progress: BackupProgress,
    /// Number of the last commit that may be in it. Replaying the log up to this commit makes the copy consistent.
    pub begun: u64,
}

/// Builds the files of a stream on `disk`, which must be empty. After `Ok` all of them are durable and closed.
///
/// # Errors
/// The sender reported an error, the stream ended early, or the disk fails.
pub fn receive(from: &mut dyn Read, disk: &dyn Disk, progress: OnBackupProgress<'_>) -> Result<ReceivedBackup> {
    let mut copy: Option<FileCopy> = None;
    let mut at = BackupProgress { file_number: 0, files: 0, bytes: 0 };
    loop {
        let [frame] = read_bytes(from)?;
        match (frame, &mut copy) {
            (FILE, _) => {
                (at.file_number, at.files) = (number(from)?, number(from)?);
                let name = text(from)?;
                if let Some(done) = copy.take() {
                    done.replaced_or_closed(disk, &name)?;
                }
                copy = Some(FileCopy::begin(disk, name)?);
                progress(at);
            }
            (ROW, Some(copy)) => {
                let bytes = copy.row(from)?;
                if (at.bytes + bytes) / WRITTEN_BYTES as u64 != at.bytes / WRITTEN_BYTES as u64 {
                    progress(at);
                }
                at.bytes += bytes;
            }
            (WHOLE, Some(_)) if at.file_number == at.files => {
                copy.take().map_or(Ok(()), FileCopy::close)?;
                return Ok(ReceivedBackup { progress: at, begun: read_bytes(from).map(u64::from_le_bytes)? });
            }
            (FAILED, _) => return Err(io(SENDER, std::io::Error::other(text(from)?))),
            _ => return Err(invalid_stream()),
        }
    }
}

/// A file under construction.
struct FileCopy {
    name: String,
    file: Arc<Segment>,
    table: Table,
    rows: Changes,
    bytes: usize,
}

impl FileCopy {
    fn begin(disk: &dyn Disk, name: String) -> Result<FileCopy> {
        let partition = name.strip_prefix(PARTITIONS).and_then(|name| name.strip_prefix('/'));
        let tables = match partition {
            _ if name == STATE_FILE => STATE_TABLES.as_slice(),
            Some(partition) if first_of(partition).is_some() => &PARTITION_TABLES,
            _ => return Err(invalid_stream()),
        };
        Segment::create(disk, &name, tables, &[])?;
        let file = Arc::new(Segment::open(disk, &name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
        Ok(FileCopy { name, file, table: Table::Meta, rows: Changes::new(), bytes: 0 })
    }

    fn row(&mut self, from: &mut dyn Read) -> Result<u64> {
        let [table] = read_bytes(from)?;
        let table = *ALL_TABLES.get(usize::from(table)).ok_or_else(invalid_stream)?;
        let (key_bytes, value_bytes) = (usize::from(u16::from_le_bytes(read_bytes(from)?)), number(from)?);
        if value_bytes > VALUE_BYTES_MAX {
            return Err(invalid_stream());
        }
        let (mut key, mut value) = (vec![0; key_bytes], vec![0; value_bytes]);
        from.read_exact(&mut key).and_then(|()| from.read_exact(&mut value)).map_err(stream_error)?;
        if table != self.table || self.bytes >= WRITTEN_BYTES {
            self.write()?;
            self.table = table;
        }
        let bytes = key_bytes + value_bytes;
        self.bytes += bytes;
        self.rows.insert(key.into(), Some(value));
        Ok(bytes as u64)
    }

    fn write(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut write_batch = WriteBatch::on(self.file.snapshot()?);
        write_batch.extend(self.table, std::mem::take(&mut self.rows));
        self.file.commit(write_batch)
    }

    fn close(mut self) -> Result<()> {
        self.write()?;
        Arc::into_inner(self.file).map_or(Ok(()), Segment::close)
    }

    /// Closes this file, or removes it if the stream restarts it.
    fn replaced_or_closed(self, disk: &dyn Disk, next: &str) -> Result<()> {
        if self.name != next {
            return self.close();
        }
        let name = self.name.clone();
        self.close()?;
        disk.remove(&name).map_err(|error| io(&name, error))
    }
}

fn read_bytes<const N: usize>(from: &mut dyn Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(stream_error)?;
    Ok(bytes)
}

fn number(from: &mut dyn Read) -> Result<usize> {
    read_bytes(from).map(|bytes| u32::from_le_bytes(bytes) as usize)
}

fn text(from: &mut dyn Read) -> Result<String> {
    let mut bytes = vec![0; usize::from(u16::from_le_bytes(read_bytes(from)?))];
    from.read_exact(&mut bytes).map_err(stream_error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn invalid_stream() -> Error {
    io(STREAM, std::io::Error::new(std::io::ErrorKind::InvalidData, "the stream is no backup of this version"))
}
