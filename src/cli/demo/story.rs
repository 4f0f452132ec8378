//! The story of the demo: its events, their times, and the text around the lines.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{FAILURES, FLAKY, FLAKY_TYPES, STEADY, Stage};
use super::watch::{Line, Watch};
use crate::cli::Exit;
use crate::cli::client::{Call, Client};
use crate::cli::paint::Paint;
use crate::cli::program::program;
use crate::cli::screen::Screen;
use crate::cli::table::{Column, number, text};
use crate::rules::durations;

const FIGURE_COLUMNS: &[Column] = &[
    text("WEBHOOK", "name"),
    number("EVENTS", "total_events"),
    number("DELIVERED", "successful_deliveries"),
    number("FAILED ATTEMPTS", "failed_deliveries"),
    number("PENDING", "pending_deliveries"),
    number("SUCCESS %", "success_rate"),
    number("AVERAGE MS", "average_response_time_ms"),
];

/// One event of the story.
struct Scene {
    event_type: &'static str,
    data: fn() -> Value,
    /// The receivers of the event.
    to: &'static [&'static str],
}

/// The events. Each is published after the one before has arrived everywhere. The first one fails twice at one
/// receiver.
const SCENES: [Scene; 3] = [
    Scene {
        event_type: "invoice.paid",
        data: || json!({"id": 42, "total": "129.50", "currency": "EUR"}),
        to: &[STEADY, FLAKY],
    },
    Scene { event_type: "order.shipped", data: || json!({"id": 7, "parcels": 2}), to: &[STEADY] },
    Scene { event_type: "invoice.refunded", data: || json!({"id": 42, "reason": "returned"}), to: &[STEADY, FLAKY] },
];

/// Progress of the story.
#[derive(Default)]
pub struct Story {
    /// Ids of the events that were published.
    published: Vec<String>,
}

impl Story {
    /// Publishes the next event if it is due.
    pub async fn go_on(&mut self, client: &Client, watch: &Watch) -> Result<(), Exit> {
        if !self.all_arrived(watch) {
            return Ok(());
        }
        let Some(scene) = SCENES.get(self.published.len()) else { return Ok(()) };
        let event = json!({"type": scene.event_type, "data": (scene.data)()});
        let answer = client.value(Call::post(&["events"]).json(&event)?).await?;
        let id = answer["id"].as_str().ok_or_else(|| Exit::failed("the answer names no event"))?;
        self.published.push(id.to_owned());
        Ok(())
    }

    fn all_arrived(&self, watch: &Watch) -> bool {
        let arrived = |(id, scene): (&String, &Scene)| scene.to.iter().all(|webhook| watch.has_arrived(id, webhook));
        self.published.iter().zip(&SCENES).all(arrived)
    }

    /// Whether every event was published and has arrived.
    pub fn is_complete(&self, watch: &Watch) -> bool {
        self.published.len() == SCENES.len() && self.all_arrived(watch)
    }
}

/// The text above the lines: the parts of the demo, commands to join in, and the titles of the columns.
pub fn opening(stage: &Stage, paint: Paint) -> String {
    let program = program();
    let (url, key) = (stage.url(), stage.key());
    let link = stage.login_link();
    let title = paint.strong("Postrider: a daemon, and two receivers that check every signature.");
    let head = Line::head(paint);
    format!(
        "{title}
  {STEADY}  wants every event and answers 200
  {FLAKY}   wants {FLAKY_TYPES} and answers 500 to its first {FAILURES} requests

Join in from a second shell; the events that you publish show up here:
  export POSTRIDER_URL={url} POSTRIDER_TOKEN={key}
  {program} send invoice.paid '{{\"id\": 43}}'
  curl $POSTRIDER_URL/v1/events -H \"authorization: Bearer $POSTRIDER_TOKEN\" \\
    -H 'content-type: application/json' -d '{{\"type\": \"order.shipped\", \"data\": {{\"id\": 8}}}}'
Or look at it in a browser on this machine; the link logs in once:
  {link}

{head}"
    )
}

/// The API's address and the remaining time. Without a time the demo runs until Ctrl-C.
pub fn closing(stage: &Stage, left: Option<Duration>) -> String {
    let until = match left {
        Some(left) => {
            let left = durations::rough(i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
            format!("for another {left} (`demo --keep` stays until Ctrl-C)")
        }
        None => "until Ctrl-C".to_owned(),
    };
    let (url, key, program) = (stage.url(), stage.key(), program());
    format!(
        "The API answers at {url} with the key {key}
{until}; then nothing of this is left.

Next, with events of your own, in three terminals:
  {program} serve --dev
  {program} listen --create
  {program} send a.b '{{}}'\n"
    )
}

/// The figures of every webhook, as the API has them.
pub async fn figures(client: &Client, watch: &Watch, screen: Screen) -> Result<(), Exit> {
    let mut rows = Vec::new();
    for (id, name) in watch.webhooks() {
        let mut row = client.value(Call::get(&["webhooks", id, "stats"])).await?;
        row["name"] = name.as_str().into();
        rows.push(row);
    }
    screen.text("\n")?;
    screen.table(FIGURE_COLUMNS, &rows)?;
    screen.text("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_event_meets_a_receiver_that_fails() {
        let wanted = |scene: &Scene| crate::rules::patterns::matches(FLAKY_TYPES, scene.event_type);
        for scene in &SCENES {
            assert_eq!(scene.to.contains(&FLAKY), wanted(scene), "{}", scene.event_type);
        }
        assert!(wanted(&SCENES[0]), "the failures are seen first");
    }
}
