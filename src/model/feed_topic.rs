//! The kinds of commits that a reader may wait for.

use super::id::WebhookId;

/// The rows whose commits wake a waiting reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FeedTopic {
    /// New deliveries to a webhook.
    Deliveries(WebhookId),
    /// Attempts, to any webhook.
    Attempts,
}
