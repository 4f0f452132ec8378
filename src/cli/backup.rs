//! `postrider backup` and `postrider restore`: a copy of the whole store, made once or updated with every commit, and
//! its restoration. They work on directories, even of a running daemon, and need no key of the API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Exit, SettingsFlags, follow,
    screen::{Output, Screen},
};
use crate::daemon::backup;
use crate::daemon::follow::FollowOptions;
use crate::store::admin::BackupProgress;

/// Interval at which the bar moves by itself during one large file.
pub(super) const TICK: Duration = Duration::from_millis(120);

/// Copy the whole store, as it is at this moment, while the daemon runs or while it is stopped
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sudo postrider backup /backups/today        of the packaged service's store
  postrider backup --data-dir /srv/postrider --without-key /backups/today
  postrider backup --follow /backups/live     a copy, and a log of every commit after it, until SIGTERM

DEST must not exist. It becomes a directory like the data directory: `postrider verify` checks it, `postrider restore` \
puts it in place. An unfinished one is called DEST.partial. Run this as root, or as the user of the daemon. The backup \
contains master.key and first-key if they lie in the data directory, and then it opens all secrets. A master key from elsewhere is not \
in the backup: keep that key as well.

With --follow a daemon must be running, and DEST is new, empty, or made by --follow. It holds generations: a copy, and a \
log of all commits after it, synced as they come. The daemon answers an event when the commit before it is safe in DEST, so \
DEST lacks one commit at most. A DEST that is slower than the store slows the daemon; one that hangs for five seconds is \
cut off and begins another generation. After the daemon has ended, the command waits for the next daemon and begins \
another generation. `postrider restore --list` shows the generations.")]
pub struct Backup {
    /// The directory to make
    #[arg(value_name = "DEST")]
    to: PathBuf,
    /// Leave master.key and first-key out; the backup opens only with a copy of master.key then
    #[arg(long)]
    without_key: bool,
    /// Stay, and log every commit after the copy: each of them can be restored
    #[arg(long)]
    follow: bool,
    /// With --follow: after so many hours, or a duration such as 7d, begin another generation
    #[arg(long, value_name = "HOURS", requires = "follow", default_value = "24", value_parser = follow::read_hours)]
    new_base_every: Duration,
    /// With --follow: how many whole generations are kept
    #[arg(long, value_name = "N", requires = "follow", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Backup {
    pub fn run(self) -> Result<(), Exit> {
        let settings = self.settings.load_for_store()?;
        if self.follow {
            let Backup { to, without_key, new_base_every, keep, .. } = self;
            let wish = FollowOptions { to, without_key, new_base_every, keep: keep as usize };
            return follow::run(settings, wish, self.output.screen());
        }
        let bar = bar();
        let copied = backup::backup(&settings, &self.to, self.without_key, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        report_copied(self.output.screen(), &copied?, &format!("the backup is in {}", self.to.display()))
    }
}

/// Put a backup in place as the store of an empty data directory, after it was checked
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider restore /backups/today --data-dir /var/lib/postrider
  postrider restore --list /backups/live
  postrider restore /backups/live --at 2026-11-22T03:29:00Z

A data directory that has a store, or part of one, is refused: move it away first. The whole backup is checked before \
anything changes. A master.key in the data directory, or from the settings, takes precedence over the backup's. From a \
directory that `backup --follow` has made, the last commit at or before --at is restored; without --at the last one. A \
commit that was not written to its end does not count.
The API keys of the backup hold, and first-key is put back if the backup has it.
Deliveries made since the backup are made again, with the same webhook-id.")]
pub struct Restore {
    /// The backup's directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// For a backup by --follow: restore this moment (2026-11-22T03:29:00Z, or 90m for 90 minutes ago) or commit number
    #[arg(long, value_name = "WHEN")]
    at: Option<String>,
    /// For a backup by --follow: list the generations, and restore nothing
    #[arg(long, conflicts_with = "at")]
    list: bool,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Restore {
    pub fn run(self) -> Result<(), Exit> {
        if self.list {
            return follow::list(self.output.screen(), &self.from);
        }
        let settings = self.settings.load_for_store()?;
        let at = self.at.as_deref().map(follow::read_at).transpose()?;
        let bar = bar();
        let restored = backup::restore(&settings, &self.from, at, &mut |progress| show(&bar, progress), &mut |walk| {
            bar.set_message(format!("checked {} of {} files, {} rows", walk.file_number - 1, walk.files, walk.rows));
            bar.tick();
        });
        bar.finish_and_clear();
        report_restored(self.output.screen(), &settings.data_dir, &restored?)
    }
}

/// Says where the store and its first key are.
fn report_restored(screen: Screen, data_dir: &Path, restored: &backup::Restored) -> Result<(), Exit> {
    let backup::Restored { progress, first_key, point } = restored;
    if screen.is_json() {
        let mut answer = json!({ "files": progress.files, "bytes": progress.bytes, "first_key": first_key });
        if let Some(point) = point {
            answer["commit"] = point.number.into();
            answer["at"] = point.at.to_string().into();
        }
        return screen.text(answer.to_string());
    }
    let place = format!("the store is in {}", data_dir.display());
    match point {
        Some(point) => screen.text(format!("{place}, as it was after commit {} ({})", point.number, point.at)),
        None => report_copied(screen, progress, &place),
    }?;
    screen.text(
        "it is a copy: if the store that was backed up still runs, both would send every delivery. Stop that one for good, then \
         run postrider promote here, or serve warns at each start",
    )?;
    screen.text(match first_key {
        Some(file) => format!("its API keys are those of the backup; the first key is in {}", file.display()),
        None => {
            "its API keys are those of the backup, without a file of the first key; if all are lost, start once with \
                 a new key in POSTRIDER_ADMIN_KEY"
                .to_owned()
        }
    })
}

/// A progress bar on stderr, if that is a terminal.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}  {elapsed}");
    let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK);
    bar
}

pub(super) fn show(bar: &ProgressBar, progress: BackupProgress) {
    bar.set_length(progress.files as u64);
    bar.set_position(progress.file_number as u64 - 1);
    bar.set_message(HumanBytes(progress.bytes).to_string());
    bar.tick();
}

fn report_copied(screen: Screen, copied: &BackupProgress, done: &str) -> Result<(), Exit> {
    match screen.is_json() {
        true => screen.text(json!({ "files": copied.files, "bytes": copied.bytes }).to_string()),
        false => screen.text(format!("{done}: {} files, {}", copied.files, HumanBytes(copied.bytes))),
    }
}
