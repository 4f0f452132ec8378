//! The log of the storage's health: failing batches and checkpoints with back-off, and changes of a full disk.

use crate::engine::log_backoff::LogBackoff;
use crate::engine::queue_item::BatchEnd;
use crate::store::{Result, WriterHealth};

/// The state of the writer's storage as of the last log line.
#[derive(Debug, Default)]
pub struct StorageLog {
    failing_batches: LogBackoff,
    failing_checkpoints: LogBackoff,
    was_full: bool,
    /// Whether the disk was full because a write found no space. Only a write that succeeds ends that.
    has_run_out: bool,
    full_disks: LogBackoff,
}

impl StorageLog {
    /// Logs the failures of a batch, or that there are none any more.
    pub fn batch(&mut self, failures: &[String], end: BatchEnd, health: &WriterHealth) {
        for failure in failures {
            if let Some(failures) = self.failing_batches.record() {
                tracing::error!(failure, failures, "{}", Self::words(health));
            }
        }
        // Batches without writes succeed on a full disk too, and prove nothing.
        if end != BatchEnd::Written || health.is_disk_full {
            return;
        }
        if self.failing_batches.reset() {
            tracing::info!("storage takes batches again");
        }
        if std::mem::take(&mut self.has_run_out) {
            self.has_space();
        }
    }

    /// The message of a batch that failed.
    fn words(health: &WriterHealth) -> &'static str {
        match health.has_tenure_ended {
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

    /// Logs with back-off that the disk becomes full, and that it has space again.
    pub fn space(&mut self, health: &WriterHealth) {
        let is_full = health.is_disk_full;
        if is_full && !self.was_full {
            self.has_run_out |= health.has_run_out_of_space;
            if let Some(times) = self.full_disks.record() {
                tracing::error!(times, "{}", Self::words_of_space(health));
            }
        }
        if !is_full && self.was_full && !self.has_run_out {
            self.has_space();
        }
        self.was_full = is_full;
    }

    fn has_space(&mut self) {
        if self.full_disks.reset() {
            tracing::info!("the disk has space again: publishing goes on");
        }
    }

    /// The message of a disk that is full.
    fn words_of_space(health: &WriterHealth) -> &'static str {
        match health.has_run_out_of_space {
            true => "the disk is full: a write found no space; publishing is refused until one does; deliveries go on",
            false => {
                "the disk is full: publishing is refused until more than min_free_bytes are free; deliveries go on"
            }
        }
    }
}
