//! `postrider delivery` and `postrider attempt`: the deliveries of an event, and each request of them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Exit,
    client::{Call, Client, Remote},
    list,
    list::{Filters, Paging},
    moment::{self, Direction},
    noun::Noun,
    resolve, row_names,
    screen::Screen,
    table::{Column, id, number, text, time, word},
};

pub const COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Delivery),
    word("STATUS", "status"),
    text("TYPE", row_names::EVENT_TYPE),
    text("WEBHOOK", row_names::WEBHOOK_NAME),
    word("OUTCOME", "last_outcome"),
    number("CODE", "last_status_code"),
    number("TRIES", "attempts"),
    time("CREATED (UTC)", "created_at"),
];

const RETRIED_COLUMNS: &[Column] = &[
    id("DELIVERY", "id", Noun::Delivery),
    text("ERROR", "error.detail"),
    word("STATUS", "delivery.status"),
    id("SENT AS", "delivery.id", Noun::Delivery),
];

pub const ATTEMPT_COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Attempt),
    number("NO", "number"),
    word("OUTCOME", "outcome"),
    number("CODE", "status_code"),
    text("ERROR", "error"),
    number("MS", "response_time_ms"),
    time("STARTED (UTC)", "started_at"),
];

const LIST_EXAMPLES: &str = "\
Examples:
  postrider delivery list --status failed --ended-from 24h
  postrider delivery list --webhook invoices --status-code 429,5xx --all -o json";

/// Look up, retry and cancel deliveries of events to webhooks
#[derive(Args, Debug)]
pub struct Delivery {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List deliveries, newest first; failed ones by the time at which they ended
    #[command(after_help = LIST_EXAMPLES)]
    List(Box<List>),
    /// Show one delivery
    Get(Id),
    /// List the attempts of one delivery
    Attempts {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        paging: Paging,
    },
    /// Send now; a final delivery is sent again as a new one
    Retry {
        /// The deliveries' ids, 250 at most
        #[arg(value_name = "DELIVERY", required = true, num_args = 1..=250)]
        ids: Vec<String>,
    },
    /// Cancel a delivery that is not final
    Cancel(Id),
}

#[derive(Args, Debug)]
struct Id {
    /// The delivery: its id, or the beginning of its id
    #[arg(value_name = "DELIVERY")]
    id: String,
}

#[derive(Args, Debug)]
struct List {
    /// Only those to this webhook: its name, or the beginning of its id
    #[arg(long, value_name = "WEBHOOK", help_heading = "Filters")]
    webhook: Option<String>,
    /// Only those of this event
    #[arg(long, value_name = "EVENT", help_heading = "Filters")]
    event: Option<String>,
    /// Only those that became final since this: 2026-11-22T03:29:00Z, 2026-11-22, or 24h (ago)
    #[arg(long, value_name = "MOMENT", help_heading = "Filters")]
    ended_from: Option<String>,
    /// Only those that became final before this, in the same form
    #[arg(long, value_name = "MOMENT", help_heading = "Filters")]
    ended_to: Option<String>,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    paging: Paging,
}

impl Delivery {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let mut action = self.action;
        match &mut action {
            Action::List(_) => {}
            Action::Retry { ids } => {
                for id in ids {
                    *id = resolve::id(&client, Noun::Delivery, id).await?;
                }
            }
            Action::Get(Id { id }) | Action::Cancel(Id { id }) => {
                *id = resolve::id(&client, Noun::Delivery, id).await?;
            }
            Action::Attempts { id, .. } => id.id = resolve::id(&client, Noun::Delivery, &id.id).await?,
        }
        let call = match action {
            Action::List(args) => {
                let webhook = resolve::optional(&client, Noun::Webhook, args.webhook.as_ref()).await?;
                let event = resolve::optional(&client, Noun::Event, args.event.as_ref()).await?;
                let read = |flag, end: &Option<String>| moment::read_optional(flag, end.as_ref(), Direction::Back);
                let call = Call::get(&["deliveries"])
                    .query("webhook_id", webhook)
                    .query("event_id", event)
                    .query("ended_from", read("--ended-from", &args.ended_from)?)
                    .query("ended_to", read("--ended-to", &args.ended_to)?);
                let call = args.filters.onto(call)?;
                return list::print(&client, screen, call, &args.paging, COLUMNS).await;
            }
            Action::Attempts { id, paging } => {
                let call = Call::get(&["deliveries", &id.id, "attempts"]);
                return list::print(&client, screen, call, &paging, ATTEMPT_COLUMNS).await;
            }
            Action::Get(Id { id }) => Call::get(&["deliveries", &id]),
            Action::Retry { ids } if ids.len() > 1 => return retry_many(&client, screen, ids).await,
            Action::Retry { ids } => Call::post(&["deliveries", &ids[0], "retry"]),
            Action::Cancel(Id { id }) => Call::post(&["deliveries", &id, "cancel"]),
        };
        screen.object(Noun::Delivery, &client.call(call).await?.body)
    }
}

/// Sends several deliveries at once and prints the result for each.
async fn retry_many(client: &Client, screen: Screen, ids: Vec<String>) -> Result<(), Exit> {
    let call = Call::post(&["deliveries", "retry"]).json(&json!({ "ids": ids }))?;
    let answer = client.call(call).await?;
    let page: list::Page = serde_json::from_slice(&answer.body)
        .map_err(|error| Exit::failed(format!("the answer is not the list that was expected: {error}")))?;
    if screen.is_json() {
        screen.text(&answer.body)?;
    } else {
        page.show(client, screen, &mut list::Shown::default(), RETRIED_COLUMNS).await?;
    }
    let failed = page.rows().iter().filter(|row| !row["error"].is_null()).count();
    match failed {
        0 => Ok(()),
        _ => Err(Exit::failed(format!("{failed} of {} deliveries were not sent", ids.len()))),
    }
}

/// One HTTP request of a delivery, with the request and the answer
#[derive(Args, Debug)]
pub struct Attempt {
    #[command(subcommand)]
    action: AttemptAction,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AttemptAction {
    /// Show one attempt with headers, answer and timings
    Get {
        /// The attempt: its id, or the beginning of its id
        #[arg(value_name = "ATTEMPT")]
        id: String,
    },
}

impl Attempt {
    pub async fn run(self) -> Result<(), Exit> {
        let AttemptAction::Get { id } = self.action;
        let client = self.remote.client()?;
        let id = resolve::id(&client, Noun::Attempt, &id).await?;
        let answer = client.call(Call::get(&["attempts", &id])).await?;
        self.remote.screen().object(Noun::Attempt, &answer.body)
    }
}
