//! Shortens the waits of retries that were planned by a clock which has been set back since.
//!
//! Invariant: afterwards no retry of the partition is planned later than its rule can plan one now. A first attempt keeps
//! its time, because a caller chose it.

use std::ops::Bound;

use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Key, Table};
use crate::model::{Delivery, Time};
use crate::rules::retry;
use crate::store::apply::{ApplyResult, PartitionBatch};
use crate::store::command::{PartitionCommand, Receipt, WriteRequest};

/// Maximum due entries that one request examines.
const SLICE: usize = 2_000;

/// The request that shortens the waits of a partition from its first due entry on.
pub(in crate::store) fn shorten(partition: u128) -> WriteRequest {
    WriteRequest::internal(PartitionCommand::ShortenWaits { partition, after: Vec::new() })
}

impl PartitionBatch<'_> {
    /// Examines the next `SLICE` due entries after the key `after`. A request for the rest follows.
    pub(in crate::store) fn shorten_waits(&mut self, after: &[u8]) -> ApplyResult<Receipt> {
        let (now, mut looked_at, mut last) = (self.inputs.now, 0, Key::new());
        let mut late = Vec::new();
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.write_batch.base().scan(Table::Due, range, Direction::Up, |key, _| {
            looked_at += 1;
            last = Key::from_slice(key);
            late.extend(tables::read_due(key).filter(|(_, due, _)| *due > now));
            Ok(if looked_at < SLICE { ScanStep::Go } else { ScanStep::Stop })
        })?;
        for (_, due, delivery) in late {
            if let Some(was) = self.write_batch.get::<Delivery>(Table::Deliveries, delivery.as_bytes())? {
                self.shorten_wait(was, due)?;
            }
        }
        if looked_at == SLICE {
            let rest = PartitionCommand::ShortenWaits { partition: self.first, after: last.to_vec() };
            self.follow.push(WriteRequest::internal(rest));
        }
        Ok(Receipt::Done)
    }

    fn shorten_wait(&mut self, was: Delivery, due: Time) -> ApplyResult<()> {
        let Some(webhook) = self.registry.webhooks.get(&was.webhook_id) else { return Ok(()) };
        let key = tables::due(was.webhook_id, due, was.id);
        let Some(latest) = retry::latest(&webhook.retry_schedule_s, was.schedule_position(), self.inputs.now) else {
            return Ok(());
        };
        if due <= latest || was.next_attempt_at != Some(due) || !self.write_batch.has(Table::Due, &key)? {
            return Ok(());
        }
        let planned_at = was.planned_at.map(|planned| planned.min(latest));
        let delivery = Delivery { next_attempt_at: Some(latest), planned_at, ..was };
        self.write_batch.remove(Table::Due, key);
        self.write_batch.put_key(Table::Due, tables::due(delivery.webhook_id, latest, delivery.id));
        self.write_batch.put(Table::Deliveries, tables::one(delivery.id), &delivery);
        self.effects.due.push((delivery.webhook_id, latest));
        Ok(())
    }
}
