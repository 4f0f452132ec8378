//! `postrider event`: published events.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit,
    client::{Call, Client, Remote},
    delivery, list,
    list::{Paging, Span},
    noun::{Noun, shown},
    resolve,
    row_names::{self, RowNames},
    table::{Column, id, number, text, time},
};

const COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Event),
    text("TYPE", "type"),
    text("EVENT ID", "event_id"),
    text("SUBJECT", "subject"),
    number("SENT TO", "deliveries"),
    time("RECEIVED (UTC)", "received_at"),
];

const TYPE_COLUMNS: &[Column] = &[
    text("TYPE", "type"),
    number("LAST 24 H", "last_24h_events"),
    time("LAST SEEN (UTC)", "last_seen"),
    text("DESCRIPTION", "definition.description"),
];

const LIST_EXAMPLES: &str = "\
Examples:
  postrider event list --type invoice.paid --from 24h
  postrider event list --event-id inv-42-paid -o json";

/// Look up, send again, cancel and erase published events
#[derive(Args, Debug)]
pub struct Event {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List events, newest first, without their data
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Show one event with its data and its delivery to each webhook
    #[command(after_help = "\
Examples:
  postrider event get inv-42-paid
  postrider event get evt_019cbd76-1bd6 --full")]
    Get(Id),
    /// List the types of events that were received within the retention, with counts of 24 hours, and registered types
    #[command(after_help = "Examples:\n  postrider event types\n  postrider event types --app acme")]
    Types {
        /// Only those of this app: its name, uid or id, or the beginning of its id
        #[arg(long, value_name = "APP", help_heading = "Filters")]
        app: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// List the deliveries of one event
    #[command(after_help = "Examples:\n  postrider event deliveries inv-42-paid")]
    Deliveries {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        paging: Paging,
    },
    /// Send an event to one webhook now, once, whatever the webhook selects
    #[command(after_help = "Examples:\n  postrider event resend inv-42-paid invoices")]
    Resend {
        #[command(flatten)]
        id: Id,
        /// The webhook: its name, uid or id, or the beginning of its id
        #[arg(value_name = "WEBHOOK")]
        webhook: String,
    },
    /// Cancel the deliveries of one event that are not final
    #[command(after_help = "Examples:\n  postrider event cancel inv-42-paid")]
    Cancel(Id),
    /// Erase an event's data and its receivers' responses for good; the record stays
    #[command(after_help = "Examples:\n  postrider event erase inv-42-paid")]
    Erase(Id),
}

#[derive(Args, Debug)]
struct Id {
    /// The event: its id, the beginning of its id, or its event_id
    #[arg(value_name = "EVENT")]
    id: String,
}

#[derive(Args, Debug)]
struct List {
    /// Only this type
    #[arg(long = "type", value_name = "TYPE", help_heading = "Filters")]
    kind: Option<String>,
    /// Only those of this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP", help_heading = "Filters")]
    app: Option<String>,
    /// Only those that the producer gave this event_id
    #[arg(long, value_name = "EVENT_ID", help_heading = "Filters")]
    event_id: Option<String>,
    /// Only those about this subject
    #[arg(long, value_name = "SUBJECT", help_heading = "Filters")]
    subject: Option<String>,
    /// Part of a type or subject, or a whole id or event_id
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    search: Option<String>,
    #[command(flatten, next_help_heading = "Filters")]
    span: Span,
    #[command(flatten)]
    paging: Paging,
}

impl Event {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let mut action = self.action;
        match &mut action {
            Action::List(_) | Action::Types { .. } => {}
            Action::Get(Id { id }) | Action::Cancel(Id { id }) | Action::Erase(Id { id }) => {
                *id = resolve::id(&client, Noun::Event, id).await?;
            }
            Action::Deliveries { id, .. } | Action::Resend { id, .. } => {
                id.id = resolve::id(&client, Noun::Event, &id.id).await?
            }
        }
        let call = match action {
            Action::List(args) => {
                let (from, to) = args.span.read()?;
                let app = resolve::app(&client, args.app.as_ref()).await?;
                let call = Call::get(&["events"])
                    .query("type", args.kind)
                    .query("app_id", app)
                    .query("event_id", args.event_id)
                    .query("subject", args.subject)
                    .query("search", args.search)
                    .query("from", from)
                    .query("to", to);
                return list::print(&client, screen, call, &args.paging, COLUMNS).await;
            }
            Action::Types { app, paging } => {
                let app = resolve::app(&client, app.as_ref()).await?;
                let call = Call::get(&["event-types"]).query("app_id", app);
                return list::print(&client, screen, call, &paging, TYPE_COLUMNS).await;
            }
            Action::Deliveries { id, paging } => {
                let call = Call::get(&["events", &id.id, "deliveries"]);
                return list::print(&client, screen, call, &paging, delivery::COLUMNS).await;
            }
            Action::Get(Id { id }) => {
                let answer = client.call(Call::get(&["events", &id])).await?;
                let mut event = answer.json().unwrap_or_default();
                if screen.is_json() || !event.is_object() {
                    return screen.text(&answer.body);
                }
                name_webhooks(&client, &mut event).await;
                return screen.object(Noun::Event, event.to_string().as_bytes());
            }
            Action::Resend { id, webhook } => {
                let webhook = resolve::id(&client, Noun::Webhook, &webhook).await?;
                let call = Call::post(&["events", &id.id, "resend"]).json(&json!({ "webhook_id": webhook }))?;
                return screen.object(Noun::Delivery, &client.call(call).await?.body);
            }
            Action::Cancel(Id { id }) => Call::post(&["events", &id, "cancel"]),
            Action::Erase(Id { id }) => {
                client.call(Call::delete(&["events", &id, "data"])).await?;
                return screen.said(&format!("erased the data of event {}", shown(Noun::Event.prefix(), id)));
            }
        };
        screen.object(Noun::Event, &client.call(call).await?.body)
    }
}

/// Puts the name of each webhook first, and its id last, in the list that says why it got the event or not.
async fn name_webhooks(client: &Client, event: &mut Value) {
    let Some(rows) = event["webhooks"].as_array_mut() else { return };
    RowNames::default().add_webhooks(client, rows).await;
    for row in rows {
        let Some(members) = row.as_object_mut() else { continue };
        let Some(name) = members.shift_remove(row_names::WEBHOOK_NAME) else { continue };
        members.shift_insert(0, "webhook".to_owned(), name);
        // Last: a narrow terminal leaves ids out first.
        let id = members.shift_remove("webhook_id").unwrap_or_default();
        members.insert("webhook_id".to_owned(), id);
    }
}
