//! Snapshots of pages from fixed views. `POSTRIDER_GOLDEN=write` writes `tests/golden/ui/*.html` anew.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use maud::Markup;

use super::delivery_rows::{DeliveryRow, RowColumns};
use super::overview::{MachineFacts, OverviewFigures, OverviewView};
use super::replay_targets::{PausedTarget, ReplayTarget};
use super::webhook_rows::WebhookRow;
use super::{
    apps, deliveries, delivery, delivery_resend, delivery_rows, event, overview, replays, shortcuts, system,
    test_result, webhook, webhook_actions, webhook_form, webhooks,
};
use crate::api::native::attempt_request::{self, AttemptRequestView};
use crate::api::{FieldError, HealthIssue};
use crate::model::figures::Sums;
use crate::model::job::{Job, JobSpec, JobStatus};
use crate::model::machine::{MachineState, StoreBytes};
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::model::webhook::{CircuitState, Webhook, WebhookState, WebhookStatus};
use crate::model::{
    ApiKey, App, Attempt, AttemptMade, AttemptOutcome, Delivery, DeliveryStatus, Event, EventAttributes, Id, Scope,
    Time, Timings, Trigger,
};
use crate::rules::health::{Health, HealthWord};
use crate::store::AttemptDetails;
use crate::ui::chart::Bin;
use crate::ui::form::PostedForm;
use crate::ui::frame::{Frame, Section};
use crate::ui::mood::{self, WebhookMood};
use crate::ui::page_query::PageQuery;
use crate::ui::series::{ChartRow, ChartSeries, SPANS};

mod lists;

pub const NOW: Time = Time(1_795_832_047_118);
/// Bytes of a full page.
const PAGE_BYTES_MAX: usize = 45_000;

pub fn key(scopes: &[Scope]) -> ApiKey {
    ApiKey {
        id: Id::from_u128(1),
        org_id: Id::MIN,
        app_id: None,
        name: "night-shift".to_owned(),
        scopes: scopes.to_vec(),
        hash: [0; 32],
        created_at: NOW,
        expires_at: None,
        rate_per_s: None,
        installation: true,
        makers: Vec::new(),
        feature_flags: Vec::new(),
        portal: false,
    }
}

pub fn frame(section: Section) -> Frame {
    Frame::fixed(section, key(&[Scope::Admin]), NOW)
}

fn reader(section: Section) -> Frame {
    Frame::fixed(section, key(&[Scope::EventsRead, Scope::WebhooksRead]), NOW)
}

/// Compares a whole page with its snapshot.
pub fn same(name: &str, frame: &Frame, content: &Markup) {
    let page = frame.page(name, content).into_string();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/ui/{name}.html"));
    // One element a line, so that a difference can be read. The names of the files change with their content.
    let shown = page.replace("><", ">\n<") + "\n";
    let shown = [&super::super::assets::CSS, &super::super::assets::MODULE, &super::super::assets::HORN]
        .iter()
        .fold(shown, |shown, asset| shown.replace(&asset.name(), "assets/NAME"));
    if std::env::var_os("POSTRIDER_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(&file, &shown).expect("written");
    }
    let golden = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for (at, (one, other)) in golden.lines().zip(shown.lines()).enumerate() {
        assert_eq!(one, other, "{name}, line {}", at + 1);
    }
    assert_eq!(golden.lines().count(), shown.lines().count(), "{name}");
}

pub fn hook(number: u128, name: &str, status: WebhookStatus) -> Arc<Webhook> {
    let mut webhook = Webhook::new(Id::MIN, Id::MIN);
    webhook.id = Id::from_u128(number);
    webhook.name = name.to_owned();
    webhook.url = format!("https://{name}.example/hooks?a=1&b=<2>");
    webhook.status = status;
    webhook.event_types = vec!["order.*".to_owned()];
    webhook.retry_schedule_s = vec![5, 300, 1_800];
    webhook.created_at = NOW.minus_ms(DAY_MS);
    Arc::new(webhook)
}

pub fn made(status_code: Option<u16>, outcome: AttemptOutcome, error: &str) -> AttemptMade {
    AttemptMade {
        number: 1,
        trigger: Trigger::Event,
        url: "https://erp.example/in".to_owned(),
        started_at: NOW.minus_ms(4_000),
        finished_at: NOW.minus_ms(3_800),
        success: outcome == AttemptOutcome::Success,
        outcome,
        status_code,
        error: (!error.is_empty()).then(|| error.to_owned()),
        response_time_ms: status_code.map(|_| 191),
        remote_addr: Some("203.0.113.40:443".to_owned()),
        request_headers: [("content-type", "application/json"), ("webhook-id", "1")].into_iter().collect(),
        response_headers: [("server", "<nginx>")].into_iter().collect(),
        response_body: status_code.map(|_| r#"{"error":"</pre><script>","n":1}"#.to_owned()),
        timings: Timings { dns: Some(2), connect: Some(11), tls: Some(26), first_byte: Some(148), total: 191 },
        ..AttemptMade::default()
    }
}

fn row(webhook: Arc<Webhook>, state: &WebhookState, waiting: u64) -> WebhookRow {
    let failed = made(Some(500), AttemptOutcome::HttpStatus, "Internal Server Error");
    WebhookRow {
        mood: WebhookMood::of(&webhook, state),
        reason: mood::reason(
            &webhook,
            (WebhookMood::of(&webhook, state), state),
            Some(&failed),
            mood::PageReader::Operator,
        ),
        blocking: None,
        hours: (0..24).map(|hour| Bin { ok: hour * 7, failed: hour % 5 }).collect(),
        percentiles_ms: [Some(35), Some(64)],
        waiting,
        late_since: (waiting > 0).then(|| NOW.minus_ms(74 * MINUTE_MS)),
        failed_day: Some(if waiting > 100 { "4" } else { "0" }.to_owned()),
        last_attempt_at: Some(NOW.minus_ms(42_000)),
        sums: Sums::default(),
        webhook,
    }
}

pub fn rows() -> Vec<WebhookRow> {
    let since = Some(NOW.minus_ms(HOUR_MS));
    let failing = WebhookState { consecutive_failures: 12, failing_since: since, ..WebhookState::default() };
    let well = WebhookState::default();
    vec![
        row(hook(11, "erp-invoices", WebhookStatus::Enabled), &failing, 1_204),
        row(hook(12, "warehouse-eu", WebhookStatus::Paused), &well, 22),
        row(hook(13, "<b>shop</b>", WebhookStatus::Enabled), &well, 0),
    ]
}

/// A span of so many steps, in the first of which nothing is known.
fn chart_series(last: &'static str, step_ms: i64, steps: u64) -> ChartSeries {
    let row = |at: u64| ChartRow {
        attempts: Bin { ok: at * 3, failed: at % 7 },
        waiting: (at > 0).then_some(at * 50),
        percentiles_ms: [30, 110].map(|ms| (at > 0 && step_ms >= HOUR_MS).then_some(ms + at as u32)),
    };
    ChartSeries { last, from: NOW.minus_ms(steps as i64 * step_ms), step_ms, rows: (0..steps).map(row).collect() }
}

#[test]
fn charts_of_every_span_have_their_table_and_stay_small() {
    let frame = frame(Section::Apps);
    let app = App {
        id: Id::from_u128(5),
        name: "Acme <GmbH>".to_owned(),
        created_at: NOW,
        updated_at: NOW,
        ..App::default()
    };
    for (last, _, span_ms, step_ms) in SPANS {
        let series = chart_series(last, step_ms, (span_ms / step_ms) as u64);
        let page = frame.page("app", &apps::one_page(&app, 3, &series, &frame)).into_string();
        assert_eq!(page.matches("role=\"img\"").count(), 3, "{last}");
        assert_eq!(page.matches("as a table").count(), 3, "{last}");
        let (steps, by_hour) = (span_ms / step_ms, step_ms >= HOUR_MS);
        let expected = 2 * steps + if by_hour { steps } else { 1 };
        assert_eq!(page.matches("<tr>").count() as i64, expected, "{last}: each a head, and all rows but the first");
        assert!(page.len() <= PAGE_BYTES_MAX && !page.contains("style="), "{last}: {} bytes", page.len());
    }
    same("app", &frame, &apps::one_page(&app, 3, &chart_series("31d", 12 * HOUR_MS, 62), &frame));
}

fn machine_state() -> MachineState {
    MachineState {
        started_at: NOW.minus_ms(19 * DAY_MS),
        disk_free_bytes: Some(212_400_000_000),
        min_free_bytes: 1_000_000_000,
        store: StoreBytes { state: 1_000_000, journal: 2_000_000, active: 3_000_000_000, sealed: 85_400_000_000 },
        oldest_event: Some(NOW.minus_ms(31 * DAY_MS)),
        partitions: 32,
        queue: 0,
        queue_max: 10_000,
        in_flight: 7,
        in_flight_max: 1_000,
        commit_p50_us: Some(2_400),
        commit_p99_us: None,
        followers: 1,
        follower_queue_bytes: 1_234_567,
        clock_trusted: false,
        clock_off_ms: Some(-1_200),
    }
}

fn overview_view(rows: Vec<WebhookRow>) -> OverviewView {
    OverviewView {
        moods: rows.iter().map(|row| row.mood).collect(),
        rows,
        series: chart_series("24h", HOUR_MS, 24),
        figures: OverviewFigures {
            started_last_hour: 16_871,
            ok_last_hour: 989,
            attempts_last_hour: 1_000,
            ok_day: 99_999,
            attempts_day: 100_000,
            waiting: 1_226,
            late_since: Some(NOW.minus_ms(74 * MINUTE_MS)),
            percentiles_ms: [Some(31), Some(118), None],
            in_flight: 7,
            deliveries: 7,
        },
        machine: Some(MachineFacts { state: machine_state(), retention_days: 31 }),
        public_url: "http://127.0.0.1:8080".to_owned(),
    }
}

pub fn delivery_row(number: u128, status: DeliveryStatus) -> DeliveryRow {
    let is_tried = status != DeliveryStatus::Pending;
    DeliveryRow {
        delivery: Delivery {
            id: Id::from_u128((0x01a2_201e_2d46_7000_8000 << 48) + number),
            event_id: Id::from_u128((0x01a2_201e_2d46_7000_8000 << 48) + number),
            webhook_id: Id::from_u128((0x01a2_201e_2d46_7000_8000 << 48) + 7),
            event_type: "order.shipped".to_owned(),
            status,
            attempts: u32::from(is_tried) * 3,
            next_attempt_at: (!status.is_final()).then(|| NOW.plus_ms(29 * MINUTE_MS)),
            created_at: NOW.minus_ms(60_000),
            completed_at: status.is_final().then(|| NOW.minus_ms(30_000)),
            last_status_code: is_tried.then_some(500),
            last_outcome: is_tried.then_some(AttemptOutcome::HttpStatus),
            last_response_time_ms: is_tried.then_some(191),
            ..Delivery::default()
        },
        event_id: Some(format!("ord-{number}-shipped")),
        webhook: "crm-sync".to_owned(),
        took_ms: is_tried.then_some(191),
        first_line: "{\"error\": \"NullPointerException at OrderMapper.j".to_owned(),
    }
}

fn deliveries_view(rows: Vec<DeliveryRow>, query: &str) -> deliveries::DeliveriesView {
    let page_query = PageQuery::parse(query);
    let webhooks = vec![(Id::<Webhook>::from_u128(11).to_string(), "erp-invoices".to_owned())];
    deliveries::DeliveriesView {
        looked_back_to: (rows.len() < 2).then(|| NOW.minus_ms(HOUR_MS)),
        rows,
        page_query,
        webhooks,
        next: Some("next".to_owned()),
        waiting: None,
        failed: Some("41".to_owned()),
    }
}

#[test]
fn the_overview_in_its_states() {
    let frame = frame(Section::Overview);
    same("overview", &frame, &overview::page(&overview_view(rows()), &frame));
    let reader = reader(Section::Overview);
    same(
        "overview-reader",
        &reader,
        &overview::page(&OverviewView { machine: None, ..overview_view(rows()) }, &reader),
    );
    same("overview-first-steps", &frame, &overview::first_steps(&overview_view(Vec::new()), &frame));
    let mut broken = Frame::fixed(Section::Overview, key(&[Scope::Admin]), NOW);
    broken.reasons = vec![HealthIssue { code: "disk_full", detail: "the disk is full".to_owned() }];
    broken.up = "../".to_owned();
    broken.unknown = vec!["lst".to_owned(), "<b>".to_owned()];
    same("overview-not-ready", &broken, &overview::page(&overview_view(rows()), &broken));
}

#[test]
fn a_reader_is_offered_nothing_to_change() {
    let reader = reader(Section::Overview);
    let page = overview::page(&overview_view(rows()), &reader).into_string();
    assert!(!page.contains("<form") && !page.contains("<button"), "{page}");
    let columns = RowColumns { check: reader.may(Scope::EventsWrite), webhook: true, ended: false };
    let table = delivery_rows::table(&[delivery_row(1, DeliveryStatus::Failed)], columns, "c", &reader);
    assert!(!table.into_string().contains("<input"));
}

#[test]
fn the_list_of_webhooks() {
    let frame = frame(Section::Webhooks);
    let view = |rows: Vec<WebhookRow>, query: &str| webhooks::WebhooksView {
        total: rows.len(),
        rows,
        page_query: PageQuery::parse(query),
        counts: [9_999, 2, 1, 2, 1, 0],
        apps: Vec::new(),
        skipped: 0,
    };
    same("webhooks", &frame, &webhooks::page(&view(rows(), "order=worst"), &frame));
    same("webhooks-filtered-empty", &frame, &webhooks::page(&view(Vec::new(), "search=<x>"), &frame));
}

#[test]
fn the_list_of_deliveries_in_its_states() {
    let frame = frame(Section::Deliveries);
    let rows = DeliveryStatus::ALL.into_iter().zip(1..).map(|(status, number)| delivery_row(number, status)).collect();
    same("deliveries", &frame, &deliveries::page(&deliveries_view(rows, ""), &frame));
    let failed = vec![delivery_row(1, DeliveryStatus::Failed)];
    same("deliveries-failed", &frame, &deliveries::page(&deliveries_view(failed, "status=failed&last=24h"), &frame));
    same(
        "deliveries-filtered-empty",
        &frame,
        &deliveries::page(
            &deliveries::DeliveriesView {
                next: None,
                ..deliveries_view(Vec::new(), "status=failed&last=1h&type=a.b&outcome=5xx")
            },
            &frame,
        ),
    );
    same(
        "deliveries-incomplete",
        &frame,
        &deliveries::page(&deliveries_view(Vec::new(), "search=%3Cscript%3E"), &frame),
    );
}

#[test]
fn chosen_deliveries_are_sent_again_after_a_page_that_asks() {
    let frame = frame(Section::Deliveries);
    let chosen: Vec<Delivery> = (1..4).map(|number| delivery_row(number, DeliveryStatus::Failed).delivery).collect();
    let webhooks = ["crm-sync", "<erp>"].map(str::to_owned);
    same("deliveries-resend", &frame, &delivery_resend::page(&chosen, &webhooks, "?status=failed&bad=1", &frame));
}

#[test]
fn a_full_page_of_rows_is_small() {
    let frame = frame(Section::Deliveries);
    let rows = (0..40).map(|number| delivery_row(number, DeliveryStatus::Failed)).collect();
    let mut view = deliveries_view(rows, "status=failed");
    view.webhooks =
        (0..25).map(|number| (Id::<Webhook>::from_u128(number).to_string(), "erp-invoices".to_owned())).collect();
    let page = frame.page("Deliveries", &deliveries::page(&view, &frame)).into_string();
    assert!(page.len() <= PAGE_BYTES_MAX, "{}", page.len());
}

/// The request of an attempt, made again.
fn sent(attempt: &Attempt) -> AttemptRequestView {
    let details = AttemptDetails {
        attempt: attempt.clone(),
        delivery: Delivery::default(),
        event: Event::default(),
        data: Some("{\"<b>\":1}".into()),
    };
    attempt_request::view(&details, None).unwrap()
}

#[test]
fn one_delivery_in_its_states() {
    let frame = frame(Section::Deliveries);
    let attempt = |number, made: AttemptMade| Attempt { made: AttemptMade { number, ..made }, ..Attempt::default() };
    let row = delivery_row(1, DeliveryStatus::Retrying);
    let mut view = delivery::DeliveryPageView {
        delivery: row.delivery,
        event: None,
        data: Some(r#"{"order":"51840","list":[1,{}]}"#.to_owned()),
        webhook: "crm-sync".to_owned(),
        attempts: vec![
            attempt(1, made(Some(500), AttemptOutcome::HttpStatus, "Internal Server Error")),
            attempt(2, made(None, AttemptOutcome::ConnectRefused, "Connection refused")),
            attempt(3, made(Some(429), AttemptOutcome::HttpStatus, "Too Many Requests")),
        ],
        chosen: 2,
        planned: vec![(7_200, NOW.plus_ms(7_200_000)), (18_000, NOW.plus_ms(25_200_000))],
        attempts_max: 10,
        wait: None,
        sent: Some(sent(&attempt(3, made(Some(429), AttemptOutcome::HttpStatus, "Too Many Requests")))),
        repeated_by: Some(Id::from_u128(13)),
    };
    same("delivery", &frame, &delivery::page(&view, &frame));
    // An event that was erased, also by a version that kept no time at its attempts.
    view.attempts[2].made.response_body = None;
    view.event = Some(Event { erased_at: Some(NOW.minus_ms(1_000)), ..Event::default() });
    view.sent = None;
    view.data = None;
    let erased = delivery::page(&view, &frame).into_string();
    assert!(erased.matches("Erased at <time").count() == 2 && !erased.contains(">empty<"), "{erased}");
    view.event = None;
    view.attempts.clear();
    view.sent = None;
    view.data = None;
    view.delivery = delivery_row(1, DeliveryStatus::Pending).delivery;
    same("delivery-untried", &frame, &delivery::page(&view, &frame));
    view.delivery.status = DeliveryStatus::Failed;
    view.delivery.completed_at = Some(NOW);
    view.delivery.last_error = Some("Expired before it was delivered".to_owned());
    view.wait = None;
    let expired = delivery::page(&view, &frame).into_string();
    assert!(expired.contains("The reason: Expired before it was delivered."), "{expired}");
}

#[test]
fn an_event_names_the_webhooks_that_did_not_get_it() {
    let frame = frame(Section::Events);
    let other = |number, name: &str, reason| event::NotSent {
        webhook_id: Id::from_u128(number),
        name: name.to_owned(),
        reason,
    };
    let attributes = EventAttributes { event_type: "order.shipped".to_owned(), ..EventAttributes::default() };
    let view = event::EventPageView {
        event: Event { attributes, received_at: NOW, occurred_at: NOW, ..Event::default() },
        data: Some("{}".to_owned()),
        deliveries: vec![delivery_row(1, DeliveryStatus::Delivered)],
        not_sent: (0..23)
            .map(|number| match number {
                0 => other(1, "<crm>", "filter"),
                _ => other(number, "erp-invoices", "type"),
            })
            .collect(),
    };
    same("event", &frame, &event::page(&view, &frame));
    let reader = reader(Section::Events);
    assert!(!event::page(&view, &reader).into_string().contains("Send it"), "a key that may not send");
    let page = event::page(&event::EventPageView { data: None, ..view }, &frame);
    assert!(!page.into_string().contains("Send it"), "without its data");
}

#[test]
fn a_webhook_with_its_questions_and_its_reason() {
    let frame = frame(Section::Webhooks);
    let webhook = hook(11, "erp-invoices", WebhookStatus::Enabled);
    let failed = made(None, AttemptOutcome::TlsError, "invalid peer certificate: certificate expired");
    same("webhook-test-failed", &frame, &test_result::page(&webhook, &failed, 3, &frame));
    let arrived = made(Some(200), AttemptOutcome::Success, "");
    same("webhook-test-arrived", &frame, &test_result::page(&webhook, &arrived, 3, &frame));
    same("webhook-delete", &frame, &webhook_actions::delete_page(&webhook, Some("This is not its name."), &frame));
    same("webhook-rotate", &frame, &webhook_actions::rotate_page(&webhook, &frame));
    let secrets =
        [("whsec_new".to_owned(), None), ("whsec_old".to_owned(), Some("2026-11-29T00:00:00.000Z".to_owned()))];
    same("webhook-secret", &frame, &webhook_actions::secrets_page(&webhook, &secrets, &frame));
}

#[test]
fn a_form_with_mistakes() {
    let frame = frame(Section::Webhooks);
    let view = webhook_form::WebhookFormView {
        webhook: None,
        form: PostedForm::parse(b"url=ftp%3A%2F%2Fx&filter=%7B"),
        loaded: PostedForm::default(),
        may_bypass: true,
        preset: None,
        errors: vec![FieldError::new("/url", "must be http or https"), FieldError::new("/filter/path", "is required")],
        apps: vec![("1".to_owned(), "halden".to_owned()), ("2".to_owned(), "<acme>".to_owned())],
    };
    same("webhook-new-mistakes", &frame, &webhook_form::page(&view, &frame));
}

#[test]
fn replays_and_the_installation() {
    let frame = frame(Section::Replays);
    let spec = JobSpec {
        webhook: Some(Id::from_u128(11)),
        app: None,
        from: Some(NOW.minus_ms(DAY_MS)),
        to: None,
        types: Vec::new(),
        status: Some(DeliveryStatus::Failed),
        missing: false,
        rate_per_s: Some(20.0),
        last: Default::default(),
        waiting: false,
        retrying: false,
        erasing: false,
    };
    let job = Job {
        id: Id::from_u128(9),
        org_id: Id::MIN,
        spec,
        status: JobStatus::Running,
        matched: 41,
        created: 30,
        delivered: 28,
        failed: 1,
        created_at: NOW.minus_ms(5_000),
        finished_at: None,
        position: Id::MIN,
        end: Id::MAX,
        exhausted: false,
        mark: None,
        cancelled: 1,
    };
    let to = ReplayTarget { name: "erp-invoices".to_owned(), paused: PausedTarget::None };
    same("replay", &frame, &replays::one_page(&to, &job, &frame));
    let begun = replays::one_page(&to, &Job { matched: 0, created: 351, ..job.clone() }, &frame).into_string();
    assert!(begun.contains("<dt>Matched</dt><dd>351</dd><dd>so far</dd>"), "{begun}");
    let waited = Job {
        spec: JobSpec { waiting: true, ..job.spec.clone() },
        matched: 15,
        created: 0,
        delivered: 0,
        ..job.clone()
    };
    let waited = replays::one_page(&to, &waited, &frame).into_string();
    assert!(waited.contains("<dt>Made due</dt><dd>15</dd>") && !waited.contains("<dt>Delivered</dt>"), "{waited}");
    same("replays", &frame, &replays::list_page(&[("erp-invoices".to_owned(), job)], Some(7), &frame));
    let form = PostedForm::parse(b"webhook=11&status=failed&from=2026-11-27T00%3A00%3A00Z&rate=20");
    let counted = replays::Counted { matched: 10_001, at_least: false };
    let asked = replays::confirm_page(&to, counted, &form, None, &frame).into_string();
    assert!(asked.contains("Type the number to go on") && asked.contains("20 a second"), "{asked}");
    same("replay-confirm", &frame, &replays::confirm_page(&to, counted, &form, None, &frame));
    let counted = replays::Counted { matched: 3, at_least: true };
    same("replay-confirm-at-least", &frame, &replays::confirm_page(&to, counted, &form, None, &frame));
    let view = system::SystemPageView {
        reasons: Vec::new(),
        warnings: vec![HealthIssue {
            code: "clock",
            detail: "the clock steps: `postrider doctor` says why".to_owned(),
        }],
        state: machine_state(),
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        public_url: "https://ops.example/<postrider>".to_owned(),
    };
    same("system", &frame, &system::page(&view, &frame));
    same("shortcuts", &frame, &shortcuts::page(&frame));
}

#[test]
fn one_webhook_says_why_it_fails_and_how_it_is() {
    let frame = frame(Section::Webhooks);
    let word = |state, reason: &str| HealthWord { state, reason: reason.to_owned() };
    let state = WebhookState {
        consecutive_failures: 12,
        circuit: CircuitState::Open,
        failing_since: Some(NOW.minus_ms(HOUR_MS)),
        ..WebhookState::default()
    };
    let hook = hook(11, "erp-invoices", WebhookStatus::Enabled);
    let view = webhook::WebhookPageView {
        row: row(hook, &state, 1_204),
        state,
        app: None,
        last: None,
        deliveries: vec![delivery_row(1, DeliveryStatus::Retrying)],
        tab: "",
        changes: Vec::new(),
        changes_until: None,
        disable_at: Some(NOW.plus_ms(DAY_MS)),
        series: chart_series("24h", HOUR_MS, 24),
        health: Some(Health {
            success_rate: word("critical", "0.0 % of the attempts succeeded"),
            response_time: word("fast", "35 ms on average"),
            activity: word("failing", "of the last 10 deliveries, 10 failed"),
        }),
    };
    let page = webhook::page(&view, &frame);
    let shown = page.clone().into_string();
    for words in ["Health", "Critical", "Circuit open", "12 failures in a row", "Fast"] {
        assert!(shown.contains(words), "{words}");
    }
    same("webhook", &frame, &page);
}
