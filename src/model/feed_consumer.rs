//! A consumer of a webhook's feed, whose position the server remembers.

use serde::{Deserialize, Serialize};

use super::id::DeliveryId;

/// The position of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FeedConsumer {
    /// The consumer has taken the deliveries up to this one.
    pub position: DeliveryId,
    /// Number of times that a caller has set the position. Iterators of an earlier number are out of date.
    pub seeks: u32,
}
