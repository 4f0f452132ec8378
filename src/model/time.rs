//! Points in time: Unix milliseconds, UTC. Shown as RFC 3339 with three decimals, stored as a number.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;
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
    /// The last millisecond of the year 9999: RFC 3339 has four digits for a year.
    pub const MAX: Time = Time(253_402_300_799_999);
    /// The first millisecond of the year 0.
    pub const MIN: Time = Time(-62_167_219_200_000);

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

    /// The time at which UTC shows `datetime`, at most [`Time::MAX`] and at least [`Time::MIN`].
    ///
    /// `jiff::Timestamp` ends 26 hours before the year 9999 does. Calendar dates do not.
    pub fn of_utc(datetime: DateTime) -> Time {
        Time::of_civil(datetime, 0)
    }

    /// The time at which a clock that is `offset_s` seconds ahead of UTC shows `datetime`, within the same bounds.
    fn of_civil(datetime: DateTime, offset_s: i32) -> Time {
        let ms = datetime.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_millis() as i64;
        Time(ms).minus_ms(i64::from(offset_s) * SECOND_MS).clamp(Time::MIN, Time::MAX)
    }

    /// Reads an ISO 8601 time with an offset of less than a day, within the same bounds. `None` for other texts.
    pub fn parse_iso_8601(text: &str) -> Option<Time> {
        let pieces = DateTimeParser::new().parse_pieces(text).ok()?;
        let (time, offset) = (pieces.time()?, pieces.to_numeric_offset()?);
        let is_plain =
            pieces.time_zone_annotation().is_none() && i64::from(offset.seconds()).abs() * SECOND_MS < DAY_MS;
        is_plain.then(|| Time::of_civil(pieces.date().to_datetime(time), offset.seconds()))
    }

    pub const fn minute(self) -> u32 {
        self.0.div_euclid(MINUTE_MS) as u32
    }

    pub const fn hour(self) -> u32 {
        self.0.div_euclid(HOUR_MS) as u32
    }
}

/// The text of a time: RFC 3339 with three decimals.
struct TimeText([u8; 24]);

impl TimeText {
    /// The text of a date and time of the years 0 to 9999 in UTC.
    fn of(at: DateTime) -> TimeText {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[0..4], at.year().unsigned_abs());
        put_digits(&mut text[5..7], u16::from(at.month().unsigned_abs()));
        put_digits(&mut text[8..10], u16::from(at.day().unsigned_abs()));
        put_digits(&mut text[11..13], u16::from(at.hour().unsigned_abs()));
        put_digits(&mut text[14..16], u16::from(at.minute().unsigned_abs()));
        put_digits(&mut text[17..19], u16::from(at.second().unsigned_abs()));
        put_digits(&mut text[20..23], at.millisecond().unsigned_abs());
        TimeText(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Writes the last decimal digits of `number`, as many as `place` has bytes.
fn put_digits(place: &mut [u8], mut number: u16) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl Time {
    /// The text of this time. A time outside of [`Time::MIN`] and [`Time::MAX`] is shown as the nearer one of them.
    ///
    /// jiff converts the date, and the digits are written here: every event has three times, and jiff's own formatting
    /// takes ten times as long.
    fn text(self) -> TimeText {
        let shown = self.clamp(Time::MIN, Time::MAX);
        if let Ok(at) = jiff::Timestamp::from_millisecond(shown.0) {
            return TimeText::of(Offset::UTC.to_datetime(at));
        }
        let since_1970 = jiff::SignedDuration::from_millis(shown.0);
        TimeText::of(DateTime::constant(1970, 1, 1, 0, 0, 0, 0).saturating_add(since_1970))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// Text that is not an RFC 3339 time with an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time such as 2026-11-22T03:29:00.123Z")
    }
}

impl FromStr for Time {
    type Err = NotATime;
    /// RFC 3339: date, `T`, time and an offset. Digits finer than a millisecond are cut. An offset that leads out of the
    /// years 0 to 9999 gives the nearest time within them.
    fn from_str(text: &str) -> Result<Time, NotATime> {
        let bytes = text.as_bytes();
        let dated = bytes.len() >= 20 && bytes[4] == b'-' && matches!(bytes[10], b'T' | b't' | b' ');
        if !dated || text.contains('[') {
            return Err(NotATime);
        }
        Time::parse_iso_8601(text).ok_or(NotATime)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.serialize_str(self.text().as_str()) } else { to.serialize_i64(self.0) }
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
    fn times_of_any_year_read_back_as_they_are_shown() {
        for (text, shown) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999Z"),
            ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01.000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("0000-01-01T00:00:00+23:59", "0000-01-01T00:00:00.000Z"),
            ("1969-12-31T23:59:59.9Z", "1969-12-31T23:59:59.900Z"),
        ] {
            let time: Time = text.parse().expect(text);
            assert_eq!(time.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(time), "{text}");
        }
        assert_eq!("9999-12-31T23:59:59.999Z".parse(), Ok(Time::MAX));
        assert_eq!("0000-01-01T00:00:00Z".parse(), Ok(Time::MIN));
        assert_eq!(Time(i64::MAX).to_string(), Time::MAX.to_string());
        assert_eq!(Time(i64::MIN).to_string(), Time::MIN.to_string());
    }

    #[test]
    fn the_digits_are_those_of_jiff() {
        // Steps of 37 days and some milliseconds, so that every part of a date changes.
        let mut ms = Time::MIN.0;
        while let Ok(at) = jiff::Timestamp::from_millisecond(ms) {
            if at.as_millisecond() >= Time::MIN.0 {
                assert_eq!(Time(ms).to_string(), format!("{at:.3}"));
            }
            ms += 37 * DAY_MS + 12_345_678;
        }
        assert!(ms > Time::MAX.0 - 40 * DAY_MS);
    }

    #[test]
    fn an_offset_is_shorter_than_a_day() {
        let read = |offset: &str| format!("2026-03-05T10:00:00{offset}").parse::<Time>();
        assert!(read("+23:59").is_ok() && read("-23:59").is_ok());
        for offset in ["+24:00", "-24:00", "+25:59", "-25:59"] {
            assert_eq!(read(offset), Err(NotATime), "{offset}");
        }
    }

    #[test]
    fn any_other_text_is_no_time() {
        for text in
            ["", "2026-03-05", "2026-03-05T10:00:00", "999999-01-01T00:00:00Z", "1772704800", "20260305T100000Z"]
        {
            assert_eq!(text.parse::<Time>(), Err(NotATime), "{text}");
        }
    }
}
