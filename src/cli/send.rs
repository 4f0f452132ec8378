//! `postrider send`: publishes an event, or many of a kind. The daemon receives the data's bytes unchanged.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Exit,
    client::{Call, Client, Remote},
    input,
    moment::{self, Direction},
    noun::Noun,
    resolve,
    screen::{self, Screen},
    table::one_line,
};

/// The API's limits of a batch (api.md, section 3).
const BATCH_EVENTS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A type is shown up to this length.
const KIND_CHARS_MAX: usize = 100;

const EXAMPLES: &str = "\
Examples:
  postrider send invoice.paid '{\"id\": 42}'
  postrider send invoice.paid @invoice.json --event-id inv-42-paid
  jq -n '{id: 1}' | postrider send invoice.paid -
  postrider send load.test --count 10000";

/// Publish an event
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Send {
    /// The event's type, for instance invoice.paid
    #[arg(value_name = "TYPE", required_unless_present = "kind_flag", conflicts_with = "kind_flag")]
    kind: Option<String>,
    /// The event's data: JSON, @FILE, or - for stdin; {} if not given
    #[arg(value_name = "DATA", conflicts_with = "data_flag")]
    data: Option<String>,
    /// The type as a flag
    #[arg(long = "type", value_name = "TYPE")]
    kind_flag: Option<String>,
    /// The data as a flag
    #[arg(long = "data", value_name = "DATA")]
    data_flag: Option<String>,
    /// Your own id of the event: the same id again sends nothing twice
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// When the event happened; now if not given
    #[arg(long, value_name = "MOMENT")]
    occurred_at: Option<String>,
    /// Subject of the event, such as an account or a customer
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Channels of the event; comma-separated or repeated
    #[arg(long = "channel", value_delimiter = ',', value_name = "CHANNEL")]
    channels: Vec<String>,
    /// The app: its name, uid or id, or the beginning of its id
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Ordered webhooks keep the order of events with the same key
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// Not before this: 2026-11-22T03:29:00Z, or in 90m
    #[arg(long, value_name = "MOMENT")]
    deliver_at: Option<String>,
    /// Not after this, in the same form
    #[arg(long, value_name = "MOMENT")]
    expires_at: Option<String>,
    /// A note kept with the event; may be repeated
    #[arg(long = "metadata", value_name = "NAME=VALUE")]
    metadata: Vec<String>,
    /// Repeat the request safely: the same key gets the first answer again
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Publish this many of it, in batches; ids get -1, -2, … appended
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

/// The body of `POST /v1/events`. Fields without a value are omitted.
#[derive(Clone, Serialize)]
struct Event<'a> {
    r#type: &'a str,
    data: &'a RawValue,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Serialize)]
struct Batch<'a> {
    events: Vec<Event<'a>>,
}

impl Send {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let kind = self.kind.as_ref().or(self.kind_flag.as_ref()).map_or("", String::as_str);
        let (source, given) = match (&self.data, &self.data_flag) {
            (Some(data), _) => ("DATA", data.as_str()),
            (None, Some(data)) => ("--data", data.as_str()),
            (None, None) => ("DATA", "{}"),
        };
        let data = input::json(source, given)?;
        let app = resolve::app(&client, self.app.as_ref()).await?;
        let event = Event { r#type: kind, data: &data, rest: self.rest(app)? };
        match self.count {
            Some(count) => self.many(&client, screen, event, count).await,
            None => {
                let call = Call::post(&["events"]).idempotency_key(self.idempotency_key.clone()).json(&event)?;
                let answer = client.call(call).await?;
                screen.object(Noun::Event, &answer.body)?;
                let answer = answer.json()?;
                note_of_no_receiver(answer["deliveries"].as_u64() == Some(0) && answer["duplicate"] != true, kind);
                Ok(())
            }
        }
    }

    fn rest(&self, app: Option<String>) -> Result<Map<String, Value>, Exit> {
        let ahead = |flag, text: &Option<String>| moment::read_optional(flag, text.as_ref(), Direction::Ahead);
        let occurred_at = moment::read_optional("--occurred-at", self.occurred_at.as_ref(), Direction::Back)?;
        Ok(input::object([
            ("event_id", self.event_id.clone().map(Value::from)),
            ("occurred_at", occurred_at.map(Value::from)),
            ("subject", self.subject.clone().map(Value::from)),
            ("channels", (!self.channels.is_empty()).then(|| self.channels.clone().into())),
            ("app_id", app.map(Value::from)),
            ("ordering_key", self.ordering_key.clone().map(Value::from)),
            ("deliver_at", ahead("--deliver-at", &self.deliver_at)?.map(Value::from)),
            ("expires_at", ahead("--expires-at", &self.expires_at)?.map(Value::from)),
            ("metadata", self.metadata()?),
        ]))
    }

    fn metadata(&self) -> Result<Option<Value>, Exit> {
        let pairs = self.metadata.iter().map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| Exit::usage(format!("--metadata: `{pair}` is not NAME=VALUE")))?;
            Ok((name.to_owned(), Value::from(value)))
        });
        let pairs: Map<String, Value> = pairs.collect::<Result<_, Exit>>()?;
        Ok((!pairs.is_empty()).then_some(Value::Object(pairs)))
    }

    /// Publishes batch after batch, and prints the totals at the end. With `-o json` every batch's answer is a line.
    async fn many(&self, client: &Client, screen: Screen, event: Event<'_>, count: u64) -> Result<(), Exit> {
        let (mut published, mut duplicates, mut deliveries) = (0, 0, 0);
        let batch_max = batch_size(&event)?;
        for (n, first) in (1..=count).step_by(batch_max).enumerate() {
            let last = count.min(first + batch_max as u64 - 1);
            let events = (first..=last).map(|n| numbered(&event, n)).collect();
            let key = self.idempotency_key.as_ref().map(|key| format!("{key}-{}", n + 1));
            let call = Call::post(&["events", "batch"]).idempotency_key(key).json(&Batch { events })?;
            let answer = client.call(call).await?;
            if screen.is_json() {
                screen.text(&answer.body)?;
            }
            let answer = answer.json()?;
            let rows = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            published += rows.len();
            duplicates += rows.iter().filter(|row| row["duplicate"] == true).count();
            deliveries += rows.iter().filter_map(|row| row["deliveries"].as_u64()).sum::<u64>();
        }
        screen.said(&format!("{published} events, {duplicates} of them duplicates, {deliveries} deliveries"))?;
        note_of_no_receiver(deliveries == 0 && published > duplicates, event.r#type);
        Ok(())
    }
}

/// Says on stderr that no webhook got an event that was published.
fn note_of_no_receiver(is_unwanted: bool, kind: &str) {
    if is_unwanted {
        let kind = one_line(kind, KIND_CHARS_MAX);
        screen::note(&format!(
            "sent to no webhook: none that is enabled wants {kind}. The event is kept; `postrider webhook list` shows \
             what each wants\n"
        ));
    }
}

/// Number of copies of this event that fit one batch, by count and by bytes.
fn batch_size(event: &Event<'_>) -> Result<usize, Exit> {
    const NUMBER_BYTES_MAX: usize = 24;
    const ENVELOPE_BYTES: usize = 16;
    let one =
        serde_json::to_vec(event).map_err(|error| Exit::usage(format!("this cannot be sent as JSON: {error}")))?;
    let fit = (BATCH_BYTES_MAX - ENVELOPE_BYTES) / (one.len() + NUMBER_BYTES_MAX);
    Ok(fit.clamp(1, BATCH_EVENTS_MAX))
}

fn numbered<'a>(event: &Event<'a>, n: u64) -> Event<'a> {
    let mut event = event.clone();
    if let Some(Value::String(id)) = event.rest.get_mut("event_id") {
        id.push_str(&format!("-{n}"));
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        input::raw("--data", text.to_owned()).expect("it is JSON")
    }

    #[test]
    fn data_keeps_its_bytes_in_single_events_and_batches() {
        let data = raw("{ \"n\": 1.10, \"n\" :2}");
        let rest: Map<String, Value> = [("event_id".to_owned(), "x".into())].into_iter().collect();
        let event = Event { r#type: "a.b", data: &data, rest };
        let one = serde_json::to_string(&event).expect("JSON");
        assert_eq!(one, "{\"type\":\"a.b\",\"data\":{ \"n\": 1.10, \"n\" :2},\"event_id\":\"x\"}");
        let batch = Batch { events: vec![numbered(&event, 7)] };
        let batch = serde_json::to_string(&batch).expect("JSON");
        assert!(batch.contains("{ \"n\": 1.10, \"n\" :2}") && batch.contains("\"x-7\""), "{batch}");
    }

    #[test]
    fn a_batch_has_as_many_events_as_both_limits_allow() {
        let size = |data: &RawValue| batch_size(&Event { r#type: "a", data, rest: Map::new() }).expect("a size");
        assert_eq!(size(&raw("{}")), BATCH_EVENTS_MAX);
        let large = raw(&format!("\"{}\"", "x".repeat(1 << 20)));
        assert_eq!(size(&large), 15);
    }
}
