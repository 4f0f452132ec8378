//! The checkpoint runner: runs checkpoints on a thread of their own, so that no batch waits for redb's pages.
//!
//! Without a thread, as in a simulation, a checkpoint runs between two batches.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use crate::kv::error::Result;
use crate::store::commit::Checkpoint;
use crate::store::writer::Writer;

#[derive(Debug, Default)]
pub(in crate::store) struct CheckpointRunner {
    /// `None` if checkpoints run inline.
    thread: Option<CheckpointThread>,
    /// The result of an inline checkpoint.
    ended: Option<Result<()>>,
    running: usize,
}

#[derive(Debug)]
struct CheckpointThread {
    due: Option<Sender<Checkpoint>>,
    ended: Receiver<Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointRunner {
    /// Runs a checkpoint after those that are running.
    pub(in crate::store) fn run(&mut self, checkpoint: Checkpoint) {
        self.running += 1;
        match self.thread.as_ref().and_then(|thread| thread.due.as_ref()) {
            // The thread outlives this sender, so sending cannot fail.
            Some(due) => drop(due.send(checkpoint)),
            None => self.ended = Some(checkpoint.run()),
        }
    }

    /// The result of the oldest checkpoint that has ended and was not collected.
    pub(in crate::store) fn ended(&mut self) -> Option<Result<()>> {
        let on_thread = self.thread.as_ref().and_then(|thread| thread.ended.try_recv().ok());
        let ended = self.ended.take().or(on_thread)?;
        self.running -= 1;
        Some(ended)
    }

    /// Whether the result of a checkpoint was not collected yet.
    pub(in crate::store) fn is_running(&self) -> bool {
        self.running > 0
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

impl Writer {
    /// Starts the thread that runs checkpoints from now on. Until then `tick` runs them itself.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start_checkpoint_thread(&mut self) -> std::io::Result<()> {
        self.checkpoint_runner.thread = Some(CheckpointThread::start()?);
        Ok(())
    }
}
