//! `postrider org`: organizations, for the administrator of the installation.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Exit,
    client::{Call, Remote},
    list::{self, Paging},
    noun::Noun,
    table::{Column, day, id, text},
};

const COLUMNS: &[Column] = &[id("ID", "id", Noun::Organization), text("NAME", "name"), day("CREATED", "created_at")];

/// Organizations of this installation, for its administrator
#[derive(Args, Debug)]
pub struct Org {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List organizations
    #[command(after_help = "Examples:\n  postrider org list")]
    List(Paging),
    /// Make an organization with its default app and its first key, shown this once
    #[command(after_help = "Examples:\n  postrider org create acme")]
    Create {
        /// A name for people
        name: String,
    },
}

impl Org {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        match self.action {
            Action::List(paging) => list::print(&client, screen, Call::get(&["organizations"]), &paging, COLUMNS).await,
            Action::Create { name } => {
                let call = Call::post(&["organizations"]).json(&json!({ "name": name }))?;
                screen.object(Noun::Organization, &client.call(call).await?.body)
            }
        }
    }
}
