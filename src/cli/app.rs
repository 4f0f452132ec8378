//! `postrider app`: the tenants inside an organization.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use serde_json::{Map, Value};

use super::{
    Exit,
    client::{Call, Remote},
    duration, input,
    list::{self, Paging},
    noun::{Noun, shown},
    resolve,
    table::{Column, day, id, text},
    webhook_fields::{json_value, object_in},
};
use crate::model::{Scope, portal};

const COLUMNS: &[Column] =
    &[id("ID", "id", Noun::App), text("UID", "uid"), text("NAME", "name"), day("CREATED", "created_at")];

/// Apps: the tenants inside an organization
#[derive(Args, Debug)]
pub struct App {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List apps
    #[command(after_help = "Examples:\n  postrider app list\n  postrider app list --all -o json")]
    List(Paging),
    /// Show one app
    #[command(after_help = "Examples:\n  postrider app get acme")]
    Get(Id),
    /// Make an app
    #[command(after_help = "\
Examples:
  postrider app create --name Acme --uid acme
  postrider app create --name Acme --throttle-rate 50")]
    Create(Fields),
    /// Change the fields that are given
    #[command(after_help = "\
Examples:
  postrider app update acme --name 'Acme Ltd'
  postrider app update acme --throttle-rate 20")]
    Update {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        fields: Fields,
    },
    /// Remove an app; its webhooks go with it, and their open deliveries are cancelled
    #[command(after_help = "Examples:\n  postrider app delete acme")]
    Delete(Id),
    /// Make a link by which the app's tenant enters its own pages, without a key
    #[command(after_help = PORTAL_LINK)]
    PortalLink(PortalLink),
    /// Revoke a portal link, and end the sessions that it began
    #[command(after_help = "Examples:\n  postrider app revoke-link lnk_019cbd76-1bd6-783d-8e01-b41575aafd08")]
    RevokeLink {
        /// The id of the link
        #[arg(value_name = "LINK")]
        id: String,
    },
}

#[derive(Args, Debug)]
struct Id {
    /// The app: its name, uid or id, or the beginning of its id
    #[arg(value_name = "APP")]
    id: String,
}

const PORTAL_LINK: &str = "\
Examples:
  postrider app portal-link acme
  postrider app portal-link acme --for 8h --scope events:read,webhooks:read --return-url https://app.example/settings";

#[derive(Args, Debug)]
struct PortalLink {
    #[command(flatten)]
    id: Id,
    /// Scopes of the tenant, instead of reading and writing events and webhooks; comma-separated or repeated
    #[arg(long = "scope", value_delimiter = ',', value_name = "SCOPE",
        value_parser = PossibleValuesParser::new(portal::PortalLink::SCOPES.map(Scope::as_str)))]
    scopes: Vec<String>,
    /// How long the access lasts: 60s to 24h [default: 1h]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::seconds)]
    expires_in_s: Option<u64>,
    /// How long the link can be opened [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration::seconds)]
    enter_within: Option<u64>,
    /// The page of yours that the portal leads back to
    #[arg(long, value_name = "URL")]
    return_url: Option<String>,
}

impl PortalLink {
    fn object(&self) -> Map<String, Value> {
        input::object([
            ("app_id", Some(self.id.id.clone().into())),
            ("scopes", (!self.scopes.is_empty()).then(|| self.scopes.clone().into())),
            ("expires_in_s", self.expires_in_s.map(Value::from)),
            ("enter_within_s", self.enter_within.map(Value::from)),
            ("return_url", self.return_url.clone().map(Value::from)),
        ])
    }
}

#[derive(Args, Debug)]
struct Fields {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// An identity of your own choice
    #[arg(long, value_name = "TEXT")]
    uid: Option<String>,
    /// Your own data, an object of strings, as JSON, @FILE or -
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Requests a second to all webhooks of the app together
    #[arg(long = "throttle-rate", value_name = "N")]
    throttle_rate: Option<f64>,
    /// The fields as a JSON object in a file, or - for stdin; flags win over it
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,
}

impl Fields {
    fn object(&self) -> Result<Map<String, Value>, Exit> {
        let mut object = self.json.as_deref().map(object_in).transpose()?.unwrap_or_default();
        object.extend(self.name.clone().map(|name| ("name".to_owned(), name.into())));
        object.extend(self.uid.clone().map(|uid| ("uid".to_owned(), uid.into())));
        if let Some(given) = &self.metadata {
            object.insert("metadata".to_owned(), json_value("--metadata", given)?);
        }
        object.extend(self.throttle_rate.map(|rate| ("throttle_rate_per_s".to_owned(), rate.into())));
        match object.is_empty() {
            true => Err(Exit::usage("give --name, --uid, --metadata, --throttle-rate or --json")),
            false => Ok(object),
        }
    }
}

impl App {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let mut action = self.action;
        if let Action::Get(id)
        | Action::Delete(id)
        | Action::Update { id, .. }
        | Action::PortalLink(PortalLink { id, .. }) = &mut action
        {
            id.id = resolve::id(&client, Noun::App, &id.id).await?;
        }
        let call = match action {
            Action::List(paging) => {
                return list::print(&client, screen, Call::get(&["apps"]), &paging, COLUMNS).await;
            }
            Action::Delete(Id { id }) => {
                client.call(Call::delete(&["apps", &id])).await?;
                return screen.said(&format!("deleted app {}", shown(Noun::App.prefix(), id)));
            }
            Action::PortalLink(link) => {
                let answer = client.call(Call::post(&["portal-links"]).json(&link.object())?).await?;
                return screen.object(Noun::PortalLink, &answer.body);
            }
            Action::RevokeLink { id } => {
                client.call(Call::delete(&["portal-links", &id])).await?;
                return screen.said(&format!("revoked portal link {id}"));
            }
            Action::Get(Id { id }) => Call::get(&["apps", &id]),
            Action::Create(fields) => Call::post(&["apps"]).json(&fields.object()?)?,
            Action::Update { id, fields } => Call::patch(&["apps", &id.id]).json(&fields.object()?)?,
        };
        screen.object(Noun::App, &client.call(call).await?.body)
    }
}
