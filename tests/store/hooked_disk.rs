//! A disk in memory that counts its open files, runs a hook at a read of the write-ahead log, and fails `state.redb`.

use std::io;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postrider::store::Disk;
use redb::StorageBackend;

use crate::support::disk::FaultyDisk;

const STATE_FILE: &str = "state.redb";

type Hook = Box<dyn FnOnce() + Send>;

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct HookedDisk {
    disk: FaultyDisk,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    hook: Mutex<Option<Hook>>,
    open: AtomicUsize,
    open_max: AtomicUsize,
    /// Syncs of `state.redb` until it fails. A failing sync is done all the same.
    syncs_left: AtomicI64,
}

impl HookedDisk {
    pub fn new() -> Arc<HookedDisk> {
        let disk = HookedDisk { disk: FaultyDisk::new(1), watch: Arc::default() };
        disk.heal_state();
        Arc::new(disk)
    }

    /// Runs `hook` at the next read of the write-ahead log.
    pub fn at_journal_read(&self, hook: impl FnOnce() + Send + 'static) {
        *self.watch.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// Lets `state.redb` fail after so many syncs: a later sync is done and reported as failed, and the file does not
    /// open.
    pub fn fail_state_after(&self, syncs: i64) {
        self.watch.syncs_left.store(syncs, Ordering::Relaxed);
    }

    pub fn heal_state(&self) {
        self.fail_state_after(i64::MAX);
    }

    /// The greatest number of files that were open at once since the last call.
    pub fn take_open_max(&self) -> usize {
        self.watch.open_max.swap(self.watch.open.load(Ordering::Relaxed), Ordering::Relaxed)
    }
}

impl std::fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedDisk")
    }
}

impl Disk for HookedDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        if name == STATE_FILE && self.watch.syncs_left.load(Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("it does not open"));
        }
        let file = self.disk.open(name, create)?;
        let open = self.watch.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.watch.open_max.fetch_max(open, Ordering::Relaxed);
        Ok(Box::new(HookedFile { file, name: name.to_owned(), watch: self.watch.clone() }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn describe(&self) -> String {
        self.disk.describe()
    }
}

struct HookedFile {
    file: Box<dyn StorageBackend>,
    name: String,
    watch: Arc<Watch>,
}

impl Drop for HookedFile {
    fn drop(&mut self) {
        self.watch.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedFile")
    }
}

impl StorageBackend for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.name == "journal" {
            let hook = self.watch.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
            hook.into_iter().for_each(|hook| hook());
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.name == STATE_FILE && self.watch.syncs_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::Error::other("the sync failed"));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}
