//! Rates a webhook's success, speed and activity in the last 24 hours, each with a reason (docs/concepts.md).
//!
//! The thresholds are Devdraft's, whose own figures are of all time. Invariant: ratings use the figures as shown, rounding
//! included. A reason says 100 % only if all attempts succeeded.

use serde::Serialize;

/// Percentage of succeeded attempts with one decimal, halves rounded up. `None` without attempts.
pub fn success_rate(ok: u64, failed: u64) -> Option<f64> {
    let total = u128::from(ok) + u128::from(failed);
    if total == 0 {
        return None;
    }
    let tenths = (2_000 * u128::from(ok) + total) / (2 * total);
    Some(tenths as f64 / 10.0)
}

/// Mean of `count` response times with the sum `sum_ms`, in whole milliseconds, halves rounded up. `None` if `count` is 0.
pub fn average(sum_ms: u64, count: u64) -> Option<u32> {
    if count == 0 {
        return None;
    }
    let mean = (2 * u128::from(sum_ms) + u128::from(count)) / (2 * u128::from(count));
    Some(u32::try_from(mean).unwrap_or(u32::MAX))
}

/// Figures of the last 24 hours that the ratings are derived from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HealthInput {
    /// Milliseconds over the newest attempts with a response, as `average` gives it.
    pub average_response_ms: Option<u32>,
    pub attempts: u64,
    /// Number of those that failed.
    pub failures: u64,
    /// How many deliveries were attempted, at most the last ten.
    pub recent_deliveries: u32,
    /// Number of those that failed at their last attempt.
    pub recent_failures: u32,
}

/// The answer of `GET /v1/webhooks/{id}/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub success_rate: HealthWord,
    pub response_time: HealthWord,
    pub activity: HealthWord,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthWord {
    pub state: &'static str,
    pub reason: String,
}

/// Two failures among the last ten deliveries make a webhook `failing`.
const FAILING_MIN: u32 = 2;

/// Rates the figures in words.
pub fn health(measured: &HealthInput) -> Health {
    Health {
        success_rate: rate_word(measured.attempts.saturating_sub(measured.failures), measured.failures),
        response_time: speed_word(measured.average_response_ms),
        activity: activity_word(measured),
    }
}

/// The highest rate that a reason gives if an attempt failed.
const NOT_ALL: f64 = 99.9;

fn rate_word(ok: u64, failed: u64) -> HealthWord {
    let Some(rate) = success_rate(ok, failed) else {
        return HealthWord { state: "unknown", reason: "no attempt in the last 24 hours".into() };
    };
    let (state, bound) = match rate {
        r if r >= 99.0 => ("excellent", "99 % or more"),
        r if r >= 95.0 => ("good", "at least 95 %, under 99 %"),
        r if r >= 90.0 => ("warning", "at least 90 %, under 95 %"),
        _ => ("critical", "under 90 %"),
    };
    let shown = if failed > 0 { rate.min(NOT_ALL) } else { rate };
    HealthWord { state, reason: format!("{shown:.1} % of the attempts in the last 24 hours succeeded ({bound})") }
}

fn speed_word(average_ms: Option<u32>) -> HealthWord {
    let Some(ms) = average_ms else {
        return HealthWord { state: "unknown", reason: "no response in the last 24 hours".into() };
    };
    let (state, bound) = match ms {
        0..1_000 => ("fast", "under 1 s"),
        1_000..3_000 => ("acceptable", "at least 1 s, under 3 s"),
        3_000..=5_000 => ("slow", "3 to 5 s"),
        5_001.. => ("critical", "over 5 s"),
    };
    HealthWord { state, reason: format!("responses took {ms} ms on average in the last 24 hours ({bound})") }
}

/// `failing` goes before `active` goes before `idle`.
fn activity_word(measured: &HealthInput) -> HealthWord {
    let HealthInput { attempts, recent_deliveries: recent, recent_failures: failed, .. } = *measured;
    if failed >= FAILING_MIN {
        return HealthWord {
            state: "failing",
            reason: format!(
                "of the last {recent} deliveries that were attempted, {failed} failed at their last attempt"
            ),
        };
    }
    if attempts > 0 {
        let noun = if attempts == 1 { "attempt" } else { "attempts" };
        return HealthWord { state: "active", reason: format!("{attempts} {noun} in the last 24 hours") };
    }
    HealthWord { state: "idle", reason: "no attempt in the last 24 hours".into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_has_one_decimal_and_halves_go_up() {
        assert_eq!(success_rate(0, 0), None);
        assert_eq!(success_rate(1235, 15), Some(98.8));
        assert_eq!(success_rate(2, 2), Some(50.0));
        assert_eq!(success_rate(1_999, 1), Some(100.0), "99.95");
        assert_eq!(success_rate(2, 1), Some(66.7));
        assert_eq!(success_rate(u64::MAX, u64::MAX), Some(50.0));
    }

    #[test]
    fn an_average_is_whole_and_halves_go_up() {
        assert_eq!(average(0, 0), None);
        assert_eq!(average(450, 3), Some(150));
        assert_eq!(average(3, 2), Some(2));
        assert_eq!(average(4, 3), Some(1));
        assert_eq!(average(u64::MAX, 1), Some(u32::MAX));
    }

    #[test]
    fn each_word_begins_at_its_threshold() {
        for (ok, state) in [
            (1_000, "excellent"),
            (990, "excellent"),
            (989, "good"),
            (950, "good"),
            (949, "warning"),
            (900, "warning"),
            (899, "critical"),
            (0, "critical"),
        ] {
            assert_eq!(rate_word(ok, 1_000 - ok).state, state, "{ok} of 1,000");
        }
        for (ms, state) in [
            (0, "fast"),
            (999, "fast"),
            (1_000, "acceptable"),
            (2_999, "acceptable"),
            (3_000, "slow"),
            (5_000, "slow"),
            (5_001, "critical"),
        ] {
            assert_eq!(speed_word(Some(ms)).state, state, "{ms}");
        }
    }

    #[test]
    fn a_reason_says_100_percent_only_if_all_succeeded() {
        for (ok, failed, shown) in [(1_999, 1, "99.9 % "), (u64::MAX, 1, "99.9 % "), (2_000, 0, "100.0 % ")] {
            let word = rate_word(ok, failed);
            assert!(word.state == "excellent" && word.reason.starts_with(shown), "{}", word.reason);
        }
    }

    #[test]
    fn failing_goes_before_active_and_active_before_idle() {
        let word = |attempts, recent_failures| {
            activity_word(&HealthInput { attempts, recent_deliveries: 10, recent_failures, ..HealthInput::default() })
                .state
        };
        assert_eq!(word(5, 2), "failing");
        assert_eq!(word(0, 2), "failing");
        assert_eq!(word(5, 1), "active");
        assert_eq!(word(0, 1), "idle");
    }

    #[test]
    fn figures_that_were_not_measured_are_unknown_and_say_why() {
        let health = health(&HealthInput::default());
        assert_eq!(health.success_rate.state, "unknown");
        assert_eq!(health.response_time.state, "unknown");
        assert_eq!(health.activity.state, "idle");
        let shown = serde_json::to_value(&health).unwrap();
        assert_eq!(shown["success_rate"]["reason"], "no attempt in the last 24 hours");
    }

    proptest! {
        #[test]
        fn a_rate_is_within_half_a_tenth_of_the_quotient(ok in 0u64..1 << 40, failed in 1u64..1 << 40) {
            let exact = 100.0 * ok as f64 / (ok + failed) as f64;
            prop_assert!((success_rate(ok, failed).unwrap() - exact).abs() <= 0.050_001);
        }
    }
}
