//! `postrider stats`: the figures of one webhook, or of all that the key can see.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    Exit,
    client::{Call, Client, Remote},
    noun::Noun,
    resolve,
    screen::Screen,
    table,
};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Figures: of everything the key can see, or of one webhook
#[derive(Args, Debug)]
pub struct Stats {
    /// Only this webhook: its name, or the beginning of its id
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Stats {
    pub async fn run(self) -> Result<(), Exit> {
        let client = self.remote.client()?;
        let webhook = resolve::optional(&client, Noun::Webhook, self.webhook.as_ref()).await?;
        let call = match &webhook {
            Some(id) => Call::get(&["webhooks", id, "stats"]),
            None => Call::get(&["stats"]),
        };
        show(&client, self.remote.screen(), call).await
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
    for what in ["attempts", "failures"] {
        let counts: Vec<u64> = hours.iter().map(|hour| hour[what].as_u64().unwrap_or(0)).collect();
        let most = counts.iter().max().copied().unwrap_or(0);
        let last = hours.len();
        screen.text(format!("{what} by hour  {}  (most {most}, last {last} hours)", bars(&counts)))?;
    }
    Ok(())
}

/// The figures under the names of the things that they count. The API's own names are those of a published shape. Unknown
/// members stay as they are.
fn in_words(figures: Value) -> Value {
    const WORDS: [(&str, &str, &str); 12] = [
        ("total_events", "deliveries", "begun"),
        ("successful_deliveries", "deliveries", "delivered"),
        ("pending_deliveries", "deliveries", "open"),
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
    let Value::Object(mut rest) = figures else { return figures };
    let mut named = Map::new();
    for (name, group, word) in WORDS {
        if let Some(value) = rest.shift_remove(name) {
            named.entry(group).or_insert_with(|| json!({}))[word] = value;
        }
    }
    named.extend(rest);
    Value::Object(named)
}

/// One character a count, its height by the largest; nothing is the lowest, and only nothing is.
fn bars(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let steps = BARS.len() as u64 - 1;
    counts.iter().map(|count| BARS[(count * steps).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_names_of_what_they_count() {
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
