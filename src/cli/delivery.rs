//! `postrider delivery` and `postrider attempt`: what became of an event at a webhook, and each request of it.

use clap::{Args, Subcommand};

use super::{
    Exit,
    client::{Call, Remote},
    list,
    list::{Filters, Paging},
    noun::Noun,
    resolve, row_names,
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
  postrider delivery list --status failed --from 24h
  postrider delivery list --webhook invoices --status-code 503 --all -o json";

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
    /// List deliveries, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
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
    Retry(Id),
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
            Action::Get(Id { id }) | Action::Retry(Id { id }) | Action::Cancel(Id { id }) => {
                *id = resolve::id(&client, Noun::Delivery, id).await?;
            }
            Action::Attempts { id, .. } => id.id = resolve::id(&client, Noun::Delivery, &id.id).await?,
        }
        let call = match action {
            Action::List(args) => {
                let webhook = resolve::optional(&client, Noun::Webhook, args.webhook.as_ref()).await?;
                let event = resolve::optional(&client, Noun::Event, args.event.as_ref()).await?;
                let call = Call::get(&["deliveries"]).query("webhook_id", webhook).query("event_id", event);
                let call = args.filters.onto(call)?;
                return list::print(&client, screen, call, &args.paging, COLUMNS).await;
            }
            Action::Attempts { id, paging } => {
                let call = Call::get(&["deliveries", &id.id, "attempts"]);
                return list::print(&client, screen, call, &paging, ATTEMPT_COLUMNS).await;
            }
            Action::Get(Id { id }) => Call::get(&["deliveries", &id]),
            Action::Retry(Id { id }) => Call::post(&["deliveries", &id, "retry"]),
            Action::Cancel(Id { id }) => Call::post(&["deliveries", &id, "cancel"]),
        };
        screen.object(Noun::Delivery, &client.call(call).await?.body)
    }
}

/// One HTTP request of a delivery, with what was sent and answered
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
