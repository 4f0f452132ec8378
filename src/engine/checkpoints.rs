//! The checkpoint runner: runs checkpoints on a thread of their own, so that no batch waits for redb's pages.
//!
//! In a simulation with one thread a checkpoint runs inline between two batches. After a failure the next one is
//! delayed.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Checkpoint, Result};

use crate::engine::blocking_pool::BlockingPool;

/// Interval at which the result of a running checkpoint is polled while the writer is idle.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Delay of the next checkpoint after a failure.
const AGAIN: Duration = Duration::from_secs(1);

pub struct CheckpointRunner {
    /// `None` if checkpoints run inline.
    beside: Option<CheckpointThread>,
    ended: Option<Result<()>>,
    running: usize,
    /// Time of the last failure, until the next checkpoint may run.
    failed_at: Option<Instant>,
}

struct CheckpointThread {
    due: Option<Sender<Checkpoint>>,
    ended: Receiver<Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointRunner {
    pub fn start(work: BlockingPool) -> std::io::Result<CheckpointRunner> {
        let beside = match work {
            BlockingPool::Threads => Some(CheckpointThread::start()?),
            BlockingPool::Inline => None,
        };
        Ok(CheckpointRunner { beside, ended: None, running: 0, failed_at: None })
    }

    /// Whether a checkpoint may run now.
    pub fn may_run(&mut self) -> bool {
        if self.hold().is_some_and(|hold| hold.is_zero()) {
            self.failed_at = None;
        }
        self.failed_at.is_none()
    }

    fn hold(&self) -> Option<Duration> {
        self.failed_at.map(|failed| AGAIN.saturating_sub(failed.elapsed()))
    }

    /// Runs a checkpoint after those that are running.
    pub fn run(&mut self, checkpoint: Checkpoint) {
        self.running += 1;
        match self.beside.as_ref().and_then(|beside| beside.due.as_ref()) {
            // The thread outlives this sender, so sending cannot fail.
            Some(due) => drop(due.send(checkpoint)),
            None => self.ended = Some(checkpoint.run()),
        }
    }

    /// The result of the oldest checkpoint that has ended and was not collected.
    pub fn ended(&mut self) -> Option<Result<()>> {
        let beside = self.beside.as_ref().and_then(|beside| beside.ended.try_recv().ok());
        let ended = self.ended.take().or(beside)?;
        self.running -= 1;
        if ended.is_err() {
            self.failed_at = Some(Instant::now());
        }
        Some(ended)
    }

    /// The longest time until the next poll. `None` if nothing is running.
    pub fn look(&self) -> Option<Duration> {
        let running = (self.running > 0).then_some(LOOK_EVERY);
        [running, self.hold()].into_iter().flatten().min()
    }
}

impl CheckpointThread {
    fn start() -> std::io::Result<CheckpointThread> {
        let (due, waiting) = mpsc::channel::<Checkpoint>();
        let (tell, ended) = mpsc::channel();
        let run = move || waiting.into_iter().for_each(|checkpoint| drop(tell.send(checkpoint.run())));
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(run)?;
        Ok(CheckpointThread { due: Some(due), ended, thread: Some(thread) })
    }
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.due = None;
        // All results were collected or are not needed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
