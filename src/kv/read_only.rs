//! A read-only disk: writes that redb makes while it opens and checks a file stay in memory.
//!
//! Invariant: no write reaches the disk beneath. Memory holds the pages that redb rewrites when it opens a file: its
//! header and the record of its free pages, about a ten-thousandth of the file.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::kv::disk::Disk;

/// Size of an overlaid piece.
const PIECE_BYTES: u64 = 4096;

#[derive(Debug)]
pub(crate) struct ReadOnlyDisk(pub Arc<dyn Disk>);

impl Disk for ReadOnlyDisk {
    fn open(&self, name: &str, _create: bool) -> io::Result<Box<dyn StorageBackend>> {
        let beneath = self.0.open(name, false)?;
        let len = beneath.len()?;
        Ok(Box::new(Overlay {
            beneath,
            written: Mutex::new(OverlayPages { len, beneath_len: len, pieces: BTreeMap::new() }),
        }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.0.exists(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.0.list(folder)
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.0.len(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// A file with an overlay of writes.
#[derive(Debug)]
struct Overlay {
    beneath: Box<dyn StorageBackend>,
    written: Mutex<OverlayPages>,
}

#[derive(Debug)]
struct OverlayPages {
    len: u64,
    /// Bytes of the file beneath that are still visible: the file may have been cut and have grown again.
    beneath_len: u64,
    pieces: BTreeMap<u64, Box<[u8; PIECE_BYTES as usize]>>,
}

impl Overlay {
    fn lock(&self) -> MutexGuard<'_, OverlayPages> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file beneath. Bytes beyond its end are zero.
    fn read_beneath(&self, beneath_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = beneath_len.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there == 0 { Ok(()) } else { self.beneath.read(offset, &mut out[..there]) }
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        let end = offset + out.len() as u64;
        if end > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_beneath(written.beneath_len, offset, out)?;
        let first = offset / PIECE_BYTES;
        for (number, piece) in written.pieces.range(first..end.div_ceil(PIECE_BYTES)) {
            let start = number * PIECE_BYTES;
            let (from, to) = (offset.max(start), end.min(start + PIECE_BYTES));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        written.len = len;
        written.beneath_len = written.beneath_len.min(len);
        written.pieces.retain(|number, _| number * PIECE_BYTES < len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let end = offset + data.len() as u64;
        for number in offset / PIECE_BYTES..end.div_ceil(PIECE_BYTES) {
            let start = number * PIECE_BYTES;
            if !written.pieces.contains_key(&number) {
                let mut piece = Box::new([0; PIECE_BYTES as usize]);
                self.read_beneath(written.beneath_len, start, &mut piece[..])?;
                written.pieces.insert(number, piece);
            }
            let (from, to) = (offset.max(start), end.min(start + PIECE_BYTES));
            if let Some(piece) = written.pieces.get_mut(&number) {
                piece[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.beneath.close()
    }
}
