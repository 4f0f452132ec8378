//! What storage did not take although it must be there in the end: kept in memory, and handed in again.
//!
//! An outcome waits only where the disk is full: its receiver has had the request, and is not to have it again every few
//! seconds until somebody makes room. Where storage fails otherwise its delivery is sent again, because nobody knows whether
//! that outcome can ever be written.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::DeliveryId;
use crate::store::{Applied, Command, Order, Refusal};

/// Outcomes are handed in again after this time.
const OUTCOMES_AGAIN: Duration = Duration::from_secs(1);
/// What outcomes keep of answers meanwhile, in bytes; a delivery whose outcome does not fit is sent again.
const OUTCOMES_BYTES_MAX: usize = 32 << 20;
/// What an outcome takes beside the body of the answer, about.
const OUTCOME_BYTES: usize = 2 << 10;
/// Other orders that wait.
const FOLLOWING_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub struct Unwritten {
    outcomes: Vec<Order>,
    outcomes_bytes: usize,
    since: Option<Instant>,
    /// What follows from something that is durable.
    following: Vec<Order>,
}

impl Unwritten {
    /// Takes what must be there of a batch and is not. The deliveries whose end is given up, to be taken from the index anew.
    pub fn keep(&mut self, orders: &[Order], results: &[Result<Applied, Refusal>], is_full: bool) -> Vec<DeliveryId> {
        let mut lost = Vec::new();
        for (order, result) in orders.iter().zip(results) {
            let (may_be_written, for_space) = match result {
                Err(Refusal::DiskFull) => (true, true),
                Err(Refusal::Failed(_)) => (true, is_full),
                Err(_) => (false, false),
                Ok(_) => continue,
            };
            match &order.command {
                Command::Record(finished) => {
                    let bytes = OUTCOME_BYTES + finished.response_body.as_ref().map_or(0, String::len);
                    if for_space && self.outcomes_bytes + bytes <= OUTCOMES_BYTES_MAX {
                        self.outcomes_bytes += bytes;
                        self.since.get_or_insert_with(Instant::now);
                        self.outcomes.push(order.clone());
                    } else {
                        lost.push(finished.delivery_id);
                    }
                }
                Command::Expire { delivery, .. } => lost.push(*delivery),
                _ if may_be_written && order.by.is_none() && self.following.len() < FOLLOWING_MAX => {
                    self.following.push(order.clone());
                }
                _ => {}
            }
        }
        lost
    }

    /// How long outcomes wait yet; none: there are none.
    pub fn wait(&self) -> Option<Duration> {
        self.since.map(|since| OUTCOMES_AGAIN.saturating_sub(since.elapsed()))
    }

    /// The outcomes, to be handed in again.
    pub fn take_outcomes(&mut self) -> Vec<Order> {
        (self.since, self.outcomes_bytes) = (None, 0);
        std::mem::take(&mut self.outcomes)
    }

    /// The other orders, to be handed in again.
    pub fn take_following(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.following)
    }
}
