//! Rows and records as text of a limited width, without IO. Text from the network is sanitised first, so that no
//! control character of a webhook's name or an error text reaches the terminal.

use std::cell::Cell;

use serde_json::Value;

use super::noun::{self, Noun};
use super::paint::Paint;
use super::wrap::wrapped;
use crate::rules::durations;

const GAP: usize = 2;
/// Minimum width to which a text is cut. It is never cut below its title.
const COLUMN_WIDTH_MIN: usize = 6;
/// Minimum width of a sentence that goes on below itself, in the last column of a list in a record.
const SENTENCE_WIDTH_MIN: usize = 30;
/// A text of a record is shown up to this length on a terminal.
const BODY_CHARS_MAX: usize = 2_000;
const ELLIPSIS: char = '…';

/// One column of a list: its title, the member of a row that it shows, and its kind.
#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub field: &'static str,
    pub kind: Kind,
    ids: Ids,
}

/// Whose ids a column shows.
#[derive(Clone, Copy)]
enum Ids {
    Plain,
    Of(Noun),
    /// The id is of the noun that the row's action names.
    OfAction,
}

/// The form of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Cut if the line is too narrow.
    Text,
    /// Never cut, so that it can be copied.
    Id,
    /// A moment of the last weeks, to the second, UTC: month, day and time.
    Time,
    /// A moment that may be far away, as a day in UTC.
    Day,
    /// A word whose meaning has a colour. It is never cut.
    Word,
    /// Right-aligned and never cut.
    Number,
}

/// A column that may be cut.
pub const fn text(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Text, ids: Ids::Plain }
}

/// A column of ids, with the prefix of their noun.
pub const fn id(title: &'static str, field: &'static str, noun: Noun) -> Column {
    Column { title, field, kind: Kind::Id, ids: Ids::Of(noun) }
}

/// A column of the objects on which the actions of the rows act.
pub const fn target(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Id, ids: Ids::OfAction }
}

/// A column of moments.
pub const fn time(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Time, ids: Ids::Plain }
}

/// A column of numbers.
pub const fn number(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Number, ids: Ids::Plain }
}

/// A column of days.
pub const fn day(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Day, ids: Ids::Plain }
}

/// A column of states.
pub const fn word(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Word, ids: Ids::Plain }
}

impl Column {
    /// Minimum width, for the title and the values of later pages.
    fn least(&self) -> usize {
        let kind = match self.kind {
            Kind::Id | Kind::Text => COLUMN_WIDTH_MIN,
            Kind::Time => "11-22 03:29:00".len(),
            Kind::Day => "2026-11-22".len(),
            Kind::Word => "delivered".len(),
            Kind::Number => 4,
        };
        kind.max(self.title.chars().count())
    }
}

/// A list whose columns and widths are settled by its first rows, so that later pages line up below.
pub struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    is_cut: bool,
    paint: Paint,
    /// Whether a cell was cut.
    has_cuts: Cell<bool>,
    are_cuts_told: Cell<bool>,
}

impl Table {
    /// Fits the columns to `width` characters by the content of `rows`. Texts are cut and columns omitted, the last first. The
    /// first column always stays. With `None` nothing is cut.
    pub fn fitted(columns: &'static [Column], rows: &[Value], width: Option<usize>, paint: Paint) -> Self {
        let natural = |column: &Column| {
            let cells = rows.iter().map(|row| cell(row, column).chars().count());
            cells.max().unwrap_or(0).max(column.least())
        };
        let natural: Vec<usize> = columns.iter().map(natural).collect();
        let (has_cuts, are_cuts_told) = (Cell::default(), Cell::default());
        let made = |widths, is_cut| Self { columns, widths, is_cut, paint, has_cuts, are_cuts_told };
        let Some(width) = width else {
            return made(natural, false);
        };
        let mut shown = columns.len();
        loop {
            let widths = fit(&columns[..shown], natural[..shown].to_vec(), width);
            if line_chars(&widths) <= width || shown == 1 {
                return made(widths, true);
            }
            shown -= 1;
        }
    }

    /// The number of columns that did not fit.
    pub fn left_out(&self) -> usize {
        self.columns.len() - self.widths.len()
    }

    /// Whether cells were cut, once: the first call after the first cut.
    pub fn has_new_cuts(&self) -> bool {
        self.has_cuts.get() && !self.are_cuts_told.replace(true)
    }

    /// The line of titles.
    pub fn head(&self) -> String {
        let titles = self.columns.iter().map(|column| column.title.to_owned());
        self.paint.strong(&self.line(titles, |_, text| text))
    }

    /// The line of one row.
    pub fn row(&self, row: &Value) -> String {
        let cells = self.columns.iter().map(|column| cell(row, column));
        self.line(cells, |column, text| match column.kind {
            Kind::Word => self.paint.word(&text),
            _ => text,
        })
    }

    fn line(&self, cells: impl Iterator<Item = String>, paint: impl Fn(&Column, String) -> String) -> String {
        let mut line = String::new();
        for ((text, column), width) in cells.zip(self.columns).zip(&self.widths) {
            let text = match self.is_cut {
                true if cut(&text, *width, column.kind) != text => {
                    self.has_cuts.set(true);
                    cut(&text, *width, column.kind)
                }
                _ => text,
            };
            let pad = " ".repeat(width.saturating_sub(text.chars().count()));
            match column.kind {
                Kind::Number => line.extend([pad, paint(column, text)]),
                _ => line.extend([paint(column, text), pad]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn line_chars(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// Narrows the widest column that may be cut, one character at a time, until the line fits or no column can be cut.
fn fit(columns: &[Column], mut widths: Vec<usize>, width: usize) -> Vec<usize> {
    for (i, column) in columns.iter().enumerate() {
        if column.kind == Kind::Text {
            widths[i] = widths[i].min(width.max(column.least()));
        }
    }
    while line_chars(&widths) > width {
        let give = (0..columns.len()).filter(|i| columns[*i].kind == Kind::Text && widths[*i] > columns[*i].least());
        match give.max_by_key(|i| widths[*i]) {
            Some(i) => widths[i] -= 1,
            None => break,
        }
    }
    widths
}

fn cut(text: &str, width: usize, kind: Kind) -> String {
    if kind != Kind::Text || text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain([ELLIPSIS]).collect()
}

/// One line of at most `width` characters.
pub fn one_line(text: &str, width: usize) -> String {
    cut(&harmless(text), width, Kind::Text)
}

fn cell(row: &Value, column: &Column) -> String {
    let value = column.field.split('.').fold(row, |value, member| &value[member]);
    let text = harmless(&plain(value));
    let noun = match column.ids {
        Ids::Plain => None,
        Ids::Of(noun) => Some(noun),
        Ids::OfAction => row["action"].as_str().and_then(Noun::of_action),
    };
    let text = noun.map_or(text.clone(), |noun| noun::shown(noun.prefix(), text));
    match column.kind {
        Kind::Time => part(text, 5..19),
        Kind::Day => part(text, 0..10),
        _ => text,
    }
}

/// A part of an RFC 3339 moment, with a space for its `T`. Other texts are unchanged.
fn part(text: String, range: std::ops::Range<usize>) -> String {
    match (text.get(range), text.as_bytes().get(10)) {
        (Some(part), Some(b'T')) => part.replace('T', " "),
        _ => text,
    }
}

/// A value in one line. A missing one is `-`, a list of plain values is separated by commas, and all others are JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(entries) if entries.is_empty() => "-".to_owned(),
        Value::Array(entries) if entries.iter().all(|e| !e.is_object() && !e.is_array()) => {
            entries.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// The value of a member in one line. A duration has its unit. The name keeps the unit of the API, as forms take it.
fn value_text(name: &str, value: &Value) -> String {
    let unit_ms = match name {
        "timeout_ms" => 1,
        _ if name.ends_with("_per_s") => return plain(value),
        _ if name.ends_with("_s") => 1_000,
        _ => return plain(value),
    };
    let text = |value: &Value| match value.as_i64().and_then(|count| count.checked_mul(unit_ms)) {
        Some(ms) => durations::exact(ms),
        None => plain(value),
    };
    match value {
        Value::Array(entries) if !entries.is_empty() => entries.iter().map(text).collect::<Vec<_>>().join(","),
        value => text(value),
    }
}

/// How a record is shown.
#[derive(Clone, Copy, Debug)]
pub struct RecordStyle {
    pub paint: Paint,
    /// The terminal's width in characters. `None` if there is no terminal.
    pub width: Option<usize>,
    /// Whether long texts are shown whole.
    pub is_full: bool,
}

/// One object, a member a line, its names in a column. Objects inside it are set in, and lists of objects are tables.
pub fn record(value: &Value, style: RecordStyle) -> String {
    let mut out = String::new();
    record_at(value, 0, style, &mut out);
    out
}

fn record_at(value: &Value, depth: usize, style: RecordStyle, out: &mut String) {
    let paint = style.paint;
    let Value::Object(members) = value else {
        out.push_str(&harmless(&plain(value)));
        return out.push('\n');
    };
    let indent = " ".repeat(depth * GAP);
    let names = members.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, member) in members {
        let pad = " ".repeat(names - name.chars().count() + GAP);
        let name = harmless(name);
        match member {
            Value::Object(inner) if !inner.is_empty() => {
                out.push_str(&format!("{indent}{}\n", paint.strong(&name)));
                record_at(member, depth + 1, style, out);
            }
            Value::Array(entries) if !entries.is_empty() && entries.iter().all(Value::is_object) => {
                out.push_str(&format!("{indent}{}\n", paint.strong(&name)));
                entries_at(entries, depth + 1, style, out);
            }
            _ => {
                let below = format!("\n{indent}{}", " ".repeat(names + GAP));
                let lines: Vec<String> = shortened(value_text(&name, member), style).lines().map(harmless).collect();
                let text = paint.word(&lines.join(&below));
                out.push_str(&format!("{indent}{}{pad}{text}\n", paint.strong(&name)));
            }
        }
    }
}

/// The note for a terminal that is too narrow. `None` if everything is there.
pub fn omission(columns: usize, has_cuts: bool) -> Option<String> {
    let columns = match columns {
        0 if !has_cuts => return None,
        0 => return Some("cells are cut: -o wide".to_owned()),
        1 => "+1 column".to_owned(),
        more => format!("+{more} columns"),
    };
    Some(format!("{columns}{}: -o wide", if has_cuts { ", and cells are cut" } else { "" }))
}

/// A list of objects as a table whose columns are their members. If it does not fit, ids at its end are left out, and a
/// sentence in its last column goes on below itself. If it still does not fit, it is a record for each object.
fn entries_at(entries: &[Value], depth: usize, style: RecordStyle, out: &mut String) {
    let mut names: Vec<&str> = Vec::new();
    for name in entries.iter().filter_map(Value::as_object).flat_map(|entry| entry.keys()) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let line = |entry: &Value| names.iter().map(|name| harmless(&value_text(name, &entry[*name]))).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = entries.iter().map(line).collect();
    let titles: Vec<String> = names.iter().map(|name| harmless(name)).collect();
    let chars = |text: &String| text.chars().count();
    let width = |i: usize| lines.iter().map(|line| chars(&line[i])).max().unwrap_or(0).max(chars(&titles[i]));
    let mut widths: Vec<usize> = (0..names.len()).map(width).collect();
    let indent = " ".repeat(depth * GAP);
    let fits = |widths: &[usize]| style.width.is_none_or(|width| indent.len() + line_chars(widths) <= width);
    while widths.len() > 1 && !fits(&widths) && names[widths.len() - 1].ends_with("_id") {
        widths.pop();
    }
    let shown = widths.len() - 1;
    let is_sentence = lines.iter().any(|line| line[shown].contains(' '));
    if let (Some(width), false, true) = (style.width, fits(&widths), is_sentence) {
        // A sentence in the last column goes on below itself.
        let others = indent.len() + line_chars(&widths) - widths[shown];
        widths[shown] = width.saturating_sub(others).max(SENTENCE_WIDTH_MIN);
    }
    if !fits(&widths) {
        for (i, entry) in entries.iter().enumerate() {
            out.push_str(&format!("{indent}{}\n", style.paint.strong(&(i + 1).to_string())));
            record_at(entry, depth + 1, style, out);
        }
        return;
    }
    out.push_str(&laid(&titles, &widths, &indent, &|title| style.paint.strong(title)));
    for mut line in lines {
        let mut parts = wrapped(&line[shown], widths[shown]).into_iter();
        line[shown] = parts.next().unwrap_or_default();
        out.push_str(&laid(&line, &widths, &indent, &|cell| style.paint.word(cell)));
        let below = " ".repeat(indent.len() + line_chars(&widths) - widths[shown]);
        parts.for_each(|part| out.push_str(&format!("{below}{part}\n")));
    }
    if let Some(note) = omission(names.len() - widths.len(), false) {
        out.push_str(&format!("{indent}{note}\n"));
    }
}

/// A line of cells in columns of these widths.
fn laid(cells: &[String], widths: &[usize], indent: &str, paint: &dyn Fn(&str) -> String) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        let pad = " ".repeat(width.saturating_sub(cell.chars().count()) + GAP);
        format!("{}{pad}", paint(cell))
    });
    format!("{indent}{}\n", padded.collect::<String>().trim_end())
}

/// A text of at most `BODY_CHARS_MAX` characters, which says how many it lacks.
fn shortened(text: String, style: RecordStyle) -> String {
    let chars = text.chars().count();
    if style.is_full || chars <= BODY_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(BODY_CHARS_MAX).collect();
    format!("{begin}{ELLIPSIS}\n(+{} characters: --full)", chars - BODY_CHARS_MAX)
}

/// The text with control characters, and those that reorder or hide text, replaced. Tabs and line ends become spaces.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        c if steers(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// JSON with every character that steers a terminal escaped (RFC 8259 section 7). Line ends are whitespace of the JSON.
pub fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(c),
            c if steers(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Whether a terminal would obey the character, or the text around it would read differently: C0, DEL, C1, and the
/// characters of Unicode that set directions, join or hide.
fn steers(c: char) -> bool {
    let hides = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    hides || c.is_control()
}

#[cfg(test)]
mod tests;
