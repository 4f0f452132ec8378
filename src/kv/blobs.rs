//! The blob file of a partition: payloads that are too large for rows, one behind the other. Each batch of them begins a
//! block.
//!
//! The row of such a payload names its place: offset, length and CRC-32. The write-ahead log and redb hold that row and
//! no payload, so a large payload is written once.
//!
//! Invariant: the bytes of a place are synced before a row names it. The row `blobs_end` is in the commit of such rows,
//! so bytes from that offset on were never acknowledged and are written over. No place that a row named is used again,
//! so writing zeros over an erased one may be repeated.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::kv::blob_range::BlobRange;
use crate::kv::direct_file::block_from;
use crate::kv::disk::{BlobStorage, Disk};
use crate::kv::error::{Error, Result, io};

/// End of the name of a blob file.
const SUFFIX: &str = ".blobs";
/// Bounds of the room: bytes that are preallocated behind the payloads, as many as there are payload bytes.
/// `ROOM_PARTS` bounds the room of a small partition further.
const ROOM_BYTES_MIN: u64 = 1 << 20;
const ROOM_BYTES_MAX: u64 = 64 << 20;
/// The room is at most the partition's limit divided by this.
const ROOM_PARTS: u64 = 16;
/// Zeros that are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Maximum number of erased places that are remembered for readers with an older snapshot.
const ERASED_MAX: usize = 4_096;

/// The path of the blob file of a partition's file.
pub fn blobs_of(segment: &str) -> String {
    format!("{}{SUFFIX}", segment.strip_suffix(".redb").unwrap_or(segment))
}

/// The path of the partition's file of a blob file. `None` for other files.
pub fn segment_of(blobs: &str) -> Option<String> {
    blobs.strip_suffix(SUFFIX).map(|stem| format!("{stem}.redb"))
}

/// One blob file. It is made with the first payload in it.
#[derive(Debug)]
pub struct BlobFile {
    name: String,
    storage: OnceLock<Box<dyn BlobStorage>>,
    /// Offset behind the last payload.
    end: AtomicU64,
    /// Length of the file. Bytes from `end` on are room.
    len: AtomicU64,
    /// Offsets of the last erased places.
    erased: Mutex<VecDeque<u64>>,
    /// Erased places whose rows in `meta` the next commit removes.
    overwritten: Mutex<Vec<BlobRange>>,
}

impl BlobFile {
    /// The blob file of `segment`, which may be missing.
    pub(in crate::kv) fn open(disk: &dyn Disk, segment: &str) -> Result<BlobFile> {
        let name = blobs_of(segment);
        let file = BlobFile {
            storage: OnceLock::new(),
            end: AtomicU64::new(0),
            len: AtomicU64::new(0),
            erased: Mutex::default(),
            overwritten: Mutex::default(),
            name,
        };
        if disk.exists(&file.name).map_err(|error| file.failed(error))? {
            file.open_storage(disk)?;
        }
        Ok(file)
    }

    fn open_storage(&self, disk: &dyn Disk) -> Result<&dyn BlobStorage> {
        let storage = disk.open_blobs(&self.name).map_err(|error| self.failed(error))?;
        self.len.store(storage.length().map_err(|error| self.failed(error))?, Ordering::Relaxed);
        Ok(&**self.storage.get_or_init(|| storage))
    }

    /// The file, made empty if it is missing. The rename makes it durable, before a row names a place in it.
    fn made(&self, disk: &dyn Disk) -> Result<&dyn BlobStorage> {
        if let Some(storage) = self.storage.get() {
            return Ok(&**storage);
        }
        let temporary = format!("{}.new", self.name);
        disk.open(&temporary, true).and_then(|file| file.close()).map_err(|error| self.failed(error))?;
        disk.rename(&temporary, &self.name).map_err(|error| self.failed(error))?;
        self.open_storage(disk)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Offset behind the last payload.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Continues behind the last place that a row has named.
    ///
    /// # Errors
    /// `BlobsDamaged` if the file is missing or ends before that.
    pub(in crate::kv) fn resume(&self, end: u64) -> Result<()> {
        let damaged = |damage| Err(Error::BlobsDamaged { file: self.name.clone(), damage, end });
        let len = self.len.load(Ordering::Relaxed);
        if end > 0 && self.storage.get().is_none() {
            return damaged("the file is missing".to_owned());
        }
        if len < end {
            return damaged(format!("the file is cut short: {len} of at least {end} bytes"));
        }
        self.end.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Writes payloads one behind the other, from the block behind the last one on. `sync` makes them durable.
    /// `partition_bytes_max` bounds the preallocated room.
    ///
    /// # Errors
    /// There is no space, or the disk fails. No place was assigned then.
    pub fn append(&self, disk: &dyn Disk, payloads: &[&[u8]], partition_bytes_max: u64) -> Result<Vec<BlobRange>> {
        let storage = self.made(disk)?;
        let mut places = Vec::with_capacity(payloads.len());
        let start = block_from(self.end());
        let mut end = start;
        for payload in payloads {
            let place = BlobRange { offset: end, bytes: payload.len() as u32, crc: crc32fast::hash(payload) };
            end = place.end();
            places.push(place);
        }
        let len = self.len.load(Ordering::Relaxed);
        if block_from(end) > len {
            let most = ROOM_BYTES_MAX.min(partition_bytes_max / ROOM_PARTS);
            let longer = block_from(end + end.clamp(ROOM_BYTES_MIN.min(most), most));
            storage.preallocate(len, longer).map_err(|error| self.failed(error))?;
            self.len.store(longer, Ordering::Relaxed);
        }
        let mut pieces: Vec<IoSlice<'_>> = payloads.iter().map(|payload| IoSlice::new(payload)).collect();
        storage.write_blocks(start, &mut pieces).map_err(|error| self.failed(error))?;
        self.end.store(end, Ordering::Relaxed);
        Ok(places)
    }

    /// Makes the written bytes durable.
    pub fn sync(&self) -> Result<()> {
        self.storage.get().map_or(Ok(()), |storage| storage.sync_data()).map_err(|error| self.failed(error))
    }

    /// The bytes of a place. `None` if they do not have their checksum.
    ///
    /// # Errors
    /// The disk fails, or the payload was erased.
    pub fn read(&self, place: BlobRange) -> io::Result<Option<Vec<u8>>> {
        let Some(storage) = self.storage.get() else { return Err(io::ErrorKind::NotFound.into()) };
        let mut bytes = vec![0; place.bytes as usize];
        storage.read(place.offset, &mut bytes)?;
        if crc32fast::hash(&bytes) == place.crc {
            return Ok(Some(bytes));
        }
        if self.erased().contains(&place.offset) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the payload was erased while it was read"));
        }
        Ok(None)
    }

    /// Overwrites places with zeros and syncs that. The next commit removes their rows in `meta`.
    pub fn erase(&self, places: Vec<BlobRange>) -> Result<()> {
        let (Some(storage), false) = (self.storage.get(), places.is_empty()) else { return Ok(()) };
        let mut erased = self.erased();
        erased.extend(places.iter().map(|place| place.offset));
        let too_many = erased.len().saturating_sub(ERASED_MAX);
        erased.drain(..too_many);
        drop(erased);
        for place in &places {
            let mut left = place.bytes as usize;
            let mut zeros = Vec::new();
            while left > 0 {
                zeros.push(IoSlice::new(&ZEROS[..left.min(ZEROS.len())]));
                left = left.saturating_sub(ZEROS.len());
            }
            storage.write_pieces(place.offset, &mut zeros).map_err(|error| self.failed(error))?;
        }
        self.sync()?;
        self.overwritten().extend(places);
        Ok(())
    }

    /// Erased places that were overwritten since the last call.
    pub(in crate::kv) fn take_overwritten(&self) -> Vec<BlobRange> {
        std::mem::take(&mut *self.overwritten())
    }

    /// Gives the room behind the last payload back, and the buffer of writes.
    pub fn trim(&self) -> Result<()> {
        let (Some(storage), end) = (self.storage.get(), self.end()) else { return Ok(()) };
        storage.end_blocks();
        if self.len.load(Ordering::Relaxed) > end {
            storage.set_len(end).map_err(|error| self.failed(error))?;
            self.len.store(end, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives back the space between the places `kept` and up to the last payload.
    pub fn release_all_but(&self, mut kept: Vec<BlobRange>) -> Result<()> {
        let Some(storage) = self.storage.get() else { return Ok(()) };
        kept.sort_unstable_by_key(|place| place.offset);
        kept.push(BlobRange { offset: self.end(), bytes: 0, crc: 0 });
        let mut from = 0;
        for place in kept {
            if place.offset > from {
                storage.release(from, place.offset - from).map_err(|error| self.failed(error))?;
            }
            from = place.end().max(from);
        }
        Ok(())
    }

    pub(in crate::kv) fn failed(&self, error: io::Error) -> Error {
        io(&self.name, error)
    }

    fn erased(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overwritten(&self) -> MutexGuard<'_, Vec<BlobRange>> {
        self.overwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::direct_file::BLOCK_BYTES;
    use crate::kv::disk::RealDisk;

    const PARTITION: &str = "partitions/a.redb";

    fn payload(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * 31 / 7 + bytes) as u8).collect()
    }

    #[test]
    fn payloads_are_read_back_from_a_real_disk_after_erasures_and_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(folder.path()).unwrap();
        let file = BlobFile::open(&disk, PARTITION).unwrap();
        let mut stored = Vec::new();
        for sizes in [&[9_000, 70_001][..], &[1], &[600_000, 4_096, 12_345], &[8_193]] {
            let payloads: Vec<Vec<u8>> = sizes.iter().map(|bytes| payload(*bytes)).collect();
            let pieces: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            let places = file.append(&disk, &pieces, 1 << 30).unwrap();
            assert_eq!(places[0].offset % BLOCK_BYTES, 0);
            assert!(file.end() <= disk.len(file.name()).unwrap());
            stored.extend(places.into_iter().zip(payloads));
        }
        file.sync().unwrap();
        let (erased, _) = stored.remove(1);
        file.erase(vec![erased]).unwrap();
        file.trim().unwrap();
        let end = file.end();
        assert_eq!(disk.len(file.name()).unwrap(), end);
        drop(file);

        let file = BlobFile::open(&disk, PARTITION).unwrap();
        file.resume(end).unwrap();
        let late = payload(20_000);
        let places = file.append(&disk, &[&late], 1 << 30).unwrap();
        stored.push((places[0], late));
        for (place, payload) in &stored {
            assert_eq!(file.read(*place).unwrap().as_ref(), Some(payload), "{place:?}");
        }
        assert_eq!(file.read(erased).unwrap(), None);
    }
}
