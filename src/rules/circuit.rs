//! Derives a webhook's circuit state, disabling and notifications from its attempts.
//!
//! Invariant: while the circuit is open no request is sent before `hold_until`. Then one probe is sent, and the first success
//! closes the circuit. Requests in flight when the circuit opened are not probes and do not lengthen the wait.

use crate::model::Time;
use crate::model::time::SECOND_MS;
use crate::model::webhook::{CircuitState, DisabledReason, WebhookState};
use crate::rules::retry::RETRY_AFTER_S_MAX;

/// Consecutive failed attempts that open the circuit.
pub const FAILURES_TO_OPEN: u32 = 10;
/// First wait for a probe. The wait doubles after every failed probe.
const PROBE_WAIT_MS_MIN: i64 = 5 * SECOND_MS;
const PROBE_WAIT_MS_MAX: i64 = 60 * SECOND_MS;

/// The part of an attempt result that the circuit depends on.
#[derive(Debug, Clone, Copy)]
pub struct AttemptSummary {
    pub started_at: Time,
    pub finished_at: Time,
    pub success: bool,
    /// Whether the response status was 410 (Gone).
    pub gone: bool,
    /// Time requested by `Retry-After`.
    pub hold_until: Option<Time>,
    /// Whether the proxy failed, which opens no circuit. A probe that failed so still makes the next one wait.
    pub proxy_failed: bool,
}

/// A state change that is logged and sent as a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitChange {
    /// The circuit opened.
    Failing,
    /// Half of `disable_after_s` has passed without a success.
    Warning,
    Recovered,
    Disabled(DisabledReason),
}

/// The webhook's state after an attempt, and the changes to report.
pub fn after(state: WebhookState, disable_after_s: u64, seen: AttemptSummary) -> (WebhookState, Vec<CircuitChange>) {
    let mut next = WebhookState {
        sequence: state.sequence + 1,
        last_attempt_at: state.last_attempt_at.max(Some(seen.started_at)),
        ..state
    };
    let waited = state.hold_until.is_none_or(|until| seen.started_at >= until);
    let is_from_a_wrong_clock =
        state.hold_until.is_some_and(|until| until.since(seen.finished_at) > probe_wait_ms(state.failed_probes));
    if !seen.success && state.circuit != CircuitState::Closed && (waited || is_from_a_wrong_clock) {
        // The probe failed by the receiver or the proxy: the next one waits longer.
        next.failed_probes = state.failed_probes.saturating_add(1);
        next.hold_until = Some(seen.finished_at.plus_ms(probe_wait_ms(next.failed_probes)));
    }
    if seen.proxy_failed {
        return (next, Vec::new());
    }
    if seen.success {
        let changes = if state.circuit == CircuitState::Closed { vec![] } else { vec![CircuitChange::Recovered] };
        next.consecutive_failures = 0;
        next.failing_since = None;
        next.last_success_at = state.last_success_at.max(Some(seen.started_at));
        next.circuit = CircuitState::Closed;
        next.hold_until = None;
        next.failed_probes = 0;
        next.warned = false;
        return (next, changes);
    }
    let mut changes = Vec::new();
    let since = *next.failing_since.get_or_insert(seen.started_at);
    next.consecutive_failures = state.consecutive_failures.saturating_add(1);
    if state.circuit == CircuitState::Closed && next.consecutive_failures >= FAILURES_TO_OPEN {
        changes.push(CircuitChange::Failing);
        next.circuit = CircuitState::Open;
        next.failed_probes = 0;
        next.hold_until = Some(seen.finished_at.plus_ms(probe_wait_ms(0)));
    }
    next.retry_after = state.retry_after.max(seen.hold_until);
    let limit_ms = (disable_after_s as i64).saturating_mul(SECOND_MS);
    let failing_ms = seen.finished_at.since(since);
    if seen.gone {
        changes.push(CircuitChange::Disabled(DisabledReason::Gone));
    } else if limit_ms > 0 && failing_ms >= limit_ms {
        changes.push(CircuitChange::Disabled(DisabledReason::Failures));
    } else if limit_ms > 0 && failing_ms >= limit_ms / 2 && !state.warned {
        next.warned = true;
        changes.push(CircuitChange::Warning);
    }
    (next, changes)
}

/// The state of a webhook that is enabled again. It is the state before any failure, so the webhook is tried at once.
pub fn reset(state: WebhookState) -> WebhookState {
    WebhookState {
        sequence: state.sequence + 1,
        consecutive_failures: 0,
        failing_since: None,
        circuit: CircuitState::Closed,
        hold_until: None,
        warned: false,
        failed_probes: 0,
        retry_after: None,
        ..state
    }
}

/// The state after an operator has resumed the webhook: the next request goes at once. A circuit that is open stays so, and
/// that request is its probe.
pub fn released(state: WebhookState) -> WebhookState {
    WebhookState { sequence: state.sequence + 1, hold_until: None, retry_after: None, failed_probes: 0, ..state }
}

/// Until when nothing is sent. `None` if the webhook is not held at `now`. A hold that is longer than its rule makes it was
/// written by a clock that has been set back since, and is over.
pub fn held_until(state: WebhookState, now: Time) -> Option<Time> {
    let within = |until: Option<Time>, most_ms: i64| until.filter(|until| (1..=most_ms).contains(&until.since(now)));
    let probe = within(state.hold_until, probe_wait_ms(state.failed_probes));
    probe.max(within(state.retry_after, RETRY_AFTER_S_MAX * SECOND_MS))
}

/// The state as people see it at `now`, without holds that are over. An open circuit whose wait is over lets one probe
/// through, and is half open.
pub fn shown(state: WebhookState, now: Time) -> WebhookState {
    let probes = state.circuit == CircuitState::Open && held_until(state, now).is_none();
    WebhookState {
        circuit: if probes { CircuitState::HalfOpen } else { state.circuit },
        hold_until: held_until(WebhookState { retry_after: None, ..state }, now),
        retry_after: held_until(WebhookState { hold_until: None, ..state }, now),
        ..state
    }
}

/// `shown`, for a webhook whose first open delivery is due at `first_due`. A half-open circuit is open until then: that delivery
/// is its probe. `None` if no delivery is open.
pub fn until_due(shown: WebhookState, first_due: Option<Time>, now: Time) -> WebhookState {
    match first_due.filter(|at| *at > now && shown.circuit == CircuitState::HalfOpen) {
        Some(probe_at) => WebhookState { circuit: CircuitState::Open, hold_until: Some(probe_at), ..shown },
        None => shown,
    }
}

fn probe_wait_ms(failed_probes: u32) -> i64 {
    PROBE_WAIT_MS_MIN.saturating_mul(1 << failed_probes.min(20)).min(PROBE_WAIT_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(at: i64) -> AttemptSummary {
        AttemptSummary {
            started_at: Time(at),
            finished_at: Time(at + 10),
            success: false,
            gone: false,
            hold_until: None,
            proxy_failed: false,
        }
    }

    fn run(count: u32, disable_after_s: u64, step_ms: i64) -> (WebhookState, Vec<CircuitChange>) {
        let mut all = Vec::new();
        let mut state = WebhookState::default();
        for n in 0..i64::from(count) {
            let (next, changes) = after(state, disable_after_s, fail(n * step_ms));
            state = next;
            all.extend(changes);
        }
        (state, all)
    }

    #[test]
    fn ten_failures_in_a_row_open_the_circuit_once() {
        assert_eq!(run(9, 0, 1_000).0.circuit, CircuitState::Closed);
        let (state, changes) = run(15, 0, 1_000);
        assert_eq!(state.circuit, CircuitState::Open);
        assert_eq!(changes, [CircuitChange::Failing]);
        assert_eq!(state.hold_until, Some(Time(14_010)));
    }

    #[test]
    fn the_first_success_closes_it() {
        let (open, _) = run(12, 0, 1_000);
        let (closed, changes) = after(open, 0, AttemptSummary { success: true, ..fail(99_000) });
        assert_eq!((closed.circuit, closed.hold_until, closed.consecutive_failures), (CircuitState::Closed, None, 0));
        assert_eq!(changes, [CircuitChange::Recovered]);
    }

    #[test]
    fn probes_wait_longer_and_longer_up_to_a_limit() {
        let waits: Vec<i64> = (0..10).map(probe_wait_ms).collect();
        assert_eq!(waits[..3], [5_000, 10_000, 20_000]);
        assert_eq!(waits[9], PROBE_WAIT_MS_MAX);
    }

    #[test]
    fn it_warns_at_half_and_gives_up_at_the_end() {
        let (_, changes) = run(3, 2, 1_000);
        assert_eq!(changes, [CircuitChange::Warning, CircuitChange::Disabled(DisabledReason::Failures)]);
    }

    #[test]
    fn a_failure_of_the_proxy_is_not_counted() {
        let mut state = run(9, 2, 1).0;
        for n in 0..100 {
            let (next, changes) = after(state, 2, AttemptSummary { proxy_failed: true, ..fail(1_000 * n) });
            assert_eq!((next.consecutive_failures, next.circuit, &changes[..]), (9, CircuitState::Closed, &[][..]));
            state = next;
        }
        assert_eq!(state.last_attempt_at, Some(Time(99_000)));
    }

    #[test]
    fn gone_disables_at_once() {
        let (_, changes) = after(WebhookState::default(), 0, AttemptSummary { gone: true, ..fail(0) });
        assert_eq!(changes, [CircuitChange::Disabled(DisabledReason::Gone)]);
    }

    #[test]
    fn retry_after_holds_without_opening_the_circuit_and_no_success_ends_it() {
        let (state, _) =
            after(WebhookState::default(), 0, AttemptSummary { hold_until: Some(Time(60_000)), ..fail(0) });
        assert_eq!((state.circuit, state.held_until()), (CircuitState::Closed, Some(Time(60_000))));
        // This request was in flight when the circuit opened.
        let (state, _) = after(state, 0, AttemptSummary { success: true, ..fail(5) });
        assert_eq!(state.held_until(), Some(Time(60_000)));
        assert_eq!(reset(state).held_until(), None);
    }

    #[test]
    fn requests_in_flight_when_the_circuit_opened_do_not_lengthen_the_wait() {
        let (open, _) = run(10, 0, 1_000);
        let until = open.hold_until.unwrap();
        let (state, _) = after(open, 0, AttemptSummary { started_at: Time(8_000), ..fail(9_500) });
        assert_eq!(state.hold_until, Some(until));
        let (state, _) = after(state, 0, fail(until.0));
        assert_eq!(state.hold_until, Some(until.plus_ms(10 + probe_wait_ms(1))));
    }

    #[test]
    fn a_hold_that_no_rule_makes_is_over() {
        let (open, _) = run(10, 0, 1_000);
        let until = open.hold_until.unwrap();
        assert_eq!(held_until(open, until.minus_ms(5_000)), Some(until));
        // The clock was set back by eight hours: the probe goes now, and the next one waits from now.
        let back = until.minus_ms(8 * 3_600_000);
        assert_eq!(held_until(open, back), None);
        let (state, _) = after(open, 0, fail(back.0));
        assert_eq!(state.hold_until, Some(back.plus_ms(10 + probe_wait_ms(1))));
        let asked = WebhookState { retry_after: Some(until), ..WebhookState::default() };
        assert_eq!(held_until(asked, until.minus_ms(86_400_000)), Some(until));
        assert_eq!(held_until(asked, until.minus_ms(86_400_001)), None);
    }

    #[test]
    fn a_probe_that_the_proxy_failed_makes_the_next_one_wait() {
        let (open, _) = run(10, 0, 1_000);
        let at = open.hold_until.unwrap();
        let (state, changes) = after(open, 0, AttemptSummary { proxy_failed: true, ..fail(at.0) });
        assert_eq!(state.hold_until, Some(at.plus_ms(10 + probe_wait_ms(1))));
        assert_eq!((state.consecutive_failures, &changes[..]), (open.consecutive_failures, &[][..]));
    }

    #[test]
    fn it_is_half_open_from_when_a_probe_may_go() {
        let (open, _) = run(10, 0, 1_000);
        let until = open.hold_until.unwrap();
        assert_eq!(shown(open, until.minus_ms(1)).circuit, CircuitState::Open);
        assert_eq!(shown(open, until).circuit, CircuitState::HalfOpen);
        assert_eq!(shown(WebhookState::default(), until).circuit, CircuitState::Closed);
        assert_eq!(shown(open, until.minus_ms(1)).hold_until, Some(until));
        assert_eq!(shown(open, until).hold_until, None);
    }

    #[test]
    fn the_next_probe_is_the_delivery_that_is_due_first() {
        let (open, _) = run(10, 0, 1_000);
        let over = open.hold_until.unwrap();
        let of = |now: Time, due: Option<Time>| {
            let state = until_due(shown(open, now), due, now);
            (state.circuit, state.hold_until)
        };
        let late = over.plus_ms(60_000);
        assert_eq!(of(over, Some(late)), (CircuitState::Open, Some(late)));
        assert_eq!(of(late, Some(late)), (CircuitState::HalfOpen, None));
        assert_eq!(of(over, None), (CircuitState::HalfOpen, None), "the next delivery is the probe");
        assert_eq!(of(over.minus_ms(1), Some(late)), (CircuitState::Open, Some(over)));
        assert_eq!(until_due(WebhookState::default(), Some(late), over), WebhookState::default());
    }
}
