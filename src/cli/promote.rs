//! `postrider promote`: makes the standby of this machine the owner.

use clap::Args;
use serde_json::json;

use super::{Exit, SettingsFlags, screen::Output};
use crate::daemon;

/// Make the standby of this machine, or a stopped restored copy, the owner under a higher term; the former owner stops once
/// it hears of it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider promote
  postrider promote --data-dir /srv/postrider

A restored copy serves before it is promoted too, with a warning, because the store that it was copied from may run. It is
promoted while it is stopped.

It works while the standby runs, which goes on as the owner, and while it is stopped. Two machines cannot know which of them
is dead: stop the former owner first if you can, and send producers to this one. See docs/standby.md.")]
pub struct Promote {
    /// Give up the commits behind the damage of a stopped standby's log, keep the log under another name, and promote
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Promote {
    pub fn run(&self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let settings = self.settings.load_for_store()?;
        let promotion = daemon::promote::promote(&settings, self.accept_loss)?;
        if screen.is_json() {
            let said = json!({
                "term": promotion.term, "commit": promotion.commit, "running": promotion.is_running,
                "kept_log": promotion.kept,
            });
            return screen.text(said.to_string());
        }
        let next = if promotion.is_running { "it serves now" } else { "start it with postrider serve" };
        let commits = promotion.commit.map_or(String::new(), |last| format!(", with every commit up to {last}"));
        let kept = promotion.kept.map_or(String::new(), |kept| {
            format!("; its damaged log is kept in {}, and what followed the damage is lost", kept.display())
        });
        screen.text(format!("this store is the owner's now, of term {}{commits}{kept}; {next}", promotion.term))
    }
}
