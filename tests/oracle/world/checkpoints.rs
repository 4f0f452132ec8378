//! Checkpoints as a daemon has them: called for, run while batches go on or not at all, or made at once.

use postrider::store;

use super::super::{Check, ensure};
use super::{Pending, Step, World};

impl World {
    /// Makes a checkpoint due: batches go on until it is run, or the writer can wait no longer.
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

    /// Makes redb's own what the journal holds.
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
