//! Durations on the command line: `30s`, `5m`, `2h`, `31d`, or a bare number in the unit that the flag has had.

use std::time::Duration;

use crate::config::duration_ms_of;

/// Milliseconds of a duration; a bare number counts `unit_ms`.
///
/// # Errors
/// The second half of a sentence that begins with the text.
pub fn ms_of(text: &str, unit_ms: u64) -> Result<u64, String> {
    let bare = || text.parse::<u64>().ok()?.checked_mul(unit_ms);
    let written = || duration_ms_of(text).and_then(|ms| u64::try_from(ms).ok());
    bare().or_else(written).ok_or_else(|| "no duration such as 30s, 5m, 2h or 31d".to_owned())
}

/// A duration; a bare number is seconds.
pub fn read(text: &str) -> Result<Duration, String> {
    ms_of(text, 1000).map(Duration::from_millis)
}

/// Whole seconds; a bare number is seconds.
///
/// # Errors
/// No duration, or one with a part of a second.
pub fn seconds(text: &str) -> Result<u64, String> {
    match ms_of(text, 1000)? {
        ms if ms % 1000 == 0 => Ok(ms / 1000),
        _ => Err("no whole number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_the_flags_own() {
        for (text, s) in [("5m", 300), ("2h", 7_200), ("31d", 2_678_400), ("90", 90), ("1h 30m", 5_400), ("0", 0)] {
            assert_eq!(seconds(text), Ok(s), "{text}");
        }
        assert_eq!((ms_of("15000", 1), ms_of("15s", 1), ms_of("250ms", 1)), (Ok(15_000), Ok(15_000), Ok(250)));
        assert_eq!(read("1500ms"), Ok(Duration::from_millis(1_500)));
        for wrong in ["", "soon", "-5m", "5 x", "1500ms", "99999999999999999999"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
