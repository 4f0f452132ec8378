//! `postrider compact`: gives the space of dead rows back to the disk while no daemon has the store open.

use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::{
    Exit, SettingsFlags, backup,
    screen::{Output, Screen},
};
use crate::daemon;
use crate::store::admin::Compacted;

/// Give the space that no row needs any more back to the disk; the daemon must be stopped
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sudo systemctl stop postrider && sudo postrider compact
  postrider compact --data-dir /srv/postrider -o json

Takes about a quarter of a minute for a gigabyte. No row changes, and a kill costs nothing but a repair of one file at \
the next start; say it again to go on. The daemon needs none of this: old files go whole when their retention ends.")]
pub struct Compact {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Compact {
    pub fn run(self) -> Result<(), Exit> {
        let settings = self.settings.load_for_store()?;
        let bar = backup::bar();
        let done = daemon::compact(&settings, &mut |progress| backup::show(&bar, progress));
        bar.finish_and_clear();
        report_sizes(self.output.screen(), done?)
    }
}

fn report_sizes(screen: Screen, done: Compacted) -> Result<(), Exit> {
    let Compacted { files, before, after } = done;
    match screen.is_json() {
        true => screen.text(json!({ "files": files, "bytes_before": before, "bytes_after": after }).to_string()),
        false => screen.text(format!(
            "{files} files: {} before, {} now; {} given back",
            HumanBytes(before),
            HumanBytes(after),
            HumanBytes(before.saturating_sub(after))
        )),
    }
}
