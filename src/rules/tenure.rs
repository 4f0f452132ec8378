//! Decides when a node of a cluster takes a store over, how long it serves, and when it steps down.
//!
//! A lease of the engine says when to try. Safety does not depend on it: an owner that the log refuses steps down whatever its
//! lease says. No step compares the clocks of two machines: the engine compares a lease with its own clock, and a node
//! compares with its own monotonic clock.
//!
//! Invariant: an owner serves less long after a heartbeat than the lease lasts that the heartbeat renewed. A lease that has run
//! out is never renewed.

use std::time::Duration;

use crate::mutants::mutant;

/// Interval of heartbeats.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// Interval of heartbeats once a lease has run out, because the next one decides whether it is taken, and after an owner's
/// heartbeat without an answer.
const HEARTBEAT_AGAIN: Duration = Duration::from_millis(500);
/// Time for which the engine renews a lease, by its own clock.
pub const LEASE: Duration = Duration::from_secs(10);
/// Time for which an owner serves after it has sent the heartbeat that renewed its lease.
pub const SERVED: Duration = Duration::from_secs(8);
/// Heartbeats in which a lease must have run out before another node takes it.
const EXPIRED_HEARTBEATS: u32 = 2;

/// The holder of a lease, as a node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseHolder {
    /// The holder has released it, or no node has ever held it.
    Free,
    /// This node, by its name: this process or one before it.
    Me,
    Other,
    /// None for ever: the cluster has ended.
    Ended,
}

/// The lease as a heartbeat showed it, after the heartbeat renewed this node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownLease {
    /// Number of the owner among all owners.
    pub term: u64,
    pub holder: LeaseHolder,
    /// Whether it runs by the engine's clock.
    pub is_running: bool,
    /// Whether a node that was seen lately has more commits than this one.
    pub is_outrun: bool,
}

/// The step that a node takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenureStep {
    /// Another node is the owner, or may still be.
    Wait,
    /// Take the lease if its term is still this one.
    Take { seen: u64 },
    /// The lease is free. A node that was seen lately has more commits, and may take it.
    Outrun,
    /// Serve until this moment of the monotonic clock.
    Serve { until: Duration },
    /// Stop to serve.
    StepDown,
}

/// The lease that a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    pub term: u64,
    /// The end of the tenure by the node's monotonic clock.
    pub until: Duration,
}

/// The state of a node between two heartbeats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenureWatch {
    held: Option<HeldLease>,
    /// Heartbeats in a row in which the lease of another node had run out.
    expired_heartbeats: u32,
    /// Whether the last heartbeat of an owner had no answer.
    is_unanswered: bool,
}

impl TenureWatch {
    /// The lease that this process holds. `None` if it is no owner.
    pub fn held(&self) -> Option<HeldLease> {
        self.held
    }

    /// Notes that this process has taken the lease of a term, by a call that it sent at `sent_at`.
    pub fn taken(&mut self, term: u64, sent_at: Duration) {
        self.held = Some(HeldLease { term, until: sent_at + SERVED });
        (self.expired_heartbeats, self.is_unanswered) = (0, false);
    }

    /// Time from `now` to the next heartbeat. An owner sends one at the end of its tenure at the latest, and sooner without an
    /// answer: an engine that starts again in time keeps it the owner.
    pub fn rest(&self, now: Duration) -> Duration {
        match self.held {
            Some(held) => {
                held.until.saturating_sub(now).min(if self.is_unanswered { HEARTBEAT_AGAIN } else { HEARTBEAT_EVERY })
            }
            None if self.expired_heartbeats > 0 => HEARTBEAT_AGAIN,
            None => HEARTBEAT_EVERY,
        }
    }

    /// Decides after a heartbeat that was sent at `sent_at`. `shown` is `None` if the engine gave no answer. `now` is the time
    /// of the decision.
    pub fn after_heartbeat(&mut self, shown: Option<ShownLease>, sent_at: Duration, now: Duration) -> TenureStep {
        match self.held {
            Some(held) => self.while_owner(held, shown, sent_at, now),
            None => self.while_waiting(shown),
        }
    }

    fn while_owner(
        &mut self,
        held: HeldLease,
        shown: Option<ShownLease>,
        sent_at: Duration,
        now: Duration,
    ) -> TenureStep {
        let is_ours = |shown: ShownLease| {
            let is_running = shown.is_running || mutant!("renew_after_expiry");
            shown.term == held.term && shown.holder == LeaseHolder::Me && is_running
        };
        let until = match shown {
            Some(shown) if is_ours(shown) => held.until.max(sent_at + SERVED),
            // Another node may have it. Without an answer the tenure goes on to its end.
            Some(_) => now,
            None => held.until,
        };
        if until <= now {
            self.held = None;
            return TenureStep::StepDown;
        }
        self.held = Some(HeldLease { until, ..held });
        self.is_unanswered = shown.is_none();
        TenureStep::Serve { until }
    }

    fn while_waiting(&mut self, shown: Option<ShownLease>) -> TenureStep {
        let Some(shown) = shown else {
            self.expired_heartbeats = 0;
            return TenureStep::Wait;
        };
        let is_free = match (shown.holder, shown.is_running) {
            // The lock on the data directory says that the process before has ended.
            (LeaseHolder::Me | LeaseHolder::Free, _) => true,
            (LeaseHolder::Other, true) | (LeaseHolder::Ended, _) => {
                self.expired_heartbeats = 0;
                false
            }
            (LeaseHolder::Other, false) => {
                self.expired_heartbeats += 1;
                self.expired_heartbeats >= EXPIRED_HEARTBEATS
            }
        };
        match (is_free, shown.is_outrun) {
            (false, _) => TenureStep::Wait,
            (true, true) => TenureStep::Outrun,
            (true, false) => TenureStep::Take { seen: shown.term },
        }
    }
}

/// Number of the last record that a trim may remove. 0 if there is none. `applied_by_all` is the last commit that every
/// node has that was seen lately. `old` is the last record that is old enough, or 0.
pub fn trim_upto(applied_by_all: u64, old: u64) -> u64 {
    // The record of a node's last commit stays: the node goes on behind it.
    let unneeded = applied_by_all.saturating_sub(1);
    if mutant!("trim_unapplied") { old } else { unneeded.min(old) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn shown(term: u64, holder: LeaseHolder, is_running: bool) -> Option<ShownLease> {
        Some(ShownLease { term, holder, is_running, is_outrun: false })
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_node_serves_less_long_than_its_lease_lasts_by_the_sending_of_its_heartbeat() {
        assert!(SERVED + HEARTBEAT_EVERY <= LEASE);
        let mut watch = TenureWatch::default();
        watch.taken(4, at(100));
        let step = watch.after_heartbeat(shown(4, LeaseHolder::Me, true), at(102), at(105));
        assert_eq!(step, TenureStep::Serve { until: at(110) });
        // Without an answer it goes on to the end, and not a moment longer.
        assert_eq!(watch.after_heartbeat(None, at(108), at(110) - MS), TenureStep::Serve { until: at(110) });
        assert_eq!(watch.after_heartbeat(None, at(108), at(110)), TenureStep::StepDown);
        assert_eq!(watch.held(), None);
    }

    #[test]
    fn an_answer_that_took_too_long_renews_nothing() {
        let mut watch = TenureWatch::default();
        watch.taken(4, at(100));
        assert_eq!(watch.after_heartbeat(shown(4, LeaseHolder::Me, true), at(102), at(110)), TenureStep::StepDown);
    }

    #[test]
    fn an_owner_steps_down_for_another_term_another_holder_and_a_lease_that_has_run_out() {
        for lease in [
            shown(5, LeaseHolder::Me, true),
            shown(4, LeaseHolder::Other, true),
            shown(4, LeaseHolder::Free, false),
            shown(4, LeaseHolder::Me, false),
        ] {
            let mut watch = TenureWatch::default();
            watch.taken(4, at(100));
            assert_eq!(watch.after_heartbeat(lease, at(101), at(101)), TenureStep::StepDown, "{lease:?}");
        }
    }

    #[test]
    fn a_lease_that_ran_out_is_taken_at_the_second_heartbeat_and_not_behind_a_break() {
        let mut watch = TenureWatch::default();
        let expired = shown(4, LeaseHolder::Other, false);
        assert_eq!(watch.after_heartbeat(expired, at(1), at(1)), TenureStep::Wait);
        assert_eq!(watch.after_heartbeat(None, at(3), at(3)), TenureStep::Wait);
        assert_eq!(watch.after_heartbeat(expired, at(5), at(5)), TenureStep::Wait);
        assert_eq!(watch.after_heartbeat(shown(4, LeaseHolder::Other, true), at(7), at(7)), TenureStep::Wait);
        assert_eq!(watch.after_heartbeat(expired, at(9), at(9)), TenureStep::Wait);
        assert_eq!(watch.after_heartbeat(expired, at(11), at(11)), TenureStep::Take { seen: 4 });
    }

    #[test]
    fn a_node_looks_again_soon_once_a_lease_has_run_out_and_an_owner_at_its_end() {
        let mut watch = TenureWatch::default();
        assert_eq!(watch.rest(at(1)), HEARTBEAT_EVERY);
        watch.after_heartbeat(shown(4, LeaseHolder::Other, false), at(1), at(1));
        assert_eq!(watch.rest(at(1)), HEARTBEAT_AGAIN);
        watch.after_heartbeat(shown(4, LeaseHolder::Other, true), at(2), at(2));
        assert_eq!(watch.rest(at(2)), HEARTBEAT_EVERY);
        watch.taken(5, at(100));
        assert_eq!((watch.rest(at(100)), watch.rest(at(107))), (HEARTBEAT_EVERY, at(1)));
        watch.after_heartbeat(None, at(102), at(102));
        assert_eq!(
            (watch.rest(at(102)), watch.rest(at(108) - MS)),
            (HEARTBEAT_AGAIN, MS),
            "an engine that starts again"
        );
        watch.after_heartbeat(shown(4, LeaseHolder::Me, true), at(103), at(103));
        assert_eq!(watch.rest(at(103)), HEARTBEAT_EVERY);
    }

    #[test]
    fn a_released_lease_and_one_of_the_process_before_are_taken_at_once() {
        for lease in [shown(4, LeaseHolder::Free, false), shown(4, LeaseHolder::Me, true)] {
            let mut watch = TenureWatch::default();
            assert_eq!(watch.after_heartbeat(lease, at(1), at(1)), TenureStep::Take { seen: 4 }, "{lease:?}");
        }
    }

    #[test]
    fn a_trim_leaves_the_last_commit_of_each_node_and_new_records() {
        assert_eq!(
            [(9, 20), (9, 5), (9, 8), (1, 20), (0, 20), (9, 0)].map(|(all, old)| trim_upto(all, old)),
            [8, 5, 8, 0, 0, 0]
        );
    }

    #[test]
    fn a_node_behind_another_waits_for_it() {
        let mut watch = TenureWatch::default();
        let lease = ShownLease { term: 4, holder: LeaseHolder::Free, is_running: false, is_outrun: true };
        assert_eq!(watch.after_heartbeat(Some(lease), at(1), at(1)), TenureStep::Outrun);
        let running = ShownLease { holder: LeaseHolder::Other, is_running: true, ..lease };
        assert_eq!(watch.after_heartbeat(Some(running), at(2), at(2)), TenureStep::Wait);
    }

    #[test]
    fn the_lease_of_a_cluster_that_has_ended_is_never_taken() {
        let mut watch = TenureWatch::default();
        for n in 1..=9 {
            assert_eq!(watch.after_heartbeat(shown(4, LeaseHolder::Ended, n % 2 == 0), at(n), at(n)), TenureStep::Wait);
        }
    }
}
