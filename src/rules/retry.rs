//! The retry schedules, and when the next attempt is due.

use crate::model::Time;
use crate::model::time::SECOND_MS;

/// Maximum `Retry-After` that is honoured, in seconds.
pub const RETRY_AFTER_S_MAX: i64 = 86_400;
/// Jitter adds at most this part of the wait, and never shortens it.
const JITTER_PARTS: i64 = 10;

/// Retry schedules by name, in seconds: Standard Webhooks' recommendation, and the vendors' (docs/dialects.md).
pub const SCHEDULES: [(&str, &[u32]); 6] = [
    ("standard", &[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]),
    ("dfns", &[60, 660, 6_480, 79_200]),
    ("sent", &[60, 120, 240]),
    ("everlytic", &[300; 864]),
    ("svix", &[5, 300, 1_800, 7_200, 18_000, 36_000, 36_000]),
    ("none", &[]),
];

/// Facts about a finished attempt and its delivery that decide about the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct FinishedAttempt {
    /// Whether a caller asked for the attempt.
    pub manual: bool,
    /// Number of schedule entries that were used before it.
    pub position: u32,
    /// When the schedule plans the attempt that a caller pulled forward. `None` if no attempt was pulled forward.
    pub planned_at: Option<Time>,
    pub started_at: Time,
    pub finished_at: Time,
}

/// The decision after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextAttempt {
    /// `None` if the schedule is exhausted.
    pub at: Option<Time>,
    /// Whether the finished attempt used an entry of the schedule.
    pub is_scheduled: bool,
}

/// The next attempt after a failed one. An attempt that a caller asked for leaves the schedule where it is:
///
/// - Before its time: the planned attempt stays planned.
/// - When a retry was due already: the same wait begins again.
/// - When the first attempt was due already: it is that attempt.
pub fn after_failure(schedule_s: &[u32], attempt: FinishedAttempt, jitter: u64) -> NextAttempt {
    let FinishedAttempt { manual, position, planned_at, started_at, finished_at } = attempt;
    let wait_after = |finished| next_attempt(schedule_s, finished, started_at, finished_at, jitter);
    match (manual, planned_at) {
        (true, Some(planned)) if planned > started_at => {
            NextAttempt { at: Some(planned.max(finished_at)), is_scheduled: false }
        }
        (true, _) if position > 0 => NextAttempt { at: wait_after(position), is_scheduled: false },
        _ => NextAttempt { at: wait_after(position + 1), is_scheduled: true },
    }
}

/// Due time of the attempt after number `finished` (from 1). `None` if the schedule is exhausted.
///
/// The wait counts from the start of the previous attempt and never ends before that attempt does. `jitter` (any
/// number) adds 0 to 10 %. The result is rounded up to a second, so that due entries share pages.
pub fn next_attempt(
    schedule_s: &[u32],
    finished: u32,
    started_at: Time,
    finished_at: Time,
    jitter: u64,
) -> Option<Time> {
    let wait_s = *schedule_s.get(finished.checked_sub(1)? as usize)?;
    let wait_ms = i64::from(wait_s) * SECOND_MS;
    let most = wait_ms / JITTER_PARTS;
    let late_ms = (jitter % (most as u64 + 1)) as i64;
    let due = started_at.plus_ms(wait_ms + late_ms).max(finished_at);
    Some(Time((due.0 + SECOND_MS - 1).div_euclid(SECOND_MS) * SECOND_MS))
}

/// Latest time at which the schedule can plan the next attempt, if the previous one begins at `now`. `finished` is the
/// number of scheduled attempts. `None` if none was made, or if the schedule has no such entry any more.
pub fn latest(schedule_s: &[u32], finished: u32, now: Time) -> Option<Time> {
    next_attempt(schedule_s, finished, now, now, 0).and_then(|_| {
        let wait_ms = i64::from(*schedule_s.get(finished as usize - 1)?) * SECOND_MS;
        next_attempt(schedule_s, finished, now, now, (wait_ms / JITTER_PARTS) as u64)
    })
}

/// The schedule's whole length in milliseconds, with maximum jitter and rounding. No attempt is planned after it.
pub fn longest_ms(schedule_s: &[u32], timeout_ms: u32) -> i64 {
    let waits: i64 =
        schedule_s.iter().map(|s| i64::from(*s) * SECOND_MS).map(|ms| ms + ms / JITTER_PARTS + SECOND_MS).sum();
    waits.saturating_add(i64::from(timeout_ms) * (schedule_s.len() as i64 + 1))
}

/// The forms of a date in HTTP (RFC 9110 section 5.6.7): the preferred one, and the two obsolete ones that must still
/// be read.
const HTTP_DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The time that `Retry-After` asks to wait for (RFC 9110 section 10.2.3), in seconds or as a date. It is capped and
/// never in the past.
pub fn retry_after(text: &str, now: Time) -> Option<Time> {
    let text = text.trim();
    let most = now.plus_ms(RETRY_AFTER_S_MAX * SECOND_MS);
    let until = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number with too many digits counts as the cap.
        text.parse::<u32>().map_or(most, |seconds| now.plus_ms(i64::from(seconds) * SECOND_MS))
    } else {
        let date = HTTP_DATES.iter().find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())?;
        Time::of_utc(date)
    };
    Some(until.min(most)).filter(|until| *until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_counts_from_the_start_and_jitter_only_adds() {
        let start = Time(1_000_000);
        let plain = next_attempt(&[60], 1, start, start.plus_ms(10), 0);
        assert_eq!(plain, Some(Time(1_060_000)));
        for jitter in [0, 1, 5_999, 6_000, u64::MAX] {
            let due = next_attempt(&[60], 1, start, start.plus_ms(10), jitter).unwrap();
            assert!((1_060_000..=1_067_000).contains(&due.0), "{due:?}");
            assert_eq!(due.0 % 1_000, 0);
        }
    }

    #[test]
    fn the_latest_time_is_that_of_the_greatest_jitter() {
        let now = Time(1_000_000);
        for (finished, expected) in
            [(0, None), (1, Some(now.plus_ms(66_000))), (2, Some(now.plus_ms(660_000))), (3, None)]
        {
            assert_eq!(latest(&[60, 600], finished, now), expected, "{finished}");
        }
        assert!((0..6_001).all(|jitter| next_attempt(&[60], 1, now, now, jitter) <= latest(&[60], 1, now)));
    }

    #[test]
    fn an_attempt_by_hand_leaves_the_schedule_where_it_is() {
        let start = Time(1_000_000);
        let attempt = FinishedAttempt {
            manual: true,
            position: 1,
            planned_at: Some(start.plus_ms(40_000)),
            started_at: start,
            finished_at: start.plus_ms(10),
        };
        let next = |attempt| after_failure(&[60, 600], attempt, 0);
        let unused = |at_ms| NextAttempt { at: Some(start.plus_ms(at_ms)), is_scheduled: false };
        let used = |at_ms| NextAttempt { at: Some(start.plus_ms(at_ms)), is_scheduled: true };
        assert_eq!(next(attempt), unused(40_000), "the planned attempt stays planned");
        let slow = FinishedAttempt { finished_at: start.plus_ms(50_000), ..attempt };
        assert_eq!(next(slow), unused(50_000), "never before the attempt has ended");
        // The retry was due already, because the webhook was paused or its circuit open.
        for planned_at in [None, Some(start), Some(start.plus_ms(-1))] {
            assert_eq!(next(FinishedAttempt { planned_at, ..attempt }), unused(60_000), "{planned_at:?}");
        }
        let first = FinishedAttempt { position: 0, ..attempt };
        assert_eq!(next(first), unused(40_000), "before its first attempt was due");
        assert_eq!(next(FinishedAttempt { planned_at: None, ..first }), used(60_000), "it is the first attempt");
        // An attempt of the schedule ignores a planned time.
        for planned_at in [None, attempt.planned_at] {
            let scheduled = FinishedAttempt { manual: false, planned_at, ..attempt };
            assert_eq!(next(scheduled), used(600_000), "{planned_at:?}");
        }
        let last = FinishedAttempt { manual: false, position: 2, ..attempt };
        assert_eq!(next(last), NextAttempt { at: None, is_scheduled: true });
    }

    #[test]
    fn a_retry_is_never_due_before_the_attempt_has_ended() {
        let start = Time(1_000_000);
        let due = next_attempt(&[5], 1, start, start.plus_ms(15_000), 0);
        assert_eq!(due, Some(Time(1_015_000)));
    }

    #[test]
    fn a_used_up_schedule_plans_nothing() {
        assert_eq!(next_attempt(&[], 1, Time(0), Time(0), 3), None);
        assert_eq!(next_attempt(SCHEDULES[0].1, 10, Time(0), Time(0), 3), None);
        assert!(next_attempt(SCHEDULES[0].1, 9, Time(0), Time(0), 3).is_some());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let now = Time(1_772_705_400_000);
        assert_eq!(retry_after("120", now), Some(now.plus_ms(120_000)));
        assert_eq!(retry_after("Thu, 05 Mar 2026 10:11:00 GMT", now), Some(Time(1_772_705_460_000)));
        assert_eq!(retry_after("999999999", now), Some(now.plus_ms(86_400_000)));
        assert_eq!(retry_after("99999999999999999999", now), Some(now.plus_ms(86_400_000)));
        assert_eq!(retry_after("Thursday, 05-Mar-26 10:11:00 GMT", now), Some(Time(1_772_705_460_000)));
        assert_eq!(retry_after("Thu Mar  5 10:11:00 2026", now), Some(Time(1_772_705_460_000)));
        for far in ["Fri, 31 Dec 9999 23:59:59 GMT", "Fri Dec 31 23:59:59 9999"] {
            assert_eq!(retry_after(far, now), Some(now.plus_ms(86_400_000)), "{far}");
        }
        assert_eq!(retry_after("Thu, 05 Mar 2020 10:11:00 GMT", now), None);
        assert_eq!(retry_after("Fri, 31 Dec 9999 23:59:59 GMT", now), Some(now.plus_ms(86_400_000)));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-5", now), None);
    }

    #[test]
    fn named_schedules_have_the_published_number_of_attempts() {
        let steps = |name| SCHEDULES.iter().find(|(known, _)| *known == name).expect("a schedule").1;
        assert_eq!(steps("standard").len() + 1, 10);
        assert_eq!(steps("dfns").len() + 1, 5);
        assert_eq!(steps("everlytic").iter().map(|s| u64::from(*s)).sum::<u64>(), 3 * 86_400);
        assert_eq!(steps("none"), [0_u32; 0]);
    }
}
