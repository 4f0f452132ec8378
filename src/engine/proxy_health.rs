//! The health of the proxy: whether it was reached lately, and when deliveries that it could not take are tried again.
//!
//! Invariants: no receiver can make a proxy that answers other requests count as unreachable. Only an unreachable proxy
//! holds back deliveries to other receivers, because a proxy may ask for credentials for some receivers only.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::log_backoff::LogBackoff;
use crate::engine::sender::ProxyContact;
use crate::model::Time;
use crate::model::time::{MINUTE_MS, SECOND_MS};

/// First wait after the proxy could not be reached. The wait doubles with every further failure.
const WAIT_MS_MIN: i64 = SECOND_MS;
const WAIT_MS_MAX: i64 = 30 * SECOND_MS;
/// Wait after credentials were refused. A wrong password stays wrong, and a proxy may lock a user out.
const CREDENTIALS_WAIT_MS: i64 = 30 * SECOND_MS;
/// Time that refused credentials count as the current state.
const CREDENTIALS_LIFE_MS: i64 = 2 * MINUTE_MS;
/// Interval of log lines about credentials.
const CREDENTIALS_LOG_MS: i64 = 10 * MINUTE_MS;
/// Time after an answer of the proxy in which a request without an answer is the fault of its own destination.
const ANSWERED_MS: i64 = 10 * SECOND_MS;

/// Counts of failures since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProxyFailures {
    pub unreachable: u64,
    pub credentials: u64,
    pub refused: u64,
}

/// The state of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyState {
    Well,
    Unreachable,
    /// The proxy asks for other credentials than those of the settings.
    CredentialsRefused,
}

/// The health of the proxy of deliveries, shared by all requests.
#[derive(Default)]
pub struct ProxyHealth {
    inner: Mutex<ProxyRecord>,
}

#[derive(Default)]
struct ProxyRecord {
    backoff: LogBackoff,
    /// While the proxy is unreachable: when it is tried again.
    until: Option<Time>,
    wait_ms: i64,
    /// When the proxy was last known to work.
    answered_at: Option<Time>,
    credentials_refused_at: Option<Time>,
    credentials_logged_at: Option<Time>,
    failures: ProxyFailures,
}

impl ProxyHealth {
    /// Forgets the state, because the settings changed. The counts stay.
    pub fn reset(&self) {
        let mut record = self.lock();
        *record = ProxyRecord { failures: record.failures, ..ProxyRecord::default() };
    }

    /// When the proxy is tried again. `None` if it may be tried at `now`.
    pub fn wait(&self, now: Time) -> Option<Time> {
        self.lock().wait(now)
    }

    /// Records the contact of a request with the proxy, and logs a change. If an installation fault ended the request,
    /// returns when the delivery is tried again.
    pub fn record(&self, contact: ProxyContact, proxy: &str, why: &str, now: Time) -> Option<Time> {
        let mut record = self.lock();
        match contact {
            ProxyContact::None => return None,
            ProxyContact::Unreachable => return Some(record.unreachable(proxy, why, now)),
            ProxyContact::Unanswered if record.answered_at.is_none_or(|at| now.since(at) >= ANSWERED_MS) => {
                return Some(record.unreachable(proxy, why, now));
            }
            ProxyContact::Unanswered | ProxyContact::TunnelTimedOut => {
                record.failures.refused += 1;
                return None;
            }
            ProxyContact::CredentialsRefused | ProxyContact::CredentialsAsked => {
                record.credentials(proxy, now);
            }
            ProxyContact::TunnelRefused => record.failures.refused += 1,
            ProxyContact::Reached => {}
        }
        record.answered_at = Some(now);
        if record.backoff.reset() {
            tracing::info!(proxy, "the proxy of deliveries is reached again");
            (record.until, record.wait_ms) = (None, 0);
        }
        (contact == ProxyContact::CredentialsRefused).then(|| now.plus_ms(CREDENTIALS_WAIT_MS))
    }

    pub fn state(&self, now: Time) -> ProxyState {
        let record = self.lock();
        let refused = record.credentials_refused_at.is_some_and(|at| (0..CREDENTIALS_LIFE_MS).contains(&now.since(at)));
        match (record.until, refused) {
            (Some(_), _) => ProxyState::Unreachable,
            (None, true) => ProxyState::CredentialsRefused,
            (None, false) => ProxyState::Well,
        }
    }

    pub fn failures(&self) -> ProxyFailures {
        self.lock().failures
    }

    fn lock(&self) -> MutexGuard<'_, ProxyRecord> {
        // No code that panics runs under the lock, so a poisoned lock guards a consistent state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProxyRecord {
    /// When the proxy is tried again. A wait that is longer than the maximum has ended, because the clock was set back.
    fn wait(&self, now: Time) -> Option<Time> {
        self.until.filter(|until| (1..=WAIT_MS_MAX).contains(&until.since(now)))
    }

    fn unreachable(&mut self, proxy: &str, why: &str, now: Time) -> Time {
        self.failures.unreachable += 1;
        self.answered_at = None;
        if let Some(until) = self.wait(now) {
            // Another request failed at the same time.
            return until;
        }
        self.wait_ms = (self.wait_ms * 2).clamp(WAIT_MS_MIN, WAIT_MS_MAX);
        let until = now.plus_ms(self.wait_ms);
        self.until = Some(until);
        if let Some(times) = self.backoff.record() {
            tracing::warn!(
                proxy,
                times,
                error = why,
                "the proxy of deliveries failed; deliveries wait for it, and none counts as an attempt"
            );
        }
        until
    }

    fn credentials(&mut self, proxy: &str, now: Time) {
        self.failures.credentials += 1;
        self.credentials_refused_at = Some(now);
        if self.credentials_logged_at.is_none_or(|at| now.since(at) >= CREDENTIALS_LOG_MS) {
            self.credentials_logged_at = Some(now);
            tracing::warn!(
                proxy,
                "the proxy refuses the credentials of deliveries: check delivery.proxy's user and password"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(health: &ProxyHealth, contact: ProxyContact, now: i64) -> Option<Time> {
        health.record(contact, "http://proxy:3128", "why", Time(now))
    }

    #[test]
    fn an_unreachable_proxy_is_tried_less_and_less_often_until_it_is_reached() {
        let health = ProxyHealth::default();
        let mut now = 0;
        let waits: Vec<i64> = (0..7)
            .map(|_| {
                let until = record(&health, ProxyContact::Unreachable, now).unwrap();
                // Failures of the same moment do not lengthen the wait.
                assert_eq!(record(&health, ProxyContact::Unreachable, now), Some(until));
                assert_eq!((health.wait(until.minus_ms(1)), health.wait(until)), (Some(until), None));
                let wait = until.0 - now;
                now = until.0;
                wait
            })
            .collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(health.state(Time(now)), ProxyState::Unreachable);
        assert_eq!(record(&health, ProxyContact::TunnelRefused, now), None);
        assert_eq!((health.state(Time(now)), health.wait(Time(now))), (ProxyState::Well, None));
        assert_eq!(record(&health, ProxyContact::Unreachable, now), Some(Time(now + 1_000)));
        assert_eq!(health.failures(), ProxyFailures { unreachable: 15, credentials: 0, refused: 1 });
    }

    #[test]
    fn refused_credentials_hold_their_own_delivery_back_and_no_other() {
        let health = ProxyHealth::default();
        assert_eq!(record(&health, ProxyContact::CredentialsRefused, 0), Some(Time(CREDENTIALS_WAIT_MS)));
        assert_eq!(health.wait(Time(1)), None);
        assert_eq!(health.state(Time(CREDENTIALS_LIFE_MS - 1)), ProxyState::CredentialsRefused);
        assert_eq!(health.state(Time(CREDENTIALS_LIFE_MS)), ProxyState::Well);
        // A receiver may have written the 407, so the attempt counts.
        assert_eq!(record(&health, ProxyContact::CredentialsAsked, 0), None);
        health.reset();
        assert_eq!((health.state(Time(0)), health.failures().credentials), (ProxyState::Well, 2));
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_no_wait() {
        let health = ProxyHealth::default();
        let late = 100 * WAIT_MS_MAX;
        record(&health, ProxyContact::Unreachable, late);
        record(&health, ProxyContact::CredentialsAsked, late);
        assert_eq!((health.wait(Time(0)), health.state(Time(0))), (None, ProxyState::Well));
        record(&health, ProxyContact::Unreachable, late);
        assert_eq!((health.wait(Time(late)).is_some(), health.wait(Time(0))), (true, None));
    }

    #[test]
    fn a_proxy_that_answers_no_request_is_unreachable_and_one_that_answers_others_is_not() {
        let health = ProxyHealth::default();
        assert_eq!(record(&health, ProxyContact::Unanswered, 0), Some(Time(1_000)));
        assert_eq!((health.state(Time(0)), health.wait(Time(999))), (ProxyState::Unreachable, Some(Time(1_000))));
        record(&health, ProxyContact::Reached, 1_000);
        // Some proxies close the connection instead of refusing a destination.
        assert_eq!(record(&health, ProxyContact::Unanswered, 1_000 + ANSWERED_MS - 1), None);
        assert_eq!(health.state(Time(1_000)), ProxyState::Well);
        let later = 1_000 + ANSWERED_MS;
        assert_eq!(record(&health, ProxyContact::Unanswered, later), Some(Time(later + 1_000)));
        assert_eq!(health.failures(), ProxyFailures { unreachable: 2, credentials: 0, refused: 1 });
        // Silence is no answer.
        assert_eq!(record(&health, ProxyContact::TunnelTimedOut, later + 500), None);
        assert_eq!(health.state(Time(later + 500)), ProxyState::Unreachable);
        // A proxy that starts again accepts connections before it answers.
        record(&health, ProxyContact::Reached, later + 1_000);
        record(&health, ProxyContact::Unreachable, later + 1_001);
        assert!(record(&health, ProxyContact::Unanswered, later + 1_002).is_some());
    }

    #[test]
    fn a_direct_request_says_nothing_about_the_proxy() {
        let health = ProxyHealth::default();
        record(&health, ProxyContact::Unreachable, 0);
        assert_eq!(record(&health, ProxyContact::None, 0), None);
        assert_eq!(health.state(Time(0)), ProxyState::Unreachable);
    }
}
