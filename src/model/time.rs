//! Points in time: Unix milliseconds, UTC. Shown as RFC 3339 with three decimals, stored as a number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub i64);

pub const SECOND_MS: i64 = 1_000;
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Time {
    pub const ZERO: Time = Time(0);
    pub const MAX: Time = Time(253_402_300_799_999);

    pub const fn plus_ms(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    pub const fn minus_ms(self, ms: i64) -> Time {
        Time(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this time. Negative if `earlier` is later.
    pub const fn since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND_MS)
    }

    pub const fn minute(self) -> u32 {
        self.0.div_euclid(MINUTE_MS) as u32
    }

    pub const fn hour(self) -> u32 {
        self.0.div_euclid(HOUR_MS) as u32
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// The error for text that is not an RFC 3339 time with an offset, or lies outside the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time such as 2026-11-22T03:29:00.123Z")
    }
}

impl FromStr for Time {
    type Err = NotATime;
    /// RFC 3339: date, `T`, time and an offset. Digits finer than a millisecond are cut.
    fn from_str(text: &str) -> Result<Time, NotATime> {
        let bytes = text.as_bytes();
        let dated = bytes.len() >= 20 && bytes[4] == b'-' && matches!(bytes[10], b'T' | b't' | b' ');
        if !dated || text.contains('[') {
            return Err(NotATime);
        }
        let at: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        Ok(Time(at.as_millisecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(from)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(from).map(Time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_are_shown() {
        let time = Time(1_772_704_800_120);
        assert_eq!(time.to_string(), "2026-03-05T10:00:00.120Z");
        assert_eq!("2026-03-05T10:00:00.120Z".parse(), Ok(time));
        assert_eq!("2026-03-05T11:00:00.12+01:00".parse(), Ok(time));
        assert_eq!(Time(1_772_704_800_000).to_string(), "2026-03-05T10:00:00.000Z");
    }

    #[test]
    fn what_is_no_rfc_3339_time_is_refused() {
        for text in
            ["", "2026-03-05", "2026-03-05T10:00:00", "999999-01-01T00:00:00Z", "1772704800", "20260305T100000Z"]
        {
            assert_eq!(text.parse::<Time>(), Err(NotATime), "{text}");
        }
    }
}
