//! The findings of the doctor: one line for each check, and the cure of each fault.

use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::screen::Screen;
use crate::cli::table::harmless;
use crate::cli::wrap::wrapped;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    pub const fn as_str(self) -> &'static str {
        match self {
            Grade::Ok => "OK",
            Grade::Warn => "WARN",
            Grade::Fail => "FAIL",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable, in snake case: `disk_space`, `webhook`.
    pub check: &'static str,
    pub grade: Grade,
    pub detail: String,
    /// The cure. `None` if all is well.
    pub fix: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Ok, detail: detail.into(), fix: None }
    }

    pub fn warn(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    pub fn fail(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check, grade: Grade::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn json(&self) -> Value {
        json!({ "check": self.check, "status": self.grade.as_str(), "detail": self.detail, "fix": self.fix })
    }
}

/// Prints the findings. The verb fails if one of them is a FAIL.
pub fn report(screen: Screen, findings: &[Finding]) -> Result<(), Exit> {
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let (failed, warned) = (count(Grade::Fail), count(Grade::Warn));
    if screen.is_json() {
        let checks: Vec<Value> = findings.iter().map(Finding::json).collect();
        let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
        screen.text(json!({ "status": worst.as_str(), "checks": checks }).to_string())?;
    } else {
        for finding in findings {
            screen.text(shown(screen, finding))?;
        }
        screen.text(format!("\n{} looked at: {failed} FAIL, {warned} WARN", findings.len()))?;
    }
    match failed {
        0 => Ok(()),
        _ => Err(Exit::silent_failure()),
    }
}

/// `FAIL  disk_space     1.2 GiB free …`, and the fix below it, both within the screen's width.
fn shown(screen: Screen, finding: &Finding) -> String {
    const GRADE: usize = 6;
    const CHECK: usize = 16;
    let indent = GRADE + CHECK;
    let width = screen.width.saturating_sub(indent).max(20);
    let grade = format!("{:<GRADE$}", finding.grade.as_str());
    let mut text = format!("{}{:<CHECK$}", screen.paint.word(&grade), finding.check);
    let below = format!("\n{}", " ".repeat(indent));
    text.push_str(&wrapped(&harmless(&finding.detail), width).join(&below));
    for line in finding.fix.iter().flat_map(|fix| wrapped(&format!("-> {}", harmless(fix)), width)) {
        text.push_str(&below);
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::paint::Paint;
    use crate::cli::screen::Format;

    #[test]
    fn a_finding_fits_the_screen_and_its_fix_stands_below() {
        let screen =
            Screen { format: Format::Table, paint: Paint::when(false), width: 60, is_terminal: true, is_full: false };
        let finding = Finding::fail("disk_space", "there are only some bytes left on the disk", "free some of it");
        let text = shown(screen, &finding);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FAIL  disk_space      there are only some bytes left on the");
        assert_eq!(lines[1], "                      disk");
        assert_eq!(lines[2], "                      -> free some of it");
        assert!(lines.iter().all(|line| line.len() <= 60), "{text}");
    }
}
