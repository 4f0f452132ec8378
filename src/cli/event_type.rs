//! `postrider event-type`: the registry of event types.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{
    Exit,
    client::{Call, Remote},
    input,
    list::{self, Paging},
    noun::Noun,
    table::{Column, number, text, time},
    webhook_fields::{json_value, object_in},
};

const COLUMNS: &[Column] = &[
    text("TYPE", "type"),
    text("DESCRIPTION", "definition.description"),
    text("ARCHIVED", "definition.archived"),
    number("LAST 24 H", "last_24h_events"),
    time("LAST SEEN (UTC)", "last_seen"),
];

const EXAMPLES: &str = "\
Examples:
  postrider event-type create invoice.paid --description 'An invoice was paid'
  postrider event-type update invoice.paid --schemas @schemas.json
  postrider event-type archive invoice.paid";

/// Event types with their descriptions and schemas
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct EventType {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List registered types, archived ones too; `postrider event types` lists those of events as well
    #[command(after_help = "Examples:\n  postrider event-type list")]
    List(Paging),
    /// Show one registered type with its schemas
    #[command(after_help = "Examples:\n  postrider event-type get invoice.paid")]
    Get(Name),
    /// Register a type
    #[command(after_help = "\
Examples:
  postrider event-type create invoice.paid --description 'An invoice was paid'
  postrider event-type create invoice.paid --schemas @schemas.json")]
    Create {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change the fields that are given
    #[command(after_help = "\
Examples:
  postrider event-type update invoice.paid --schemas @schemas.json
  postrider event-type update invoice.paid --deprecated")]
    Update {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        fields: Fields,
    },
    /// Archive a type: it stays readable
    #[command(after_help = "Examples:\n  postrider event-type archive invoice.paid")]
    Archive(Name),
    /// Remove a type from the registry; its events stay
    #[command(after_help = "Examples:\n  postrider event-type delete invoice.paid")]
    Delete(Name),
}

#[derive(Args, Debug)]
struct Name {
    /// The type, such as invoice.paid
    #[arg(value_name = "TYPE")]
    name: String,
}

#[derive(Args, Debug)]
struct Fields {
    /// The meaning of its events
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// JSON Schemas by version, as JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    schemas: Option<String>,
    /// The heading under which it is grouped
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,
    /// Show it to a key of one app only with one of these flags; comma-separated or repeated
    #[arg(long = "feature-flag", value_delimiter = ',', value_name = "FLAG")]
    feature_flags: Option<Vec<String>>,
    /// Whether it should not be used any more
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    deprecated: Option<bool>,
    /// The fields as a JSON object in a file, or - for stdin; flags win over it
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

impl Fields {
    fn object(&self) -> Result<Map<String, Value>, Exit> {
        let schemas = self.schemas.as_ref().map(|given| json_value("--schemas", given));
        let mut object = self.json.as_deref().map(object_in).transpose()?.unwrap_or_default();
        object.extend(input::object([
            ("description", self.description.clone().map(Value::from)),
            ("schemas", schemas.transpose()?),
            ("group_name", self.group.clone().map(Value::from)),
            ("feature_flags", self.feature_flags.clone().map(Value::from)),
            ("deprecated", self.deprecated.map(Value::from)),
        ]));
        Ok(object)
    }
}

impl EventType {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let call = match self.action {
            Action::List(paging) => {
                let call = Call::get(&["event-types"]).query("registered", Some(true));
                return list::print(&client, screen, call, &paging, COLUMNS).await;
            }
            Action::Archive(Name { name }) => {
                client.call(Call::delete(&["event-types", &name])).await?;
                return screen.said(&format!("archived event type {name}"));
            }
            Action::Delete(Name { name }) => {
                client.call(Call::delete(&["event-types", &name]).query("expunge", Some(true))).await?;
                return screen.said(&format!("deleted event type {name}"));
            }
            Action::Get(Name { name }) => Call::get(&["event-types", &name]),
            Action::Create { name, fields } => {
                let mut object = fields.object()?;
                object.insert("type".to_owned(), name.name.into());
                Call::post(&["event-types"]).json(&object)?
            }
            Action::Update { name, fields } => {
                let object = fields.object()?;
                if object.is_empty() {
                    return Err(Exit::usage("give a field to change, or --json"));
                }
                Call::patch(&["event-types", &name.name]).json(&object)?
            }
        };
        screen.object(Noun::Event, &client.call(call).await?.body)
    }
}
