//! Checkpoints and runs of fingerprints as a daemon writes them: requested, written between batches or not at all, or at
//! once.

use postrider::store;

use super::super::{Check, ensure};
use super::{Pending, Step, World};

impl World {
    /// Makes a checkpoint due. Batches go on until it runs, or until the writer must wait.
    pub(super) fn call_checkpoint(&mut self) -> Check<Step> {
        let Some(opened) = &mut self.opened else { return Ok(Step::Done) };
        let called = opened.writer.request_checkpoint();
        self.after_checkpoint(called)
    }

    /// Runs the checkpoint that is due, if one is.
    pub(super) fn run_checkpoint(&mut self) -> Check<Step> {
        let Some(opened) = &mut self.opened else { return Ok(Step::Done) };
        let checked = opened.writer.take_checkpoint().map_or(Ok(()), |checkpoint| checkpoint.run());
        if let Err(error) = &checked {
            opened.writer.checkpoint_failed(error);
        }
        self.after_checkpoint(checked)
    }

    /// Writes the records of the write-ahead log into redb.
    pub fn checkpoint(&mut self) -> Check<Step> {
        let Some(opened) = &mut self.opened else { return Ok(Step::Done) };
        let checked = opened.writer.checkpoint();
        self.after_checkpoint(checked)
    }

    /// Writes the file of a run of fingerprints, as a daemon does after each batch.
    pub(super) fn store_fingerprints(&mut self) -> Check<Step> {
        let Some(opened) = &mut self.opened else { return Ok(Step::Done) };
        opened.writer.store_fingerprints();
        self.after_checkpoint(Ok(()))
    }

    fn after_checkpoint(&mut self, checked: store::Result<()>) -> Check<Step> {
        if self.has_ended() {
            self.cut(Pending::Nothing)?;
            return Ok(Step::Cut);
        }
        ensure!(checked.is_ok() || self.is_faulty(), "a checkpoint failed: {checked:?}");
        Ok(Step::Done)
    }
}
