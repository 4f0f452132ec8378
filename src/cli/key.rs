//! `postrider key`: API keys with their permissions, and the master key that seals secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde_json::{Map, Value};

use super::{
    Exit, SettingsFlags,
    client::{Call, Remote},
    input,
    list::{self, Paging},
    moment::{self, Direction},
    noun::{Noun, shown},
    resolve,
    table::{Column, day, id, text},
    webhook_fields,
};
use crate::config;
use crate::daemon::{self, KeyRotation};
use crate::model::Scope;

const COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Key),
    text("NAME", "name"),
    text("SCOPES", "scopes"),
    id("APP", "app_id", Noun::App),
    day("CREATED", "created_at"),
    day("EXPIRES", "expires_at"),
];

const SCOPES: &str = "\
Scopes: events:read events:write (has the next) deliveries:retry webhooks:read
        webhooks:write webhooks:secret apps:read apps:write
        keys:read keys:write admin (has all)
        replicate (for a standby; only the installation's own key gives it)

Examples:
  postrider key create billing --scope events:write
  postrider key create dashboard --scope events:read,webhooks:read --app acme --expires-at 90d
  postrider key create svix --svix";

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
    #[command(after_help = "Examples:\n  postrider key list")]
    List(Paging),
    /// Make a key; it is shown this once
    #[command(after_help = SCOPES)]
    Create(Create),
    /// Make a key useless, at once
    #[command(after_help = "Examples:\n  postrider key revoke billing")]
    Revoke {
        /// The key: its name, its id, or the beginning of its id
        #[arg(value_name = "KEY")]
        id: String,
    },
    /// Change the master key, which seals secrets in the store; the daemon must be stopped
    #[command(after_help = ROTATE)]
    RotateMaster(RotateMaster),
}

const ROTATE: &str = "\
Where the key is master.key in the data directory, a new one is made and takes its place. Where it comes from
POSTRIDER_MASTER_KEY, master_key_file or a credential, give the new one with --new-key-file, and put it there afterwards.
Nothing else is written anew, so it takes no time; a cut in the middle leaves either key in force, and the verb can be run
again. A backup made before opens with the old key only: keep it as long as the backup.

Examples:
  systemctl stop postrider
  sudo systemctl stop postrider && sudo postrider key rotate-master
  (umask 077 && openssl rand -base64 32 > new.key) && postrider key rotate-master --new-key-file new.key";

#[derive(Args, Debug)]
struct RotateMaster {
    /// Read the new key from this file: 32 to 512 characters
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlags,
}

impl RotateMaster {
    fn run(&self) -> Result<String, Exit> {
        let settings = self.settings.load_for_store()?;
        let new = self.new_key_file.as_ref().map(|file| {
            let text =
                std::fs::read_to_string(file).map_err(|error| Exit::failed(format!("{}: {error}", file.display())))?;
            config::master_key_of(&text).map_err(|problem| Exit::usage(format!("{}: {problem}", file.display())))
        });
        Ok(match daemon::rotate_master_key(&settings, new.transpose()?.as_ref())? {
            KeyRotation::Made(file) => format!("the store opens with a new master key, in {}", file.display()),
            KeyRotation::Given => {
                "the store opens with the new master key only; put it where the settings look before the next start"
                    .into()
            }
        })
    }
}

#[derive(Args, Debug)]
struct Create {
    /// A name for people
    name: String,
    /// Scopes of the key; comma-separated or repeated
    #[arg(long = "scope", required_unless_present = "svix", value_delimiter = ',', value_name = "SCOPE",
        value_parser = PossibleValuesParser::new(Scope::ALL.map(Scope::as_str)), hide_possible_values = true)]
    scopes: Vec<String>,
    /// A token for clients of Svix: all that the Svix-compatible API does
    #[arg(long)]
    svix: bool,
    /// Only for this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// When it stops working: 2027-01-01, or in 90d
    #[arg(long, value_name = "MOMENT")]
    expires_at: Option<String>,
    /// Requests a second it may make
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Feature flags of its holder; comma-separated or repeated
    #[arg(long = "feature-flag", value_delimiter = ',', value_name = "FLAG")]
    feature_flags: Option<Vec<String>>,
}

impl Create {
    fn object(&self, app: Option<String>) -> Result<Map<String, Value>, Exit> {
        let mut scopes = self.scopes.clone();
        if self.svix {
            scopes.extend(Scope::ALL_APPS.map(|scope| scope.as_str().to_owned()));
        }
        let expires_at = moment::read_optional("--expires-at", self.expires_at.as_ref(), Direction::Ahead)?;
        Ok(input::object([
            ("name", Some(self.name.clone().into())),
            ("scopes", Some(scopes.into())),
            ("app_id", app.map(Value::from)),
            ("expires_at", expires_at.map(Value::from)),
            ("rate_per_s", self.rate.map(webhook_fields::number)),
            ("feature_flags", self.feature_flags.clone().map(Value::from)),
        ]))
    }
}

impl Key {
    pub async fn run(self) -> Result<(), Exit> {
        let screen = self.remote.screen();
        let client = || self.remote.client();
        match self.action {
            Action::List(paging) => list::print(&client()?, screen, Call::get(&["keys"]), &paging, COLUMNS).await,
            Action::Create(args) => {
                let client = client()?;
                let app = resolve::app(&client, args.app.as_ref()).await?;
                let call = Call::post(&["keys"]).json(&args.object(app)?)?;
                screen.object(Noun::Key, &client.call(call).await?.body)
            }
            Action::Revoke { id } => {
                let client = client()?;
                let id = resolve::id(&client, Noun::Key, &id).await?;
                client.call(Call::delete(&["keys", &id])).await?;
                screen.said(&format!("revoked key {}", shown(Noun::Key.prefix(), id)))
            }
            // It works on the files, and needs no daemon and no token.
            Action::RotateMaster(verb) => screen.said(&verb.run()?),
        }
    }
}
