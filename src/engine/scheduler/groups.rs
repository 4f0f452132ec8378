//! Groups of webhooks that share request slots: one for each app, and one for each origin (`rules::shares`).
//!
//! Invariant: `RequestGroup::in_flight` counts the requests of the group that were dispatched and have not ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crate::model::Time;
use crate::model::id::AppId;
use crate::model::time::SECOND_MS;
use crate::model::webhook::Webhook;
use crate::rules::shares;

/// The requests of one group. Only the scheduler's task changes it.
#[derive(Debug, Default)]
pub struct RequestGroup {
    in_flight: AtomicUsize,
    /// Counted bytes of these requests (`body_budget`).
    body_bytes: AtomicUsize,
    /// The second in which `answers` are counted, since 1970.
    second: AtomicI64,
    answers: AtomicUsize,
    /// Answers of the second before.
    answers_before: AtomicUsize,
}

/// The groups of one webhook: of its app, and of its origin.
pub type RequestGroups = [Arc<RequestGroup>; 2];

/// The key of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum GroupKey {
    App(AppId),
    Origin(String),
}

/// All groups that a lane or a request in flight belongs to.
#[derive(Debug, Default)]
pub struct GroupTable(HashMap<GroupKey, Weak<RequestGroup>>);

impl RequestGroup {
    /// Counted bytes of the requests in flight.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// Counts the bytes of a request that is dispatched.
    pub fn add_body(&self, bytes: usize) {
        self.body_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Frees the bytes of a request that ended.
    pub fn remove_body(&self, bytes: usize) {
        self.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn dispatched(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended, with a response if `is_answered`.
    pub fn ended(&self, is_answered: bool, now: Time) {
        let before = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(before.saturating_sub(1), Ordering::Relaxed);
        if is_answered {
            self.begin_second(now);
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the group may have one more request in flight.
    pub fn has_share(&self, taken: usize, slots: usize, now: Time) -> bool {
        self.begin_second(now);
        let answers = self.answers.load(Ordering::Relaxed).max(self.answers_before.load(Ordering::Relaxed));
        self.in_flight.load(Ordering::Relaxed) < shares::group_limit(answers, taken, slots)
    }

    /// Begins to count the second of `now`.
    fn begin_second(&self, now: Time) {
        let second = now.0.div_euclid(SECOND_MS);
        let was = self.second.swap(second, Ordering::Relaxed);
        if was != second {
            let counted = self.answers.swap(0, Ordering::Relaxed);
            self.answers_before.store(if second == was + 1 { counted } else { 0 }, Ordering::Relaxed);
        }
    }
}

impl GroupTable {
    /// The groups of a webhook.
    pub fn of(&mut self, webhook: &Webhook) -> RequestGroups {
        [self.group(GroupKey::App(webhook.app_id)), self.group(GroupKey::Origin(origin(&webhook.url)))]
    }

    fn group(&mut self, key: GroupKey) -> Arc<RequestGroup> {
        let entry = self.0.entry(key).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let group = Arc::new(RequestGroup::default());
            *entry = Arc::downgrade(&group);
            group
        })
    }

    /// Drops the groups that no lane and no request belongs to.
    pub fn forget_unused(&mut self) {
        self.0.retain(|_, group| group.strong_count() > 0);
    }
}

/// Scheme, host and port of a URL (RFC 6454 section 4), or the URL itself if it has none.
fn origin(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| url.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scheduler::fixture;

    #[test]
    fn spellings_of_one_origin_share_a_group() {
        let mut table = GroupTable::default();
        let mut of = |url: &str| {
            let webhook = fixture::webhook(|webhook| url.clone_into(&mut webhook.url));
            table.of(&webhook)[1].clone()
        };
        let group = of("https://Hooks.example/a?b=c");
        assert!(Arc::ptr_eq(&group, &of("https://user@hooks.example:443/other")));
        assert!(!Arc::ptr_eq(&group, &of("https://hooks.example:8443/a")));
        assert!(!Arc::ptr_eq(&group, &of("http://hooks.example/a")));
    }

    #[test]
    fn answers_count_for_their_second_and_the_next() {
        let group = RequestGroup::default();
        (0..300).for_each(|_| group.dispatched());
        assert!(!group.has_share(600, 1_000, Time(0)));
        (0..200).for_each(|_| {
            group.dispatched();
            group.ended(true, Time(500));
        });
        assert!(group.has_share(600, 1_000, Time(999)));
        assert!(group.has_share(600, 1_000, Time(1_999)));
        assert!(!group.has_share(600, 1_000, Time(2_000)));
    }
}
