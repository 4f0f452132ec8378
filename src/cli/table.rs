//! Rows and records as text of a limited width, without IO. Text from the network is sanitised first, so that no
//! control character of a webhook's name or an error text reaches the terminal.

use serde_json::Value;

use super::paint::Paint;

const GAP: usize = 2;
/// Minimum width to which a text is cut. It is never cut below its title.
const COLUMN_WIDTH_MIN: usize = 6;
const ELLIPSIS: char = '…';

/// One column of a list: its title, the member of a row that it shows, and its kind.
#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub field: &'static str,
    pub kind: Kind,
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
    Column { title, field, kind: Kind::Text }
}

/// A column that is never cut.
pub const fn id(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Id }
}

/// A column of moments.
pub const fn time(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Time }
}

/// A column of numbers.
pub const fn number(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Number }
}

/// A column of days.
pub const fn day(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Day }
}

/// A column of states.
pub const fn word(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Word }
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

/// The width of a line.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    /// The width in characters.
    pub chars: usize,
    /// Whether columns that do not fit are omitted, the last one first. Otherwise the line is longer.
    pub crops: bool,
}

/// A list whose first rows determine its columns and widths, so that later pages align.
pub struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    paint: Paint,
}

impl Table {
    /// Fits the columns to `width` by the values of `rows`. The first column is always shown.
    pub fn fitted(columns: &'static [Column], rows: &[Value], width: Width, paint: Paint) -> Self {
        let natural = |column: &Column| {
            let cells = rows.iter().map(|row| cell(row, column).chars().count());
            cells.max().unwrap_or(0).max(column.least())
        };
        let natural: Vec<usize> = columns.iter().map(natural).collect();
        let mut shown = columns.len();
        loop {
            let columns = &columns[..shown];
            let widths = fit(columns, natural[..shown].to_vec(), width.chars);
            let fits = line_chars(&widths) <= width.chars;
            if fits || !width.crops || shown == 1 {
                return Self { columns, widths, paint };
            }
            shown -= 1;
        }
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
            let text = cut(&text, *width, column.kind);
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

/// One object, with one member per line and its names in a column. Nested objects are indented.
pub fn record(value: &Value, paint: Paint) -> String {
    let mut out = String::new();
    record_at(value, 0, paint, &mut out);
    out
}

fn record_at(value: &Value, depth: usize, paint: Paint, out: &mut String) {
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
                record_at(member, depth + 1, paint, out);
            }
            _ => {
                let below = format!("\n{indent}{}", " ".repeat(names + GAP));
                let lines: Vec<String> = plain(member).lines().map(harmless).collect();
                let text = paint.word(&lines.join(&below));
                out.push_str(&format!("{indent}{}{pad}{text}\n", paint.strong(&name)));
            }
        }
    }
}

/// Replaces control characters, and those that reorder or hide text. Tabs and line ends become spaces.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[id("ID", "id"), word("STATUS", "status"), text("URL", "to.url"), time("AT", "at")];

    const WIDE: Width = Width { chars: 200, crops: true };

    fn rows() -> Vec<Value> {
        let row = |url: &str| {
            json!({"id": "0191d5c8-0000-7000-8000-000000000001", "status": "enabled",
                "to": {"url": url}, "at": "2026-11-22T03:29:00.123Z"})
        };
        vec![row("https://a.example/"), row("https://b.example/a/rather/long/path/to/a/receiver")]
    }

    fn lines(width: usize) -> Vec<String> {
        let rows = rows();
        let table = Table::fitted(COLUMNS, &rows, Width { chars: width, crops: true }, Paint::when(false));
        std::iter::once(table.head()).chain(rows.iter().map(|row| table.row(row))).collect()
    }

    #[test]
    fn a_wide_screen_shows_everything() {
        let lines = lines(200);
        assert!(lines[0].starts_with("ID   "), "{}", lines[0]);
        assert!(lines[2].contains("https://b.example/a/rather/long/path/to/a/receiver"), "{}", lines[2]);
        assert!(lines[1].ends_with("11-22 03:29:00"), "{}", lines[1]);
        let at = |line: &str| line.find("https:");
        assert_eq!(at(&lines[1]), at(&lines[2]), "columns line up");
    }

    #[test]
    fn a_narrow_screen_cuts_text_and_never_an_id() {
        let lines = lines(90);
        for line in &lines {
            assert!(line.chars().count() <= 90, "{line}");
        }
        assert!(lines[2].contains("0191d5c8-0000-7000-8000-000000000001"), "{}", lines[2]);
        assert!(lines[2].contains("https://b.e") && lines[2].contains('…'), "{}", lines[2]);
        assert!(super::tests::lines(10)[1].contains("0191d5c8-0000-7000-8000-000000000001"));
    }

    #[test]
    fn a_narrower_screen_leaves_the_last_columns_out_and_a_pipe_none() {
        for (width, last) in [(200, "AT"), (72, "AT"), (60, "URL"), (50, "STATUS"), (40, "ID"), (10, "ID")] {
            let lines = lines(width);
            assert!(lines[0].ends_with(last), "{width}: {}", lines[0]);
            assert!(width < 36 || lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
        }
        let pipe = Width { chars: 40, crops: false };
        let rows = rows();
        assert!(Table::fitted(COLUMNS, &rows, pipe, Paint::when(false)).head().ends_with("AT"));
    }

    #[test]
    fn what_came_from_outside_cannot_steer_the_terminal() {
        let row = json!({"id": "\u{1b}]0;owned\u{7}", "status": "a\nb", "to": {"url": "\u{202e}x"}});
        let table = Table::fitted(COLUMNS, std::slice::from_ref(&row), WIDE, Paint::when(false));
        let line = table.row(&row);
        assert!(!line.chars().any(char::is_control) && line.contains("a b"), "{line:?}");
        let record = record(&row, Paint::when(false));
        assert!(record.chars().all(|c| c == '\n' || !c.is_control()), "{record:?}");
    }

    #[test]
    fn a_record_lines_up_its_names_and_sets_objects_in() {
        let value =
            json!({"id": 7, "event_types": ["a", "b"], "auth": {"type": "basic"}, "error": null, "body": "x\ny"});
        let expected =
            "id           7\nevent_types  a,b\nauth\n  type  basic\nerror        -\nbody         x\n             y\n";
        assert_eq!(record(&value, Paint::when(false)), expected);
        assert_eq!(record(&json!("alone"), Paint::when(false)), "alone\n");
    }

    #[test]
    fn only_screens_with_colour_get_colour() {
        let rows = rows();
        let row = |paint| Table::fitted(COLUMNS, &rows, WIDE, paint).row(&rows[0]);
        assert!(row(Paint::when(true)).contains("\u{1b}["));
        assert!(!row(Paint::when(false)).contains('\u{1b}'));
    }
}
