//! Feeds: wakes readers of a webhook's feed when a delivery of that webhook is committed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::id::WebhookId;

#[derive(Debug, Default)]
pub struct Feeds {
    waiting: Mutex<HashMap<WebhookId, Arc<Notify>>>,
    closed: AtomicBool,
}

impl Feeds {
    /// Notified at the webhook's next commit. The caller takes it before reading the feed, so that no commit is missed.
    pub fn of(&self, webhook: WebhookId) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(webhook).or_default().clone()
    }

    /// Wakes the readers of webhooks with newly committed deliveries.
    pub fn ring(&self, webhooks: &[WebhookId]) {
        if webhooks.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            return;
        }
        for webhook in webhooks {
            if let Some(notify) = waiting.get(webhook) {
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
