//! Tables and records as text: widths, cuts, and characters that steer a terminal.

use serde_json::json;

use super::*;

const COLUMNS: &[Column] =
    &[id("ID", "id", Noun::Event), word("STATUS", "status"), text("URL", "to.url"), time("AT", "at")];

const WIDE: Option<usize> = Some(200);

const PIPE: RecordStyle = RecordStyle { paint: Paint::when(false), width: None, is_full: true };

fn rows() -> Vec<Value> {
    let row = |url: &str| {
        json!({"id": "0191d5c8-0000-7000-8000-000000000001", "status": "enabled",
            "to": {"url": url}, "at": "2026-11-22T03:29:00.123Z"})
    };
    vec![row("https://a.example/"), row("https://b.example/a/rather/long/path/to/a/receiver")]
}

fn lines(width: usize) -> Vec<String> {
    let rows = rows();
    let table = Table::fitted(COLUMNS, &rows, Some(width), Paint::when(false));
    std::iter::once(table.head()).chain(rows.iter().map(|row| table.row(row))).collect()
}

#[test]
fn a_wide_screen_shows_everything() {
    let lines = lines(200);
    assert!(lines[0].starts_with("ID   "), "{}", lines[0]);
    assert!(lines[2].contains("https://b.example/a/rather/long/path/to/a/receiver"), "{}", lines[2]);
    assert!(lines[1].ends_with("11-22 03:29:00"), "{}", lines[1]);
    let at = |line: &str| line.find("https:");
    assert_eq!(at(&lines[1]), at(&lines[2]), "columns line up");
}

#[test]
fn a_narrow_screen_cuts_text_and_never_an_id() {
    let lines = lines(90);
    for line in &lines {
        assert!(line.chars().count() <= 90, "{line}");
    }
    assert!(lines[2].contains("0191d5c8-0000-7000-8000-000000000001"), "{}", lines[2]);
    assert!(lines[2].contains("https://b.e") && lines[2].contains('…'), "{}", lines[2]);
    assert!(self::lines(10)[1].contains("0191d5c8-0000-7000-8000-000000000001"));
}

#[test]
fn a_narrower_screen_leaves_the_last_columns_out_and_a_pipe_none() {
    for (width, last) in [(200, "AT"), (76, "AT"), (64, "URL"), (54, "STATUS"), (44, "ID"), (10, "ID")] {
        let lines = lines(width);
        assert!(lines[0].ends_with(last), "{width}: {}", lines[0]);
        assert!(width < 40 || lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
    }
    let rows = rows();
    let table = |width| Table::fitted(COLUMNS, &rows, width, Paint::when(false));
    assert_eq!((table(Some(64)).left_out(), table(Some(200)).left_out(), table(None).left_out()), (1, 0, 0));
    // The first page settles the widths, and a longer text of a later page is whole all the same.
    let pipe = Table::fitted(COLUMNS, &rows[..1], None, Paint::when(false));
    assert!(
        pipe.row(&rows[1]).contains("https://b.example/a/rather/long/path/to/a/receiver"),
        "{}",
        pipe.row(&rows[1])
    );
}

#[test]
fn text_from_outside_cannot_steer_the_terminal() {
    let row = json!({"id": "\u{1b}]0;owned\u{7}", "status": "a\nb", "to": {"url": "\u{202e}x"}});
    let table = Table::fitted(COLUMNS, std::slice::from_ref(&row), WIDE, Paint::when(false));
    let line = table.row(&row);
    assert!(!line.chars().any(char::is_control) && line.contains("a b"), "{line:?}");
    let record = record(&row, PIPE);
    assert!(record.chars().all(|c| c == '\n' || !c.is_control()), "{record:?}");
}

#[test]
fn a_record_lines_up_its_names_and_sets_objects_in() {
    let value = json!({"id": 7, "event_types": ["a", "b"], "auth": {"type": "basic"}, "error": null, "body": "x\ny"});
    let expected =
        "id           7\nevent_types  a,b\nauth\n  type  basic\nerror        -\nbody         x\n             y\n";
    assert_eq!(record(&value, PIPE), expected);
    assert_eq!(record(&json!("alone"), PIPE), "alone\n");
}

#[test]
fn only_screens_with_colour_get_colour() {
    let rows = rows();
    let row = |paint| Table::fitted(COLUMNS, &rows, WIDE, paint).row(&rows[0]);
    assert!(row(Paint::when(true)).contains("\u{1b}["));
    assert!(!row(Paint::when(false)).contains('\u{1b}'));
}

#[test]
fn lists_of_objects_are_tables_and_records_where_those_do_not_fit() {
    let value =
        json!({"n": 1, "why": [{"webhook_id": "w-1", "reason": "filter"}, {"webhook_id": "w-2", "more": true}]});
    let expected = "n    1\nwhy\n  webhook_id  reason  more\n  w-1         filter  -\n  w-2         -       true\n";
    assert_eq!(record(&value, PIPE), expected);
    let narrow = RecordStyle { width: Some(20), ..PIPE };
    let ids_last = json!({"why": [{"reason": "filter", "webhook_id": "w-1"}]});
    assert_eq!(
        record(&ids_last, RecordStyle { width: Some(19), ..narrow }),
        "why\n  reason\n  filter\n  +1 column: -o wide\n"
    );
    let text = record(&value, narrow);
    assert!(text.contains("  1\n    webhook_id  w-1\n    reason      filter\n  2\n"), "{text}");
}

#[test]
fn a_sentence_at_the_end_of_a_list_goes_on_below_itself() {
    let value =
        json!({"warnings": [{"code": "webhooks_paused", "detail": "1 webhook paused: deliveries are made and held"}]});
    let narrow = RecordStyle { width: Some(51), ..PIPE };
    let begin = "warnings\n  code             detail\n  webhooks_paused  1 webhook paused: deliveries are\n";
    let expected = format!("{begin}{}made and held\n", " ".repeat(19));
    assert_eq!(record(&value, narrow), expected);
    assert!(record(&value, PIPE).ends_with("deliveries are made and held\n"), "a pipe has whole lines");
}

#[test]
fn durations_have_their_unit_and_rates_are_numbers() {
    let value = json!({
        "timeout_ms": 30_000, "disable_after_s": 432_000, "retry_schedule_s": [5, 300, 7_200], "rate_limit_per_s": 5,
        "overlap_s": null, "response_time_ms": 30_000, "retention_s": 2_678_400,
    });
    let expected = "disable_after_s   5d\noverlap_s         -\nrate_limit_per_s  5\nresponse_time_ms  30000\n\
                    retention_s       31d\nretry_schedule_s  5s,5m,2h\ntimeout_ms        30s\n";
    let text = record(&value, PIPE);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    let rows = json!({"webhooks": [{"name": "a", "disable_after_s": 60}]});
    assert!(record(&rows, PIPE).ends_with("a     1m\n"), "{}", record(&rows, PIPE));
}

#[test]
fn a_long_text_says_how_much_it_lacks_on_a_terminal_only() {
    let value = json!({"response_body": "x".repeat(BODY_CHARS_MAX + 7)});
    let terminal = RecordStyle { width: Some(80), is_full: false, ..PIPE };
    assert!(record(&value, terminal).ends_with("x\u{2026}\n               (+7 characters: --full)\n"));
    assert!(record(&value, PIPE).ends_with("xxx\n"));
}

#[test]
fn json_for_a_terminal_is_the_same_json_with_control_characters_escaped() {
    let json = "{\"a\": \"\u{9b}31m\u{202e}\u{7f}\u{feff}\u{e9}\"}\n";
    let escaped = escaped_json(json);
    assert!(!escaped.trim_end().chars().any(steers), "{escaped:?}");
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(read(&escaped), read(json));
    assert!(escaped.contains("\\u009b31m\\u202e\\u007f\\ufeff\u{e9}"), "{escaped}");
}

#[test]
fn cut_cells_and_columns_that_are_left_out_are_noted_once() {
    assert_eq!(omission(0, false), None);
    assert_eq!(omission(0, true).as_deref(), Some("cells are cut: -o wide"));
    assert_eq!(omission(1, false).as_deref(), Some("+1 column: -o wide"));
    assert_eq!(omission(4, true).as_deref(), Some("+4 columns, and cells are cut: -o wide"));
    let rows = rows();
    let table = Table::fitted(COLUMNS, &rows[..1], Some(100), Paint::when(false));
    table.row(&rows[0]);
    assert!(!table.has_new_cuts(), "the first page fits");
    table.row(&rows[1]);
    assert!(table.has_new_cuts(), "a longer cell of a later page is cut");
    table.row(&rows[1]);
    assert!(!table.has_new_cuts(), "it was told");
    let pipe = Table::fitted(COLUMNS, &rows[..1], None, Paint::when(false));
    pipe.row(&rows[1]);
    assert!(!pipe.has_new_cuts());
}

#[test]
fn a_target_has_the_prefix_of_the_noun_that_its_action_names() {
    const TARGETS: &[Column] = &[target("TARGET", "target")];
    let id = "0191d5c8-0000-7000-8000-000000000001";
    let shown = |action: &str, target: &str| {
        let row = json!({"action": action, "target": target});
        Table::fitted(TARGETS, &[], None, Paint::when(false)).row(&row)
    };
    assert_eq!(shown("webhook.update", id), format!("whk_{id}"));
    assert_eq!(shown("organization.create", id), format!("org_{id}"));
    assert_eq!(shown("portal_link.revoke", id), format!("lnk_{id}"));
    assert_eq!(shown("event_type.create", "a.b"), "a.b");
    assert_eq!(shown("clock.accept", "clock"), "clock");
}
