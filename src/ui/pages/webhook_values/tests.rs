//! Tests of the form's fields: a webhook as texts, and texts as a request.

use super::*;
use crate::api::native::webhook_fields::writable;
use crate::model::Id;
use crate::model::webhook::{DISABLE_AFTER_S_DEFAULT, IN_FLIGHT_DEFAULT, TIMEOUT_MS_DEFAULT};
use crate::rules::retry::SCHEDULES;

fn body_of(form: &PostedForm, is_new: bool) -> Value {
    let request = request_of(form, is_new);
    assert_eq!(request.mistakes, []);
    serde_json::from_str(&request.body).unwrap()
}

/// A webhook with a value in every field.
fn webhook() -> Webhook {
    let mut webhook = Webhook::new(Id::MIN, Id::MIN);
    webhook.name = "erp, invoices".to_owned();
    webhook.description = Some("a\nb\rc\r\nd".to_owned());
    webhook.url = "https://a.example".to_owned();
    webhook.channels = vec!["north sea".to_owned(), "a, b".to_owned()];
    webhook.event_types = vec!["a.*".to_owned(), "b.c".to_owned()];
    webhook.filter = Some("{\"path\":\"/total\",\"gte\":1e2}".to_owned());
    webhook.headers = [("X-A", "1"), ("Authorization", "hidden")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    webhook.auth = Some(WebhookAuth::Basic { username: "u".to_owned(), password: "hidden".to_owned() });
    webhook.tls = Some(WebhookTls {
        ca_pem: Some("-----BEGIN\nx\n-----END\n".to_owned()),
        client_cert_pem: None,
        client_key_pem: Some("hidden".to_owned()),
    });
    webhook.retry_schedule_s = vec![5, 300];
    webhook.rate_limit_per_s = Some(2.5);
    webhook.uid = Some("own".to_owned());
    webhook.metadata = [("team", "a"), ("cost centre", "x: \"7\"\n")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    webhook
}

/// The text of a field as a browser sends it.
fn sent(name: &str, text: &str) -> String {
    match value_of(name).is_some_and(|value| value.kind.is_area()) {
        true => text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n"),
        false => text.replace(['\r', '\n'], ""),
    }
}

/// The form of the webhook as a browser sends it, with other texts in some fields.
fn edited(webhook: &Webhook, changes: &[(&str, &str)]) -> PostedForm {
    let form = fields_of(webhook);
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(loaded(&form).fields());
    for (field, old) in form.fields() {
        let text = changes.iter().find(|(name, _)| *name == field).map_or(old, |(_, text)| text);
        body.append_pair(field, &sent(field, text));
    }
    PostedForm::parse(body.finish().as_bytes())
}

#[test]
fn a_new_webhook_sends_filled_fields_only_and_a_changed_one_empties() {
    let form = PostedForm::parse(
        b"url=https%3A%2F%2Fa.example&event_types=a.*%0D%0Ab%2Cc&description=&timeout_ms=x&auth=&auth_secret=&tls_ca=&\
          retry_schedule_s=5s+2h%2C7",
    );
    assert_eq!(
        body_of(&form, true),
        json!({
            "url": "https://a.example", "event_types": ["a.*", "b", "c"], "timeout_ms": "x",
            "retry_schedule_s": [5, 7_200, 7],
        })
    );
    let changed = body_of(&form, false);
    assert_eq!(changed["description"], Value::Null);
    assert!(changed.get("filter").is_none(), "a field that the form lacks stays as it is");
}

#[test]
fn a_changed_webhook_sends_touched_fields_only() {
    let webhook = webhook();
    let posted = |name: &str, text: &str| body_of(&edited(&webhook, &[(name, text)]), false);
    assert_eq!(posted("none", ""), json!({}));
    assert_eq!(posted("name", "erp"), json!({ "name": "erp" }));
    assert_eq!(posted("description", "new\nlines"), json!({ "description": "new\nlines" }));
    assert_eq!(posted("channels", "north sea\na, b\nc"), json!({ "channels": ["north sea", "a, b", "c"] }));
    assert_eq!(posted("event_types", "a.*b.c"), json!({ "event_types": ["a.*b.c"] }));
    assert_eq!(posted("filter", " "), json!({ "filter": null }));
    assert_eq!(posted("encrypted", "true"), json!({ "encrypted": true }));
    assert_eq!(posted("ordered", "key"), json!({ "ordered": "key" }));
    assert_eq!(posted("tls_ca", ""), json!({ "tls": { "ca_pem": null } }));
}

#[test]
fn a_value_that_a_browser_cannot_give_back_is_not_rewritten() {
    for text in ["a\nb", "a\r\nb", "a\rb", "\n a\tb \n", "\ta", "", " "] {
        let mut webhook = webhook();
        webhook.description = Some(text.to_owned());
        webhook.name = text.to_owned();
        webhook.url = text.to_owned();
        webhook.uid = Some(text.to_owned());
        webhook.channels = vec![text.to_owned(), "b".to_owned()];
        assert_eq!(
            body_of(&edited(&webhook, &[("timeout_ms", "5000")]), false),
            json!({ "timeout_ms": 5_000 }),
            "{text:?}"
        );
    }
}

#[test]
fn an_emptied_field_means_its_default() {
    let form = edited(&webhook(), &[("none", "")]);
    for field in VALUES.iter().filter(|field| !matches!(field.kind, ValueKind::Part | ValueKind::PartLines)) {
        if form.get(field.name).is_empty() || field.kind == ValueKind::Schemes {
            continue;
        }
        let emptied = body_of(&edited(&webhook(), &[(field.name, "")]), false);
        assert_eq!(emptied, json!({ (field.name): null }), "{}", field.name);
    }
}

#[test]
fn hints_name_the_defaults() {
    let hint = |name| value_of(name).map(|value| value.hint).unwrap_or_default();
    assert!(hint("timeout_ms").contains(&TIMEOUT_MS_DEFAULT.to_string()));
    assert!(hint("max_in_flight").contains(&IN_FLIGHT_DEFAULT.to_string()));
    assert!(hint("disable_after_s").contains(&DISABLE_AFTER_S_DEFAULT.to_string()));
    let (steps, _) = hint("retry_schedule_s").trim_start_matches("Empty: ").split_once('.').unwrap();
    assert_eq!(schedule_of(ValueKind::Schedule.items(steps)), json!(SCHEDULES[0].1));
}

#[test]
fn a_schedule_has_a_name_or_steps_and_none_means_no_retries() {
    let schedule = |text: &str| {
        let form = PostedForm::filled([("retry_schedule_s", text.to_owned())]);
        body_of(&form, false)["retry_schedule_s"].clone()
    };
    for (text, read) in [
        ("none", json!("none")),
        ("standard", json!("standard")),
        ("soon", json!("soon")),
        ("5s, 2h\t7", json!([5, 7_200, 7])),
        ("5 m", json!([5, "m"])),
        ("1d 99999999d", json!([86_400, "99999999d"])),
    ] {
        assert_eq!(schedule(text), read, "{text}");
    }
    let mut webhook = webhook();
    webhook.retry_schedule_s.clear();
    assert_eq!(fields_of(&webhook).get("retry_schedule_s"), "none");
    assert_eq!(body_of(&edited(&webhook, &[]), false), json!({}));
}

#[test]
fn an_unsigned_webhook_is_asked_for_in_the_words_of_the_api() {
    let form = PostedForm::parse(b"signature=none");
    assert_eq!(body_of(&form, false), json!({ "signature": "none" }));
}

#[test]
fn a_line_that_is_no_header_is_a_mistake_and_its_field_is_refused() {
    let lines = "Authorization Bearer abc\r\n\r\nX-Ok: 1\r\n: 2\r\nx-ok: 3";
    let form = PostedForm::filled([("headers", lines.to_owned())]);
    let request = request_of(&form, true);
    assert_eq!(request.body, r#"{"headers":false}"#);
    let details: Vec<&str> = request.mistakes.iter().map(|one| one.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "line 1, “Authorization Bearer abc”, has no colon: write NAME: VALUE",
            "line 4, “: 2”, has no name: write NAME: VALUE",
            "line 5, “x-ok: 3”, has the name of an earlier line: keep one of them",
        ]
    );
    assert!(request.mistakes.iter().all(|one| one.pointer == "/headers"));
}

#[test]
fn headers_that_are_gone_are_removed_and_masked_ones_stay() {
    let changed = |lines: &str| body_of(&edited(&webhook(), &[("headers", lines)]), false);
    let (masked, gone) = (json!({ "X-A": null, "Authorization": MASK }), json!({ "headers": null }));
    assert_eq!(fields_of(&webhook()).get("headers"), "Authorization: ********\nX-A: 1");
    assert_eq!(changed("Authorization: ********"), json!({ "headers": masked }));
    assert_eq!(changed(""), gone);
    let added = json!({ "X-A": "2", "X-B": "a: b", "Authorization": null });
    assert_eq!(changed("X-A: 2\nX-B: a: b"), json!({ "headers": added }));
}

#[test]
fn a_filter_keeps_its_digits_and_loses_no_member() {
    let read = |text: &str| request_of(&PostedForm::filled([("filter", text.to_owned())]), true);
    let exact = "{\"path\":\"/n\",\"gte\":100000000000000000001}";
    assert_eq!(read(exact).body, format!("{{\"filter\":{exact}}}"));
    for (text, pointer) in [("{", "/filter"), ("{\"path\":\"/a\",\"path\":\"/b\",\"gte\":1}", "/filter/path")] {
        let request = read(text);
        assert_eq!(request.body, r#"{"filter":false}"#, "{text}");
        assert_eq!(request.mistakes[0].pointer, pointer, "{text}");
    }
}

#[test]
fn metadata_lose_the_names_that_are_gone_and_no_text_is_dropped() {
    let changed = |text: &str| request_of(&edited(&webhook(), &[("metadata", text)]), false);
    let body = |text: &str| serde_json::from_str::<Value>(&changed(text).body).unwrap();
    assert_eq!(body("{\"team\":\"b\"}"), json!({ "metadata": { "team": "b", "cost centre": null } }));
    assert_eq!(body(""), json!({ "metadata": null }));
    assert_eq!(body("[1]"), json!({ "metadata": [1] }), "the API says what it must be");
    for (text, pointer) in [("{", "/metadata"), ("{\"a\":\"1\",\"a\":\"2\"}", "/metadata/a")] {
        let request = changed(text);
        assert_eq!(request.body, r#"{"metadata":false}"#, "{text}");
        assert_eq!(request.mistakes[0].pointer, pointer, "{text}");
    }
}

#[test]
fn credentials_are_masked_and_change_as_a_whole() {
    let form = fields_of(&webhook());
    assert!(form.fields().all(|(_, text)| !text.contains("hidden")));
    let changed = |changes: &[(&str, &str)]| request_of(&edited(&webhook(), changes), false);
    let json = |changes: &[(&str, &str)]| serde_json::from_str::<Value>(&changed(changes).body).unwrap()["auth"].take();
    assert_eq!(json(&[("auth_name", "v")]), json!({ "type": "basic", "username": "v", "password": MASK }));
    assert_eq!(json(&[("auth", "")]), Value::Null);
    let bearer = [("auth", "bearer"), ("auth_name", ""), ("auth_secret", "t")];
    assert_eq!(json(&bearer), json!({ "type": "bearer", "token": "t" }));
    for (changes, pointer) in [
        ([("auth", "bearer"), ("auth_name", ""), ("auth_secret", "")], "/auth/token"),
        ([("auth", "bearer"), ("auth_name", "u"), ("auth_secret", "t")], "/auth/name"),
        ([("auth", "header"), ("auth_name", "x"), ("auth_secret", "")], "/auth/value"),
        ([("auth", ""), ("auth_name", "x"), ("auth_secret", "t")], "/auth"),
    ] {
        let request = changed(&changes);
        assert_eq!(request.body, r#"{"auth":false}"#, "{changes:?}");
        assert_eq!(request.mistakes[0].pointer, pointer, "{changes:?}");
    }
}

#[test]
fn the_form_has_every_member_that_callers_set_but_a_few() {
    let has = |name: &str| VALUES.iter().any(|value| field_at(&format!("/{name}")) == value.name);
    let missing: Vec<&str> = writable().map(|(field, _)| field.name).filter(|name| !has(name)).collect();
    // The status has its own buttons.
    assert_eq!(missing, ["status"]);
}
