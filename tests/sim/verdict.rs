//! The verdict at the end: every accepted event was delivered or has failed by its schedule, no webhook waited for
//! another's faults, and the figures agree.

use std::collections::HashMap;

use serde_json::Value;

use super::expectations::{Expectations, Kind, Outcome};
use super::plan::Temper;

/// Maximum time from acceptance to arrival at a healthy receiver without disturbances.
const PROMPT_MS: i64 = 25_000;
/// Maximum time after a disturbance until waiting deliveries are sent: the first retries are over, and the circuit has
/// closed again.
const CAUGHT_UP_MS: i64 = 150_000;

impl Expectations {
    /// Judges every accepted event at every webhook that wants it.
    pub fn judge_deliveries(&mut self, now_ms: i64) {
        let mut made: HashMap<(usize, u128), Vec<u128>> = HashMap::new();
        for (id, row) in &self.rows {
            if !row.is_replay {
                made.entry((row.hook, row.event)).or_default().push(*id);
            }
        }
        for accepted in self.accepted.clone() {
            for hook in 0..self.hooks.len() {
                let wants = self.hooks[hook].wants(accepted.event_type);
                let name = self.hooks[hook].name;
                match made.get(&(hook, accepted.event)).map(Vec::as_slice) {
                    None if wants => self.fault(now_ms, format!("{name}: nothing is known of {:032x}", accepted.event)),
                    Some([delivery]) if wants => self.judge_delivery(hook, *delivery, now_ms),
                    None => {}
                    Some(all) => {
                        let words = format!("{name}: {} deliveries of {:032x}", all.len(), accepted.event);
                        self.fault(now_ms, words);
                    }
                }
            }
        }
    }

    fn judge_delivery(&mut self, hook: usize, delivery: u128, now_ms: i64) {
        let row = &self.rows[&delivery];
        let name = self.hooks[hook].name;
        if !row.is_final() {
            self.fault(now_ms, format!("{name}: {delivery:032x} is still {}", row.status));
            return;
        }
        if self.is_always_well(hook) && row.status != "delivered" && !self.ends.contains_key(&row.event) {
            self.fault(now_ms, format!("{name}: {delivery:032x} has failed, and its receiver never did"));
        }
    }

    fn is_always_well(&self, hook: usize) -> bool {
        let hook = &self.hooks[hook];
        hook.temper == Temper::Steady && !hook.is_handled && hook.rate_per_s.is_none()
    }

    /// Checks that a receiver that is always healthy gets everything in time, despite the others.
    pub fn judge_promptness(&mut self, now_ms: i64) {
        let mut left = Vec::new();
        for number in std::mem::take(&mut self.unjudged) {
            let accepted = self.accepted[number].clone();
            if accepted.ends_ms.is_some() {
                continue;
            }
            let by_ms = self.prompt_by(accepted.due_ms.max(accepted.at_ms));
            if by_ms >= now_ms {
                left.push(number);
                continue;
            }
            for hook in 0..self.hooks.len() {
                if !self.is_always_well(hook) || !self.hooks[hook].wants(accepted.event_type) {
                    continue;
                }
                let came = self.first_seen.get(&(hook, accepted.event)).copied();
                if came.is_none_or(|at| at > by_ms) {
                    let (name, event) = (self.hooks[hook].name, accepted.event);
                    let due = accepted.due_ms.max(accepted.at_ms);
                    let words = format!("{name}: {event:032x} was due at {due} ms, came at {came:?}, not by {by_ms}");
                    self.fault(now_ms, words);
                }
            }
        }
        self.unjudged = left;
    }

    /// The latest time at which a healthy receiver must have its due deliveries.
    fn prompt_by(&self, due_ms: i64) -> i64 {
        let mut by_ms = due_ms + PROMPT_MS;
        for trouble in &self.troubles {
            if trouble.from_ms <= by_ms && trouble.to_ms >= due_ms - CAUGHT_UP_MS {
                by_ms = by_ms.max(trouble.to_ms.saturating_add(CAUGHT_UP_MS));
            }
        }
        by_ms
    }

    /// Compares the figures of a webhook with its recorded requests.
    pub fn judge_figures(&mut self, hook: usize, stats: &Value, now_ms: i64) {
        let rows = self.rows.values().filter(|row| row.hook == hook);
        let (mut begun, mut delivered, mut attempts) = (0, 0, 0);
        for row in rows {
            begun += u64::from(row.attempts > 0);
            delivered += u64::from(row.status == "delivered");
            attempts += u64::from(row.attempts);
        }
        let expected = [
            ("total_events", begun),
            ("successful_deliveries", delivered),
            ("failed_deliveries", attempts - delivered),
            ("pending_deliveries", 0),
        ];
        for (member, expected) in expected {
            if stats[member] != expected {
                let words = format!("{}: {member} is {}, not {expected}", self.hooks[hook].name, stats[member]);
                self.fault(now_ms, words);
            }
        }
    }

    /// Compares the figures of the organization with the sums of those of its webhooks.
    pub fn judge_sums(&mut self, each: &[Value], all: &Value, now_ms: i64) {
        for member in ["total_events", "made", "ended", "delivered", "failed", "cancelled", "attempts", "failures"] {
            let expected: u64 = each.iter().filter_map(|stats| stats[member].as_u64()).sum();
            if all[member] != expected {
                let words = format!("the organization: {member} is {}, not {expected}", all[member]);
                self.fault(now_ms, words);
            }
        }
    }

    /// Checks that replays made as many deliveries as their jobs count.
    pub fn judge_replays(&mut self, now_ms: i64) {
        for hook in 0..self.hooks.len() {
            let made = self.rows.values().filter(|row| row.hook == hook && row.is_replay).count() as u64;
            if made != self.replayed[hook] {
                let words = format!("{}: {made} replays, not {}", self.hooks[hook].name, self.replayed[hook]);
                self.fault(now_ms, words);
            }
        }
    }

    /// Checks that every request belongs to a published event.
    pub fn judge_requests(&mut self, now_ms: i64) {
        let unknown: Vec<u128> =
            self.seen.iter().filter(|seen| !self.rows.contains_key(&seen.delivery)).map(|seen| seen.delivery).collect();
        for delivery in unknown.into_iter().take(3) {
            self.fault(now_ms, format!("{delivery:032x} was sent, and no delivery is known by this id"));
        }
    }

    /// The number of requests, and of those that repeated a successful one.
    pub fn tally(&self) -> (u64, u64) {
        let mut repeated = 0;
        for all in self.of_delivery.values() {
            let successes = all.iter().filter(|number| self.seen[**number].outcome == Outcome::Success).count();
            repeated += successes.saturating_sub(1) as u64;
        }
        (self.seen.len() as u64, repeated)
    }

    /// Whether the daemon has been up without a disturbance for long enough.
    pub fn is_calm(&self, since_ms: i64, now_ms: i64) -> bool {
        !self.has_trouble(&[Kind::Crash, Kind::Stop, Kind::Disk, Kind::Network, Kind::Clock], since_ms, now_ms)
    }
}
