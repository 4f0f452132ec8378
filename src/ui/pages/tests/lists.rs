//! Full and short lists, and small forms with their mistakes.

use maud::html;

use super::*;
use crate::store::AuditRow;
use crate::ui::pages::{audit, replay_targets, webhook_rows};

#[test]
fn a_full_page_of_webhooks_is_small() {
    let frame = frame(Section::Webhooks);
    let failing = WebhookState { consecutive_failures: 12, failing_since: Some(NOW), ..WebhookState::default() };
    let hours =
        || (0..24).map(|hour| Bin { ok: 50 + hour * 1_234 % 977, failed: hour % 8 * (hour / 20) * 9 }).collect();
    let one = |number: u128| {
        let id = (0x01a2_201e_2d46_7000_8000 << 48) + number;
        let hook = hook(id, "warehouse-eu-central", WebhookStatus::Enabled);
        WebhookRow { hours: hours(), ..row(hook, &failing, 1_204) }
    };
    let app = |number: u128| {
        let name = format!("customer-{number}");
        Arc::new(App { id: Id::from_u128(number << 64), name, ..App::default() })
    };
    let view = webhooks::WebhooksView {
        rows: (0..webhooks::ROWS_MAX as u128).map(one).collect(),
        page_query: PageQuery::parse("state=trouble"),
        counts: [9_999, 50, 50, 0, 0, 0],
        apps: (0..25).map(app).collect(),
        skipped: 0,
        total: 9_999,
    };
    let page = frame.page("Webhooks", &webhooks::page(&view, &frame)).into_string();
    assert!(page.len() <= PAGE_BYTES_MAX, "{}", page.len());
    assert!(page.contains("9,999") && !page.contains("9999"), "numbers have their separators");
}

#[test]
fn the_audit_says_how_far_it_looked() {
    let frame = frame(Section::Audit);
    let at = Id::<AuditRow>::floor(NOW.minus_ms(HOUR_MS)).as_u128();
    let view = |next| audit::AuditPageView { rows: Vec::new(), page_query: PageQuery::parse("action=webhook."), next };
    same("audit-incomplete", &frame, &audit::page(&view(Some(at)), &frame));
    let all = audit::page(&view(None), &frame).into_string();
    assert!(all.contains("No entry passes") && !all.contains("Look further"), "{all}");
}

#[test]
fn an_app_of_a_taken_uid_is_said_at_the_field() {
    let frame = frame(Section::Apps);
    let form = PostedForm::parse(b"name=Acme&uid=%3Cacme%3E");
    let errors = [FieldError::new("/uid", "another app has this uid"), FieldError::new("", "is odd")];
    same("apps-mistakes", &frame, &apps::page(&[], &form, &errors, &frame));
}

#[test]
fn a_replay_with_mistakes_says_them_at_their_fields() {
    let frame = frame(Section::Replays);
    let listed = vec![("11".to_owned(), "erp".to_owned())];
    let targets = replay_targets::ReplayTargets { listed, written: None, has_one_app: true };
    let form = PostedForm::parse(b"webhook=11&status=failed&from=yesterday&rate=x");
    let errors = [("/ended_from", "is no time"), ("/rate_per_s", "must be a number"), ("/types/0", "is odd")];
    let errors = errors.map(|(pointer, detail)| replays::at_field(&FieldError::new(pointer, detail)));
    same("replay-new-mistakes", &frame, &replays::new_page(&targets, &form, &errors, &frame));
}

#[test]
fn a_replay_of_several_apps_asks_for_its_target() {
    let frame = frame(Section::Replays);
    let listed = || ["app:1", "app:2"].map(|value| (value.to_owned(), value.to_owned())).to_vec();
    let shown = |targets: replay_targets::ReplayTargets, form: &str| {
        replays::new_page(&targets, &PostedForm::parse(form.as_bytes()), &[], &frame).into_string()
    };
    let several = |written| replay_targets::ReplayTargets { listed: listed(), written, has_one_app: false };
    let asked = shown(several(None), "status=failed");
    assert!(
        asked.contains("name=\"webhook\" required") && asked.contains("<option value=\"\" selected>Choose…"),
        "{asked}"
    );
    let written = shown(several(Some(String::new())), "status=failed");
    assert!(written.contains("Choose…") && !written.contains("name=\"webhook\" required"), "{written}");
    let chosen = shown(several(None), "webhook=app:2");
    assert!(!chosen.contains("Choose…") && chosen.contains("value=\"app:2\" selected"), "{chosen}");
    let one = replay_targets::ReplayTargets { listed: listed()[..1].to_vec(), written: None, has_one_app: true };
    assert!(!shown(one, "status=failed").contains("Choose…"));
}

#[test]
fn a_replay_to_a_paused_webhook_promises_nothing() {
    let frame = frame(Section::Replays);
    let asked = |paused, form: &str| {
        let to = replay_targets::ReplayTarget { name: "shop".to_owned(), paused };
        let counted = replays::Counted { matched: 15, at_least: false };
        replays::confirm_page(&to, counted, &PostedForm::parse(form.as_bytes()), None, &frame).into_string()
    };
    let one = asked(PausedTarget::One(Id::from_u128(11)), "webhook=11&status=waiting");
    assert!(
        one.contains("is paused. What waits for it is sent once it is resumed.") && !one.contains("at once"),
        "{one}"
    );
    let some = asked(PausedTarget::OfApp(Id::from_u128(5), 2), "webhook=app:5&status=failed");
    assert!(some.contains(">2 webhooks</a> of the app are paused."), "{some}");
    let none = asked(PausedTarget::None, "webhook=11&status=waiting");
    assert!(none.contains("become due at once") && !none.contains("paused"), "{none}");
}

#[test]
fn trouble_tells_the_failures_for_good() {
    let frame = frame(Section::Overview);
    let shown = |waiting, failed_day: Option<&str>| {
        let row = row(hook(11, "erp", WebhookStatus::Paused), &WebhookState::default(), waiting);
        let row = WebhookRow { failed_day: failed_day.map(str::to_owned), ..row };
        webhook_rows::outlook(&row, &frame).into_string()
    };
    assert_eq!(shown(0, Some("0")), "Nothing waits.");
    let list = "<a href=\"deliveries?status=failed&amp;webhook=00000000-0000-0000-0000-00000000000b&amp;last=24h\">";
    assert_eq!(shown(0, Some("4")), format!("Nothing waits. {list}4 failed for good</a> in 24 hours."));
    let some = shown(2, Some("1,000+"));
    assert!(
        some.ends_with(&format!(
            ">2 deliveries wait</a>, late by up to 1 h 14 m. {list}1,000+ failed for good</a> in 24 hours."
        )),
        "{some}"
    );
    assert!(shown(2, Some("0")).ends_with("late by up to 1 h 14 m. None failed for good in 24 hours."));
    assert!(shown(2, None).ends_with("late by up to 1 h 14 m."), "it is not known on the day of an upgrade");
}

#[test]
fn a_reader_has_no_heading_over_nothing() {
    let reader = reader(Section::Overview);
    let page = reader.page("Overview", &html! {}).into_string();
    assert!(!page.contains("Installation") && page.contains("href=\"webhooks?state=failing\""), "{page}");
}
