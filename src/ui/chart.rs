//! Charts as SVG, from numbers alone: geometry is in attributes, because the policy of pages forbids inline styles.
//!
//! Invariant: nothing is outside of its box, and a value that is not zero is visible.

use maud::{Markup, PreEscaped, html};

use crate::model::time::HOUR_MS;
use crate::model::{Time, Timings};

use super::format;

/// Height of a chart in its own units.
const HEIGHT: u64 = 100;
/// The smallest height of a value that is not zero.
const SEEN_MIN: u64 = 2;

/// The smallest height of a half with a line through its middle.
const MIDDLE_LINE_MIN: u64 = HEIGHT / 3;
/// Height of the bars in a row of a table.
const SPARK_HEIGHT: u64 = 26;

/// The hours and minutes in an RFC 3339 time.
const CLOCK: std::ops::Range<usize> = 11..16;

/// The time axis of a chart: equal steps from a time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChartAxis {
    pub from: Time,
    pub step_ms: i64,
}

impl ChartAxis {
    /// The start of a step. Steps of more than an hour belong to spans of days, so that their times have a date.
    pub fn time(&self, step: usize) -> Markup {
        let at = self.from.plus_ms(self.step_ms.saturating_mul(step as i64));
        if self.step_ms > HOUR_MS {
            return format::dated(at);
        }
        let stamp = at.to_string();
        html! { time datetime=(stamp) data-precision="min" { (stamp.get(CLOCK).unwrap_or_default()) } }
    }

    /// Four times below a chart of this many steps.
    fn below(&self, steps: usize) -> Markup {
        html! { .x aria-hidden="true" { @for part in 0..4 { span { (self.time(steps * part / 3)) } } } }
    }
}

/// Attempts of one step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bin {
    pub ok: u64,
    pub failed: u64,
}

/// A value in units of a box, at least visible.
fn scaled(value: u64, max: u64, room: u64) -> u64 {
    match value {
        0 => 0,
        _ => (u128::from(value) * u128::from(room) / u128::from(max.max(1)))
            .max(u128::from(SEEN_MIN))
            .min(u128::from(room)) as u64,
    }
}

/// The scale of bars: succeeded attempts go up and failed ones go down by one measure, and their highest bars fill the
/// room together.
struct BarScale {
    /// The highest values.
    most: Bin,
    room: u64,
    /// The height of the half that goes up.
    up: u64,
}

impl BarScale {
    fn of(bins: &[Bin], room: u64) -> BarScale {
        let most = bins
            .iter()
            .fold(Bin::default(), |most, bin| Bin { ok: most.ok.max(bin.ok), failed: most.failed.max(bin.failed) });
        let up = match most.failed {
            0 => room,
            failed => scaled(most.ok, most.ok.saturating_add(failed), room).min(room - SEEN_MIN),
        };
        BarScale { most, room, up }
    }

    fn height(&self, value: u64) -> u64 {
        scaled(value, self.most.ok.saturating_add(self.most.failed), self.room)
    }

    fn high(&self, bin: &Bin) -> u64 {
        self.height(bin.ok).min(self.up)
    }

    fn low(&self, bin: &Bin) -> u64 {
        self.height(bin.failed).min(self.room - self.up)
    }
}

/// The bars of a chart.
fn bars(bins: &[Bin], scale: &BarScale) -> (String, String) {
    let up = scale.up;
    let (mut ok, mut bad) = (String::new(), String::new());
    for (x, bin) in bins.iter().enumerate() {
        let x = x * 4;
        let (high, low) = (scale.high(bin), scale.low(bin));
        if high > 0 {
            ok.push_str(&format!("M{x} {up}v-{high}h3V{up}"));
        }
        if low > 0 {
            bad.push_str(&format!("M{x} {0}v{low}h3V{0}", up + 1));
        }
    }
    (ok, bad)
}

/// Bars without gaps as one outline from the height `base` on: a list has many of them, and is short by that.
fn outline(heights: impl Iterator<Item = u64>, base: u64, is_up: bool) -> String {
    let mut path = format!("M0 {base}");
    let (mut at, mut width) = (base, 0);
    for height in heights {
        let top = if is_up { base - height } else { base + height };
        if top != at {
            path.push_str(&if width > 0 { format!("h{width}V{top}") } else { format!("V{top}") });
            (at, width) = (top, 0);
        }
        width += 4;
    }
    path + &format!("h{width}V{base}")
}

/// 24 bars in a row of a table.
pub fn spark(bins: &[Bin]) -> Markup {
    let scale = BarScale::of(bins, SPARK_HEIGHT - 1);
    let ok = outline(bins.iter().map(|bin| scale.high(bin)), scale.up, true);
    let bad = outline(bins.iter().map(|bin| scale.low(bin)), scale.up + 1, false);
    html! {
        svg.spark viewBox={ "0 0 " (bins.len() * 4) " " (SPARK_HEIGHT) } role="img" aria-label=(totals(bins)) {
            path.c-ok d=(PreEscaped(ok)) {}
            @if bins.iter().any(|bin| bin.failed > 0) { path.c-bad d=(PreEscaped(bad)) {} }
        }
    }
}

fn totals(bins: &[Bin]) -> String {
    let (ok, failed) = bins.iter().fold((0, 0), |(ok, failed), bin| (ok + bin.ok, failed + bin.failed));
    format!("{} succeeded and {} failed", format::counted(ok, "attempt", "attempts"), format::count(failed))
}

/// A chart of attempts with its words, above the same numbers as a table.
pub fn attempts(title: &str, bins: &[Bin], axis: ChartAxis, table: &Markup) -> Markup {
    let scale = BarScale::of(bins, HEIGHT - 1);
    let (ok, bad) = bars(bins, &scale);
    let width = bins.len() * 4;
    let (up, most) = (scale.up, scale.most);
    html! {
        figure.chart {
            figcaption {
                b { (title) }
                span.legend { (key("c-ok", "succeeded")) (key("c-bad", "failed")) }
            }
            .plot.tall.down[most.failed > 0] {
                svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                    aria-label=(totals(bins)) {
                    path.grid d=(PreEscaped(grid(&scale, width))) {}
                    path.c-ok d=(PreEscaped(ok)) {}
                    path.c-bad d=(PreEscaped(bad)) {}
                    path.base d={ "M0 " (up) ".5H" (width) } {}
                }
                @if most.ok > 0 { span.y aria-hidden="true" { (format::short(most.ok)) } }
                @if most.failed > 0 { span.y.low aria-hidden="true" { (format::short(most.failed)) } }
            }
            (axis.below(bins.len()))
            (table)
        }
    }
}

/// The lines behind bars: one at each highest value, and one through the middle of a half that has room for it.
fn grid(scale: &BarScale, width: usize) -> String {
    let (up, end) = (scale.up, HEIGHT - 1);
    let mut path = format!("M0 1H{width}");
    for (height, middle) in [(up, up / 2), (end - up, (HEIGHT + up) / 2)] {
        if height >= MIDDLE_LINE_MIN {
            path.push_str(&format!("M0 {middle}H{width}"));
        }
    }
    if scale.most.failed > 0 {
        path.push_str(&format!("M0 {end}H{width}"));
    }
    path
}

/// The pieces of a line, each of values that follow each other: a value that is not known is a gap.
fn pieces(values: &[Option<u64>], most: u64) -> Vec<Vec<(usize, u64)>> {
    let mut pieces: Vec<Vec<(usize, u64)>> = vec![Vec::new()];
    for (x, value) in values.iter().enumerate() {
        match (value, pieces.last_mut()) {
            (Some(value), Some(piece)) => piece.push((x * 4 + 2, HEIGHT - scaled(*value, most, HEIGHT))),
            (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
            _ => {}
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// A line through the pieces. A piece of one value is as wide as its step.
fn line(pieces: &[Vec<(usize, u64)>]) -> String {
    let mut path = String::new();
    for piece in pieces {
        for (at, (x, y)) in piece.iter().enumerate() {
            match (at, piece.len()) {
                (0, 1) => path.push_str(&format!("M{} {y}h4", x - 2)),
                (0, _) => path.push_str(&format!("M{x} {y}")),
                _ => path.push_str(&format!("L{x} {y}")),
            }
        }
    }
    path
}

/// The area below the pieces.
fn area(pieces: &[Vec<(usize, u64)>]) -> String {
    let below = |piece: &Vec<(usize, u64)>| {
        let (first, last) = (piece.first()?.0, piece.last()?.0);
        let tops: String = piece.iter().map(|(x, y)| format!("L{x} {y}")).collect();
        Some(format!("M{first} {HEIGHT}{tops}L{last} {HEIGHT}z"))
    };
    pieces.iter().filter_map(below).collect()
}

/// A chart of lines, whose highest value is `most` in words, above the same numbers as a table.
fn lines(
    title: &str,
    legend: &Markup,
    label: &str,
    most: &str,
    (steps, drawing): (usize, &Markup),
    (axis, table): (ChartAxis, &Markup),
) -> Markup {
    let width = steps * 4;
    html! {
        figure.chart {
            figcaption { b { (title) } span.legend { (legend) } }
            .plot {
                svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
                    path.grid d={ "M0 1H" (width) "M0 50H" (width) } {}
                    (drawing)
                    path.base d={ "M0 99.5H" (width) } {}
                }
                span.y aria-hidden="true" { (most) }
            }
            (axis.below(steps))
            (table)
        }
    }
}

/// A chart of the deliveries that waited at the end of each step.
pub fn waiting(values: &[Option<u64>], axis: ChartAxis, table: &Markup) -> Markup {
    let most = values.iter().flatten().copied().max().unwrap_or(0);
    let now = values.last().copied().flatten().unwrap_or(0);
    let pieces = pieces(values, most);
    let drawing = html! {
        path.area d=(PreEscaped(area(&pieces))) {}
        path.line.edge d=(PreEscaped(line(&pieces))) {}
    };
    let label =
        format!("{} now, at most {}", format::counted(now, "delivery waits", "deliveries wait"), format::count(most));
    let legend = html! { "now " (format::count(now)) };
    lines("Waiting", &legend, &label, &format::short(most), (values.len(), &drawing), (axis, table))
}

/// A chart of response times at 50 and 95 percent, in milliseconds.
pub fn responses(percentiles: &[Vec<Option<u64>>; 2], axis: ChartAxis, table: &Markup) -> Markup {
    let most = percentiles.iter().flatten().flatten().copied().max();
    let shown = |ms: u64| format::millis(u32::try_from(ms).unwrap_or(u32::MAX));
    let drawing = html! {
        @for (values, class) in percentiles.iter().zip(["line c-p50", "line c-p95"]).rev() {
            path class=(class) d=(PreEscaped(line(&pieces(values, most.unwrap_or(0))))) {}
        }
    };
    let last =
        |at: usize| percentiles[at].iter().rev().flatten().next().map_or_else(|| "–".to_owned(), |ms| shown(*ms));
    let words = match most {
        None => "kept by the hour, and none here".to_owned(),
        Some(_) => format!("p50 {}, p95 {} at last", last(0), last(1)),
    };
    let label = format!("Response times: {words}");
    let top = most.map(shown).unwrap_or_default();
    lines("Response time", &html! { (words) }, &label, &top, (percentiles[0].len(), &drawing), (axis, table))
}

/// A square of a colour with its word.
pub fn key(class: &str, word: &str) -> Markup {
    html! { span { svg viewBox="0 0 9 9" aria-hidden="true" { path class=(class) d="M0 0h9v9H0z" {} } (word) } }
}

/// The time split of an attempt: name of the phase, colour, milliseconds.
fn phases(timings: &Timings) -> Vec<(&'static str, &'static str, u32)> {
    let known = [timings.dns, timings.connect, timings.tls, timings.first_byte];
    let spent: u32 = known.iter().flatten().fold(0, |sum, ms| sum.saturating_add(*ms));
    let names = [("dns", "f-dns"), ("connect", "f-con"), ("tls", "f-tls"), ("wait", "f-wait")];
    let mut phases: Vec<_> =
        names.into_iter().zip(known).filter_map(|((name, class), ms)| ms.map(|ms| (name, class, ms))).collect();
    let rest = timings.total.saturating_sub(spent);
    // Without a first byte the rest is the time that was waited for it.
    phases.push(if timings.first_byte.is_some() { ("body", "f-body", rest) } else { ("wait", "f-wait", rest) });
    phases
}

/// The time split as a bar, whose full width is `longest_ms`, and the same in words.
pub fn split(timings: &Timings, longest_ms: u32) -> Markup {
    let phases = phases(timings);
    let words: Vec<String> = phases.iter().map(|(name, _, ms)| format!("{name} {ms} ms")).collect();
    let mut from = 0;
    let mut bars = Vec::new();
    for (_, class, ms) in phases {
        let width = (u64::from(ms) * 200).checked_div(u64::from(longest_ms)).unwrap_or(0).min(200 - from);
        bars.push((class, from, width));
        from += width;
    }
    html! {
        svg.fall viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true" {
            path.grid d="M0 12H200" {}
            @for (class, from, width) in bars {
                @if width > 0 { path class=(class) d={ "M" (from) " 0h" (width) "v12h-" (width) "z" } {} }
            }
        }
        span.vh { (words.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_outside_of_the_box_and_nothing_is_invisible() {
        for value in [0, 1, 2, 1_000_000, u64::MAX / 2, u64::MAX] {
            for max in [value, value.max(u64::MAX - 1), u64::MAX] {
                let high = scaled(value, max.max(value), 82);
                assert!(high <= 82 && (value == 0) == (high == 0), "{value} {max} {high}");
            }
        }
        let heights: Vec<u64> = (0..500).map(|value| scaled(value * 7, 3_500, 82)).collect();
        assert!(heights.is_sorted());
    }

    #[test]
    fn a_line_stays_in_its_box_and_has_gaps() {
        let values = [Some(0), Some(u64::MAX), None, None, Some(7), None, Some(1), Some(2)];
        let pieces = pieces(&values, u64::MAX);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2]);
        assert!(pieces.iter().flatten().all(|(x, y)| *x < values.len() * 4 && *y <= HEIGHT));
        assert_eq!((pieces[0][0].1, pieces[0][1].1, pieces[1][0].1), (HEIGHT, 0, HEIGHT - SEEN_MIN));
        assert_eq!(line(&pieces[..2]), "M2 100L6 0M16 98h4");
        assert_eq!(area(&pieces[..1]), "M2 100L2 100L6 0L6 100z");
        let axis = ChartAxis { from: Time(0), step_ms: HOUR_MS };
        for empty in [vec![], vec![None; 3]] {
            let table = html! { "a table" };
            let shown = waiting(&empty, axis, &table).into_string()
                + &responses(&[empty.clone(), empty], axis, &table).into_string();
            assert!(shown.contains("0 deliveries wait now") && shown.contains("none here"), "{shown}");
        }
    }

    #[test]
    fn response_times_of_0_ms_are_data() {
        let axis = ChartAxis { from: Time(0), step_ms: HOUR_MS };
        let fast = vec![None, Some(0)];
        let shown = responses(&[fast.clone(), fast], axis, &html! { "a table" }).into_string();
        assert!(shown.contains("p50 0 ms, p95 0 ms at last") && !shown.contains("none here"), "{shown}");
    }

    #[test]
    fn small_bars_are_one_outline_in_their_box() {
        let bins = [(9, 0), (9, 3), (0, 900), (900, 0)].map(|(ok, failed)| Bin { ok, failed });
        let shown = spark(&bins).into_string();
        assert!(shown.contains("d=\"M0 12V10h8V12h4V0h4V12\""), "{shown}");
        assert!(shown.contains("d=\"M0 13h4V15h4V25h4V13h4V13\""), "{shown}");
        let fine = spark(&bins[..1]).into_string();
        assert!(fine.contains("d=\"M0 25V0h4V25\"") && !fine.contains("c-bad"), "{fine}");
    }

    #[test]
    fn bars_up_and_down_have_one_scale() {
        let bins = [(67, 0), (0, 56), (1, 1)].map(|(ok, failed)| Bin { ok, failed });
        let scale = BarScale::of(&bins, 99);
        assert_eq!((scale.up, scale.high(&bins[0]), scale.low(&bins[1])), (53, 53, 45), "67 and 56 of 123");
        assert_eq!((scale.high(&bins[2]), scale.low(&bins[2])), (SEEN_MIN, SEEN_MIN));
        let shown = attempts("a", &bins, ChartAxis { from: Time(0), step_ms: HOUR_MS }, &html! {}).into_string();
        assert!(
            shown.contains("M0 53v-53h3V53M8 53v-2h3V53") && shown.contains("M4 54v45h3V54M8 54v2h3V54"),
            "{shown}"
        );
        assert!(shown.contains(">67</span>") && shown.contains("class=\"y low\" aria-hidden=\"true\">56<"), "{shown}");
        for (ok, failed, up) in [(0, 0, 99), (7, 0, 99), (0, 7, 0), (1, u64::MAX, 2), (u64::MAX, 1, 97)] {
            let bin = Bin { ok, failed };
            let scale = BarScale::of(&[bin], 99);
            assert_eq!(
                (scale.up, scale.high(&bin) > 0, scale.low(&bin) > 0),
                (up, ok > 0, failed > 0),
                "{ok} {failed}"
            );
            assert!(scale.high(&bin) + scale.low(&bin) <= 99, "{ok} {failed}");
        }
    }

    #[test]
    fn a_split_is_as_wide_as_its_time() {
        let timings = Timings { dns: Some(2), connect: Some(11), tls: Some(26), first_byte: Some(171), total: 214 };
        let shown = split(&timings, 214).into_string();
        assert!(shown.contains("dns 2 ms, connect 11 ms, tls 26 ms, wait 171 ms, body 4 ms"), "{shown}");
        // Of a timeout no byte came, and the time was waited.
        let late = Timings { first_byte: None, total: 1_000, ..timings };
        let shown = split(&late, 1_000).into_string();
        assert!(shown.contains("tls 26 ms, wait 961 ms<") && !shown.contains("body"), "{shown}");
        let odd = Timings { first_byte: Some(u32::MAX), total: 1, ..timings };
        let shown = split(&odd, 1).into_string();
        assert!(shown.contains("M0 0h200v12h-200z") && !shown.contains("h-0"), "{shown}");
    }
}
