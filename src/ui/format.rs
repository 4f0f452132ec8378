//! Numbers, sizes, times and foreign texts as pages write them.

use maud::{Markup, html};

use crate::model::Time;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `1,204`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant figures from 10,000 on: `12.4 k`.
pub fn short(number: u64) -> String {
    let scaled = |unit: u64, name: &str| {
        let whole = number / unit;
        match whole {
            0..10 => format!("{whole}.{:02} {name}", number % unit * 100 / unit),
            10..100 => format!("{whole}.{} {name}", number % unit * 10 / unit),
            _ => format!("{} {name}", count(whole)),
        }
    };
    match number {
        0..10_000 => count(number),
        10_000..1_000_000 => scaled(1_000, "k"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "M"),
        _ => scaled(1_000_000_000, "G"),
    }
}

/// `1 delivery`, `1,204 deliveries`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration of a request: `42 ms`, `3.71 s`.
pub fn millis(ms: u32) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        _ => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
    }
}

/// An age or a distance in its two largest units: `42 s`, `1 h 14 m`, `3 d 2 h`. A negative one is `0 s`.
pub fn age(ms: i64) -> String {
    let ms = ms.max(0);
    let two = |large: i64, unit: &str, small: i64, sub_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {sub_unit}"),
    };
    match ms {
        0..MINUTE_MS => format!("{} s", ms / SECOND_MS),
        MINUTE_MS..HOUR_MS if ms < 10 * MINUTE_MS => two(ms / MINUTE_MS, "m", ms % MINUTE_MS / SECOND_MS, "s"),
        MINUTE_MS..HOUR_MS => format!("{} m", ms / MINUTE_MS),
        HOUR_MS..DAY_MS => two(ms / HOUR_MS, "h", ms % HOUR_MS / MINUTE_MS, "m"),
        _ => two(ms / DAY_MS, "d", ms % DAY_MS / HOUR_MS, "h"),
    }
}

/// A size in powers of ten: `512 bytes`, `4.2 kB`, `88.4 GB`.
pub fn size(bytes: u64) -> String {
    let scaled = |unit: u64, name: &str| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => counted(bytes, "byte", "bytes"),
        1_000..1_000_000 => scaled(1_000, "kB"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "MB"),
        1_000_000_000..1_000_000_000_000 => scaled(1_000_000_000, "GB"),
        _ => scaled(1_000_000_000_000, "TB"),
    }
}

/// Percent with one decimal, halves up as in the API, but that only all of all is 100. `None` without any.
pub fn percent(ok: u64, all: u64) -> Option<String> {
    let (part, whole) = (u128::from(ok.min(all)), u128::from(all));
    let tenths = (part * 2_000 + whole).checked_div(whole * 2)?;
    let tenths = if part < whole { tenths.min(999) } else { tenths };
    Some(if tenths == 1_000 { "100 %".to_owned() } else { format!("{}.{} %", tenths / 10, tenths % 10) })
}

/// A text of others: control and direction characters as escapes, all others as they are. The joiners U+200C and U+200D
/// stay: emoji and scripts such as Persian and Hindi are written with them, and they change no direction.
pub fn foreign(text: &str) -> String {
    let is_odd = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
            || matches!(c, '\u{61c}' | '\u{2028}' | '\u{2029}')
    };
    if !text.chars().any(is_odd) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_odd(c) { shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))) } else { shown.push(c) }
    }
    shown
}

/// A moment: the time if it is of today in UTC, otherwise the date before it. The module adds the title.
pub fn moment(at: Time, now: Time) -> Markup {
    at_precision(at, now, false)
}

/// The same with milliseconds.
pub fn exact_moment(at: Time, now: Time) -> Markup {
    at_precision(at, now, true)
}

fn at_precision(at: Time, now: Time, is_exact: bool) -> Markup {
    let full = at.to_string();
    let clock = full.get(11..if is_exact { 23 } else { 19 }).unwrap_or_default();
    let is_today = full.get(..10) == now.to_string().get(..10);
    let precision = is_exact.then_some("ms");
    // Without milliseconds, where they are not shown: a list has many times.
    let stamp = if is_exact { full.clone() } else { format!("{}Z", full.get(..19).unwrap_or_default()) };
    html! {
        time datetime=(stamp) data-precision=[precision] {
            @if !is_today { (date(&full)) " " }
            (clock)
        }
    }
}

/// A time with its date and without seconds, for spans of days.
pub fn dated(at: Time) -> Markup {
    let full = at.to_string();
    let stamp = format!("{}Z", full.get(..16).unwrap_or_default());
    html! { time datetime=(stamp) data-precision="day" { (date(&full)) " " (full.get(11..16).unwrap_or_default()) } }
}

/// `28 Nov`.
fn date(full: &str) -> String {
    let month = full.get(5..7).and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let day = full.get(8..10).unwrap_or_default().trim_start_matches('0');
    format!("{day} {}", MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or_default())
}

/// A text in which backticks stand around commands and names.
pub fn with_code(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    // Without its partner a backtick is one of the text.
    if parts.len().is_multiple_of(2) {
        return html! { (foreign(text)) };
    }
    html! {
        @for (at, part) in parts.into_iter().enumerate() {
            @if at % 2 == 1 { code { (foreign(part)) } } @else { (foreign(part)) }
        }
    }
}

/// The age of a moment.
pub fn ago(at: Time, now: Time) -> Markup {
    let full = at.to_string();
    html! { time datetime=(full) data-age { (age(now.since(at))) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_or_three_figures() {
        for (number, exact, brief) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_204, "1,204", "1,204"),
            (12_499, "12,499", "12.4 k"),
            (123_456, "123,456", "123 k"),
            (1_234_567, "1,234,567", "1.23 M"),
            (u64::MAX, "18,446,744,073,709,551,615", "18,446,744,073 G"),
        ] {
            assert_eq!((count(number), short(number)), (exact.to_owned(), brief.to_owned()));
        }
    }

    #[test]
    fn durations_and_sizes_name_their_unit() {
        assert_eq!([42, 999, 1_000, 3_719, 15_000].map(millis), ["42 ms", "999 ms", "1.00 s", "3.71 s", "15.0 s"]);
        let ages = [-5, 42_000, 90_000, 29 * 60_000, 74 * 60_000, 86_400_000, 97 * 3_600_000].map(age);
        assert_eq!(ages, ["0 s", "42 s", "1 m 30 s", "29 m", "1 h 14 m", "1 d", "4 d 1 h"]);
        assert_eq!([1, 512, 4_250, 88_400_000_000].map(size), ["1 byte", "512 bytes", "4.2 kB", "88.4 GB"]);
    }

    #[test]
    fn only_all_of_all_is_100_percent() {
        assert_eq!(percent(9_999, 10_000).as_deref(), Some("99.9 %"));
        assert_eq!(percent(u64::MAX - 1, u64::MAX).as_deref(), Some("99.9 %"));
        assert_eq!(percent(5, 5).as_deref(), Some("100 %"));
        assert_eq!(percent(45, 97).as_deref(), Some("46.4 %"), "as `health::success_rate` rounds");
        assert_eq!((percent(0, 7).as_deref(), percent(0, 0)), (Some("0.0 %"), None));
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(foreign("a\u{202e}b\u{0}c\u{1b}[1m"), "a\\u{202e}b\\u{0}c\\u{1b}[1m");
        assert_eq!(foreign("Grüße\n\t😀"), "Grüße\n\t😀");
        assert_eq!(foreign("👨\u{200d}👩\u{200d}👧 می\u{200c}خواهم"), "👨\u{200d}👩\u{200d}👧 می\u{200c}خواهم");
    }

    #[test]
    fn commands_between_backticks_are_code() {
        let shown = |text: &str| with_code(text).into_string();
        assert_eq!(shown("run `a --b` and `<c>`"), "run <code>a --b</code> and <code>&lt;c&gt;</code>");
        assert_eq!(shown("an odd ` stays"), "an odd ` stays");
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let now = Time(1_772_704_800_120);
        let today = moment(now.minus_ms(1_000), now).into_string();
        assert!(today.contains("datetime=\"2026-03-05T09:59:59Z\"") && today.contains(">09:59:59<"), "{today}");
        let before = moment(now.minus_ms(DAY_MS), now).into_string();
        assert!(before.contains(">4 Mar 10:00:00<"), "{before}");
    }
}
