//! Checkpoints as a daemon runs them: requested, run between batches or not at all, or run at once.

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

    fn after_checkpoint(&mut self, checked: store::Result<()>) -> Check<Step> {
        if self.has_ended() {
            self.cut(Pending::Nothing)?;
            return Ok(Step::Cut);
        }
        ensure!(checked.is_ok() || self.is_faulty(), "a checkpoint failed: {checked:?}");
        Ok(Step::Done)
    }
}
