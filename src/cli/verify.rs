//! `postrider verify`: verifies a store that no daemon has open, such as a backup, and lists its defects. It changes
//! nothing.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{
    Exit, SettingsFlags, backup,
    screen::{Output, Screen},
};
use crate::daemon;
use crate::store::admin::{Defect, VerifyProgress, VerifyReport};

/// Check every page, row, index and figure of a store that no daemon has, or of a backup; changes nothing
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider verify
  postrider verify --data-dir /srv/postrider
  postrider verify /backups/2026-11-22 -o json

The secrets are opened too, with the master key in the directory or the one of the settings.
Exit codes: 0 everything is as it should be, 1 something is not or the store cannot be read, 78 the master key is another.")]
pub struct Verify {
    /// A directory to check instead of the data directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Verify {
    pub fn run(self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let mut settings = self.settings.load_for_store()?;
        if let Some(directory) = self.directory {
            settings.data_dir = directory;
        }
        // On stderr, and only if that is a terminal.
        let bar = backup::bar();
        let walked = daemon::verify(&settings, &mut |progress| show(&bar, &progress));
        bar.finish_and_clear();
        report_text(screen, &walked?)
    }
}

fn show(bar: &ProgressBar, progress: &VerifyProgress<'_>) {
    bar.set_length(progress.files as u64);
    bar.set_position(progress.file_number as u64 - 1);
    bar.set_message(format!("{} rows", progress.rows));
}

fn report_text(screen: Screen, report: &VerifyReport) -> Result<(), Exit> {
    if screen.is_json() {
        screen.text(as_json(report).to_string())?;
    } else {
        for problem in &report.problems {
            screen.text(problem.to_string())?;
        }
        if report.problems_left_out > 0 {
            screen.text(format!("and {} more", report.problems_left_out))?;
        }
        screen.text(summary(report))?;
    }
    let problems = report.problems.len() as u64 + report.problems_left_out;
    let summary = match problems {
        0 => return Ok(()),
        1 => "one thing is not as it should be".to_owned(),
        _ => format!("{problems} things are not as they should be"),
    };
    Err(Exit::failed(summary).hint("nothing was changed; keep a copy of the directory before you try anything"))
}

fn summary(report: &VerifyReport) -> String {
    let mut text = format!("{} files, {} rows", report.files, report.rows);
    if report.is_sound() {
        text.push_str(": everything is as it should be");
    }
    if report.to_release > 0 {
        text.push_str(&format!("\n{} ordered queues were cut off; the next start lets them go on", report.to_release));
    }
    for name in &report.unlisted {
        text.push_str(&match report.is_state_older {
            true => format!("\n{name} is not listed in state.redb, which is older; no start removes it"),
            false => format!("\n{name} belongs to nothing; the next start removes it"),
        });
    }
    if let Some(unapplied) = report.unapplied.as_ref().filter(|unapplied| unapplied.commits > 0) {
        let next = match unapplied.damage {
            Some(_) => "they come before its damage",
            None => "the next start, promote and a backup apply them",
        };
        text.push_str(&format!(
            "\nonly the log in standby/ has the last commits, and the files above lack them: {} up to number {}; {next}",
            unapplied.commits, unapplied.last
        ));
    }
    text
}

fn as_json(report: &VerifyReport) -> Value {
    json!({
        "sound": report.is_sound(),
        "files": report.files,
        "rows": report.rows,
        "problems": report.problems.iter().map(problem_as_json).collect::<Vec<Value>>(),
        "problems_left_out": report.problems_left_out,
        "to_release": report.to_release,
        "unlisted": report.unlisted,
        "unapplied_commits": report.unapplied.as_ref().map_or(0, |unapplied| unapplied.commits),
    })
}

fn problem_as_json(problem: &Defect) -> Value {
    json!({ "file": problem.file, "table": problem.table, "key": problem.key, "detail": problem.detail })
}
