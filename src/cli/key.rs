//! `postrider key`: who may do what.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{
    Exit,
    client::{Call, Remote},
    input,
    list::{self, Paging},
    moment::{self, Direction},
    table::{Column, day, id, text},
};

const COLUMNS: &[Column] = &[
    id("ID", "id"),
    text("NAME", "name"),
    text("SCOPES", "scopes"),
    text("APP", "app_id"),
    day("CREATED", "created_at"),
    day("EXPIRES", "expires_at"),
];

const SCOPES: &str = "\
Scopes: events:read events:write webhooks:read webhooks:write webhooks:secret
        apps:read apps:write keys:read keys:write admin (has all)

Examples:
  postrider key create billing --scope events:write
  postrider key create dashboard --scope events:read,webhooks:read --app acme --expires-at 90d";

/// API keys: make, list, revoke
#[derive(Args, Debug)]
pub struct Key {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List keys, without the keys themselves
    List(Paging),
    /// Make a key; it is shown this once
    #[command(after_help = SCOPES)]
    Create(Create),
    /// Make a key useless, at once
    Revoke {
        /// The key's id
        #[arg(value_name = "KEY")]
        id: String,
    },
}

#[derive(Args, Debug)]
struct Create {
    /// A name for people
    name: String,
    /// What it may do; comma-separated or repeated
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Only for this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// When it stops working: 2027-01-01, or in 90d
    #[arg(long, value_name = "MOMENT")]
    expires_at: Option<String>,
    /// Requests a second it may make
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
}

impl Create {
    fn object(&self) -> Result<Map<String, Value>, Exit> {
        let expires_at = moment::read_optional("--expires-at", self.expires_at.as_ref(), Direction::Ahead)?;
        Ok(input::object([
            ("name", Some(self.name.clone().into())),
            ("scopes", Some(self.scopes.clone().into())),
            ("app_id", self.app.clone().map(Value::from)),
            ("expires_at", expires_at.map(Value::from)),
            ("rate_per_s", self.rate.map(Value::from)),
        ]))
    }
}

impl Key {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        match self.action {
            Action::List(paging) => list::print(&client, screen, Call::get(&["keys"]), &paging, COLUMNS).await,
            Action::Create(args) => {
                let call = Call::post(&["keys"]).json(&args.object()?)?;
                screen.record(&client.call(call).await?.body)
            }
            Action::Revoke { id } => {
                client.call(Call::delete(&["keys", &id])).await?;
                screen.said(&format!("revoked key {id}"))
            }
        }
    }
}
