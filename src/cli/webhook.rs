//! `postrider webhook`: the targets of events.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit,
    client::{Call, Client, Remote},
    delivery, duration, list,
    list::{Filters, Paging},
    noun::{Noun, shown},
    reconnect::until_answered,
    resolve,
    screen::Screen,
    stats,
    table::{self, Column, id, number, text, time, word},
    webhook_fields::Fields,
};

const COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Webhook),
    word("STATUS", "status"),
    text("NAME", "name"),
    text("URL", "url"),
    text("EVENT TYPES", "event_types"),
    number("FAILURES", "consecutive_failures"),
];

const FEED_COLUMNS: &[Column] = &[
    id("DELIVERY", "delivery_id", Noun::Delivery),
    text("TYPE", "event.type"),
    id("EVENT", "event.id", Noun::Event),
    time("RECEIVED (UTC)", "event.received_at"),
];

const FIGURES_COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Webhook),
    text("NAME", "name"),
    word("STATUS", "status"),
    word("CIRCUIT", "circuit"),
    number("TRIES", "figures.attempts"),
    number("FAILED", "figures.failures"),
    number("OK %", "figures.success_rate"),
    number("P95 MS", "figures.p95_response_time_ms"),
    number("WAITING", "figures.waiting"),
    time("LATE SINCE (UTC)", "figures.oldest_waiting"),
    time("LAST TRY (UTC)", "figures.last_attempt_at"),
];

const WAITING_COLUMNS: &[Column] = &[
    id("DELIVERY", "id", Noun::Delivery),
    text("TYPE", "event_type"),
    number("TRIES", "attempts"),
    word("WAITS FOR", "waiting_for.reason"),
    time("DUE (UTC)", "next_attempt_at"),
    time("UNTIL (UTC)", "waiting_for.until"),
];

/// An attempt's error is shown up to this length.
const ERROR_CHARS_MAX: usize = 200;

const CREATE_EXAMPLES: &str = "\
Examples:
  postrider webhook create https://hooks.example.com/in --type 'invoice.*'
  postrider webhook create https://hooks.example.com/in --auth-bearer s3cret --retry-schedule 5s,1m,10m
  postrider webhook create https://hooks.example.com/in --json webhook.json -o json";

const UPDATE_EXAMPLES: &str = "\
Examples:
  postrider webhook update invoices --target https://hooks.example.com/v2 --timeout 30s
  postrider webhook update whk_0191d5c8 --unset filter,rate_limit_per_s";

/// Where events go: make, change, pause and look into webhooks
#[derive(Args, Debug)]
pub struct Webhook {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List webhooks, newest first or by --order, with the figures of a day
    #[command(after_help = "Examples:\n  postrider webhook list\n  postrider webhook list --trouble --order worst")]
    List(ListArgs),
    /// Show one webhook
    #[command(after_help = "Examples:\n  postrider webhook get invoices")]
    Get(Id),
    /// Make a webhook; its secret is shown this once
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// Change the fields that are given, and no others
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(Update),
    /// Remove a webhook; its open deliveries are cancelled
    #[command(after_help = "Examples:\n  postrider webhook delete invoices")]
    Delete(Id),
    /// List waiting deliveries by due time, with the reason for each
    #[command(after_help = "Examples:\n  postrider webhook waiting invoices")]
    Waiting {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        paging: Paging,
    },
    /// Hold deliveries back until resumed; new events still make some
    #[command(after_help = "Examples:\n  postrider webhook pause invoices")]
    Pause(Id),
    /// Send the held deliveries, oldest first, and go on; ends a hold by Retry-After and the wait for a probe too
    #[command(after_help = "Examples:\n  postrider webhook resume invoices")]
    Resume(Id),
    /// Switch a disabled webhook on again
    #[command(after_help = "Examples:\n  postrider webhook enable invoices")]
    Enable(Id),
    /// Switch off: no deliveries are made for it until it is enabled
    #[command(after_help = "Examples:\n  postrider webhook disable invoices")]
    Disable(Id),
    /// Show the secret, and earlier ones that still sign
    #[command(after_help = "Examples:\n  postrider webhook secret invoices")]
    Secret(Id),
    /// Replace the secret; the old one keeps signing for a while
    #[command(after_help = "\
Examples:
  postrider webhook rotate-secret invoices
  postrider webhook rotate-secret invoices --overlap 2h")]
    RotateSecret(RotateSecret),
    /// Send one signed request now; nothing is stored. Exit code 1 if the receiver does not take it
    #[command(after_help = "Examples:\n  postrider webhook test invoices")]
    Test(Id),
    /// Show figures of all time, or of a span with --last
    #[command(after_help = "Examples:\n  postrider webhook stats invoices --last 24h")]
    Stats(StatsArgs),
    /// Show its state and how it did in the last 24 hours, with reasons
    #[command(after_help = "Examples:\n  postrider webhook health invoices")]
    Health(Id),
    /// List its deliveries, newest first
    #[command(after_help = "Examples:\n  postrider webhook deliveries invoices --status failed,retrying")]
    Deliveries(Filtered),
    /// List its attempts, newest first
    #[command(after_help = "Examples:\n  postrider webhook attempts invoices --outcome timeout --from 24h")]
    Attempts(Filtered),
    /// Read its events in the order of acceptance, without consuming them
    #[command(after_help = "\
Examples:
  postrider webhook feed invoices --follow
  postrider webhook feed invoices --wait 5s -o json")]
    Feed(Feed),
}

#[derive(Args, Debug)]
struct Id {
    /// The webhook: its name, its id, or the beginning of its id
    #[arg(value_name = "WEBHOOK")]
    id: String,
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only those of this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP", help_heading = "Filters")]
    app: Option<String>,
    /// Only those with this status
    #[arg(long, value_name = "STATUS", help_heading = "Filters", value_parser = ["enabled", "paused", "disabled"])]
    status: Option<String>,
    /// Only those in trouble: they fail now, their receiver holds them back, or failures or a 410 have disabled them
    #[arg(long, help_heading = "Filters")]
    trouble: bool,
    /// Part of a name or URL
    #[arg(long, value_name = "TEXT", help_heading = "Filters")]
    search: Option<String>,
    /// The order; with worst and busiest the figures are shown too
    #[arg(long, value_name = "ORDER", value_parser = ["newest", "name", "worst", "busiest"])]
    order: Option<String>,
    /// Show the figures of the last 24 hours
    #[arg(long)]
    figures: bool,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Args, Debug)]
struct StatsArgs {
    #[command(flatten)]
    id: Id,
    /// Only the last 1h, 24h, 7d or 31d
    #[arg(long, value_name = "SPAN", value_parser = stats::SPANS)]
    last: Option<String>,
}

#[derive(Args, Debug)]
struct Create {
    /// Where to send events; may also stand in --json
    #[arg(value_name = "URL", required_unless_present = "json")]
    target: Option<String>,
    #[command(flatten)]
    fields: Box<Fields>,
}

#[derive(Args, Debug)]
struct Update {
    #[command(flatten)]
    id: Id,
    /// Where to send events
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    #[command(flatten)]
    fields: Box<Fields>,
    /// Set these fields to null: auth,filter,tls,rate_limit_per_s,description
    #[arg(long, value_delimiter = ',', value_name = "FIELD")]
    unset: Vec<String>,
}

#[derive(Args, Debug)]
struct RotateSecret {
    #[command(flatten)]
    id: Id,
    /// The new secret; made by the daemon if not given
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// How long the old secret keeps signing (1d)
    #[arg(long, alias = "overlap-s", value_name = "DURATION", value_parser = duration::seconds)]
    overlap: Option<u64>,
}

#[derive(Args, Debug)]
struct Filtered {
    #[command(flatten)]
    id: Id,
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Args, Debug)]
struct Feed {
    #[command(flatten)]
    id: Id,
    /// Go on behind this point
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Rows of an answer, 1 to 250
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u16,
    /// Wait up to this long for something new, 0s to 30s
    #[arg(long, alias = "wait-s", value_name = "DURATION", value_parser = duration::seconds)]
    wait: Option<u64>,
    /// Go on for ever; with `-o json` one row a line
    #[arg(long)]
    follow: bool,
}

impl Action {
    /// The argument that names the webhook.
    fn id(&mut self) -> Option<&mut String> {
        match self {
            Action::List(_) | Action::Create(_) => None,
            Action::Get(Id { id })
            | Action::Delete(Id { id })
            | Action::Pause(Id { id })
            | Action::Resume(Id { id })
            | Action::Enable(Id { id })
            | Action::Disable(Id { id })
            | Action::Secret(Id { id })
            | Action::Test(Id { id })
            | Action::Health(Id { id }) => Some(id),
            Action::Update(args) => Some(&mut args.id.id),
            Action::Stats(args) => Some(&mut args.id.id),
            Action::RotateSecret(args) => Some(&mut args.id.id),
            Action::Deliveries(args) | Action::Attempts(args) => Some(&mut args.id.id),
            Action::Feed(args) => Some(&mut args.id.id),
            Action::Waiting { id, .. } => Some(&mut id.id),
        }
    }
}

/// Waiting time of `feed --follow`, the longest that the API allows, in seconds.
const FOLLOW_WAIT_S: u64 = 30;

impl Webhook {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let show = async |call: Call| screen.object(Noun::Webhook, &client.call(call).await?.body);
        let mut action = self.action;
        if let Some(id) = action.id() {
            *id = resolve::id(&client, Noun::Webhook, id).await?;
        }
        match action {
            Action::List(args) => args.run(&client, screen).await,
            Action::Get(Id { id }) => show(Call::get(&["webhooks", &id])).await,
            Action::Create(mut args) => {
                args.fields.resolve_app(&client).await?;
                show(args.call()?).await
            }
            Action::Update(mut args) => {
                args.fields.resolve_app(&client).await?;
                show(args.call()?).await
            }
            Action::Delete(Id { id }) => {
                client.call(Call::delete(&["webhooks", &id])).await?;
                screen.said(&format!("deleted webhook {}", shown(Noun::Webhook.prefix(), id)))
            }
            Action::Pause(Id { id }) => show(Call::post(&["webhooks", &id, "pause"])).await,
            Action::Resume(Id { id }) => show(Call::post(&["webhooks", &id, "resume"])).await,
            Action::Enable(Id { id }) => show(status(&id, "enabled")?).await,
            Action::Disable(Id { id }) => show(status(&id, "disabled")?).await,
            Action::Secret(Id { id }) => show(Call::get(&["webhooks", &id, "secret"])).await,
            Action::RotateSecret(args) => show(args.call()?).await,
            Action::Test(Id { id }) => test(&client, screen, &id).await,
            Action::Stats(args) => {
                let call = Call::get(&["webhooks", &args.id.id, "stats"]).query("last", args.last.as_ref());
                stats::show(&client, screen, call).await
            }
            Action::Health(Id { id }) => show(Call::get(&["webhooks", &id, "health"])).await,
            Action::Deliveries(args) => args.run(&client, screen, "deliveries", delivery::COLUMNS).await,
            Action::Attempts(args) => args.run(&client, screen, "attempts", delivery::ATTEMPT_COLUMNS).await,
            Action::Feed(args) => args.run(&client, screen).await,
            Action::Waiting { id, paging } => {
                let call = Call::get(&["webhooks", &id.id, "waiting"]);
                list::print(&client, screen, call, &paging, WAITING_COLUMNS).await
            }
        }
    }
}

/// Shows the attempt. One that failed is a failure of the verb.
async fn test(client: &Client, screen: Screen, id: &str) -> Result<(), Exit> {
    let answer = client.call(Call::post(&["webhooks", id, "test"])).await?;
    screen.object(Noun::Attempt, &answer.body)?;
    let attempt = answer.json()?;
    if attempt["success"] == true {
        return Ok(());
    }
    let answer = match attempt["status_code"].as_u64() {
        Some(code) => format!("the receiver answered {code}"),
        None => table::one_line(&table::plain(&attempt["error"]), ERROR_CHARS_MAX),
    };
    Err(Exit::failed(format!("the test request did not arrive: {answer}")))
}

fn status(id: &str, status: &str) -> Result<Call, Exit> {
    Call::patch(&["webhooks", id]).json(&json!({ "status": status }))
}

impl ListArgs {
    fn has_figures(&self) -> bool {
        self.figures || matches!(self.order.as_deref(), Some("worst" | "busiest"))
    }

    async fn run(&self, client: &Client, screen: Screen) -> Result<(), Exit> {
        let app = resolve::app(client, self.app.as_ref()).await?;
        let call = Call::get(&["webhooks"])
            .query("app_id", app)
            .query("status", self.status.as_ref())
            .query("state", self.trouble.then_some("trouble"))
            .query("search", self.search.as_ref())
            .query("order", self.order.as_ref())
            .query("include", self.has_figures().then_some("figures"));
        let columns = if self.has_figures() { FIGURES_COLUMNS } else { COLUMNS };
        list::print(client, screen, call, &self.paging, columns).await
    }
}

impl Create {
    fn call(&self) -> Result<Call, Exit> {
        let mut object = self.fields.object()?;
        object.extend(self.target.clone().map(|url| ("url".to_owned(), url.into())));
        Call::post(&["webhooks"]).json(&object)
    }
}

impl Update {
    fn call(&self) -> Result<Call, Exit> {
        let mut object = self.fields.object()?;
        object.extend(self.target.clone().map(|url| ("url".to_owned(), url.into())));
        object.extend(self.unset.iter().map(|field| (field.clone(), Value::Null)));
        if object.is_empty() {
            return Err(
                Exit::usage("nothing to change is given").hint("`postrider webhook update --help` lists the fields")
            );
        }
        Call::patch(&["webhooks", &self.id.id]).json(&object)
    }
}

impl RotateSecret {
    fn call(&self) -> Result<Call, Exit> {
        let mut object = serde_json::Map::new();
        object.extend(self.secret.clone().map(|secret| ("secret".to_owned(), secret.into())));
        object.extend(self.overlap.map(|overlap| ("overlap_s".to_owned(), overlap.into())));
        Call::post(&["webhooks", &self.id.id, "rotate-secret"]).json(&object)
    }
}

impl Filtered {
    async fn run(&self, client: &Client, screen: Screen, list: &str, columns: &'static [Column]) -> Result<(), Exit> {
        let call = self.filters.onto(Call::get(&["webhooks", &self.id.id, list]))?;
        list::print(client, screen, call, &self.paging, columns).await
    }
}

impl Feed {
    async fn run(&self, client: &Client, screen: Screen) -> Result<(), Exit> {
        let wait_s = self.wait.or(self.follow.then_some(FOLLOW_WAIT_S));
        let mut call = Call::get(&["webhooks", &self.id.id, "feed"])
            .query("cursor", self.cursor.as_ref())
            .query("limit", Some(self.limit))
            .query("wait_s", wait_s);
        if screen.is_json() && !self.follow {
            return screen.text(client.call(call).await?.body);
        }
        let mut shown = list::Shown::default();
        let mut first = Some(list::page(client, &call).await?);
        loop {
            let page = match first.take() {
                Some(page) => page,
                // The cursor says where to go on, also after a restart of the daemon.
                None => until_answered(async || list::page(client, &call).await).await?,
            };
            page.show(client, screen, &mut shown, FEED_COLUMNS).await?;
            match page.next_cursor {
                Some(cursor) if self.follow => call = call.with_query("cursor", &cursor),
                Some(cursor) => return screen.said(&format!("next: --cursor {cursor}")),
                // No delivery yet: the next request waits at the daemon again.
                None if self.follow && page.data.is_empty() => {}
                None => return Ok(()),
            }
        }
    }
}
