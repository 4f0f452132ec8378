//! The plan of a simulation: its webhooks, their configuration, and their receivers' behaviour. All of it follows from
//! the seed.

use super::rng::Rng;

/// Event types that producers publish.
pub const TYPES: [&str; 3] = ["order.paid", "order.sent", "user.new"];
/// Retention of events, and the window in which a repetition is recognised.
pub const RETENTION_MS: i64 = 8 * 3_600_000;
pub const IDEMPOTENCY_MS: i64 = 2 * 3_600_000;
/// Maximum time between two complete reads by the auditor, despite all accidents.
pub const AUDITED_WITHIN_MS: i64 = 2 * 3_600_000;
/// Maximum age of a replayed event. A replay is removed with its event, is done at most an hour after its request, and
/// must be read before.
pub const REPLAYED_AGE_MS_MAX: i64 = RETENTION_MS - AUDITED_WITHIN_MS - 3_600_000;
/// The first port of the receivers. Each webhook has its own.
pub const RECEIVER_PORT: u16 = 9_000;

/// The scope of a webhook's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    No,
    Webhook,
    Key,
}

/// How a receiver behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    /// Always answers at once.
    Steady,
    /// Alternates between healthy and failing.
    Flaky,
    /// Mostly sends no answer.
    Hanging,
}

/// A receiver's current behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Healthy,
    /// Answers well, after this many milliseconds.
    Slow(u64),
    /// Answers with one of several failing statuses.
    Failing,
    /// Answers 503 with `Retry-After`.
    Busy,
    /// Reads the request and never answers.
    Hanging,
    /// Reads the request and closes the connection.
    Resetting,
    /// Announces a longer body than it sends.
    Cutting,
    /// Answers with bytes that are not HTTP.
    Lying,
    /// No process listens.
    Absent,
    /// Answers each request well or badly.
    Mixed,
}

/// A webhook of the simulation.
#[derive(Debug, Clone)]
pub struct Hook {
    pub name: &'static str,
    /// Event types. Empty for all.
    pub types: Vec<&'static str>,
    pub temper: Temper,
    pub order: Order,
    pub schedule_s: Vec<u32>,
    pub timeout_ms: u64,
    pub max_in_flight: u32,
    /// Requests per second at most. `None` for no limit.
    pub rate_per_s: Option<u32>,
    /// Whether the handler pauses, resumes and replays it from time to time.
    pub is_handled: bool,
    /// Whether its URL has a name and not an address.
    pub by_name: bool,
}

impl Hook {
    fn new(name: &'static str, temper: Temper, schedule_s: &[u32]) -> Hook {
        Hook {
            name,
            types: Vec::new(),
            temper,
            order: Order::No,
            schedule_s: schedule_s.to_vec(),
            timeout_ms: 10_000,
            max_in_flight: 32,
            rate_per_s: None,
            is_handled: false,
            by_name: false,
        }
    }

    pub fn wants(&self, event_type: &str) -> bool {
        self.types.is_empty() || self.types.contains(&event_type)
    }

    /// The body that creates it.
    pub fn body(&self, number: usize) -> serde_json::Value {
        let host = if self.by_name { super::world::OUTSIDE.to_owned() } else { "192.168.0.1".to_owned() };
        serde_json::json!({
            "name": self.name,
            "url": format!("http://{host}:{}/hook", RECEIVER_PORT + number as u16),
            "event_types": self.types,
            "retry_schedule_s": self.schedule_s,
            "timeout_ms": self.timeout_ms,
            "max_in_flight": self.max_in_flight,
            "disable_after_s": 0,
            "rate_limit_per_s": self.rate_per_s,
            "ordered": match self.order {
                Order::No => serde_json::json!(false),
                Order::Webhook => serde_json::json!(true),
                Order::Key => serde_json::json!("key"),
            },
        })
    }
}

/// The webhooks of every simulation. Only the events around them differ from seed to seed.
pub fn hooks() -> Vec<Hook> {
    use Temper::{Flaky, Hanging, Steady};
    let patient = [5, 20, 60, 120, 300, 600, 900, 1_200];
    let brief = [5, 10, 20, 30, 60, 60, 60, 60, 60, 60];
    vec![
        Hook { max_in_flight: 200, ..Hook::new("steady", Steady, &brief) },
        Hook { types: vec![TYPES[1]], by_name: true, max_in_flight: 100, ..Hook::new("steady too", Steady, &brief) },
        Hook { by_name: true, ..Hook::new("flaky", Flaky, &patient) },
        Hook { types: vec![TYPES[0], TYPES[2]], ..Hook::new("short of breath", Flaky, &[5, 10]) },
        Hook { order: Order::Webhook, types: vec![TYPES[0]], ..Hook::new("in order", Flaky, &[5, 10, 30, 60]) },
        Hook { order: Order::Key, types: vec![TYPES[2]], ..Hook::new("in order by key", Flaky, &[5, 10, 30]) },
        Hook { types: vec![TYPES[1]], max_in_flight: 3, ..Hook::new("hanging", Hanging, &[30, 60]) },
        Hook { types: vec![TYPES[0]], is_handled: true, max_in_flight: 100, ..Hook::new("handled", Steady, &brief) },
        Hook { types: vec![TYPES[2]], rate_per_s: Some(2), ..Hook::new("held to a rate", Steady, &brief) },
    ]
}

/// The next mood of a receiver and how long it lasts, in seconds.
pub fn next_mood(temper: Temper, last: Mood, rng: &mut Rng) -> (Mood, u64) {
    match (temper, last) {
        (Temper::Steady, _) => (Mood::Healthy, 86_400),
        (Temper::Hanging, Mood::Hanging) => (Mood::Healthy, rng.between(60, 1_200)),
        (Temper::Hanging, _) => (Mood::Hanging, rng.between(600, 3_600)),
        (Temper::Flaky, Mood::Healthy) => {
            let slow = Mood::Slow(rng.between(200, 9_000));
            let mood = rng.choose(&[
                slow,
                Mood::Failing,
                Mood::Busy,
                Mood::Hanging,
                Mood::Resetting,
                Mood::Cutting,
                Mood::Lying,
                Mood::Absent,
                Mood::Mixed,
            ]);
            (mood, rng.between(20, 900))
        }
        (Temper::Flaky, _) => (Mood::Healthy, rng.between(300, 3_600)),
    }
}
