//! The report of an import: a line for each object, and the sums.

use serde::Serialize;

use crate::cli::{Exit, screen::Screen, table::harmless};

/// The result for one object of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Made,
    /// It existed here already and stays as it is.
    Kept,
    /// It is not brought along, on purpose.
    Skipped,
    /// It was refused here.
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Made, Outcome::Kept, Outcome::Skipped, Outcome::Failed];

    const fn word(self, is_dry: bool) -> &'static str {
        match self {
            Outcome::Made if is_dry => "to make",
            Outcome::Made => "made",
            Outcome::Kept => "kept",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "failed",
        }
    }
}

/// One object of the source.
#[derive(Debug, Serialize)]
struct Line {
    outcome: Outcome,
    /// `app`, `endpoint`, `header` or `event type`.
    kind: &'static str,
    /// The id or name at the source.
    id: String,
    /// A name for people.
    name: String,
    why: String,
}

/// The objects of an import. For people each is printed as soon as it is known.
pub struct Report {
    screen: Screen,
    is_dry: bool,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    dry_run: bool,
    objects: &'a [Line],
}

impl Report {
    pub fn new(screen: Screen, is_dry: bool) -> Self {
        Report { screen, is_dry, lines: Vec::new() }
    }

    /// Adds an object.
    pub fn add(&mut self, outcome: Outcome, kind: &'static str, id: &str, name: &str, why: &str) -> Result<(), Exit> {
        let line = Line { outcome, kind, id: id.to_owned(), name: name.to_owned(), why: why.to_owned() };
        let mut text = format!("{:<8} {kind:<10} {id}", outcome.word(self.is_dry));
        for part in [name, why].into_iter().filter(|part| !part.is_empty()) {
            text.push_str("  ");
            text.push_str(part);
        }
        self.lines.push(line);
        self.screen.said(&harmless(&text))
    }

    /// Prints the sums, or the whole report as JSON.
    pub fn finish(&self) -> Result<(), Exit> {
        if self.screen.is_json() {
            let report = JsonReport { dry_run: self.is_dry, objects: &self.lines };
            let text = serde_json::to_string(&report).map_err(|error| Exit::software(error.to_string()))?;
            return self.screen.text(text);
        }
        let sum = |outcome: Outcome| self.lines.iter().filter(|line| line.outcome == outcome).count();
        let sums = Outcome::ALL.map(|outcome| format!("{} {}", sum(outcome), outcome.word(self.is_dry)));
        self.screen.said(&sums.join(", "))
    }

    pub fn has_failures(&self) -> bool {
        self.lines.iter().any(|line| line.outcome == Outcome::Failed)
    }
}
