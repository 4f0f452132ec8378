//! Feeds: wakes readers when a delivery of their webhook, or an attempt, is committed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::feed_topic::FeedTopic;
use crate::model::id::WebhookId;

/// The readers that wait for a commit, by topic.
#[derive(Debug, Default)]
pub struct Feeds {
    waiting: Mutex<HashMap<FeedTopic, Arc<Notify>>>,
    closed: AtomicBool,
}

impl Feeds {
    /// Notified at the topic's next commit. The caller takes it before reading the feed, so that no commit is missed.
    pub fn of(&self, topic: FeedTopic) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(topic).or_default().clone()
    }

    /// Wakes the readers of webhooks with newly committed deliveries, and those of attempts if there are new ones.
    pub fn wake(&self, webhooks: &[WebhookId], has_attempts: bool) {
        if webhooks.is_empty() && !has_attempts {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        let deliveries = webhooks.iter().map(|webhook| FeedTopic::Deliveries(*webhook));
        for topic in deliveries.chain(has_attempts.then_some(FeedTopic::Attempts)) {
            if let Some(notify) = waiting.get(&topic) {
                notify.notify_waiters();
            }
        }
        waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
    }

    /// Wakes all readers, because the daemon is stopping.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().for_each(|notify| notify.notify_waiters());
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
