//! The producers: they publish in bursts and in quiet times, alone and in batches, and repeat a publish until it is
//! answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde_json::{Value, json};

use super::api::Api;
use super::expectations::{Accepted, Expectations};
use super::plan::{IDEMPOTENCY_MS, TYPES};
use super::rng::Rng;
use super::world::{START, elapsed_ms, sleep_ms};

/// Keys by which some events are ordered.
const QUEUES: u64 = 3;
/// Range of times after which an accepted event may be repeated.
const REPEATED_AFTER_MS: (u64, u64) = (1_000, IDEMPOTENCY_MS as u64 - 600_000);

/// Time before the end of the window in which nothing is repeated.
const WINDOW_EDGE_MS: i64 = 120_000;

/// Prefix of the keys of events of several hundred kilobytes.
const LARGE: &str = "large";

/// State that all parts of the outside world share.
#[derive(Clone)]
pub struct Outside {
    pub expectations: Rc<RefCell<Expectations>>,
    /// Whether no more activity may begin.
    pub is_over: Rc<Cell<bool>>,
    /// Publishes without an answer so far.
    pub open: Rc<Cell<u64>>,
}

/// The filling of an event's data. It follows from the key, so that a receiver can detect a changed byte.
pub fn fill_of(key: &str) -> Value {
    let mut rng = Rng::new(key.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
    let is_large = key.starts_with(LARGE);
    let times = if is_large { rng.between(250, 450) } else { 1 };
    let length = match rng.chance(3) {
        _ if is_large => 2_000,
        true => rng.between(7_000, 20_000),
        false => rng.between(0, 300),
    };
    let text: String = (0..length).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
    Value::String(text.repeat(times as usize))
}

struct Draft {
    key: String,
    event_type: &'static str,
    body: Value,
    due_ms: i64,
    ends_ms: Option<i64>,
}

pub struct Producer {
    pub name: u64,
    pub outside: Outside,
    pub rng: Rng,
    made: u64,
}

impl Producer {
    pub fn new(name: u64, outside: Outside, rng: Rng) -> Producer {
        Producer { name, outside, rng, made: 0 }
    }

    pub async fn run(mut self) {
        while !self.outside.is_over.get() {
            match self.rng.below(100) {
                // Silence, in which no later event repairs a lost wake-up.
                0..60 => sleep_ms(self.rng.between(60_000, 900_000)).await,
                60..80 => self.trickle().await,
                80..90 => self.burst().await,
                90 => self.flood().await,
                _ => self.batch().await,
            }
        }
    }

    async fn trickle(&mut self) {
        for _ in 0..self.rng.between(1, 12) {
            let draft = self.draft();
            self.send(draft);
            sleep_ms(self.rng.between(100, 6_000)).await;
        }
    }

    async fn burst(&mut self) {
        for _ in 0..self.rng.between(10, 60) {
            let draft = self.draft();
            self.send(draft);
            if self.rng.chance(30) {
                sleep_ms(self.rng.between(1, 300)).await;
            }
        }
        sleep_ms(5_000).await;
    }

    /// Publishes more bytes than the store gathers in memory, so that a partition may begin meanwhile.
    async fn flood(&mut self) {
        for number in 0..self.rng.between(14, 30) {
            let draft = if number < 8 { self.large_draft() } else { self.draft() };
            self.send(draft);
            sleep_ms(self.rng.between(1, 60)).await;
        }
        sleep_ms(5_000).await;
    }

    /// Publishes on a new connection, and perhaps again later, like a producer that lost the answer.
    fn send(&mut self, draft: Draft) {
        let (outside, again) = (self.outside.clone(), self.rng.chance(5));
        let wait = self.rng.between(REPEATED_AFTER_MS.0, REPEATED_AFTER_MS.1);
        outside.open.set(outside.open.get() + 1);
        tokio::task::spawn_local(async move {
            let first = publish(&outside, &draft).await;
            if again && first {
                outside.open.set(outside.open.get() - 1);
                sleep_ms(wait).await;
                if outside.is_over.get() {
                    return;
                }
                outside.open.set(outside.open.get() + 1);
                publish_again(&outside, &draft).await;
            }
            outside.open.set(outside.open.get() - 1);
        });
    }

    async fn batch(&mut self) {
        let drafts: Vec<Draft> = (0..self.rng.between(2, 15)).map(|_| self.draft()).collect();
        let events: Vec<Value> = drafts.iter().map(|draft| draft.body.clone()).collect();
        let once = format!("batch-{}", drafts[0].key);
        self.outside.open.set(self.outside.open.get() + 1);
        let answer = Api::default().insist("/v1/events/batch", Some(&once), &json!({ "events": events })).await;
        let now = elapsed_ms();
        match answer {
            Ok(answer) => {
                let rows = answer.json();
                for (draft, row) in drafts.iter().zip(rows["data"].as_array().into_iter().flatten()) {
                    note(&self.outside, draft, row, now);
                }
            }
            Err(words) => self.outside.expectations.borrow_mut().fault(now, words),
        }
        self.outside.open.set(self.outside.open.get() - 1);
    }

    fn draft(&mut self) -> Draft {
        self.made += 1;
        self.draft_of(format!("{}-{}", self.name, self.made))
    }

    fn large_draft(&mut self) -> Draft {
        self.made += 1;
        self.draft_of(format!("{LARGE}-{}-{}", self.name, self.made))
    }

    fn draft_of(&mut self, key: String) -> Draft {
        let event_type = self.rng.choose(&TYPES);
        let queue = self.rng.below(QUEUES);
        let mut body = json!({
            "type": event_type,
            "event_id": key,
            "ordering_key": format!("queue {queue}"),
            "data": { "key": key, "queue": queue, "fill": fill_of(&key) },
        });
        let (mut due_ms, mut ends_ms) = (0, None);
        // Only events that are not ordered, because the head of a queue holds up the others.
        if event_type == TYPES[1] && self.rng.chance(20) {
            due_ms = elapsed_ms() + self.rng.between(1_000, 1_200_000) as i64;
            body["deliver_at"] = json!(START.plus_ms(due_ms).to_string());
        }
        if event_type == TYPES[1] && due_ms == 0 && self.rng.chance(20) {
            let ends = elapsed_ms() + self.rng.between(30_000, 1_800_000) as i64;
            body["expires_at"] = json!(START.plus_ms(ends).to_string());
            ends_ms = Some(ends);
        }
        Draft { key, event_type, body, due_ms, ends_ms }
    }
}

async fn publish(outside: &Outside, draft: &Draft) -> bool {
    let answer = Api::default().insist("/v1/events", None, &draft.body).await;
    let now = elapsed_ms();
    match answer {
        Ok(answer) => {
            note(outside, draft, &answer.json(), now);
            true
        }
        Err(words) => {
            outside.expectations.borrow_mut().fault(now, words);
            false
        }
    }
}

/// Repeats a publish once, and not shortly before the window ends, because an answer may take long.
async fn publish_again(outside: &Outside, draft: &Draft) {
    let first = outside.expectations.borrow().of_key.get(&draft.key).map_or(0, |event| (event >> 80) as i64);
    if START.plus_ms(elapsed_ms()).0 - first > IDEMPOTENCY_MS - WINDOW_EDGE_MS {
        return;
    }
    let body = bytes::Bytes::from(draft.body.to_string());
    let Some(answer) = Api::default().ask("POST", "/v1/events", None, body).await else { return };
    let now = elapsed_ms();
    match answer.status {
        202 if answer.json()["duplicate"] == true => note(outside, draft, &answer.json(), now),
        429 | 500.. => {}
        _ => outside.expectations.borrow_mut().fault(now, format!("{} again within the window: {answer:?}", draft.key)),
    }
}

fn note(outside: &Outside, draft: &Draft, row: &Value, at_ms: i64) {
    let event = row["id"].as_str().and_then(|id| uuid::Uuid::parse_str(id).ok()).map_or(0, |id| id.as_u128());
    let accepted =
        Accepted { event, event_type: draft.event_type, at_ms, due_ms: draft.due_ms, ends_ms: draft.ends_ms };
    outside.expectations.borrow_mut().accept(&draft.key, accepted, row["duplicate"] == true);
}
