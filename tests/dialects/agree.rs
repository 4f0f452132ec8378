//! The same rows read through two shapes never contradict each other. The native API is compared with each of the five
//! by a derivation of its own.

use std::collections::{BTreeMap, HashMap};

use http::Method;
use postrider::model::id::DeliveryId;
use postrider::model::webhook::WebhookStatus;
use postrider::model::{EventId, Time, Webhook, WebhookId};
use postrider::rules::dfns_id;
use postrider::store::Retention;
use postrider::store::{Command, Dispatch, EventInput, PartitionCommand, Receipt, StateCommand, StoreOptions};
use proptest::prelude::*;
use serde_json::Value;

use crate::dialects::bench::{ADMIN, Bench, DAY_MS, finished, ok, options};
use crate::dialects::errors::request;

const START: Time = Time(1_772_704_800_000);
const RETENTION_MS: i64 = 3 * DAY_MS;

/// One change. Its numbers choose among the objects that exist at that moment.
#[derive(Debug, Clone)]
enum Step {
    Publish { other_app: bool, subject: bool },
    Attempt { which: usize, status: Option<u16>, took_ms: u32 },
    Wait { ms: i64 },
    Retry { which: usize },
    Cancel { which: usize },
    Erase { which: usize },
    Disable { which: usize },
    Remove { which: usize },
    Roll,
    Maintenance,
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![
        3 => Just(Some(200)), 1 => Just(Some(204)), 3 => Just(Some(500)), 1 => Just(Some(404)), 1 => Just(None)
    ];
    prop_oneof![
        6 => (any::<bool>(), any::<bool>()).prop_map(|(other_app, subject)| Step::Publish { other_app, subject }),
        12 => (any::<usize>(), status, 1..9_000u32)
            .prop_map(|(which, status, took_ms)| Step::Attempt { which, status, took_ms }),
        4 => prop_oneof![1..60_000i64, 1..DAY_MS, Just(DAY_MS)].prop_map(|ms| Step::Wait { ms }),
        2 => any::<usize>().prop_map(|which| Step::Retry { which }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Step::Erase { which }),
        1 => any::<usize>().prop_map(|which| Step::Disable { which }),
        1 => any::<usize>().prop_map(|which| Step::Remove { which }),
        1 => Just(Step::Roll),
        1 => Just(Step::Maintenance),
    ]
}

/// A store, with the deliveries that may still change.
struct History {
    bench: Bench,
    webhooks: Vec<WebhookId>,
    events: Vec<EventId>,
    open: Vec<Dispatch>,
    other: postrider::model::AppId,
}

impl History {
    fn new() -> History {
        let mut bench = Bench::with(START, StoreOptions { retention_ms: RETENTION_MS, ..options() }, &[]);
        let other = bench.app("other").id;
        let mut webhooks = Vec::new();
        for app in [None, None, Some(other)] {
            let made = bench.webhook(|webhook| webhook.app_id = app.unwrap_or(webhook.app_id));
            webhooks.push(made.id);
        }
        History { bench, webhooks, events: Vec::new(), open: Vec::new(), other }
    }

    fn happen(&mut self, step: &Step) {
        let bench = &mut self.bench;
        match step {
            Step::Publish { other_app, subject } => {
                let event_type = if *subject { "lead.seen" } else { "sent" };
                let mut event = EventInput::new(event_type, format!("{{\"n\":{}}}", self.events.len()));
                event.app = other_app.then_some(self.other);
                event.attributes.subject = subject.then(|| "ann@example.com".to_owned());
                let (published, fresh) = bench.publish(event);
                self.events.push(published.event.id);
                self.open.extend(fresh);
            }
            Step::Attempt { which, status, took_ms } => self.attempt(*which, *status, *took_ms),
            Step::Wait { ms } => bench.now = bench.now.plus_ms(*ms),
            Step::Retry { which } => {
                let Some(id) = any_delivery(bench, *which) else { return };
                let (result, effects) = bench.apply(Command::Partition(PartitionCommand::Retry { id }));
                if let Ok(Receipt::Delivery(_)) = result {
                    self.open.extend(effects.fresh);
                }
            }
            Step::Cancel { which } => {
                if let Some(id) = any_delivery(bench, *which) {
                    drop(bench.apply(Command::Partition(PartitionCommand::CancelDelivery { id })));
                }
            }
            Step::Erase { which } => {
                if let Some(id) = pick(&self.events, *which) {
                    drop(bench.apply(Command::Partition(PartitionCommand::EraseEvent { id })));
                }
            }
            Step::Disable { which } => {
                let found =
                    pick(&self.webhooks, *which).and_then(|id| bench.store.registry().webhook_by_id(id).cloned());
                if let Some(webhook) = found {
                    bench.update(Webhook { status: WebhookStatus::Disabled, ..Webhook::clone(&webhook) });
                }
            }
            Step::Remove { which } => {
                if let Some(id) = pick(&self.webhooks, *which) {
                    drop(bench.apply(Command::State(StateCommand::RemoveWebhook { id })));
                }
            }
            Step::Roll => bench.opened.writer.roll(bench.now).unwrap(),
            Step::Maintenance => {
                let done = bench.opened.writer.maintain(bench.now, Retention::Running);
                bench.opened.writer.apply(&done.follow, bench.now);
            }
        }
    }

    /// Records the outcome of a request, which may be late or for a final delivery.
    fn attempt(&mut self, which: usize, status: Option<u16>, took_ms: u32) {
        let Some(place) = (!self.open.is_empty()).then(|| which % self.open.len()) else { return };
        let mut outcome = finished(&self.open[place], self.bench.now, status, took_ms);
        self.bench.now = outcome.made.finished_at;
        outcome.made.response_body = Some(format!("after {took_ms}"));
        let (result, _) = self.bench.apply(Command::Partition(PartitionCommand::Record(Box::new(outcome))));
        let goes_on = matches!(result, Ok(Receipt::Recorded(Some(delivery))) if !delivery.status.is_final());
        if goes_on {
            self.open[place].number += 1;
        } else {
            self.open.swap_remove(place);
        }
    }
}

fn pick<T: Copy>(all: &[T], which: usize) -> Option<T> {
    (!all.is_empty()).then(|| all[which % all.len()])
}

fn any_delivery(bench: &mut Bench, which: usize) -> Option<DeliveryId> {
    let ids: Vec<DeliveryId> =
        native(bench, "/v1/deliveries").iter().map(|row| text(row, "id").parse().unwrap()).collect();
    pick(&ids, which)
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} of {row}"))
}

/// All rows of a native list, page by page.
fn native(bench: &mut Bench, path: &str) -> Vec<Value> {
    let bearer = format!("Bearer {ADMIN}");
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ok(&bench.get(&format!("{path}?limit=3{cursor}"), &[("authorization", &bearer)]));
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return rows };
        cursor = format!("&cursor={next}");
    }
}

fn get(bench: &mut Bench, dialect: &str, target: &str) -> Value {
    ok(&request(bench, dialect, ADMIN, Method::GET, target, ""))
}

/// All rows that the native API shows.
struct Truth {
    deliveries: Vec<Value>,
    /// Attempts by id, each with its delivery.
    attempts: HashMap<String, (Value, Value)>,
}

impl Truth {
    fn read(bench: &mut Bench) -> Truth {
        let deliveries = native(bench, "/v1/deliveries");
        let mut attempts = HashMap::new();
        for delivery in &deliveries {
            for attempt in native(bench, &format!("/v1/deliveries/{}/attempts", text(delivery, "id"))) {
                attempts.insert(text(&attempt, "id").to_owned(), (attempt, delivery.clone()));
            }
        }
        Truth { deliveries, attempts }
    }

    fn of_webhook(&self, id: WebhookId) -> Vec<&Value> {
        let id = id.to_string();
        self.deliveries.iter().filter(|row| row["webhook_id"] == id).collect()
    }

    /// The time of the next attempt: the plan at its end if the attempt was followed, and the current plan otherwise.
    fn next(&self, attempt: &Value, delivery: &Value) -> Value {
        let is_last = attempt["number"] == delivery["attempts"];
        match () {
            () if attempt["success"] == true => Value::Null,
            () if !is_last => attempt["next_attempt_at"].clone(),
            () if delivery["status"] == "retrying" => delivery["next_attempt_at"].clone(),
            () => Value::Null,
        }
    }
}

/// All of Instantly's list, in pages of two.
fn instantly_list(bench: &mut Bench, filter: &str) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(bench, "instantly", &format!("/api/v2/webhook-events?limit=2{filter}{after}"));
        rows.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_starting_after"].as_str() else { return rows };
        after = format!("&starting_after={next}");
    }
}

fn instantly_agrees(bench: &mut Bench, truth: &Truth) {
    let rows = instantly_list(bench, "");
    assert_eq!(rows.len(), truth.attempts.len());
    assert!(rows.is_sorted_by(|a, b| text(a, "id") > text(b, "id")), "newest first");
    for row in &rows {
        let (attempt, delivery) = &truth.attempts[text(row, "id")];
        let next = truth.next(attempt, delivery);
        let is_retry = attempt["number"] != 1;
        assert_eq!(row["success"], attempt["success"]);
        assert_eq!(row["timestamp_created"], attempt["started_at"]);
        assert_eq!(row["timestamp_created_date"], text(attempt, "started_at")[..10]);
        assert_eq!(row["retry_count"].as_u64().unwrap() + 1, attempt["number"].as_u64().unwrap());
        assert_eq!((&row["timestamp_next_retry"], &row["will_retry"]), (&next, &Value::Bool(!next.is_null())));
        assert_eq!((&row["status_code"], &row["error_message"]), (&attempt["status_code"], &attempt["error"]));
        assert_eq!(row["response_time_ms"], attempt["response_time_ms"]);
        let group = if is_retry || !next.is_null() { attempt["delivery_id"].clone() } else { Value::Null };
        assert_eq!(row["retry_group_id"], group);
        assert_eq!(row["retry_successful"], if is_retry { attempt["success"].clone() } else { Value::Null });
        assert_eq!(row["payload"]["id"], attempt["event_id"]);
        assert_eq!(&get(bench, "instantly", &format!("/api/v2/webhook-events/{}", text(row, "id"))), row);
    }
    let count = |success: bool| rows.iter().filter(|row| row["success"] == success).count() as u64;
    for (filter, expected) in [("&success=true", count(true)), ("&success=false", count(false))] {
        assert_eq!(instantly_list(bench, filter).len() as u64, expected);
    }
    summaries_agree(bench, &rows);
}

fn summaries_agree(bench: &mut Bench, rows: &[Value]) {
    let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for row in rows {
        let day = days.entry(text(row, "timestamp_created_date").to_owned()).or_default();
        day.0 += 1;
        day.1 += u64::from(row["success"] == true);
    }
    series_agrees(bench, &days);
    let all = get(bench, "instantly", "/api/v2/webhook-events/summary");
    let total: (u64, u64) = days.values().fold((0, 0), |sum, day| (sum.0 + day.0, sum.1 + day.1));
    assert_eq!((&all["total_events"], &all["successful_events"]), (&total.0.into(), &total.1.into()));
    assert_eq!(all["failed_events"], total.0 - total.1);
    let by_date = get(bench, "instantly", "/api/v2/webhook-events/summary-by-date");
    let listed: Vec<(String, (u64, u64))> = by_date["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| {
            let number = |name: &str| day[name].as_u64().unwrap();
            (text(day, "date").to_owned(), (number("total_events"), number("successful_events")))
        })
        .collect();
    assert_eq!(listed, days.clone().into_iter().collect::<Vec<_>>());
    for (date, (count, _)) in days {
        let filter = format!("&from={date}&to={date}");
        assert_eq!(instantly_list(bench, &filter).len() as u64, count, "{date}");
        let day = get(bench, "instantly", &format!("/api/v2/webhook-events/summary?{}", &filter[1..]));
        assert_eq!(day["total_events"], count);
    }
}

/// The rows of a day in the native series count the attempts that a vendor's page counts, and the successful ones. Attempts
/// whose retention has ended leave the page at once, and the figures with their partition.
fn series_agrees(bench: &mut Bench, days: &BTreeMap<String, (u64, u64)>) {
    let bearer = format!("Bearer {ADMIN}");
    let series = ok(&bench.get("/v1/stats/series?last=31d&step=1d", &[("authorization", &bearer)]));
    let rows = series["data"].as_array().unwrap().iter().map(|row| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (text(row, "from")[..10].to_owned(), (number("attempts"), number("attempts") - number("failures")))
    });
    let counted: BTreeMap<String, (u64, u64)> = rows.filter(|(_, (attempts, _))| *attempts > 0).collect();
    let first = EventId::from_u128(bench.store.partitions()[0].0).time();
    if bench.now < first.plus_ms(bench.store.retention_ms()) {
        assert_eq!(counted, *days);
    }
    assert!(days.iter().all(|(day, shown)| counted[day].0 >= shown.0 && counted[day].1 >= shown.1), "{counted:?}");
}

fn dfns_agrees(bench: &mut Bench, truth: &Truth, webhook: WebhookId) {
    let path = format!("/webhooks/{}/events", dfns_id::webhook(webhook));
    let (mut rows, mut token) = (Vec::new(), String::new());
    loop {
        let page = get(bench, "dfns", &format!("{path}?limit=2{token}"));
        rows.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["nextPageToken"].as_str() else { break };
        token = format!("&paginationToken={next}");
    }
    let id = webhook.to_string();
    assert_eq!(rows.len(), truth.attempts.values().filter(|(attempt, _)| attempt["webhook_id"] == id).count());
    for row in &rows {
        let id = dfns_id::parse_event(text(row, "id")).unwrap().to_string();
        let (attempt, delivery) = &truth.attempts[&id];
        let next = truth.next(attempt, delivery);
        let members = row.as_object().unwrap();
        assert_eq!((&row["kind"], &row["deliveryAttempt"]), (&delivery["event_type"], &attempt["number"]));
        assert_eq!(row["deliveryFailed"].as_bool(), attempt["success"].as_bool().map(|success| !success));
        assert_eq!(members.get("nextAttemptDate"), Some(&next).filter(|next| !next.is_null()));
        assert_eq!(members.get("error"), Some(&attempt["error"]).filter(|error| !error.is_null()));
        let earlier = members.get("retryOf").map(|id| dfns_id::parse_event(id.as_str().unwrap()).unwrap().to_string());
        assert_eq!(earlier.as_deref(), attempt["retry_of"].as_str());
        let status =
            attempt["status_code"].as_u64().map_or(text(attempt, "outcome").to_owned(), |code| code.to_string());
        assert_eq!(row["status"], status);
        let sent = text(attempt, "started_at").parse::<Time>().unwrap().seconds();
        assert_eq!(row["timestampSent"], sent);
        assert_eq!(&get(bench, "dfns", &format!("{path}/{}", text(row, "id"))), row);
    }
    for (wanted, failed) in [("true", true), ("false", false)] {
        let listed = get(bench, "dfns", &format!("{path}?limit=200&deliveryFailed={wanted}"));
        let count = rows.iter().filter(|row| row["deliveryFailed"] == failed).count();
        assert_eq!(listed["items"].as_array().unwrap().len(), count);
    }
}

fn time(value: &Value) -> Option<Time> {
    value.as_str().map(|text| text.parse().unwrap())
}

fn sentdm_agrees(bench: &mut Bench, truth: &Truth, webhook: WebhookId) {
    let app = bench.store.registry().webhook_by_id(webhook).unwrap().app_id.to_string();
    let mut rows = Vec::new();
    let native = truth.of_webhook(webhook);
    for page in 1.. {
        let target = format!("/v3/webhooks/{webhook}/events?page={page}&page_size=2");
        let answer = ok(&bench.get(&target, &[("x-api-key", ADMIN), ("x-profile-id", &app)]));
        let pagination = &answer["data"]["pagination"];
        assert_eq!(pagination["total_count"], native.len());
        assert_eq!(pagination["total_pages"], native.len().div_ceil(2));
        rows.extend(answer["data"]["events"].as_array().unwrap().iter().cloned());
        if pagination["has_more"] == false {
            break;
        }
    }
    assert_eq!(rows.len(), native.len());
    for (row, delivery) in rows.iter().zip(native) {
        assert_eq!((&row["id"], &row["event_type"]), (&delivery["id"], &delivery["event_type"]));
        let status = match text(delivery, "status") {
            "cancelled" => "failed",
            other => other,
        };
        assert_eq!(row["delivery_status"], status);
        assert_eq!(row["delivery_attempts"], delivery["attempts"]);
        assert_eq!(row["http_status_code"], delivery["last_status_code"]);
        assert_eq!(row["error_message"], delivery["last_error"]);
        assert_eq!(time(&row["created_at"]), time(&delivery["created_at"]));
        assert_eq!(time(&row["processing_started_at"]), time(&delivery["first_attempt_at"]));
        assert_eq!(time(&row["processing_completed_at"]), time(&delivery["completed_at"]));
    }
    let found = format!("/v3/webhooks/{webhook}/events?page=1&page_size=100&search=LEAD.s");
    let found = ok(&bench.get(&found, &[("x-api-key", ADMIN), ("x-profile-id", &app)]));
    let leads = rows.iter().filter(|row| row["event_type"] == "lead.seen").count();
    assert_eq!(found["data"]["pagination"]["total_count"], leads);
    assert_eq!(found["data"]["events"].as_array().unwrap().len(), leads);
    // The search of this shape looks at kinds, errors, ids and codes, and not at the webhook's URL.
    let of_url = format!("/v3/webhooks/{webhook}/events?page=1&page_size=100&search=%3A%2F%2F");
    let of_url = ok(&bench.get(&of_url, &[("x-api-key", ADMIN), ("x-profile-id", &app)]));
    assert_eq!(of_url["data"]["pagination"]["total_count"], 0);
}

fn devdraft_agrees(bench: &mut Bench, truth: &Truth, webhook: WebhookId) {
    let shown = get(bench, "devdraft", &format!("/api/v0/webhooks/{webhook}?include_events=true&events_limit=50"));
    let native = truth.of_webhook(webhook);
    let recent = shown["recent_events"].as_array().unwrap();
    assert_eq!(recent.len(), native.len().min(50));
    for (row, delivery) in recent.iter().zip(native) {
        assert_eq!(text(row, "id"), format!("evt_{}", text(delivery, "id").replace('-', "")));
        let status = match text(delivery, "status") {
            "cancelled" => "failed",
            "retrying" => "pending",
            other => other,
        };
        assert_eq!(row["delivery_status"], status);
        assert_eq!(
            (&row["response_code"], &row["response_time"]),
            (&delivery["last_status_code"], &delivery["last_response_time_ms"])
        );
        assert_eq!(row["error_message"], delivery["last_error"]);
        assert_eq!(row["retry_count"].as_u64(), delivery["attempts"].as_u64().map(|n| n.saturating_sub(1)));
        let last = truth
            .attempts
            .values()
            .find(|(attempt, of)| of["id"] == delivery["id"] && attempt["number"] == of["attempts"]);
        assert_eq!(row["delivered_at"], last.map_or(Value::Null, |(attempt, _)| attempt["started_at"].clone()));
    }
    let bearer = format!("Bearer {ADMIN}");
    let stats = ok(&bench.get(&format!("/v1/webhooks/{webhook}/stats"), &[("authorization", &bearer)]));
    for (own, native) in [
        ("total_events", "total_events"),
        ("successful_deliveries", "successful_deliveries"),
        ("failed_deliveries", "failed_deliveries"),
        ("last_delivery", "last_delivery"),
        ("success_rate", "success_rate"),
        ("average_response_time", "average_response_time_ms"),
        ("last_24h_events", "last_24h_events"),
        ("last_24h_failures", "last_24h_failures"),
    ] {
        assert_eq!(shown["delivery_stats"][own], stats[native], "{own}");
    }
}

/// Compares the shapes' views of the webhook itself.
fn webhooks_agree(bench: &mut Bench, webhook: WebhookId) {
    let bearer = format!("Bearer {ADMIN}");
    let native = ok(&bench.get(&format!("/v1/webhooks/{webhook}"), &[("authorization", &bearer)]));
    let on = native["status"] != "disabled";
    let app = text(&native, "app_id").to_owned();
    let everlytic = get(bench, "everlytic", &format!("/transactional/email/v1/webhooks/{webhook}"));
    assert_eq!(everlytic["webhook"]["status"], if on { "enabled" } else { "disabled" });
    assert_eq!(everlytic["webhook"]["updated_timestamp"], native["updated_at"]);
    let dfns = get(bench, "dfns", &format!("/webhooks/{}", dfns_id::webhook(webhook)));
    assert_eq!(
        (&dfns["status"], &dfns["dateUpdated"]),
        (&Value::from(if on { "Enabled" } else { "Disabled" }), &native["updated_at"])
    );
    let sent = ok(&bench.get(&format!("/v3/webhooks/{webhook}"), &[("x-api-key", ADMIN), ("x-profile-id", &app)]));
    assert_eq!(sent["data"]["is_active"], on);
    assert_eq!(sent["data"]["consecutive_failures"], native["consecutive_failures"]);
    assert_eq!(time(&sent["data"]["last_delivery_attempt_at"]), time(&native["last_attempt_at"]));
    assert_eq!(time(&sent["data"]["last_successful_delivery_at"]), time(&native["last_success_at"]));
    let devdraft = get(bench, "devdraft", &format!("/api/v0/webhooks/{webhook}"));
    assert_eq!((&devdraft["isActive"], &devdraft["url"]), (&Value::Bool(on), &native["url"]));
}

fn agrees(history: &mut History) {
    let bench = &mut history.bench;
    let truth = Truth::read(bench);
    instantly_agrees(bench, &truth);
    for webhook in &history.webhooks {
        if bench.store.registry().webhook_by_id(*webhook).is_some() {
            dfns_agrees(bench, &truth, *webhook);
            sentdm_agrees(bench, &truth, *webhook);
            devdraft_agrees(bench, &truth, *webhook);
            webhooks_agree(bench, *webhook);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_shapes_agree_after_any_history(steps in prop::collection::vec(step(), 1..60)) {
        let mut history = History::new();
        for step in &steps {
            history.happen(step);
        }
        agrees(&mut history);
    }
}
