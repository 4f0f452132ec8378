//! Open files of payloads: on a real disk, and on a disk without calls of its own for pieces and room.

use std::fmt::Debug;
use std::fs;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};

use crate::kv::direct_file::{DirectFile, block_from};
use crate::kv::disk_traffic::DiskTraffic;

/// Pieces that one system call writes: the least limit of the supported systems.
const PIECES_MAX: usize = 1_024;

/// An open file of payloads, written in pieces behind each other.
pub trait BlobStorage: Debug + Send + Sync {
    fn length(&self) -> io::Result<u64>;
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes pieces one behind the other, from `offset` on.
    fn write_pieces(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Writes pieces one behind the other, from the block at `offset` on. Nothing is behind them yet: the rest of their last
    /// block may become zeros.
    fn write_blocks(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// No more blocks are written soon: their buffer and descriptor are given back.
    fn end_blocks(&self) {}
    /// Lengthens the file from `len` to `longer` bytes and reserves their space, so that later writes find it.
    fn preallocate(&self, len: u64, longer: u64) -> io::Result<()>;
    /// Gives the space of bytes back, which read as zeros then, if the file system can do that.
    fn release(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
}

/// A file of a disk without calls of its own for pieces and room.
#[derive(Debug)]
pub struct PlainBlobs(pub Box<dyn StorageBackend>);

impl BlobStorage for PlainBlobs {
    fn length(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn write_pieces(&self, mut offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        for piece in pieces {
            self.0.write(offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn write_blocks(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        let end = offset + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.write_pieces(offset, pieces)?;
        let zeros = vec![0; (block_from(end) - end) as usize];
        self.0.write(end, &zeros)
    }

    fn preallocate(&self, _len: u64, longer: u64) -> io::Result<()> {
        self.0.set_len(longer)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A file of payloads. New ones are written past the page cache, where the file system has direct writes.
#[derive(Debug)]
pub struct RealBlobs {
    /// For reading, for writing over erased payloads, and where there are no direct writes.
    file: fs::File,
    path: PathBuf,
    traffic: Arc<DiskTraffic>,
    direct: Mutex<DirectWrites>,
}

#[derive(Debug, Default)]
enum DirectWrites {
    /// Opened with the next blocks.
    #[default]
    Closed,
    Open(DirectFile),
    /// The file system or its device has none.
    Missing,
}

impl RealBlobs {
    /// The file at `path`, which is open as `file`.
    pub fn new(file: fs::File, path: PathBuf, traffic: Arc<DiskTraffic>) -> RealBlobs {
        RealBlobs { file, path, traffic, direct: Mutex::default() }
    }

    fn direct(&self) -> MutexGuard<'_, DirectWrites> {
        self.direct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes blocks past the page cache. Returns the bytes that were written, or `None` if that is not possible here.
    ///
    /// # Errors
    /// There is no space, or the disk fails.
    fn write_direct(&self, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<Option<u64>> {
        let mut direct = self.direct();
        if matches!(*direct, DirectWrites::Closed) {
            match DirectFile::open(&self.path) {
                Ok(file) => *direct = DirectWrites::Open(file),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => *direct = DirectWrites::Missing,
                // No descriptor may be left. The next batch tries again.
                Err(_) => {}
            }
        }
        let DirectWrites::Open(file) = &mut *direct else { return Ok(None) };
        match file.write_pieces(offset, pieces) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                *direct = DirectWrites::Missing;
                Ok(None)
            }
            written => written.map(Some),
        }
    }
}

impl BlobStorage for RealBlobs {
    fn length(&self) -> io::Result<u64> {
        self.file.metadata().map(|m| m.len())
    }

    /// Reads exactly the bytes asked for: a payload lies alone, and its neighbours are seldom wanted.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    fn write_pieces(&self, mut offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !pieces.is_empty() {
            let written = match rustix::io::pwritev(&self.file, &pieces[..pieces.len().min(PIECES_MAX)], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(rustix::io::Errno::INTR) => continue,
                written => written?,
            };
            self.traffic.written_bytes.fetch_add(written as u64, Ordering::Relaxed);
            offset += written as u64;
            IoSlice::advance_slices(&mut pieces, written);
        }
        Ok(())
    }

    fn write_blocks(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        match self.write_direct(offset, pieces)? {
            Some(written) => self.traffic.written_bytes.fetch_add(written, Ordering::Relaxed),
            None => return self.write_pieces(offset, pieces),
        };
        Ok(())
    }

    fn end_blocks(&self) {
        let mut direct = self.direct();
        if matches!(*direct, DirectWrites::Open(_)) {
            *direct = DirectWrites::Closed;
        }
    }

    fn preallocate(&self, len: u64, longer: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), len, longer - len) {
            // Some file systems cannot reserve space. Then a write finds out whether there is space.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.file.set_len(longer),
            taken => Ok(taken?),
        }
    }

    #[cfg(target_os = "linux")]
    fn release(&self, offset: u64, bytes: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            released => Ok(released?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.traffic.sync(&self.file)
    }
}
