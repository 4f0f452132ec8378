//! The auditor: reads the API repeatedly, and compares the answers with the recorded events.

use postrider::model::Time;
use serde_json::{Value, json};

use super::api::Api;
use super::expectations::{Kind, Outcome, Row};
use super::plan::{AUDITED_WITHIN_MS, RETENTION_MS};
use super::producers::Outside;
use super::receivers::SECRET;
use super::rng::Rng;
use super::world::{START, elapsed_ms, sleep_ms};

const PAGE: usize = 250;
/// Lateness of an attempt, at a receiver that was healthy all the time, from which it is a fault.
const LATE_MS: i64 = 200_000;
/// Margin at the end of an event's retention, for the time of the answer.
const EDGE_MS: i64 = 60_000;
/// Time by which a daemon that was started with a wrong clock may date deliveries back: since its last id.
const DATED_BACK_MS: i64 = 2 * 3_600_000;
/// Time after its end within which an expired delivery has failed.
const ENDED_WITHIN_MS: i64 = 120_000;
/// Delay before an incomplete read is repeated.
const AGAIN_MS: u64 = 30_000;

pub struct Auditor {
    outside: Outside,
    api: Api,
    rng: Rng,
    /// Everything that was made before then has been read.
    read_to_ms: i64,
}

/// A time of the API in simulated milliseconds.
fn ms_of(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Time>().ok().map(|time| time.since(START))
}

fn id_of(value: &Value) -> u128 {
    value.as_str().and_then(|id| uuid::Uuid::parse_str(id).ok()).map_or(0, |id| id.as_u128())
}

/// Whether a delivery is final and must still exist, by the age of its event, whose id has its time. A replay is
/// younger, and is removed with its event.
fn is_kept(row: &Row) -> bool {
    let age_ms = START.plus_ms(elapsed_ms()).since(Time((row.event >> 80) as i64));
    row.is_final() && age_ms < RETENTION_MS - EDGE_MS
}

impl Auditor {
    pub fn new(outside: Outside, rng: Rng) -> Auditor {
        Auditor { outside, api: Api::default(), rng, read_to_ms: 0 }
    }

    /// Makes the webhooks. Must be called once, before any other request.
    pub async fn prepare(&mut self) -> Result<(), String> {
        let hooks = self.outside.expectations.borrow().hooks.clone();
        for (number, hook) in hooks.iter().enumerate() {
            let mut body = hook.body(number);
            body["secret"] = json!(SECRET);
            let answer = self.api.insist("/v1/webhooks", Some(&format!("hook-{number}")), &body).await?;
            let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
            self.outside.expectations.borrow_mut().hook_ids.push(id);
        }
        Ok(())
    }

    /// Reads until the simulation is over.
    pub async fn run(&mut self) {
        while !self.outside.is_over.get() {
            sleep_ms(self.rng.between(300_000, 2_400_000)).await;
            while !self.audit().await && !self.outside.is_over.get() {
                sleep_ms(AGAIN_MS).await;
            }
            self.outside.expectations.borrow_mut().judge_promptness(elapsed_ms());
            self.look_at_an_event().await;
            self.look_at_a_delivery().await;
        }
    }

    /// Reads every delivery that may have changed since the last read. `false` if it could not be read to the end.
    pub async fn audit(&mut self) -> bool {
        let now = elapsed_ms();
        let from = {
            let expectations = self.outside.expectations.borrow();
            let open = expectations.rows.values().filter(|row| !row.is_final()).map(|row| row.created_ms).min();
            // A daemon that does not know the time yet dates deliveries back.
            let back_ms =
                if expectations.has_trouble(&[Kind::Clock], now - AUDITED_WITHIN_MS, now) { DATED_BACK_MS } else { 0 };
            open.unwrap_or(now).min(self.read_to_ms - back_ms).max(now - RETENTION_MS + EDGE_MS)
        };
        let first = format!("/v1/deliveries?limit={PAGE}&from={}", START.plus_ms((from - 1_000).max(0)));
        let mut path = first.clone();
        loop {
            let Some(page) = self.api.get(&path).await else { return false };
            page["data"].as_array().into_iter().flatten().for_each(|row| self.take(row));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{first}&cursor={cursor}"),
                None => {
                    self.note_read(now);
                    return true;
                }
            }
        }
    }

    /// Records that all deliveries until then have been read. After a long absence, removed deliveries would count as
    /// lost.
    fn note_read(&mut self, now: i64) {
        let read_to_ms = now - EDGE_MS;
        if read_to_ms - self.read_to_ms > AUDITED_WITHIN_MS {
            let words = format!("the auditor was away from {} to {read_to_ms} ms: its plan is wrong", self.read_to_ms);
            self.outside.expectations.borrow_mut().fault(now, words);
        }
        self.read_to_ms = read_to_ms;
    }

    fn take(&self, row: &Value) {
        let mut expectations = self.outside.expectations.borrow_mut();
        let now = elapsed_ms();
        let Some(hook) = expectations.hook_ids.iter().position(|id| row["webhook_id"] == id.as_str()) else {
            expectations.fault(now, format!("a delivery to an unknown webhook: {row}"));
            return;
        };
        let taken = Row {
            hook,
            event: id_of(&row["event_id"]),
            status: row["status"].as_str().unwrap_or_default().to_owned(),
            attempts: row["attempts"].as_u64().unwrap_or(0) as u32,
            created_ms: ms_of(&row["created_at"]).unwrap_or(0),
            is_replay: !row["replay_of"].is_null(),
        };
        let due = ms_of(&row["next_attempt_at"]);
        let is_late = !taken.is_final()
            && due.is_some_and(|due| due + LATE_MS < now)
            && expectations.healthy_since[hook].is_some_and(|since| since + LATE_MS < now)
            && expectations.resumed_since[hook].is_some_and(|since| since + LATE_MS < now)
            && expectations.is_calm(now - LATE_MS, now);
        if is_late && !self.is_served(&expectations, hook, now) {
            let name = expectations.hooks[hook].name;
            expectations.fault(now, format!("{name}: due at {due:?} ms and not sent: {row}"));
        }
        let has_ended = expectations.ends.get(&taken.event).is_some_and(|ends| ends + ENDED_WITHIN_MS < now);
        if has_ended && !taken.is_final() && expectations.is_calm(now - ENDED_WITHIN_MS, now) {
            let name = expectations.hooks[hook].name;
            expectations.fault(now, format!("{name}: it has ended and is still open: {row}"));
        }
        expectations.show(id_of(&row["id"]), taken, now);
    }

    /// Whether the webhook receives requests all the time, so that a late delivery only waits behind others.
    fn is_served(&self, expectations: &super::expectations::Expectations, hook: usize, now: i64) -> bool {
        let latest = expectations.seen.iter().rev().take_while(|seen| seen.at_ms > now - 20_000);
        latest.filter(|seen| seen.hook == hook && seen.outcome == Outcome::Success).count() > 0
    }

    /// Checks that a random accepted event exists until its retention ends, and not after it.
    async fn look_at_an_event(&mut self) {
        let now = elapsed_ms();
        let chosen = {
            let expectations = self.outside.expectations.borrow();
            let kept = expectations.accepted.partition_point(|accepted| accepted.at_ms + RETENTION_MS < now);
            // Most often one of the oldest events that must still exist.
            let span = if self.rng.chance(70) { 5 } else { expectations.accepted.len() };
            let number = kept + self.rng.below(span.min(expectations.accepted.len() - kept).max(1) as u64) as usize;
            expectations.accepted.get(number).cloned()
        };
        let Some(chosen) = chosen else { return };
        let path = format!("/v1/events/{}", uuid::Uuid::from_u128(chosen.event));
        let Some(answer) = self.api.ask("GET", &path, None, bytes::Bytes::new()).await else { return };
        if self.outside.expectations.borrow().has_trouble(&[Kind::Clock], now - EDGE_MS, elapsed_ms()) {
            return;
        }
        // The id has the time of its event, as the daemon knew it.
        let age_ms = START.plus_ms(elapsed_ms()).since(Time((chosen.event >> 80) as i64));
        let is_there = match answer.status {
            200 => true,
            404 => false,
            status if status >= 500 => return,
            status => {
                let words = format!("GET {path}: {status} {}", answer.text());
                return self.outside.expectations.borrow_mut().fault(now, words);
            }
        };
        let must_be = age_ms < RETENTION_MS - EDGE_MS;
        let must_not_be = age_ms > RETENTION_MS + EDGE_MS;
        if is_there && must_not_be || !is_there && must_be {
            let words = format!("{path} of {} s ago is {}there", age_ms / 1_000, if is_there { "" } else { "not " });
            self.outside.expectations.borrow_mut().fault(now, words);
        }
    }

    /// Checks that a random delivery is found by its id with all of its counted attempts, and that each attempt is
    /// found by its own.
    async fn look_at_a_delivery(&mut self) {
        let chosen = {
            let expectations = self.outside.expectations.borrow();
            let mut ids: Vec<u128> =
                expectations.rows.iter().filter(|(_, row)| is_kept(row)).map(|(id, _)| *id).collect();
            ids.sort_unstable();
            let number = self.rng.below(ids.len().max(1) as u64) as usize;
            ids.get(number).map(|id| (*id, expectations.rows[id].clone()))
        };
        if let Some((id, row)) = chosen {
            self.look_at_attempts(id, row).await;
        }
    }

    /// Reads every delivery with more attempts than its receiver saw requests.
    async fn look_at_the_unseen(&mut self) {
        let mut unseen: Vec<(u128, Row)> = {
            let expectations = self.outside.expectations.borrow();
            let is_unseen = |id: &u128, row: &Row| row.attempts as usize > expectations.requests_of(*id);
            expectations
                .rows
                .iter()
                .filter(|(id, row)| is_unseen(id, row))
                .map(|(id, row)| (*id, row.clone()))
                .collect()
        };
        unseen.sort_unstable_by_key(|(id, _)| *id);
        for (id, row) in unseen {
            if is_kept(&row) {
                self.look_at_attempts(id, row).await;
            }
        }
    }

    /// Checks that a delivery is found by its id with its attempts, and that its receiver saw a request for each
    /// answered one.
    async fn look_at_attempts(&mut self, id: u128, row: Row) {
        let now = elapsed_ms();
        let path = format!("/v1/deliveries/{}", uuid::Uuid::from_u128(id));
        let Some(found) = self.look(&path).await else { return };
        let Some(attempts) = self.look(&format!("{path}/attempts?limit={PAGE}")).await else { return };
        let numbers: Vec<u64> =
            attempts["data"].as_array().into_iter().flatten().filter_map(|row| row["number"].as_u64()).collect();
        let expected: Vec<u64> = (1..=u64::from(row.attempts)).rev().collect();
        if found["status"] != row.status || numbers != expected {
            let words = format!("{path} is {found}, its attempts are {numbers:?}, and it was {row:?}");
            self.outside.expectations.borrow_mut().fault(now, words);
        }
        let is_answered = |attempt: &&Value| !attempt["status_code"].is_null();
        let answered = attempts["data"].as_array().into_iter().flatten().filter(is_answered).count();
        let seen = self.outside.expectations.borrow().requests_of(id);
        if answered > seen {
            let words = format!("{path} shows {answered} attempts that were answered, and its receiver saw {seen}");
            self.outside.expectations.borrow_mut().fault(now, words);
        }
        if let Some(attempt) = attempts["data"][0]["id"].as_str() {
            self.look(&format!("/v1/attempts/{attempt}")).await;
        }
    }

    /// Makes a read that must succeed. `None` if the daemon does not answer, or after a recorded fault.
    async fn look(&mut self, path: &str) -> Option<Value> {
        let answer = self.api.ask("GET", path, None, bytes::Bytes::new()).await?;
        if answer.status >= 300 && answer.status < 500 {
            let words = format!("GET {path}: {} {}", answer.status, answer.text());
            self.outside.expectations.borrow_mut().fault(elapsed_ms(), words);
        }
        (answer.status == 200).then(|| answer.json())
    }

    /// The number of open deliveries by the API. `None` without an answer.
    pub async fn pending(&mut self) -> Option<u64> {
        let stats = self.api.get("/v1/stats").await?;
        Some(stats["pending_deliveries"].as_u64()?.max(stats["backlog"].as_u64()?))
    }

    /// Reads everything once more, and compares the figures.
    pub async fn conclude(&mut self) {
        while !(self.audit().await && self.compare_figures().await && self.compare_failed().await) {
            sleep_ms(2_000).await;
        }
        self.look_at_the_unseen().await;
    }

    /// The list of failed deliveries has each of them, once, and in the order of their ends. `false` if it could not be
    /// read.
    async fn compare_failed(&mut self) -> bool {
        let first = format!("/v1/deliveries?status=failed&limit={PAGE}");
        let (mut path, mut listed) = (first.clone(), Vec::new());
        loop {
            let Some(page) = self.api.get(&path).await else { return false };
            for row in page["data"].as_array().into_iter().flatten() {
                listed.push((ms_of(&row["completed_at"]), id_of(&row["id"])));
            }
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{first}&cursor={cursor}"),
                None => break,
            }
        }
        let mut expectations = self.outside.expectations.borrow_mut();
        if !listed.is_sorted_by(|a, b| a > b) {
            expectations.fault(elapsed_ms(), "failed deliveries are not listed in the order of their ends".into());
        }
        let is_listed = |id: &u128| listed.iter().any(|(_, listed)| listed == id);
        let known = |row: &Row| row.status == "failed" && is_kept(row);
        let missing: Vec<u128> =
            expectations.rows.iter().filter(|(id, row)| known(row) && !is_listed(id)).map(|(id, _)| *id).collect();
        let strange =
            listed.iter().find(|(_, id)| expectations.rows.get(id).is_none_or(|row| row.status != "failed")).copied();
        if !missing.is_empty() || strange.is_some() {
            let words = format!("failed and not listed: {missing:?}; listed and not failed: {strange:?}");
            expectations.fault(elapsed_ms(), words);
        }
        true
    }

    /// Compares the figures of every webhook with the recorded events. `false` if they could not be read.
    async fn compare_figures(&mut self) -> bool {
        let ids = self.outside.expectations.borrow().hook_ids.clone();
        let mut each = Vec::new();
        for (hook, id) in ids.iter().enumerate() {
            let Some(stats) = self.api.get(&format!("/v1/webhooks/{id}/stats")).await else { return false };
            self.outside.expectations.borrow_mut().judge_figures(hook, &stats, elapsed_ms());
            each.push(stats);
        }
        let Some(all) = self.api.get("/v1/stats").await else { return false };
        self.outside.expectations.borrow_mut().judge_sums(&each, &all, elapsed_ms());
        true
    }
}
