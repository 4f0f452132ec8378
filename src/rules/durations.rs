//! Writes durations as people read them: `30s`, `5m`, `2h`, `31d`.

const UNITS: [(i64, i64, &str); 4] = [(86_400_000, 2, "d"), (3_600_000, 1, "h"), (60_000, 1, "m"), (1_000, 0, "s")];

/// The shortest exact text of a duration. One day is `24h`. From two days on, days are counted.
pub fn exact(ms: i64) -> String {
    match UNITS.iter().find(|(unit, least, _)| ms % unit == 0 && ms / unit >= *least) {
        Some((unit, _, name)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

/// A duration in its largest unit of which it has two at least, rounded down: `40d`, `90m`, `3s`.
pub fn rough(ms: i64) -> String {
    let (unit, _, name) = UNITS.iter().find(|(unit, ..)| ms / unit >= 2).unwrap_or(&UNITS[3]);
    format!("{}{name}", ms / unit)
}

/// A duration in the unit of [`rough`], rounded to the nearest: `3h` for 2:59:59.
pub fn nearest(ms: i64) -> String {
    let (unit, _, name) = UNITS.iter().find(|(unit, ..)| ms / unit >= 2).unwrap_or(&UNITS[3]);
    format!("{}{name}", (ms + unit / 2) / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_with_its_unit() {
        for (ms, text) in [(0, "0s"), (999, "999ms"), (90_000, "90s"), (86_400_000, "24h"), (432_000_000, "5d")] {
            assert_eq!(exact(ms), text, "{ms}");
        }
        for (ms, text) in [(0, "0s"), (1_999, "1s"), (90_999, "90s"), (5_400_000, "90m"), (3_456_017_000, "40d")] {
            assert_eq!(rough(ms), text, "{ms}");
        }
        for (ms, text) in [(0, "0s"), (10_799_000, "3h"), (7_200_000, "2h"), (5_430_000, "91m"), (5_429_999, "90m")] {
            assert_eq!(nearest(ms), text, "{ms}");
        }
    }
}
