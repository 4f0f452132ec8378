//! The log of the storage's health: failing batches and checkpoints with back-off, and changes of a full disk.

use crate::engine::log_backoff::LogBackoff;
use crate::store::{Result, WriterHealth};

/// The state of the writer's storage as of the last log line.
#[derive(Debug, Default)]
pub struct StorageLog {
    failing_batches: LogBackoff,
    failing_checkpoints: LogBackoff,
    /// Whether the last line about space said that the disk is full.
    was_full: bool,
}

impl StorageLog {
    /// Logs the failures of a batch, or that there are none any more.
    pub fn batch(&mut self, failures: &[String], health: &WriterHealth) {
        for failure in failures {
            if let Some(failures) = self.failing_batches.record() {
                tracing::error!(failure, failures, "{}", Self::words(health));
            }
        }
        // While the disk is full, batches without writes succeed and prove nothing.
        if failures.is_empty() && !health.is_disk_full && self.failing_batches.reset() {
            tracing::info!("storage takes batches again");
        }
    }

    /// The message of a batch that failed.
    fn words(health: &WriterHealth) -> &'static str {
        match health.has_lost_order {
            true => {
                "a batch failed that the log of the cluster may have: other nodes may keep it, and this one steps down"
            }
            false => "storage failed; nothing of the batch is kept, the file is opened again",
        }
    }

    /// Logs a failed checkpoint, or that checkpoints succeed again.
    pub fn checkpoint(&mut self, ended: &Result<()>) {
        match ended {
            Ok(()) if self.failing_checkpoints.reset() => tracing::info!("checkpoints can be made again"),
            Ok(()) => {}
            Err(error) => {
                if let Some(failures) = self.failing_checkpoints.record() {
                    tracing::error!(%error, failures, "a checkpoint failed; the WAL has its records; trying again");
                }
            }
        }
    }

    /// Logs when the disk becomes full, and when it has space again.
    pub fn space(&mut self, is_full: bool) {
        match (self.was_full, is_full) {
            (false, true) => tracing::error!(
                "the disk is full: publishing is refused until more than min_free_bytes are free; deliveries go on"
            ),
            (true, false) => tracing::info!("the disk has space again: publishing goes on"),
            _ => {}
        }
        self.was_full = is_full;
    }
}
