//! `postrider replay`: sends past events again, as a job of the daemon.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use super::{
    Exit,
    client::{Call, Client, Remote},
    input, list,
    list::{Paging, Span},
    moment::{self, Direction},
    noun::Noun,
    resolve, row_names,
    screen::Screen,
    table::{self, Column, id, number, text, time, word},
    webhook_fields,
};

const WAIT_POLL: Duration = Duration::from_millis(500);

const COLUMNS: &[Column] = &[
    id("ID", "id", Noun::Replay),
    word("STATUS", "status"),
    text("WEBHOOK", row_names::WEBHOOK_NAME),
    number("MATCHED", "matched"),
    number("MADE", "created"),
    number("DELIVERED", "delivered"),
    number("FAILED", "failed"),
    number("CANCELLED", "cancelled"),
    time("BEGUN (UTC)", "created_at"),
];

const EXAMPLES: &str = "\
Examples:
  postrider replay --webhook invoices --ended-from 24h --status failed --status-code 5xx
  postrider replay --webhook invoices --from 2026-11-20 --to 2026-11-21 --missing --dry-run
  postrider replay --webhook invoices --waiting --outcome timeout
  postrider replay list";

/// Send past events again, as a job that survives a restart
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Replay {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    create: Create,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Begin a replay; the same as `postrider replay` with these flags
    #[command(after_help = "\
Examples:
  postrider replay create --webhook invoices --from 24h --status failed
  postrider replay create --app acme --missing --dry-run")]
    Create(Box<Create>),
    /// List replays, newest first
    #[command(after_help = "Examples:\n  postrider replay list")]
    List(Paging),
    /// Show how far a replay has come
    #[command(after_help = "Examples:\n  postrider replay get rpl_019cbd76-1bd6")]
    Get(Id),
    /// Stop a replay; the deliveries that it has made are still sent
    #[command(after_help = "Examples:\n  postrider replay cancel rpl_019cbd76-1bd6")]
    Cancel(Id),
}

#[derive(Args, Debug)]
struct Id {
    /// The replay: its id, or the beginning of its id
    #[arg(value_name = "REPLAY")]
    id: String,
}

#[derive(Args, Debug)]
struct Create {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    span: Span,
    /// Only events of these types; comma-separated or repeated
    #[arg(long = "type", alias = "types", value_delimiter = ',', value_name = "TYPE")]
    types: Vec<String>,
    /// Only events whose last delivery has this status
    #[arg(long, value_name = "STATUS", value_parser = ["delivered", "failed", "cancelled"])]
    status: Option<String>,
    /// Only events whose last delivery has one of these outcomes, such as timeout; comma-separated or repeated
    #[arg(long, value_delimiter = ',', value_name = "OUTCOME", value_parser = list::outcomes())]
    outcome: Vec<String>,
    /// Only events whose last delivery has one of these HTTP statuses or classes such as 5xx
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    status_code: Vec<String>,
    /// Only events whose last delivery became final since this, as --from
    #[arg(long, value_name = "MOMENT")]
    ended_from: Option<String>,
    /// Only events whose last delivery became final before this, as --from
    #[arg(long, value_name = "MOMENT")]
    ended_to: Option<String>,
    /// Only events the webhook has no delivery for, for instance from before it existed
    #[arg(long)]
    missing: bool,
    /// Send waiting deliveries now in place of ended ones: the same become due, at the webhook's own rate
    #[arg(long, conflicts_with_all = ["status", "missing", "ended_from", "ended_to"])]
    waiting: bool,
    /// Say how many events match, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Deliveries made a second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Wait until it is over, and say how far it is. Exit code 1 if a delivery of it fails, or if it ends early
    #[arg(long)]
    wait: bool,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// Send to this webhook: its name, or the beginning of its id
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Option<String>,
    /// Send to the webhooks of this app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP")]
    app: Option<String>,
}

impl Replay {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let call = match self.action {
            None => return self.create.run(&client, screen).await,
            Some(Action::Create(args)) => return args.run(&client, screen).await,
            Some(Action::List(paging)) => {
                return list::print(&client, screen, Call::get(&["replays"]), &paging, COLUMNS).await;
            }
            Some(Action::Get(Id { id })) => Call::get(&["replays", &resolve::id(&client, Noun::Replay, &id).await?]),
            Some(Action::Cancel(Id { id })) => {
                Call::post(&["replays", &resolve::id(&client, Noun::Replay, &id).await?, "cancel"])
            }
        };
        screen.object(Noun::Replay, &client.call(call).await?.body)
    }
}

impl Create {
    async fn run(&self, client: &Client, screen: Screen) -> Result<(), Exit> {
        let webhook = resolve::optional(client, Noun::Webhook, self.target.webhook.as_ref()).await?;
        let app = resolve::app(client, self.target.app.as_ref()).await?;
        let answer = client.call(Call::post(&["replays"]).json(&self.object(webhook, app)?)?).await?;
        if !self.wait || self.dry_run {
            return screen.object(Noun::Replay, &answer.body);
        }
        let job = answer.json()?;
        let id = job["id"].as_str().ok_or_else(|| Exit::failed("the answer names no replay"))?;
        let job = wait(client, id).await?;
        screen.object(Noun::Replay, job.to_string().as_bytes())?;
        outcome(&job)
    }

    fn object(&self, webhook: Option<String>, app: Option<String>) -> Result<Map<String, Value>, Exit> {
        let (from, to) = self.span.read()?;
        let read = |flag, end: &Option<String>| moment::read_optional(flag, end.as_ref(), Direction::Back);
        let (ended_from, ended_to) = (read("--ended-from", &self.ended_from)?, read("--ended-to", &self.ended_to)?);
        Ok(input::object([
            ("webhook_id", webhook.map(Value::from)),
            ("app_id", app.map(Value::from)),
            ("from", from.map(Value::from)),
            ("to", to.map(Value::from)),
            ("types", (!self.types.is_empty()).then(|| self.types.clone().into())),
            ("status", self.status.clone().map(Value::from)),
            ("outcome", (!self.outcome.is_empty()).then(|| self.outcome.clone().into())),
            ("status_code", (!self.status_code.is_empty()).then(|| self.status_code.clone().into())),
            ("ended_from", ended_from.map(Value::from)),
            ("ended_to", ended_to.map(Value::from)),
            ("missing", self.missing.then_some(true.into())),
            ("waiting", self.waiting.then_some(true.into())),
            ("dry_run", self.dry_run.then_some(true.into())),
            ("rate_per_s", self.rate.map(webhook_fields::number)),
        ]))
    }
}

/// A job with a failed delivery is a failure of the verb, and so is one that ended early. A cancelled delivery is none.
fn outcome(job: &Value) -> Result<(), Exit> {
    let failed = job["failed"].as_u64().unwrap_or(0);
    match (job["status"] == "done", failed) {
        (true, 0) => Ok(()),
        (true, _) => Err(Exit::failed(format!("{failed} of {} deliveries failed", table::plain(&job["created"])))
            .hint("`postrider delivery list --status failed` lists them")),
        (false, _) => {
            let said = format!(
                "the replay ended as {} after {} matches",
                table::plain(&job["status"]),
                table::plain(&job["matched"])
            );
            Err(Exit::failed(said).hint(
                "it was cancelled, or its webhook was disabled or removed. `postrider webhook get` shows the status; \
                 begin another replay once the webhook is enabled",
            ))
        }
    }
}

/// Asks until the job is over. The bar is on stderr, and only on a terminal.
async fn wait(client: &Client, id: &str) -> Result<Value, Exit> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} ended  {elapsed}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let job = client.value(Call::get(&["replays", id])).await?;
        let count = |field: &str| job[field].as_u64().unwrap_or(0);
        bar.set_length(count("matched"));
        bar.set_position(count("delivered") + count("failed") + count("cancelled"));
        if job["status"] != "running" {
            bar.finish_and_clear();
            return Ok(job);
        }
        tokio::time::sleep(WAIT_POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_job_that_is_done_and_delivered_all_succeeds() {
        let ended =
            |status: &str, failed: u64| json!({ "status": status, "matched": 3, "created": 3, "failed": failed });
        assert!(outcome(&ended("done", 0)).is_ok());
        assert!(outcome(&json!({ "status": "done", "created": 3, "failed": 0, "cancelled": 3 })).is_ok());
        let words = |job: &Value| outcome(job).expect_err("a failure").text();
        assert!(words(&ended("done", 1)).contains("1 of 3 deliveries failed"));
        let early = words(&ended("cancelled", 0));
        assert!(early.contains("ended as cancelled after 3 matches") && early.contains("disabled"), "{early}");
    }
}
