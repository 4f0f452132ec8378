//! The traffic of a disk: written bytes and syncs since the start.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Writes and syncs since the start.
#[derive(Debug, Default)]
pub struct DiskTraffic {
    pub written_bytes: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_failed: AtomicBool,
}

impl DiskTraffic {
    /// Syncs a file's content, and notes a failure.
    pub fn sync(&self, file: &fs::File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = file.sync_data();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
        synced
    }
}
