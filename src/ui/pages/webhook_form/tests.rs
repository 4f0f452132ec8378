//! Tests of the form's page: mistakes, folded groups, and lists.

use super::*;
use crate::model::Scope;
use crate::ui::pages::tests::{NOW, key};

fn view(errors: Vec<FieldError>) -> WebhookFormView {
    WebhookFormView {
        webhook: None,
        form: PostedForm::default(),
        loaded: PostedForm::default(),
        errors,
        apps: Vec::new(),
        may_bypass: true,
        preset: None,
    }
}

fn frame() -> Frame {
    Frame::fixed(Section::Webhooks, key(&[Scope::Admin]), NOW)
}

#[test]
fn mistakes_of_a_field_are_shown_up_to_a_bound_each_with_its_item() {
    let mistake = |n: usize| FieldError::new(format!("/event_types/{n}"), "must be a pattern");
    let mut view = view((0..1_000).map(mistake).collect());
    view.form = PostedForm::filled([("event_types", "a.b\r\nb c".to_owned())]);
    let shown = event_fields(&view).into_string();
    assert_eq!(shown.matches("must be a pattern").count(), MISTAKES_SHOWN);
    assert!(shown.contains("995 further mistakes"), "{shown}");
    assert_eq!(shown.matches("id=\"wrong-event_types\"").count(), 1);
    assert!(shown.contains("<code>c</code> must be a pattern"), "{shown}");
}

#[test]
fn every_wrong_field_is_named_above_and_in_an_open_group() {
    let shown = page(&view(Vec::new()), &frame()).into_string();
    for field in VALUES.iter().filter(|field| field.name != "app_id") {
        let tag = if field.kind.is_area() { "textarea" } else { "" };
        assert!(shown.contains(&format!("{tag} id=\"{}\"", field.name)), "{}: {shown}", field.name);
    }
    assert!(!shown.contains("<details open"), "{shown}");
    for (pointer, name) in [
        ("/timeout_ms", "timeout_ms"),
        ("/channels/0", "channels"),
        ("/filter/path", "filter"),
        ("/headers/x", "headers"),
        ("/encrypted", "encrypted"),
        ("/secret", "secret"),
        ("/auth/username", "auth_name"),
        ("/auth/token", "auth_secret"),
        ("/tls/client_key_pem", "tls_key"),
        ("/uid", "uid"),
        ("/metadata/team", "metadata"),
        ("/proxy", "proxy"),
    ] {
        let shown = page(&view(vec![FieldError::new(pointer, "is wrong here")]), &frame()).into_string();
        assert_eq!(shown.matches("<details open").count(), 1, "{pointer}: {shown}");
        assert!(shown.contains(&format!("<a href=\"#{name}\">")), "{pointer}: {shown}");
        let (_, group) = shown.split_once("<details open").expect("an open group");
        let (group, _) = group.split_once("</details>").expect("its end");
        assert!(
            group.contains(&format!("id=\"wrong-{name}\"")) && group.contains("is wrong here"),
            "{pointer}: {group}"
        );
    }
    let shown = page(&view(vec![FieldError::new("/status", "is wrong here")]), &frame()).into_string();
    assert!(shown.contains("<code>/status</code> is wrong here"), "{shown}");
}

#[test]
fn a_caller_who_may_not_bypass_the_proxy_is_not_offered_it() {
    let shown = page(&WebhookFormView { may_bypass: false, ..view(Vec::new()) }, &frame()).into_string();
    assert!(!shown.contains("id=\"proxy\"") && shown.contains("id=\"handshake\""), "{shown}");
}

#[test]
fn an_emptied_field_means_the_default_of_the_preset() {
    let mut preset = Webhook::new(crate::model::Id::MIN, crate::model::Id::MIN);
    (preset.timeout_ms, preset.retry_schedule_s) = (30_000, vec![5, 300, 7_200]);
    let shown = sending_fields(&WebhookFormView { preset: Some(preset.clone()), ..view(Vec::new()) }).into_string();
    for hint in ["Empty: 30000.", "Empty: 5s, 5m, 2h. For no retries write: none", "Empty: 16."] {
        assert!(shown.contains(hint), "{hint}: {shown}");
    }
    let body = r#"{"filter":{"gte":100000000000000000001},"max_in_flight":null,"timeout_ms":null}"#;
    let expected = r#"{"filter":{"gte":100000000000000000001},"max_in_flight":null,"timeout_ms":30000}"#;
    assert_eq!(with_preset_defaults(body.to_owned(), Some(&preset)), expected);
    assert_eq!(with_preset_defaults(body.to_owned(), None), body);
}

#[test]
fn more_apps_than_are_listed_are_written() {
    let mut view = view(Vec::new());
    let app = |number: usize| (number.to_string(), format!("app-{number}"));
    view.apps = (0..APPS_LISTED).map(app).collect();
    assert!(receiver_fields(&view).into_string().contains("<select id=\"app_id\""));
    view.apps.push(app(APPS_LISTED));
    let shown = receiver_fields(&view).into_string();
    assert!(shown.contains("<input id=\"app_id\"") && !shown.contains("app-3"), "{shown}");
}

#[test]
fn the_mistakes_of_the_form_stand_in_place_of_those_of_the_api() {
    let api_error = ApiError::invalid(vec![
        FieldError::new("/url", "is required"),
        FieldError::new("/headers", "must be an object"),
    ]);
    let mistakes = vec![FieldError::new("/headers", "line 1 has no colon")];
    let Err(api_error) = with_mistakes(Err(api_error), mistakes) else { panic!("an error") };
    let details: Vec<&str> = api_error.errors.iter().map(|one| one.detail.as_str()).collect();
    assert_eq!(details, ["is required", "line 1 has no colon"]);
}
