//! The output of a verb on stdout, as a table for people or JSON for machines. A reader that leaves early ends the verb
//! without an error.

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    Exit,
    paint::Paint,
    table::{self, Column, Table, Width},
};

/// Width of an output without a width, such as a file or a pipe.
const WIDTH_WITHOUT_A_TERMINAL: usize = 100;
/// Minimum width. A narrower screen is treated as this wide.
const WIDTH_MIN: usize = 40;

/// The output option of a verb.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Print a table for people, or json: the API's answer, unchanged
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub output: Format,
}

/// The two formats of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Stdout, with its width and format.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub format: Format,
    pub paint: Paint,
    /// The width in characters.
    pub width: usize,
    /// Whether lines are cut at the width, as on a terminal.
    pub crops: bool,
}

impl Output {
    pub fn screen(&self) -> Screen {
        let known = known_width();
        let width = known.unwrap_or(WIDTH_WITHOUT_A_TERMINAL).max(WIDTH_MIN);
        Screen { format: self.output, paint: Paint::of_stdout(), width, crops: known.is_some() }
    }
}

/// `COLUMNS` if it is set, otherwise the terminal's width.
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

    /// Writes the text unchanged, with a line end if it has none.
    pub fn text(&self, text: impl AsRef<[u8]>) -> Result<(), Exit> {
        write(text)
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
            Ok(value) if !self.is_json() => self.text(table::record(&value, self.paint)),
            _ => self.text(body),
        }
    }

    /// A list with its titles. In the table format an empty list prints nothing, because the verb prints a sentence.
    pub fn table(&self, columns: &'static [Column], rows: &[Value]) -> Result<Table, Exit> {
        let width = Width { chars: self.width, crops: self.crops };
        let table = Table::fitted(columns, rows, width, self.paint);
        self.text(table.head())?;
        self.rows(&table, rows)?;
        Ok(table)
    }

    /// Prints further rows of a list.
    pub fn rows(&self, table: &Table, rows: &[Value]) -> Result<(), Exit> {
        rows.iter().try_for_each(|row| self.text(table.row(row)))
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
