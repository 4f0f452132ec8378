//! `postrider stats`: the figures of one webhook, or of all that the key can see.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Exit,
    client::{Call, Client, Remote},
    list::{Page, Shown, Span},
    noun::Noun,
    resolve,
    screen::Screen,
    suggested_values::Suggested,
    table::{self, Column, number, time},
};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The spans of `--last`.
pub const SPANS: [&str; 4] = ["1h", "24h", "7d", "31d"];

const SERIES_COLUMNS: &[Column] = &[
    time("FROM (UTC)", "from"),
    number("MADE", "made"),
    number("DELIVERED", "delivered"),
    number("FAILED", "failed"),
    number("TRIES", "attempts"),
    number("FAILED TRIES", "failures"),
    number("OK %", "success_rate"),
    number("P95 MS", "p95_response_time_ms"),
    number("WAITING", "waiting"),
];

/// Figures: of everything the key can see, of an app, or of one webhook
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider stats\n  postrider stats --webhook invoices --last 24h")]
pub struct Stats {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show figures by steps of time, oldest first
    #[command(after_help = "\
Examples:
  postrider stats series --last 24h
  postrider stats series --webhook invoices --from 7d --step 1d")]
    Series(Series),
}

/// The figures that are meant.
#[derive(Args, Debug)]
struct About {
    /// Only this webhook: its name, or the beginning of its id
    #[arg(long, global = true, value_name = "WEBHOOK")]
    webhook: Option<String>,
    /// Only this app: its name, uid or id, or the beginning of its id
    #[arg(long, global = true, value_name = "APP")]
    app: Option<String>,
    /// Only the last 1h, 24h, 7d or 31d
    #[arg(long, global = true, value_name = "SPAN", value_parser = SPANS)]
    last: Option<String>,
}

#[derive(Args, Debug)]
struct Series {
    #[command(flatten)]
    span: Span,
    /// The length of a row, such as 5m, 1h or 1d; without it a minute up to three hours, an hour beyond
    #[arg(long, value_name = "STEP", value_parser = Suggested(&["5m", "1h", "1d"]), hide_possible_values = true)]
    step: Option<String>,
}

impl Stats {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let webhook = resolve::optional(&client, Noun::Webhook, self.about.webhook.as_ref()).await?;
        let app = resolve::app(&client, self.about.app.as_ref()).await?;
        if webhook.is_some() && app.is_some() {
            return Err(Exit::usage("--webhook and --app exclude each other: a webhook has one app"));
        }
        if let Some(Action::Series(series)) = self.action {
            let (from, to) = series.span.read()?;
            let call = Call::get(&["stats", "series"])
                .query("webhook_id", webhook)
                .query("app_id", app)
                .query("from", from)
                .query("to", to)
                .query("last", self.about.last)
                .query("step", series.step);
            return show_series(&client, screen, call).await;
        }
        let call = match &webhook {
            Some(id) => Call::get(&["webhooks", id, "stats"]),
            None => Call::get(&["stats"]).query("app_id", app),
        };
        show(&client, screen, call.query("last", self.about.last)).await
    }
}

/// Prints a series: as it came, or as a table.
async fn show_series(client: &Client, screen: Screen, call: Call) -> Result<(), Exit> {
    let answer = client.call(call).await?;
    if screen.is_json() {
        return screen.text(answer.body);
    }
    let page: Page = serde_json::from_slice(&answer.body)
        .map_err(|error| Exit::failed(format!("the answer is not the series that was expected: {error}")))?;
    page.show(client, screen, &mut Shown::default(), SERIES_COLUMNS).await?;
    match answer.json()?["complete_from"].as_str() {
        Some(from) => screen.said(&format!("an earlier version counted before {from}: only attempts and failures")),
        None => Ok(()),
    }
}

/// Prints figures. For people the hours are two lines of bars, oldest on the left.
pub async fn show(client: &Client, screen: Screen, call: Call) -> Result<(), Exit> {
    let answer = client.call(call).await?;
    let Ok(mut figures) = answer.json() else {
        return screen.text(answer.body);
    };
    if screen.is_json() {
        return screen.text(answer.body);
    }
    let hours = figures.as_object_mut().and_then(|figures| figures.shift_remove("hours"));
    screen.text(table::record(&in_words(figures), screen.record_style()))?;
    let Some(Value::Array(mut hours)) = hours.filter(|hours| *hours != Value::Array(vec![])) else {
        return Ok(());
    };
    hours.sort_by_key(|hour| table::plain(&hour["hour"]));
    for count in ["attempts", "failures"] {
        let counts: Vec<u64> = hours.iter().map(|hour| hour[count].as_u64().unwrap_or(0)).collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        let last = hours.len();
        screen.text(format!("{count} by hour  {}  (most {most}, last {last} hours)", bars(&counts)))?;
    }
    Ok(())
}

/// The figures under the names of the things that they count. The API's own names are those of a published shape. Unknown
/// members stay as they are.
fn in_words(figures: Value) -> Value {
    const WORDS: [(&str, &str, &str); 16] = [
        ("total_events", "deliveries", "begun"),
        ("successful_deliveries", "deliveries", "delivered"),
        ("pending_deliveries", "deliveries", "open"),
        ("made", "deliveries", "made"),
        ("failed", "deliveries", "failed"),
        ("cancelled", "deliveries", "cancelled"),
        ("attempts", "attempts", "made"),
        ("failed_deliveries", "attempts", "failed"),
        ("success_rate", "attempts", "success_percent"),
        ("last_delivery", "attempts", "last"),
        ("average_response_time_ms", "response_ms", "average"),
        ("p50_response_time_ms", "response_ms", "p50"),
        ("p95_response_time_ms", "response_ms", "p95"),
        ("p99_response_time_ms", "response_ms", "p99"),
        ("last_24h_events", "last_24h", "deliveries_begun"),
        ("last_24h_failures", "last_24h", "attempts_failed"),
    ];
    // The same numbers under the names of rows.
    const REPEATED: [&str; 3] = ["delivered", "ended", "failures"];
    let Value::Object(mut rest) = figures else { return figures };
    let mut named = Map::new();
    for name in REPEATED {
        rest.shift_remove(name);
    }
    // Figures of all time have no span.
    if rest.get("from").is_some_and(Value::is_null) {
        ["from", "to", "complete_from", "by_outcome"].into_iter().for_each(|name| drop(rest.shift_remove(name)));
    }
    for (name, group, word) in WORDS {
        if let Some(value) = rest.shift_remove(name) {
            named.entry(group).or_insert_with(|| json!({}))[word] = value;
        }
    }
    named.extend(rest);
    Value::Object(named)
}

/// One character for each count, its height relative to the largest. Only a count of 0 has the lowest one.
fn bars(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let steps = BARS.len() as u64 - 1;
    counts.iter().map(|count| BARS[(count * steps).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_named_after_the_things_that_they_count() {
        let figures = json!({"total_events": 2, "successful_deliveries": 1, "failed_deliveries": 3,
            "pending_deliveries": 1, "success_rate": 25.0, "backlog": 1});
        let expected = json!({"deliveries": {"begun": 2, "delivered": 1, "open": 1},
            "attempts": {"failed": 3, "success_percent": 25.0}, "backlog": 1});
        assert_eq!(in_words(figures), expected);
    }

    #[test]
    fn bars_grow_with_the_counts() {
        assert_eq!(bars(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(bars(&[0, 0]), "▁▁");
        assert_eq!(bars(&[]), "");
    }
}
