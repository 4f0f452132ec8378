//! The disk: a directory of named files, handed in. The daemon uses a real one, a simulation one that loses unsynced
//! writes.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use redb::StorageBackend;
use rustix::fs::{Advice, fadvise};

pub use crate::kv::blob_storage::BlobStorage;
use crate::kv::blob_storage::{PlainBlobs, RealBlobs};
pub use crate::kv::disk_traffic::DiskTraffic;

/// A directory of redb files. Names are relative and use `/`.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for redb. With `create`, a missing file is made empty.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageBackend>>;
    /// Opens an existing file of payloads.
    fn open_blobs(&self, name: &str) -> io::Result<Box<dyn BlobStorage>> {
        self.open(name, false).map(|file| Box::new(PlainBlobs(file)) as Box<dyn BlobStorage>)
    }
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Names of the files in a folder, without the folder. Empty if the folder does not exist.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames `from` over `to` and syncs the folder. After `Ok`, `to` is the whole file even after a power cut.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Bytes of disk that a file occupies. A file with holes occupies less than its length: redb doubles a file to grow
    /// it.
    fn occupied_bytes(&self, name: &str) -> io::Result<u64> {
        self.len(name)
    }
    /// Free bytes of the disk.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Bytes written since the start, for metrics.
    fn written_bytes(&self) -> u64 {
        0
    }
    /// Whether a sync has failed. Its writes may be lost even if later syncs succeed, so the process must end and
    /// recover from the durable state.
    fn has_lost_writes(&self) -> bool {
        false
    }
    /// The location, for messages.
    fn describe(&self) -> String;
}

/// Unit of `stat`, whatever the block size of the file system.
const STAT_BLOCK_BYTES: u64 = 512;
/// Bytes that are fetched around a page that is not in memory. Rows of a list lie near each other and are read
/// backwards, and operating systems read ahead forwards only. docs/performance.md has the measurements.
const AROUND_BYTES: u64 = 64 << 10;

/// Name of the lock file of a directory.
pub const LOCK_FILE: &str = "lock";

/// A directory of the file system. One lock on the directory keeps two daemons apart.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    traffic: Arc<DiskTraffic>,
    is_read_only: bool,
    /// `None` for a directory without a lock file, such as a backup.
    lock: Option<fs::File>,
}

impl RealDisk {
    /// Locks the directory for this process. A missing directory is made with mode 0700.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds the lock.
    pub fn lock(root: &Path) -> io::Result<RealDisk> {
        make_private_dir(root)?;
        make_private_dir(&root.join("partitions"))?;
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(root.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => Ok(RealDisk::locked(root, false, Some(lock))),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A directory inside a directory that this process has locked already. A missing one is made with mode 0700.
    pub fn folder(root: &Path) -> io::Result<RealDisk> {
        make_private_dir(root)?;
        Ok(RealDisk::locked(root, false, None))
    }

    /// Opens an existing directory for reading only. It may lie on a read-only medium, and other readers may open it
    /// too.
    ///
    /// # Errors
    /// `WouldBlock` if a daemon holds the lock.
    pub fn read_only(root: &Path) -> io::Result<RealDisk> {
        fs::read_dir(root)?;
        let lock = match fs::File::open(root.join(LOCK_FILE)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match lock.as_ref().map_or(Ok(()), fs::File::try_lock_shared) {
            Ok(()) => Ok(RealDisk::locked(root, true, lock)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A directory, which may be missing, for reading only and without a lock. The caller has it locked, or only asks which
    /// files there are.
    pub fn unlocked(root: &Path) -> RealDisk {
        RealDisk::locked(root, true, None)
    }

    fn locked(root: &Path, is_read_only: bool, lock: Option<fs::File>) -> RealDisk {
        RealDisk { root: root.to_owned(), traffic: Arc::default(), is_read_only, lock }
    }

    /// # Errors
    /// `PermissionDenied` if the directory is open for reading only.
    fn may_change(&self) -> io::Result<()> {
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    /// Whether this process holds the lock. A directory without a lock file is read without one.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The counts of writes and syncs, which go on rising.
    pub fn traffic(&self) -> Arc<DiskTraffic> {
        self.traffic.clone()
    }

    fn open_file(&self, name: &str, create: bool) -> io::Result<RealFile> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(!self.is_read_only).create(create).truncate(false).mode(0o600);
        let file = options.open(self.root.join(name))?;
        // A read then fills single pages of the page cache. A small write into a larger folio counts as the whole folio.
        // The advice may fail: then more bytes are counted.
        let _ = fadvise(&file, 0, None, Advice::Random);
        Ok(RealFile { file, traffic: self.traffic.clone() })
    }
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Disk for RealDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.open_file(name, create)?))
    }

    fn open_blobs(&self, name: &str) -> io::Result<Box<dyn BlobStorage>> {
        let RealFile { file, traffic } = self.open_file(name, false)?;
        Ok(Box::new(RealBlobs::new(file, self.root.join(name), traffic)))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        self.root.join(name).try_exists()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.may_change()?;
        fs::remove_file(self.root.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.may_change()?;
        let (from, to) = (self.root.join(from), self.root.join(to));
        fs::File::open(&from)?.sync_all()?;
        fs::rename(&from, &to)?;
        let folder = to.parent().unwrap_or(&self.root);
        fs::File::open(folder)?.sync_all()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        fs::metadata(self.root.join(name)).map(|m| m.len())
    }

    fn occupied_bytes(&self, name: &str) -> io::Result<u64> {
        let blocks = fs::metadata(self.root.join(name))?;
        Ok(std::os::unix::fs::MetadataExt::blocks(&blocks) * STAT_BLOCK_BYTES)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        rustix::fs::statvfs(&self.root).map(|s| s.f_bavail.saturating_mul(s.f_frsize)).map_err(Into::into)
    }

    fn written_bytes(&self) -> u64 {
        self.traffic.written_bytes.load(Ordering::Relaxed)
    }

    fn has_lost_writes(&self) -> bool {
        self.traffic.sync_failed.load(Ordering::Relaxed)
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    traffic: Arc<DiskTraffic>,
}

impl StorageBackend for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|m| m.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if (out.len() as u64) < AROUND_BYTES {
            let from = offset / AROUND_BYTES * AROUND_BYTES;
            // The advice may fail: then reading takes longer.
            let _ = fadvise(&self.file, from, NonZeroU64::new(AROUND_BYTES), Advice::WillNeed);
        }
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.traffic.sync(&self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.traffic.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        std::os::unix::fs::FileExt::write_all_at(&self.file, data, offset)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A disk whose files cannot be opened for lack of descriptors.
    #[derive(Debug)]
    pub struct NoDescriptors;

    impl Disk for NoDescriptors {
        fn open(&self, _: &str, _: bool) -> io::Result<Box<dyn StorageBackend>> {
            Err(rustix::io::Errno::MFILE.into())
        }

        fn exists(&self, _: &str) -> io::Result<bool> {
            Ok(true)
        }

        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(rustix::io::Errno::MFILE.into())
        }

        fn remove(&self, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Ok(())
        }

        fn len(&self, _: &str) -> io::Result<u64> {
            Ok(0)
        }

        fn free_bytes(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn describe(&self) -> String {
            "no descriptors".to_owned()
        }
    }

    #[test]
    fn a_read_gives_the_bytes_that_are_there_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::lock(folder.path()).unwrap();
        let file = disk.open("file", true).unwrap();
        let bytes: Vec<u8> = (0..2 * AROUND_BYTES + 5_000).map(|n| (n * 31 / 7) as u8).collect();
        file.set_len(bytes.len() as u64).unwrap();
        file.write(0, &bytes).unwrap();
        for (offset, len) in [(0, 4096), (4096, 8192), (AROUND_BYTES - 100, 300), (2 * AROUND_BYTES, 5_000)] {
            let mut out = vec![0; len];
            file.read(offset, &mut out).unwrap();
            assert_eq!(out, bytes[offset as usize..][..len]);
        }
        let beyond = file.read(bytes.len() as u64 - 10, &mut [0; 11]).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
