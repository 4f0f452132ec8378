//! Where a verb's answer goes: stdout, as a table for people or JSON for machines. A reader that leaves early ends the
//! verb without an error.
//!
//! Invariants: only a terminal's lines are cut, and a note reports the omission. No character that steers a terminal
//! reaches one, in no format.

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    Exit, help,
    noun::{self, Noun},
    paint::Paint,
    table::{self, Column, RecordStyle, Table},
};

/// The width that sentences are wrapped at in a file or a pipe.
const WIDTH_WITHOUT_A_TERMINAL: usize = 100;
/// Longer lines of help are hard to read.
const HELP_WIDTH_MAX: usize = 120;
/// Narrower screens are taken to be this wide.
const WIDTH_MIN: usize = 40;

/// The output option of a verb.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Print a table for people; wide: with every column whole; json: the API's answer, unchanged
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub output: Format,
    /// Print long texts and bodies whole on a terminal
    #[arg(long, global = true)]
    pub full: bool,
}

/// The forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    /// A table that may be wider than the terminal.
    Wide,
    Json,
}

/// Stdout, with its width and format.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub format: Format,
    pub paint: Paint,
    /// The width in characters.
    pub width: usize,
    pub is_terminal: bool,
    /// Whether long texts are printed whole on a terminal.
    pub is_full: bool,
}

impl Output {
    pub fn screen(&self) -> Screen {
        let width = known_width().unwrap_or(WIDTH_WITHOUT_A_TERMINAL).max(WIDTH_MIN);
        let is_terminal = io::stdout().is_terminal();
        Screen { format: self.output, paint: Paint::of_stdout(), width, is_terminal, is_full: self.full }
    }
}

/// `COLUMNS` if it is set, otherwise the terminal's width.
fn known_width() -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || {
        let terminal = io::stdout().is_terminal().then(console::Term::stdout)?;
        Some(usize::from(terminal.size_checked()?.1))
    };
    given.or_else(asked)
}

/// The width of help, which is read in a pipe as well.
pub fn help_width() -> usize {
    known_width().unwrap_or(WIDTH_WITHOUT_A_TERMINAL).clamp(WIDTH_MIN, HELP_WIDTH_MAX)
}

impl Screen {
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// The width that a table is cut at. `None` if it is not cut.
    pub fn table_width(&self) -> Option<usize> {
        (self.is_terminal && self.format == Format::Table).then_some(self.width)
    }

    /// The width that a body's line is cut at. `None` if it is not cut.
    pub fn body_width(&self) -> Option<usize> {
        self.table_width().filter(|_| !self.is_full)
    }

    /// Writes as it is and ends the line if it is not ended. JSON for a terminal has the characters that would steer it
    /// escaped, which leaves it the same JSON.
    pub fn text(&self, text: impl AsRef<[u8]>) -> Result<(), Exit> {
        match self.is_json() && self.is_terminal {
            true => write(table::escaped_json(&String::from_utf8_lossy(text.as_ref()))),
            false => write(text),
        }
    }

    /// A line for people, which the JSON format omits.
    pub fn said(&self, text: &str) -> Result<(), Exit> {
        match self.is_json() {
            true => Ok(()),
            false => self.text(text),
        }
    }

    /// One object: its members for people, or the received bytes for machines.
    pub fn record(&self, body: &[u8]) -> Result<(), Exit> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if !self.is_json() => self.text(table::record(&value, self.record_style())),
            _ => self.text(body),
        }
    }

    /// [`Screen::record`] of a noun: its ids have their prefixes for people.
    pub fn object(&self, noun: Noun, body: &[u8]) -> Result<(), Exit> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if !self.is_json() => {
                self.text(table::record(&noun::with_prefixes(value, noun), self.record_style()))
            }
            _ => self.text(body),
        }
    }

    /// How records are shown here.
    pub fn record_style(&self) -> RecordStyle {
        RecordStyle { paint: self.paint, width: self.table_width(), is_full: self.body_width().is_none() }
    }

    /// A list with its titles. Nothing at all for people who get no rows but a sentence.
    pub fn table(&self, columns: &'static [Column], rows: &[Value]) -> Result<Table, Exit> {
        let table = Table::fitted(columns, rows, self.table_width(), self.paint);
        self.text(table.head())?;
        self.lines(&table, rows)?;
        note_of_omission(table.left_out(), &table);
        Ok(table)
    }

    /// Prints further rows of a list.
    pub fn rows(&self, table: &Table, rows: &[Value]) -> Result<(), Exit> {
        self.lines(table, rows)?;
        note_of_omission(0, table);
        Ok(())
    }

    fn lines(&self, table: &Table, rows: &[Value]) -> Result<(), Exit> {
        rows.iter().try_for_each(|row| self.text(table.row(row)))
    }
}

/// Reports columns that were left out, and cells that were cut for the first time.
fn note_of_omission(columns: usize, table: &Table) {
    if let Some(omission) = table::omission(columns, table.has_new_cuts()) {
        note(&format!("{omission}\n"));
    }
}

/// Writes to stdout unchanged, with a line end if there is none.
///
/// # Errors
/// [`unwritten`]. `println!` would panic instead, and buffered text would be lost in silence.
pub fn write(text: impl AsRef<[u8]>) -> Result<(), Exit> {
    let text = text.as_ref();
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out.write_all(text).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    written.map_err(unwritten)
}

/// Writes to stderr unchanged. A failure is ignored, because no other stream could report it.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints the help, the version or the error of a command line without a verb, and returns the exit code.
pub fn unparsed(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failure) if !error.use_stderr() => unwritten(failure).report(),
        Ok(()) if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
            if let Some(examples) = help::examples(words) {
                note(&format!("\n{examples}"));
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX))
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX)),
    }
}

/// The end of a verb whose write to stdout failed.
pub fn unwritten(error: io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::reader_left(),
        _ => Exit::failed(format!("cannot write the answer: {error}")),
    }
}
