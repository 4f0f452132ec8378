//! `postrider audit`: the actions of callers, with their keys, times and addresses.

use clap::Args;

use super::{
    Exit,
    client::{Call, Client, Remote},
    list::{self, Paging, Span},
    noun::Noun,
    resolve,
    table::{Column, id, target, text, time, word},
};

const COLUMNS: &[Column] = &[
    time("AT (UTC)", "at"),
    word("ACTION", "action"),
    target("TARGET", "target"),
    id("KEY", "key_id", Noun::Key),
    text("FROM", "remote_addr"),
    text("CHANGES", "changes"),
];

const EXAMPLES: &str = "\
Examples:
  postrider audit --target invoices
  postrider audit --action webhook. --from 24h
  postrider audit --key billing --all -o json";

/// List the actions of callers with their keys, times and addresses, newest first
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    /// Only actions on this object: its name, uid, event_id or id, or the beginning of its id; a removed one: its whole id
    #[arg(long, value_name = "OBJECT", help_heading = "Filters")]
    target: Option<String>,
    /// Only actions of this key: its name, its id, or the beginning of its id
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
        let target = match &self.target {
            Some(text) => Some(target_of(&client, text).await?),
            None => None,
        };
        let key = resolve::optional(&client, Noun::Key, self.key.as_ref()).await?;
        let call = Call::get(&["audit"])
            .query("target", target)
            .query("key_id", key)
            .query("action", self.action.as_ref())
            .query("from", from)
            .query("to", to);
        list::print(&client, self.remote.screen(), call, &self.paging, COLUMNS).await
    }
}

/// The target of audit lines that a text names. Some targets, such as event types, have no id.
async fn target_of(client: &Client, text: &str) -> Result<String, Exit> {
    if let Some(id) = resolve::of_any_noun(client, text).await? {
        return Ok(id);
    }
    let own = Call::get(&["audit"]).query("target", Some(text)).query("limit", Some(1));
    match list::page(client, &own).await?.data.is_empty() {
        false => Ok(text.to_owned()),
        true => Err(resolve::nothing_named(text)),
    }
}
