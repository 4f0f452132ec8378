//! A store whose commits are appended to a commit log first.

use std::sync::Arc;

use postrider::store::admin::CommitLog as _;
use postrider::store::{EventInput, PartitionCommand, Rejection, WriteRequest};

use super::bench::{Bench, START, open_with_log};
use crate::support::disk::FaultyDisk;
use crate::support::memory_log::MemoryLog;
use crate::support::rng::Rng;

#[test]
fn a_change_that_the_log_has_and_the_full_disk_lacks_is_not_said_to_be_refused() {
    let (disk, log) = (FaultyDisk::new(1), MemoryLog::new(Rng::new(1)));
    let Bench { opened, caller, .. } = Bench::on(Arc::new(disk.clone()));
    drop(opened);
    let mut opened = open_with_log(Arc::new(disk.clone()), START, &log).unwrap();
    let mut publish = |bytes: usize| {
        let event = EventInput::new("a", format!("\"{}\"", "x".repeat(bytes)));
        let command = PartitionCommand::Publish(vec![event]).into();
        let request = WriteRequest { caller: Some(caller.clone()), idempotency: None, command };
        let result = opened.writer.apply(&[request], START).results.remove(0).map(drop);
        (result, opened.writer.health().has_tenure_ended, log.last().unwrap().number)
    };
    let (kept, has_tenure_ended, before) = publish(10);
    assert_eq!((kept, has_tenure_ended), (Ok(()), false));
    disk.set_full(true);
    let (refused, has_tenure_ended, last) = publish(64 << 10);
    assert_eq!((refused, has_tenure_ended, last), (Err(Rejection::TenureEnded), true, before + 1));
}
