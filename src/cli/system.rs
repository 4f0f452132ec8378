//! `postrider system`: the daemon and its machine.

use clap::Args;

use super::{
    Exit,
    client::{Call, Remote},
};

/// Show the daemon and its machine: version, disk, files, queues, commits, followers, clock and warnings
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider system\n  postrider system -o json")]
pub struct System {
    #[command(flatten)]
    remote: Remote,
}

impl System {
    pub async fn run(self) -> Result<(), Exit> {
        let client = self.remote.client()?;
        let answer = client.call(Call::get(&["system"])).await?;
        self.remote.screen().record(&answer.body)
    }
}
