//! Where a verb's answer goes: stdout, as a table for people or JSON for machines. A reader that leaves early ends the
//! verb without an error.

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    Exit,
    paint::Paint,
    table::{self, Column, Table, Width},
};

/// The width of an output that has none: a file, a pipe.
const WIDTH_WITHOUT_A_TERMINAL: usize = 100;
/// Narrower screens are taken to be this wide.
const WIDTH_MIN: usize = 40;

/// How a verb prints.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Print a table for people, or json: the API's answer, unchanged
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub output: Format,
}

/// The two readers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Stdout, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub format: Format,
    pub paint: Paint,
    /// In characters.
    pub width: usize,
    /// Whether lines are cut at the width, as for a terminal.
    pub crops: bool,
}

impl Output {
    pub fn screen(&self) -> Screen {
        let known = known_width();
        let width = known.unwrap_or(WIDTH_WITHOUT_A_TERMINAL).max(WIDTH_MIN);
        Screen { format: self.output, paint: Paint::of_stdout(), width, crops: known.is_some() }
    }
}

/// `COLUMNS` where it is set, else the terminal's own width.
fn known_width() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let asked = || {
        let terminal = io::stdout().is_terminal().then(console::Term::stdout)?;
        Some(usize::from(terminal.size_checked()?.1))
    };
    told.or_else(asked)
}

impl Screen {
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes as it is and ends the line if it is not ended.
    pub fn text(&self, text: impl AsRef<[u8]>) -> Result<(), Exit> {
        write(text)
    }

    /// A line that people read and machines do not get.
    pub fn said(&self, text: &str) -> Result<(), Exit> {
        match self.is_json() {
            true => Ok(()),
            false => self.text(text),
        }
    }

    /// One object: its members for people, the bytes as they came for machines.
    pub fn record(&self, body: &[u8]) -> Result<(), Exit> {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if !self.is_json() => self.text(table::record(&value, self.paint)),
            _ => self.text(body),
        }
    }

    /// A list with its titles. Nothing at all for people who get no rows but a sentence.
    pub fn table(&self, columns: &'static [Column], rows: &[Value]) -> Result<Table, Exit> {
        let width = Width { chars: self.width, crops: self.crops };
        let table = Table::fitted(columns, rows, width, self.paint);
        self.text(table.head())?;
        self.rows(&table, rows)?;
        Ok(table)
    }

    /// Further rows of a list.
    pub fn rows(&self, table: &Table, rows: &[Value]) -> Result<(), Exit> {
        rows.iter().try_for_each(|row| self.text(table.row(row)))
    }
}

/// Writes to stdout as it is, and ends the line if it is not ended.
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

/// Writes to stderr as it is. A failure is ignored, because no stream is left that could report it.
pub fn note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints the help, the version or the error of a command line that is no verb, and gives the exit code.
pub fn unparsed(error: &clap::Error) -> ExitCode {
    match error.print() {
        Err(failure) if !error.use_stderr() => unwritten(failure).report(),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX)),
    }
}

/// What a failed write to stdout means.
pub fn unwritten(error: io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::reader_left(),
        _ => Exit::failed(format!("cannot write the answer: {error}")),
    }
}
