//! `postrider audit`: the actions of callers, with their keys, times and addresses.

use clap::Args;

use super::{
    Exit,
    client::{Call, Remote},
    list::{self, Paging, Span},
    noun::Noun,
    table::{Column, id, text, time, word},
};

const COLUMNS: &[Column] = &[
    time("AT (UTC)", "at"),
    word("ACTION", "action"),
    text("TARGET", "target"),
    id("KEY", "key_id", Noun::Key),
    text("FROM", "remote_addr"),
    text("CHANGES", "changes"),
];

const EXAMPLES: &str = "\
Examples:
  postrider audit --target 019cbd76-1bd6-783d-8e01-b41575aafd08
  postrider audit --action webhook. --from 24h
  postrider audit --key 019cbd76-1bd6-783d-8e01-b41575aafd08 --all -o json";

/// List the actions of callers with their keys, times and addresses, newest first
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    /// Only actions on the object with exactly this id
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    target: Option<String>,
    /// Only actions of the key with this id
    #[arg(long, value_name = "KEY", help_heading = "Filters")]
    key: Option<String>,
    /// Only this action, such as webhook.update, or all that begin with a word and a dot, such as `webhook.`
    #[arg(long, value_name = "ACTION", help_heading = "Filters")]
    action: Option<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    remote: Remote,
}

impl Audit {
    pub async fn run(self) -> Result<(), Exit> {
        let client = self.remote.client()?;
        let (from, to) = self.span.read()?;
        let call = Call::get(&["audit"])
            .query("target", self.target.as_deref().map(without_prefix))
            .query("key_id", self.key.as_deref().map(without_prefix))
            .query("action", self.action.as_ref())
            .query("from", from)
            .query("to", to);
        list::print(&client, self.remote.screen(), call, &self.paging, COLUMNS).await
    }
}

/// An id as the API takes it: people see ids with the prefix of their noun.
fn without_prefix(text: &str) -> &str {
    text.split_once('_').map_or(text, |(_, id)| id)
}
