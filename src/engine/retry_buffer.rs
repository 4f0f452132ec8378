//! The retry buffer: writes that failed but must not be lost, retried from memory.
//!
//! An outcome waits here only while the disk is full: its receiver has the request, and sending it again every few
//! seconds would repeat it. If storage fails otherwise, the delivery is sent again, because its outcome may never be
//! written.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{AttemptMade, DeliveryId};
use crate::store::{Applied, Command, PartitionCommand, Rejection, WriteRequest};

/// Interval at which outcomes are retried.
const OUTCOMES_RETRY_WAIT: Duration = Duration::from_secs(1);
/// Maximum bytes of buffered outcomes. A delivery whose outcome does not fit is sent again.
const OUTCOMES_BYTES_MAX: usize = 32 << 20;
/// Approximate bytes of an outcome besides the headers and the body of the response.
const OUTCOME_BYTES: usize = 1 << 10;
/// Maximum other requests that wait.
const FOLLOW_UPS_MAX: usize = 10_000;

/// Write requests that failed and are retried: outcomes, and requests that follow from durable changes.
#[derive(Debug, Default)]
pub struct RetryBuffer {
    outcomes: Vec<WriteRequest>,
    outcomes_bytes: usize,
    since: Option<Instant>,
    /// Requests that follow from durable changes.
    follow_ups: Vec<WriteRequest>,
}

impl RetryBuffer {
    /// Buffers the failed requests of a batch that must not be lost. Returns the deliveries whose outcome is dropped,
    /// to be taken from the due index again.
    pub fn add_failed(
        &mut self,
        write_requests: &[WriteRequest],
        results: &[Result<Applied, Rejection>],
        is_full: bool,
    ) -> Vec<DeliveryId> {
        let mut lost = Vec::new();
        for (write_request, result) in write_requests.iter().zip(results) {
            let (may_be_written, for_space) = match result {
                Err(Rejection::DiskFull) => (true, true),
                Err(Rejection::Failed(_)) => (true, is_full),
                Err(_) => (false, false),
                Ok(_) => continue,
            };
            match &write_request.command {
                Command::Partition(PartitionCommand::Record(report)) => {
                    let bytes = OUTCOME_BYTES + bytes_of(&report.made);
                    if for_space && self.outcomes_bytes + bytes <= OUTCOMES_BYTES_MAX {
                        self.outcomes_bytes += bytes;
                        self.since.get_or_insert_with(Instant::now);
                        self.outcomes.push(write_request.clone());
                    } else {
                        lost.push(report.delivery_id);
                    }
                }
                Command::Partition(PartitionCommand::Expire { delivery, .. }) => lost.push(*delivery),
                _ if may_be_written && write_request.caller.is_none() && self.follow_ups.len() < FOLLOW_UPS_MAX => {
                    self.follow_ups.push(write_request.clone());
                }
                _ => {}
            }
        }
        lost
    }

    /// Buffers requests that follow from durable changes, before any batch has tried them.
    pub fn add_follow_ups(&mut self, follow_ups: Vec<WriteRequest>) {
        let room = FOLLOW_UPS_MAX.saturating_sub(self.follow_ups.len());
        self.follow_ups.extend(follow_ups.into_iter().take(room));
    }

    /// Time until outcomes are retried. `None` if there are none.
    pub fn wait(&self) -> Option<Duration> {
        self.since.map(|since| OUTCOMES_RETRY_WAIT.saturating_sub(since.elapsed()))
    }

    /// Removes the outcomes, to be applied again.
    pub fn take_outcomes(&mut self) -> Vec<WriteRequest> {
        (self.since, self.outcomes_bytes) = (None, 0);
        std::mem::take(&mut self.outcomes)
    }

    /// Removes the other requests, to be applied again.
    pub fn take_follow_ups(&mut self) -> Vec<WriteRequest> {
        std::mem::take(&mut self.follow_ups)
    }
}

/// Bytes of the parts of an attempt whose sender chooses their length.
fn bytes_of(made: &AttemptMade) -> usize {
    let body = made.response_body.as_ref().map_or(0, String::len);
    made.request_headers.bytes() + made.response_headers.bytes() + body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::deliverer::unanswered;
    use crate::engine::scheduler::fixture::{dispatch, webhook};
    use crate::model::{EventId, Time, WebhookId};

    fn outcome(delivery: u128, body_bytes: usize) -> WriteRequest {
        let mut report = unanswered(&dispatch(delivery, Time::ZERO), &webhook(|_| {}), None, Time::ZERO);
        report.made.response_body = Some("x".repeat(body_bytes));
        WriteRequest::internal(PartitionCommand::Record(Box::new(report)))
    }

    fn release() -> WriteRequest {
        let (webhook, delivery, event) = (WebhookId::MIN, DeliveryId::MIN, EventId::MIN);
        WriteRequest::internal(PartitionCommand::PromoteQueueHead { webhook, key_hash: 0, delivery, event })
    }

    fn full(_: &WriteRequest) -> Result<Applied, Rejection> {
        Err(Rejection::DiskFull)
    }

    fn failed(_: &WriteRequest) -> Result<Applied, Rejection> {
        Err(Rejection::Failed("journal".into()))
    }

    fn add(
        retry_buffer: &mut RetryBuffer,
        write_requests: &[WriteRequest],
        result: impl Fn(&WriteRequest) -> Result<Applied, Rejection>,
        is_full: bool,
    ) -> Vec<DeliveryId> {
        let results: Vec<_> = write_requests.iter().map(result).collect();
        retry_buffer.add_failed(write_requests, &results, is_full)
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_wait_for_space_and_are_sent_again_for_anything_else() {
        let mut retry_buffer = RetryBuffer::default();
        let write_requests = [outcome(1, 0), outcome(2, 0)];
        let [first, second] = [1, 2].map(DeliveryId::from_u128);
        assert_eq!(add(&mut retry_buffer, &write_requests, failed, false), [first, second]);
        assert_eq!(retry_buffer.wait(), None);
        assert_eq!(add(&mut retry_buffer, &write_requests[..1], full, true), []);
        assert_eq!(retry_buffer.wait(), Some(OUTCOMES_RETRY_WAIT));
        tokio::time::advance(OUTCOMES_RETRY_WAIT / 4).await;
        // A failure while the disk is full counts as lack of space, and does not postpone the first outcome's retry.
        assert_eq!(add(&mut retry_buffer, &write_requests[1..], failed, true), []);
        assert_eq!(retry_buffer.wait(), Some(OUTCOMES_RETRY_WAIT * 3 / 4));
        assert_eq!(retry_buffer.take_outcomes().len(), 2);
        assert_eq!(retry_buffer.wait(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn buffered_outcomes_are_bounded_and_the_rest_is_sent_again() {
        let mut retry_buffer = RetryBuffer::default();
        let Command::Partition(PartitionCommand::Record(report)) = outcome(1, 0).command else { panic!("no outcome") };
        let body_bytes = OUTCOMES_BYTES_MAX / 4 - OUTCOME_BYTES - bytes_of(&report.made);
        let write_requests: Vec<WriteRequest> = (1..=5).map(|delivery| outcome(delivery, body_bytes)).collect();
        assert_eq!(add(&mut retry_buffer, &write_requests, full, true), [DeliveryId::from_u128(5)]);
        assert_eq!(retry_buffer.take_outcomes().len(), 4);
        // After the outcomes are taken out, there is room again.
        assert_eq!(add(&mut retry_buffer, &write_requests[4..], full, true), []);

        let mut with_headers = outcome(6, 0);
        if let Command::Partition(PartitionCommand::Record(report)) = &mut with_headers.command {
            report.made.request_headers.push("a", &"x".repeat(OUTCOMES_BYTES_MAX));
        }
        assert_eq!(add(&mut retry_buffer, &[with_headers], full, true), [DeliveryId::from_u128(6)]);

        let following = vec![release(); FOLLOW_UPS_MAX + 1];
        assert_eq!(add(&mut retry_buffer, &following, failed, false), []);
        assert_eq!(retry_buffer.take_follow_ups().len(), FOLLOW_UPS_MAX);
        assert_eq!(retry_buffer.take_follow_ups().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_callers_and_final_refusals_are_not_buffered() {
        let mut retry_buffer = RetryBuffer::default();
        let gone = |_: &WriteRequest| Err(Rejection::NotFound("webhook"));
        assert_eq!(add(&mut retry_buffer, &[release()], gone, true), []);
        assert_eq!(retry_buffer.take_follow_ups().len(), 0);
        // An expiry is found in the index again.
        let delivery = DeliveryId::from_u128(7);
        let expire = WriteRequest::internal(PartitionCommand::Expire { event: EventId::MIN, delivery });
        assert_eq!(add(&mut retry_buffer, &[expire], full, true), [delivery]);
    }
}
