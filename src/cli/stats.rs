//! `postrider stats`: the figures of one webhook, or of all that the key can see.

use clap::Args;
use serde_json::Value;

use super::{
    Exit,
    client::{Call, Client, Remote},
    screen::Screen,
    table,
};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Figures: of everything the key can see, or of one webhook
#[derive(Args, Debug)]
pub struct Stats {
    /// Only this webhook
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Stats {
    pub async fn run(self) -> Result<(), Exit> {
        let call = match &self.webhook {
            Some(id) => Call::get(&["webhooks", id, "stats"]),
            None => Call::get(&["stats"]),
        };
        show(&self.remote.client()?, self.remote.screen(), call).await
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
    screen.text(table::record(&figures, screen.paint))?;
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

/// One character for each count, with a height relative to the largest. Only a count of zero has the lowest bar.
fn bars(counts: &[u64]) -> String {
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let steps = BARS.len() as u64 - 1;
    counts.iter().map(|count| BARS[(count * steps).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_the_counts() {
        assert_eq!(bars(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(bars(&[0, 0]), "▁▁");
        assert_eq!(bars(&[]), "");
    }
}
