//! Who waits at a webhook's feed is woken when a delivery of it has been committed.

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
    /// What is notified at the webhook's next commit. Taken before the feed is read, so that no commit falls between.
    pub fn of(&self, webhook: WebhookId) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(webhook).or_default().clone()
    }

    /// New deliveries of these webhooks are committed.
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

    /// The daemon stops: nobody waits any longer.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().for_each(|notify| notify.notify_waiters());
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
