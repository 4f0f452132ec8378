//! Where checkpoints are run: on a thread of their own beside the writer's, so that no batch waits for redb's pages; in a
//! simulation with one thread, right here between two batches. One that failed is not followed by the next at once.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::{Checkpoint, Result};

use crate::engine::blocking_pool::BlockingPool;

/// How often it is asked for what became of a checkpoint while nothing else happens.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After one has failed, the next is run this much later.
const AGAIN: Duration = Duration::from_secs(1);

pub struct CheckpointRunner {
    /// None: they are run at once.
    beside: Option<CheckpointThread>,
    ended: Option<Result<()>>,
    running: usize,
    /// When one failed, until the next may be run.
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

    /// Whether one may be run now.
    pub fn may_run(&mut self) -> bool {
        if self.hold().is_some_and(|hold| hold.is_zero()) {
            self.failed_at = None;
        }
        self.failed_at.is_none()
    }

    fn hold(&self) -> Option<Duration> {
        self.failed_at.map(|failed| AGAIN.saturating_sub(failed.elapsed()))
    }

    /// Runs one after those that are being run.
    pub fn run(&mut self, checkpoint: Checkpoint) {
        self.running += 1;
        match self.beside.as_ref().and_then(|beside| beside.due.as_ref()) {
            // The thread ends after this sender only.
            Some(due) => drop(due.send(checkpoint)),
            None => self.ended = Some(checkpoint.run()),
        }
    }

    /// What became of the oldest one that was not asked for yet, if it has ended.
    pub fn ended(&mut self) -> Option<Result<()>> {
        let beside = self.beside.as_ref().and_then(|beside| beside.ended.try_recv().ok());
        let ended = self.ended.take().or(beside)?;
        self.running -= 1;
        if ended.is_err() {
            self.failed_at = Some(Instant::now());
        }
        Some(ended)
    }

    /// When to ask again at the latest; none: there is nothing to be asked.
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
        // It has said all it had to say.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
