//! Moments on the command line: absolute, or as a distance from now. Only this module of the command line reads the
//! clock, for such distances and for the time at which a request arrived.
#![allow(
    clippy::disallowed_methods,
    reason = "a distance such as 90m counts from the clock of the person who writes it"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use super::Exit;
use crate::config::duration_ms_of;
use crate::model::Time;

/// The direction of a distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `24h` is 24 hours ago: `--from`, `--to`.
    Back,
    /// `24h` is in 24 hours: `--deliver-at`, `--expires-at`.
    Ahead,
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC, with milliseconds, as the API writes it.
pub fn rfc3339(ms: i64) -> String {
    Time(ms).to_string()
}

/// Reads `2026-11-22T03:29:00Z` (any offset), `2026-11-22` (its first moment, UTC), or a distance such as `90m`. A distance
/// that leads out of the years 0 to 9999 gives the nearest moment within them.
pub fn read(flag: &str, text: &str, direction: Direction, now_ms: i64) -> Result<String, Exit> {
    let written = || Time::parse_iso_8601(text).or_else(|| Time::parse_iso_8601(&format!("{text}T00:00:00Z")));
    let distant = || {
        let distance_ms = duration_ms_of(text).filter(|distance_ms| *distance_ms >= 0)?;
        Some(match direction {
            Direction::Back => Time(now_ms).minus_ms(distance_ms),
            Direction::Ahead => Time(now_ms).plus_ms(distance_ms),
        })
    };
    written().or_else(distant).map(|moment| moment.to_string()).ok_or_else(|| {
        let distance = match direction {
            Direction::Back => "90m ago as 90m",
            Direction::Ahead => "in 90 minutes as 90m",
        };
        Exit::usage(format!("{flag}: `{text}` is no moment such as 2026-11-22T03:29:00Z, 2026-11-22, or {distance}"))
    })
}

/// [`read`] for a flag that may be missing.
pub fn read_optional(flag: &str, text: Option<&String>, direction: Direction) -> Result<Option<String>, Exit> {
    text.map(|text| read(flag, text, direction, now_ms())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T03:29:00.000Z
    const NOW_MS: i64 = 1_795_318_140_000;

    fn at(text: &str, direction: Direction) -> Option<String> {
        read("--from", text, direction, NOW_MS).ok()
    }

    #[test]
    fn moments_are_written_out_or_distant() {
        use Direction::{Ahead, Back};
        let expected = Some("2026-11-22T03:29:00.000Z".to_owned());
        assert_eq!(rfc3339(NOW_MS), "2026-11-22T03:29:00.000Z");
        assert_eq!(at("2026-11-22T03:29:00Z", Back), expected);
        assert_eq!(at("2026-11-22T04:29:00+01:00", Back), expected);
        assert_eq!(at("2026-11-22", Back).as_deref(), Some("2026-11-22T00:00:00.000Z"));
        assert_eq!(at("24h", Back).as_deref(), Some("2026-11-21T03:29:00.000Z"));
        assert_eq!(at("90m", Ahead).as_deref(), Some("2026-11-22T04:59:00.000Z"));
    }

    #[test]
    fn moments_far_away_are_as_far_as_a_year_can_be_written() {
        use Direction::{Ahead, Back};
        let last = "9999-12-31T23:59:59.999Z";
        assert_eq!(at("9999-12-31T23:59:59.999Z", Ahead).as_deref(), Some(last));
        assert_eq!(at("9999-12-31", Ahead).as_deref(), Some("9999-12-31T00:00:00.000Z"));
        assert_eq!(at("7000000d", Ahead).as_deref(), Some(last));
        assert_eq!(at("7000000d", Back).as_deref(), Some("0000-01-01T00:00:00.000Z"));
    }

    #[test]
    fn any_other_text_is_a_usage_error_that_names_the_flag() {
        for wrong in ["yesterday", "", "-5m", "2026-13-01", "99999999999d", "12"] {
            let exit = read("--from", wrong, Direction::Back, NOW_MS).expect_err(wrong);
            assert_eq!(exit.code(), 2);
            assert!(exit.text().contains("--from: `"), "{}", exit.text());
        }
    }
}
