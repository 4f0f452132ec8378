//! Watches the API: new events and new attempts since the last read, as lines.
//!
//! Invariant: no line is shown twice. Ids of events and of attempts rise in the order of their commits, so every new
//! one has an id above the last one seen. Attempts are read before events, so that an attempt's event is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::cli::Exit;
use crate::cli::client::{Call, Client};
use crate::cli::list;
use crate::cli::listen::seen::Seen;
use crate::cli::listen::verify::SignatureCheck;
use crate::cli::paint::Paint;
use crate::cli::screen;
use crate::cli::table::one_line;
use crate::model::Time;

/// Maximum webhooks that are watched. A second shell may make some.
const WEBHOOKS_MAX: usize = 20;
/// Rows of one page, and pages of one read. A burst above them is cut, and a line says so.
const PAGE_ROWS: u16 = 250;
const PAGES_MAX: usize = 4;
/// Maximum stored event types and signature checks. A demo stays far below. `--keep` and a load generator may exceed
/// it.
const REMEMBERED_MAX: usize = 20_000;

const TYPE_WIDTH: usize = 16;
const WEBHOOK_WIDTH: usize = 8;

/// The receivers' checks of signatures, by delivery and attempt.
#[derive(Debug, Default)]
pub struct SignatureChecks(HashMap<(String, u64), SignatureCheck>);

impl SignatureChecks {
    pub fn learn(&mut self, seen: &Seen) {
        let header = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
        let number = header("postrider-attempt").and_then(|text| text.parse().ok());
        let (Some(delivery), Some(number)) = (header("postrider-delivery-id"), number) else { return };
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert((delivery.to_owned(), number), seen.signature_check);
    }

    fn take(&mut self, delivery: &str, number: u64) -> Option<SignatureCheck> {
        self.0.remove(&(delivery.to_owned(), number))
    }
}

/// The known objects, and the last one shown of each list.
pub struct Watch {
    signature_checks: Arc<Mutex<SignatureChecks>>,
    /// Ids and names, oldest first.
    webhooks: Vec<(String, String)>,
    types: HashMap<String, String>,
    /// The greatest id shown, by list. The key is a webhook's id, or empty for the events.
    last: HashMap<String, String>,
    shown_lines: usize,
    outcomes: Vec<Outcome>,
}

/// The end of one attempt, for the story.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub event_id: String,
    pub webhook: String,
    pub success: bool,
}

/// One line to be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The time in RFC 3339.
    at: String,
    action: &'static str,
    event_type: String,
    webhook: String,
    /// Attempt number, status and milliseconds. Each may be empty.
    figures: [String; 3],
    note: String,
}

impl Watch {
    pub fn new(signature_checks: Arc<Mutex<SignatureChecks>>) -> Self {
        Self {
            signature_checks,
            webhooks: Vec::new(),
            types: HashMap::new(),
            last: HashMap::new(),
            shown_lines: 0,
            outcomes: Vec::new(),
        }
    }

    /// Number of lines so far.
    pub fn shown_lines(&self) -> usize {
        self.shown_lines
    }

    /// Webhooks by id and name, oldest first.
    pub fn webhooks(&self) -> &[(String, String)] {
        &self.webhooks
    }

    /// Whether the event has arrived at the webhook.
    pub fn has_arrived(&self, event_id: &str, webhook: &str) -> bool {
        self.outcomes.iter().any(|end| end.success && end.event_id == event_id && end.webhook == webhook)
    }

    /// New lines, oldest first.
    pub async fn poll(&mut self, client: &Client) -> Result<Vec<Line>, Exit> {
        let page = list::page(client, &Call::get(&["webhooks"]).query("limit", Some(WEBHOOKS_MAX))).await?;
        self.webhooks = page.rows().iter().rev().map(|row| (member(row, "id"), member(row, "name"))).collect();
        let mut attempts = Vec::new();
        let mut is_cut = false;
        for (id, name) in self.webhooks.clone() {
            let (rows, cut) = self.news(client, &id, Call::get(&["webhooks", &id, "attempts"])).await?;
            attempts.extend(rows.into_iter().map(|row| (name.clone(), row)));
            is_cut |= cut;
        }
        let (events, cut) = self.news(client, "", Call::get(&["events"])).await?;
        let mut lines: Vec<Line> = events.iter().map(|event| self.accepted(event)).collect();
        for (name, attempt) in attempts {
            self.tried(&name, &attempt, &mut lines);
        }
        // The sort is stable, so lines of the same millisecond stay in the order of cause and effect.
        lines.sort_by(|one, other| one.at.cmp(&other.at));
        self.shown_lines += lines.len();
        if is_cut || cut {
            screen::note("too much at once: some lines are left out\n");
        }
        Ok(lines)
    }

    /// Rows after the last one shown, oldest first, and whether there were too many.
    async fn news(&mut self, client: &Client, list: &str, call: Call) -> Result<(Vec<Value>, bool), Exit> {
        let last = self.last.get(list).cloned().unwrap_or_default();
        let mut rows: Vec<Value> = Vec::new();
        let mut call = call.query("limit", Some(PAGE_ROWS));
        let mut is_cut = true;
        for _ in 0..PAGES_MAX {
            let page = list::page(client, &call).await?;
            let page_rows = page.rows();
            let known = page_rows.iter().any(|row| member(row, "id") <= last);
            rows.extend(page_rows.into_iter().filter(|row| member(row, "id") > last));
            match page.next_cursor.filter(|_| !known) {
                Some(cursor) => call = call.with_query("cursor", &cursor),
                None => {
                    is_cut = false;
                    break;
                }
            }
        }
        if let Some(newest) = rows.first() {
            self.last.insert(list.to_owned(), member(newest, "id"));
        }
        rows.reverse();
        Ok((rows, is_cut))
    }

    fn accepted(&mut self, event: &Value) -> Line {
        let (id, event_type) = (member(event, "id"), member(event, "type"));
        if self.types.len() >= REMEMBERED_MAX {
            self.types.clear();
        }
        self.types.insert(id, event_type.clone());
        let note = match event["deliveries"].as_u64() {
            Some(1) => "stored; 1 delivery".to_owned(),
            count => format!("stored; {} deliveries", count.unwrap_or(0)),
        };
        let at = member(event, "received_at");
        Line { at, action: "accepted", event_type, webhook: String::new(), figures: Default::default(), note }
    }

    /// One line for a first attempt. Two lines for a later one: its start, and its end.
    fn tried(&mut self, webhook: &str, attempt: &Value, lines: &mut Vec<Line>) {
        let event_id = member(attempt, "event_id");
        let number = attempt["number"].as_u64().unwrap_or(0);
        let success = attempt["success"] == true;
        let event_type = self.types.get(&event_id).cloned().unwrap_or_else(|| "-".to_owned());
        let line = |at: &str, action, figures, note| Line {
            at: member(attempt, at),
            action,
            event_type: event_type.clone(),
            webhook: webhook.to_owned(),
            figures,
            note,
        };
        if number > 1 {
            let figures = [format!("#{number}"), String::new(), String::new()];
            lines.push(line("started_at", "retried", figures, String::new()));
        }
        let signature_check = {
            let mut signature_checks = self.signature_checks.lock().unwrap_or_else(PoisonError::into_inner);
            signature_checks.take(&member(attempt, "delivery_id"), number)
        };
        let shown = |name: &str| attempt[name].as_u64().map(|n| n.to_string()).unwrap_or_default();
        let ms = shown("response_time_ms");
        let ms = if ms.is_empty() { ms } else { format!("{ms} ms") };
        let figures = [format!("#{number}"), shown("status_code"), ms];
        let note = if success { delivered_note(signature_check) } else { failed_note(attempt) };
        lines.push(line("finished_at", if success { "delivered" } else { "failed" }, figures, note));
        self.outcomes.push(Outcome { event_id, webhook: webhook.to_owned(), success });
        if self.outcomes.len() > REMEMBERED_MAX {
            self.outcomes.drain(..REMEMBERED_MAX / 2);
        }
    }
}

fn delivered_note(signature_check: Option<SignatureCheck>) -> String {
    match signature_check {
        Some(SignatureCheck::Verified) => "signature verified".to_owned(),
        Some(SignatureCheck::Bad(why)) => format!("signature bad: {why}"),
        // The receiver is not one of the demo's.
        Some(SignatureCheck::NotChecked) | None => String::new(),
    }
}

/// The time of the next attempt, counted from the end of this one.
fn failed_note(attempt: &Value) -> String {
    let moment = |name: &str| member(attempt, name).parse::<Time>().ok();
    match (moment("finished_at"), moment("next_attempt_at")) {
        (Some(end), Some(next)) => {
            let wait_ms = next.since(end).max(0);
            format!("again in {}.{} s", wait_ms / 1_000, wait_ms % 1_000 / 100)
        }
        _ => format!("given up: {}", attempt["error"].as_str().unwrap_or("no attempt is left")),
    }
}

fn member(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

impl Line {
    /// The titles above the lines.
    pub fn head(paint: Paint) -> String {
        let head =
            laid("TIME (UTC)", "WHAT", "EVENT", "WEBHOOK", ["TRY", "CODE", "TOOK"].map(str::to_owned).as_slice());
        paint.strong(head.trim_end())
    }

    /// The line: time, action, event type, webhook, attempt number, status, milliseconds, and a note.
    pub fn text(&self, paint: Paint) -> String {
        let time = self.at.get(11..21).unwrap_or("-");
        let (event_type, webhook) = (one_line(&self.event_type, TYPE_WIDTH), one_line(&self.webhook, WEBHOOK_WIDTH));
        let line = laid(time, self.action, &event_type, &webhook, &self.figures);
        let line = format!("{line}  {}", one_line(&self.note, 60));
        // The word has a space on both sides in its own column, and occurs once.
        line.trim_end().replacen(self.action, &paint.word(self.action), 1)
    }
}

fn laid(time: &str, action: &str, event_type: &str, webhook: &str, figures: &[String]) -> String {
    let [number, status, ms] = [0, 1, 2].map(|n| figures.get(n).map_or("", String::as_str));
    format!(
        "{time:10}  {action:9}  {event_type:TYPE_WIDTH$}  {webhook:WEBHOOK_WIDTH$}  {number:3}  {status:4}  {ms:>6}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVENT: &str = "019cbd75-3130-7922-b7c3-94ca668965c7";

    fn attempt(number: u64, success: bool, next: Option<&str>) -> Value {
        json!({
            "id": "019cbd75-3131-7922-b7c3-94ca668965c7", "delivery_id": "d", "event_id": EVENT, "number": number,
            "success": success, "status_code": if success { 200 } else { 500 }, "response_time_ms": 3,
            "started_at": "2026-11-22T03:29:01.120Z", "finished_at": "2026-11-22T03:29:01.123Z",
            "next_attempt_at": next, "error": if success { Value::Null } else { "Internal Server Error".into() },
        })
    }

    fn lines_of(attempts: &[Value], checked: &[(u64, SignatureCheck)]) -> Vec<String> {
        let signature_checks =
            checked.iter().map(|(number, signature_check)| (("d".to_owned(), *number), *signature_check)).collect();
        let mut watch = Watch::new(Arc::new(Mutex::new(SignatureChecks(signature_checks))));
        let event = json!({"id": EVENT, "type": "invoice.paid", "received_at": "2026-11-22T03:29:00.000Z",
            "deliveries": 2});
        let mut lines = vec![watch.accepted(&event)];
        attempts.iter().for_each(|attempt| watch.tried("flaky", attempt, &mut lines));
        lines.iter().map(|line| line.text(Paint::when(false))).collect()
    }

    #[test]
    fn a_delivery_is_shown_from_acceptance_to_arrival() {
        let failed = attempt(1, false, Some("2026-11-22T03:29:03.000Z"));
        let lines = lines_of(&[failed, attempt(2, true, None)], &[(2, SignatureCheck::Verified)]);
        assert_eq!(
            lines,
            [
                "03:29:00.0  accepted   invoice.paid                                   stored; 2 deliveries",
                "03:29:01.1  failed     invoice.paid      flaky     #1   500     3 ms  again in 1.8 s",
                "03:29:01.1  retried    invoice.paid      flaky     #2",
                "03:29:01.1  delivered  invoice.paid      flaky     #2   200     3 ms  signature verified",
            ]
        );
    }

    #[test]
    fn a_bad_signature_and_the_last_failure_are_shown() {
        let bad = lines_of(&[attempt(1, true, None)], &[(1, SignatureCheck::Bad("no signature"))]);
        assert!(bad[1].ends_with("signature bad: no signature"), "{bad:?}");
        let last = lines_of(&[attempt(1, false, None)], &[]);
        assert!(last[1].ends_with("given up: Internal Server Error"), "{last:?}");
        let unknown = lines_of(&[attempt(1, true, None)], &[]);
        assert!(unknown[1].ends_with("3 ms"), "nothing is claimed: {unknown:?}");
    }

    #[test]
    fn only_the_word_is_coloured() {
        let line = Line {
            at: "2026-11-22T03:29:00.000Z".into(),
            action: "failed",
            event_type: "a.failed".into(),
            webhook: "failed\u{1b}[2J".into(),
            figures: Default::default(),
            note: String::new(),
        };
        let text = line.text(Paint::when(true));
        assert_eq!(text.matches('\u{1b}').count(), 2, "{text:?}");
        assert!(text.starts_with("03:29:00.0  \u{1b}[31mfailed"), "{text:?}");
    }
}
