//! The users besides producers: the handler pauses, resumes and replays, the reader follows a feed, and the checker asks
//! for acknowledged events.

use serde_json::{Value, json};

use super::api::Api;
use super::expectations::{Accepted, Kind};
use super::plan::{REPLAYED_AGE_MS_MAX, RETENTION_MS};
use super::producers::Outside;
use super::rng::Rng;
use super::world::{START, elapsed_ms, sleep_ms};

/// Maximum time of a replay without disturbances.
const REPLAYED_WITHIN_MS: i64 = 900_000;
/// Maximum time between the oldest and the newest event of a replay.
const REPLAYED_SPAN_MS: i64 = 1_200_000;
/// Maximum wait that the reader of a feed requests.
const FEED_WAIT_S: u32 = 20;
/// Maximum time until an accepted event is in a waiting reader's feed.
const FED_WITHIN_MS: i64 = 30_000;

/// Time between two rounds of the checker, and while the disk fails.
const CHECK_MS: u64 = 120_000;
const CHECK_FAILING_MS: u64 = 2_000;
/// Time before the end of its retention in which an event is not asked for.
const CHECK_EDGE_MS: i64 = 600_000;
/// The newest events that a round asks for, and as many others.
const CHECKED_EVENTS: usize = 3;

/// Pauses and resumes webhooks, and requests replays.
pub struct Handler {
    pub outside: Outside,
    pub api: Api,
    pub rng: Rng,
}

impl Handler {
    pub async fn run(mut self) {
        let hook = self.outside.expectations.borrow().hooks.iter().position(|hook| hook.is_handled).unwrap_or(0);
        let id = self.outside.expectations.borrow().hook_ids[hook].clone();
        let mut turns = 0;
        while !self.outside.is_over.get() {
            sleep_ms(self.rng.between(600_000, 5_400_000)).await;
            turns += 1;
            let done =
                if self.rng.chance(60) { self.pause(hook, &id).await } else { self.replay(hook, &id, turns).await };
            if let Err(words) = done {
                self.outside.expectations.borrow_mut().fault(elapsed_ms(), words);
            }
        }
    }

    async fn pause(&mut self, hook: usize, id: &str) -> Result<(), String> {
        self.outside.expectations.borrow_mut().resumed_since[hook] = None;
        self.api.insist(&format!("/v1/webhooks/{id}/pause"), None, &json!({})).await?;
        self.outside.expectations.borrow_mut().paused_since[hook] = Some(elapsed_ms());
        sleep_ms(self.rng.between(20_000, 900_000)).await;
        self.outside.expectations.borrow_mut().paused_since[hook] = None;
        self.api.insist(&format!("/v1/webhooks/{id}/resume"), None, &json!({})).await?;
        self.outside.expectations.borrow_mut().resumed_since[hook] = Some(elapsed_ms());
        Ok(())
    }

    /// Replays the events of some hour of the past.
    async fn replay(&mut self, hook: usize, id: &str, turn: u64) -> Result<(), String> {
        let now = elapsed_ms();
        let to = now - self.rng.between(0, (REPLAYED_AGE_MS_MAX - REPLAYED_SPAN_MS) as u64).min(now as u64) as i64;
        let from = (to - REPLAYED_SPAN_MS).max(0);
        let body = json!({
            "webhook_id": id,
            "from": START.plus_ms(from).to_string(),
            "to": START.plus_ms(to).to_string(),
            "status": "delivered",
        });
        let answer = self.api.insist("/v1/replays", Some(&format!("replay-{turn}")), &body).await?;
        let job = answer.json()["id"].as_str().unwrap_or_default().to_owned();
        loop {
            sleep_ms(30_000).await;
            let Some(job) = self.api.get(&format!("/v1/replays/{job}")).await else { continue };
            if job["status"] == "done" {
                self.outside.expectations.borrow_mut().replayed[hook] += job["created"].as_u64().unwrap_or(0);
                return Ok(());
            }
            let since = elapsed_ms() - REPLAYED_WITHIN_MS;
            if since > now && self.outside.expectations.borrow().is_calm(since, elapsed_ms()) {
                return Err(format!("a replay does not end: {job}"));
            }
        }
    }
}

/// Asks for acknowledged events by their ids, all the time and most often while the disk fails. They are never missing.
pub struct Checker {
    pub outside: Outside,
    pub api: Api,
    pub rng: Rng,
}

impl Checker {
    pub async fn run(mut self) {
        while !self.outside.is_over.get() {
            let now = elapsed_ms();
            let fails = self.outside.expectations.borrow().has_trouble(&[Kind::Disk], now, now);
            sleep_ms(if fails { CHECK_FAILING_MS } else { CHECK_MS }).await;
            for event in self.chosen() {
                let path = format!("/v1/events/{}", uuid::Uuid::from_u128(event));
                let answer = self.api.ask("GET", &path, None, bytes::Bytes::new()).await;
                if answer.is_some_and(|answer| answer.status == 404) {
                    let words = format!("GET {path}: an acknowledged event is missing");
                    self.outside.expectations.borrow_mut().fault(elapsed_ms(), words);
                }
            }
        }
    }

    /// The newest events, and as many of any age within the retention, whose partitions are read from the disk.
    fn chosen(&mut self) -> Vec<u128> {
        let expectations = self.outside.expectations.borrow();
        let oldest = START.plus_ms(elapsed_ms() - RETENTION_MS + CHECK_EDGE_MS);
        let is_kept = |accepted: &&Accepted| (accepted.event >> 80) as i64 > oldest.0;
        let kept: Vec<u128> = expectations.accepted.iter().filter(is_kept).map(|accepted| accepted.event).collect();
        let newest = kept.iter().rev().take(CHECKED_EVENTS).copied();
        let any =
            (0..CHECKED_EVENTS).filter_map(|_| kept.get(self.rng.below(kept.len().max(1) as u64) as usize).copied());
        newest.chain(any).collect()
    }
}

/// Follows the feed of a webhook from its beginning, and waits at its end.
pub struct Reader {
    pub outside: Outside,
    pub api: Api,
}

impl Reader {
    /// Reads until the simulation is over. Then every accepted event has come once and in order.
    pub async fn run(mut self) {
        let id = self.outside.expectations.borrow().hook_ids[0].clone();
        let (mut cursor, mut last) = (String::new(), 0);
        let mut is_at_end = false;
        while !(is_at_end && self.outside.is_over.get() && self.outside.open.get() == 0) {
            let wait_s = if self.outside.is_over.get() { 0 } else { FEED_WAIT_S };
            let after = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
            let path = format!("/v1/webhooks/{id}/feed?limit=100&wait_s={wait_s}{after}");
            let began = elapsed_ms();
            let Some(page) = self.api.get(&path).await else {
                is_at_end = false;
                sleep_ms(1_000).await;
                continue;
            };
            let rows = page["data"].as_array().cloned().unwrap_or_default();
            is_at_end = rows.is_empty();
            rows.iter().for_each(|row| self.take(row, &mut last, began));
            if let Some(next) = page["next_cursor"].as_str() {
                cursor = next.to_owned();
            }
        }
        let mut expectations = self.outside.expectations.borrow_mut();
        let missing =
            expectations.accepted.iter().filter(|accepted| !expectations.fed.contains(&accepted.event)).count();
        if missing > 0 {
            expectations.fault(elapsed_ms(), format!("the feed left out {missing} events"));
        }
    }

    fn take(&self, row: &Value, last: &mut u128, began: i64) {
        let now = elapsed_ms();
        let id =
            |value: &Value| value.as_str().and_then(|id| uuid::Uuid::parse_str(id).ok()).map_or(0, |id| id.as_u128());
        let (delivery, event) = (id(&row["delivery_id"]), id(&row["event"]["id"]));
        let mut expectations = self.outside.expectations.borrow_mut();
        if delivery <= *last {
            expectations.fault(now, format!("the feed goes back from {last:032x} to {delivery:032x}"));
        }
        *last = delivery;
        expectations.fed.insert(event);
        let known =
            expectations.accepted.iter().rev().take(200).find(|accepted| accepted.event == event).map(|a| a.at_ms);
        // A reader that began after the event was accepted need not have waited for it.
        if let Some(at) = known
            && now > at.max(began) + FED_WITHIN_MS
            && !expectations.has_trouble(&[Kind::Crash, Kind::Stop, Kind::Disk, Kind::Network], at - FED_WITHIN_MS, now)
        {
            expectations.fault(now, format!("the feed gave {event:032x} {} ms after it was accepted", now - at));
        }
    }
}
