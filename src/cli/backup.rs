//! `postrider backup` and `postrider restore`: a copy of the whole store, and the way back. They work on directories, of
//! a running daemon as well, and need no key of the API.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Exit, SettingsFlags,
    screen::{Output, Screen},
};
use crate::daemon::backup;
use crate::store;

/// How often a bar moves by itself, while one large file is under way.
pub(super) const TICK: Duration = Duration::from_millis(120);

/// Copy the whole store, as it is at this moment, while the daemon runs or while it is stopped
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sudo postrider backup /backups/today        of the packaged service's store
  postrider backup --data-dir /srv/postrider --without-key /backups/today

DEST must not be there. It becomes a directory like the data directory: `postrider verify` reads one through, `postrider \
restore` puts one in place. Until it is whole it is called DEST.partial. Run this as root, or as the user that the \
daemon runs as. master.key goes with it where it lies in the data directory: whoever has both can open the secrets. A key \
from elsewhere is never in it; keep that one as well.")]
pub struct Backup {
    /// The directory to make
    #[arg(value_name = "DEST")]
    to: PathBuf,
    /// Leave master.key out; the backup opens only with a copy of it then
    #[arg(long)]
    without_key: bool,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Backup {
    pub fn run(self) -> Result<(), Exit> {
        let settings = self.settings.load_for_store()?;
        let bar = bar();
        let copied = backup::backup(&settings, &self.to, self.without_key, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        tell(self.output.screen(), &copied?, &format!("the backup is in {}", self.to.display()))
    }
}

/// Put a backup in place as the store of an empty data directory, after it was checked
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider restore /backups/today --data-dir /var/lib/postrider

A directory that has a store, or part of one, is refused: move it away first. All of the backup is read through before it \
counts, so a damaged one changes nothing. A master.key that lies in the data directory already, or comes from the \
settings, is used rather than the backup's.
Deliveries made since the backup are made again, with the same webhook-id.")]
pub struct Restore {
    /// The backup's directory
    #[arg(value_name = "FROM")]
    from: PathBuf,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Restore {
    pub fn run(self) -> Result<(), Exit> {
        let settings = self.settings.load_for_store()?;
        let bar = bar();
        let restored = backup::restore(&settings, &self.from, &mut |progress| show(&bar, progress), &mut |walk| {
            bar.set_message(format!("checked {} of {} files, {} rows", walk.file_number - 1, walk.files, walk.rows));
            bar.tick();
        });
        bar.finish_and_clear();
        tell(self.output.screen(), &restored?, &format!("the store is in {}", settings.data_dir.display()))
    }
}

/// On stderr, and only where that is a terminal.
pub(super) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}  {elapsed}");
    let bar = ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK);
    bar
}

pub(super) fn show(bar: &ProgressBar, progress: store::backup::Progress) {
    bar.set_length(progress.files as u64);
    bar.set_position(progress.file_number as u64 - 1);
    bar.set_message(HumanBytes(progress.bytes).to_string());
    bar.tick();
}

fn tell(screen: Screen, copied: &store::backup::Progress, what: &str) -> Result<(), Exit> {
    match screen.is_json() {
        true => screen.text(json!({ "files": copied.files, "bytes": copied.bytes }).to_string()),
        false => screen.text(format!("{what}: {} files, {}", copied.files, HumanBytes(copied.bytes))),
    }
}
