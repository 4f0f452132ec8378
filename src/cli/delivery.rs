//! `postrider delivery` and `postrider attempt`: the deliveries of an event, and each request of them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Exit,
    client::{Call, Client, Remote},
    list,
    list::{Filters, Paging},
    moment::{self, Direction},
    noun::{self, Noun},
    reconnect::until_answered,
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

/// Attempts to several webhooks.
const STREAM_COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Attempt),
    time("STARTED (UTC)", "started_at"),
    word("OUTCOME", "outcome"),
    number("CODE", "status_code"),
    text("WEBHOOK", row_names::WEBHOOK_NAME),
    text("ERROR", "error"),
    id("DELIVERY", "delivery_id", Noun::Delivery),
    number("NO", "number"),
    number("MS", "response_time_ms"),
];

/// How long the daemon holds an answer back, in seconds, until there is an attempt.
const FOLLOW_WAIT_S: &str = "25";

const STREAM_EXAMPLES: &str = "\
Examples:
  postrider attempt list --failed --from 1h
  postrider attempt list --status-code 5xx --follow -o json";

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
    #[command(after_help = "Examples:\n  postrider delivery get dlv_019cbd76-1bd6")]
    Get(Id),
    /// List the attempts of one delivery
    #[command(after_help = "Examples:\n  postrider delivery attempts dlv_019cbd76-1bd6")]
    Attempts {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        paging: Paging,
    },
    /// Send now; a final delivery is sent again as a new one
    #[command(after_help = "\
Examples:
  postrider delivery retry dlv_019cbd76-1bd6
  postrider delivery retry dlv_019cbd76-1bd6 dlv_019cbd76-9c03 -o json")]
    Retry {
        /// The deliveries' ids, 250 at most
        #[arg(value_name = "DELIVERY", required = true, num_args = 1..=250)]
        ids: Vec<String>,
    },
    /// Cancel a delivery that is not final
    #[command(after_help = "Examples:\n  postrider delivery cancel dlv_019cbd76-1bd6")]
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
    /// Only those of this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP", help_heading = "Filters", conflicts_with = "webhook")]
    app: Option<String>,
    /// Only those of this event: its id, the beginning of its id, or its event_id
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
                let app = resolve::app(&client, args.app.as_ref()).await?;
                let event = resolve::optional(&client, Noun::Event, args.event.as_ref()).await?;
                let read = |flag, end: &Option<String>| moment::read_optional(flag, end.as_ref(), Direction::Back);
                let call = Call::get(&["deliveries"])
                    .query("webhook_id", webhook)
                    .query("app_id", app)
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
    /// List attempts to all webhooks or to one, in the order in which they were recorded
    #[command(after_help = STREAM_EXAMPLES)]
    List(Box<Stream>),
    /// Show the request of one attempt as it was sent: headers, credentials masked, and the body
    #[command(after_help = "\
Examples:
  postrider attempt request att_019cbd76-1bd6
  postrider attempt request att_019cbd76-1bd6 --full")]
    Request {
        /// The attempt: its id, or the beginning of its id
        #[arg(value_name = "ATTEMPT")]
        id: String,
    },
    /// Erase the headers and the body of one attempt's answer for good; the record stays
    #[command(after_help = "Examples:\n  postrider attempt erase att_019cbd76-1bd6")]
    Erase {
        /// The attempt: its id, or the beginning of its id
        #[arg(value_name = "ATTEMPT")]
        id: String,
    },
    /// Show one attempt with headers, answer and timings
    #[command(after_help = "\
Examples:
  postrider attempt get att_019cbd76-1bd6
  postrider attempt get att_019cbd76-1bd6 -o json")]
    Get {
        /// The attempt: its id, or the beginning of its id
        #[arg(value_name = "ATTEMPT")]
        id: String,
    },
}

#[derive(Args, Debug)]
struct Stream {
    /// Only those to this webhook: its name, or the beginning of its id
    #[arg(long, value_name = "WEBHOOK", help_heading = "Filters")]
    webhook: Option<String>,
    /// Only those of this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP", help_heading = "Filters", conflicts_with = "webhook")]
    app: Option<String>,
    /// Only attempts that failed
    #[arg(long, help_heading = "Filters")]
    failed: bool,
    /// Only with one of these outcomes, such as timeout,tls_error
    #[arg(long, value_name = "OUTCOME", help_heading = "Filters", value_delimiter = ',', value_parser = list::outcomes())]
    outcome: Vec<String>,
    /// Only with one of these HTTP statuses or classes, such as 429,5xx
    #[arg(long, value_name = "CODE", help_heading = "Filters")]
    status_code: Option<String>,
    /// Only of events of this type
    #[arg(long = "type", value_name = "TYPE", help_heading = "Filters")]
    kind: Option<String>,
    /// Part of a type, error or URL, or a whole id or status code
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    search: Option<String>,
    /// Begin at this moment in place of the newest ones: 2026-11-22T03:29:00Z, 2026-11-22, or 1h (ago)
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// Go on behind this point, a `next_cursor` of the API
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Rows of an answer, 1 to 250
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250), value_name = "N")]
    limit: u16,
    /// Wait for further ones, for ever; with `-o json` one row a line
    #[arg(long)]
    follow: bool,
}

impl Stream {
    async fn run(&self, client: &Client, screen: Screen) -> Result<(), Exit> {
        let webhook = resolve::optional(client, Noun::Webhook, self.webhook.as_ref()).await?;
        let app = resolve::app(client, self.app.as_ref()).await?;
        let call = Call::get(&["attempts"])
            .query("webhook_id", webhook)
            .query("app_id", app)
            .query("success", self.failed.then_some(false))
            .query("outcome", list::any_of(&self.outcome))
            .query("status_code", self.status_code.as_ref())
            .query("type", self.kind.as_ref())
            .query("search", self.search.as_ref())
            .query("limit", Some(self.limit));
        let from = moment::read_optional("--from", self.from.as_ref(), Direction::Back)?;
        let first = call.clone().query("from", from).query("after", self.after.as_ref());
        if screen.is_json() && !self.follow {
            return screen.text(client.call(first).await?.body);
        }
        let mut shown = list::Shown::default();
        let mut page = list::page(client, &first).await?;
        page.show(client, screen, &mut shown, STREAM_COLUMNS).await?;
        while let Some(cursor) = page.next_cursor.take().filter(|_| self.follow) {
            let next = call.with_query("after", &cursor).with_query("wait_s", FOLLOW_WAIT_S);
            page = until_answered(async || list::page(client, &next).await).await?;
            page.show(client, screen, &mut shown, STREAM_COLUMNS).await?;
        }
        Ok(())
    }
}

impl Attempt {
    pub async fn run(self) -> Result<(), Exit> {
        let client = self.remote.client()?;
        let id = match &self.action {
            AttemptAction::List(args) => return args.run(&client, self.remote.screen()).await,
            AttemptAction::Get { id } | AttemptAction::Request { id } | AttemptAction::Erase { id } => id,
        };
        let id = resolve::id(&client, Noun::Attempt, id).await?;
        if matches!(self.action, AttemptAction::Request { .. }) {
            let answer = client.call(Call::get(&["attempts", &id, "request"])).await?;
            return self.remote.screen().object(Noun::Attempt, &answer.body);
        }
        if matches!(self.action, AttemptAction::Erase { .. }) {
            client.call(Call::delete(&["attempts", &id, "response"])).await?;
            let shown = noun::shown(Noun::Attempt.prefix(), id);
            return self.remote.screen().said(&format!("erased the answer to attempt {shown}"));
        }
        let answer = client.call(Call::get(&["attempts", &id])).await?;
        self.remote.screen().object(Noun::Attempt, &answer.body)
    }
}
