//! Tests of merge patches on webhooks: RFC 7396, masks, and members that cannot be patched.

use super::*;
use crate::model::Id;
use crate::model::webhook::{DisabledReason, SignatureScheme, WebhookAuth, WebhookStatus, WebhookTls};

fn webhook() -> Webhook {
    let mut webhook = Webhook::new(Id::from_u128(1), Id::from_u128(2));
    webhook.name = "first".to_owned();
    webhook.url = "https://example.com/in".to_owned();
    webhook.version = 7;
    webhook.retry_schedule_s = vec![1, 2];
    webhook.headers.insert("X-A".to_owned(), "1".to_owned());
    webhook.auth = Some(WebhookAuth::Basic { username: "u".to_owned(), password: "secret".to_owned() });
    webhook.filter = Some(r#"{"path":"/n","eq":12345678901234567890.25}"#.to_owned());
    webhook
}

fn patch(webhook: &Webhook, text: &str) -> Result<Webhook, Vec<String>> {
    let object = JsonObject::read(text, String::new()).unwrap();
    apply(webhook, object, &TargetPolicy::default())
        .map_err(|api_error| api_error.errors.into_iter().map(|field_error| field_error.pointer).collect())
}

#[test]
fn an_empty_patch_changes_nothing() {
    assert_eq!(patch(&webhook(), "{}"), Ok(webhook()));
}

#[test]
fn named_members_change_and_null_brings_the_default_back() {
    let after = patch(&webhook(), r#"{"timeout_ms":2000,"name":null,"retry_schedule_s":null,"auth":null}"#).unwrap();
    assert_eq!((after.timeout_ms, after.name.as_str()), (2_000, "example.com"));
    assert_eq!(after.retry_schedule_s.len(), 9);
    assert_eq!(after.auth, None);
    assert_eq!((after.version, &after.headers, &after.filter), (7, &webhook().headers, &webhook().filter));
}

#[test]
fn objects_are_merged_and_arrays_replaced() {
    let after = patch(&webhook(), r#"{"headers":{"X-B":"2","X-A":null},"event_types":["a.b"]}"#).unwrap();
    assert_eq!(after.headers.into_iter().collect::<Vec<_>>(), [("X-B".to_owned(), "2".to_owned())]);
    let again = patch(&webhook(), r#"{"signature":["dfns"]}"#).unwrap();
    assert_eq!(again.signature, [SignatureScheme::Dfns]);
}

#[test]
fn a_mask_sent_back_leaves_the_credential() {
    let after = patch(&webhook(), r#"{"auth":{"type":"basic","username":"new","password":"********"}}"#).unwrap();
    assert_eq!(after.auth, Some(WebhookAuth::Basic { username: "new".to_owned(), password: "secret".to_owned() }));
    let after = patch(&webhook(), r#"{"auth":{"username":"new"}}"#).unwrap();
    assert_eq!(after.auth, Some(WebhookAuth::Basic { username: "new".to_owned(), password: "secret".to_owned() }));
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let mut mtls = webhook();
    mtls.tls = Some(WebhookTls {
        ca_pem: None,
        client_cert_pem: Some(made.cert.pem()),
        client_key_pem: Some(made.signing_key.serialize_pem()),
    });
    assert_eq!(patch(&mtls, r#"{"tls":{"client_key_pem":"********"}}"#), Ok(mtls));
}

#[test]
fn stored_certificates_that_cannot_be_used_hinder_no_other_change() {
    let unusable = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let mut before = webhook();
    before.tls = Some(WebhookTls { ca_pem: Some(unusable.to_owned()), client_cert_pem: None, client_key_pem: None });
    let after = patch(&before, r#"{"status":"disabled"}"#).unwrap();
    assert_eq!((after.status, after.tls), (WebhookStatus::Disabled, before.tls.clone()));
    let text = serde_json::json!({ "tls": { "ca_pem": unusable } }).to_string();
    assert!(patch(&before, &text).is_err(), "the same text given anew");
    assert_eq!(patch(&before, r#"{"tls":null}"#).unwrap().tls, None);
}

#[test]
fn a_secret_header_keeps_its_value_and_stays_secret() {
    let mut before = webhook();
    before.headers.insert("X-Token".to_owned(), "opens".to_owned());
    before.headers.insert("X-Door".to_owned(), "opens too".to_owned());
    before.secret_headers = vec!["x-door".to_owned()];
    let masks = r#"{"headers":{"X-Token":"********","X-Door":"********"}}"#;
    assert_eq!(patch(&before, masks), Ok(before.clone()));
    assert_eq!(patch(&before, r#"{"secret_headers":[]}"#), Err(vec!["/secret_headers".to_owned()]));
    let anew = patch(&before, r#"{"secret_headers":null,"headers":{"X-Door":"is open"}}"#).unwrap();
    assert_eq!((anew.headers["X-Door"].as_str(), anew.secret_headers.len()), ("is open", 0));
    let shown = serde_json::to_value(super::super::webhook_view::WebhookView::new(
        &before,
        super::super::webhook_live::WebhookLive::default(),
    ))
    .unwrap();
    assert_eq!(shown["headers"], serde_json::json!({ "X-A": "1", "X-Door": "********", "X-Token": "********" }));
}

#[test]
fn a_mask_where_there_is_no_credential_is_refused() {
    assert_eq!(
        patch(&webhook(), r#"{"auth":{"type":"bearer","token":"********"}}"#),
        Err(vec!["/auth/token".to_owned()])
    );
    let mut bare = webhook();
    bare.auth = None;
    let found = patch(&bare, r#"{"auth":{"type":"basic","username":"u","password":"********"}}"#);
    assert_eq!(found, Err(vec!["/auth/password".to_owned()]));
}

#[test]
fn an_auth_of_another_type_replaces_the_old_one() {
    let after = patch(&webhook(), r#"{"auth":{"type":"bearer","token":"t"}}"#).unwrap();
    assert_eq!(after.auth, Some(WebhookAuth::Bearer { token: "t".to_owned() }));
}

#[test]
fn a_whole_filter_replaces_the_old_one_digit_by_digit() {
    let after = patch(&webhook(), r#"{"filter":{"path":"/n","gte":0.1000000000000000000001}}"#).unwrap();
    assert_eq!(after.filter.as_deref(), Some(r#"{"path":"/n","gte":0.1000000000000000000001}"#));
    let merged = patch(&webhook(), r#"{"filter":{"path":"/m"}}"#).unwrap();
    assert!(merged.filter.unwrap().starts_with(r#"{"path":"/m","eq":"#));
}

#[test]
fn members_that_cannot_be_patched_are_named() {
    let found = patch(
        &webhook(),
        r#"{"id":"x","app_id":"y","created_at":null,"updated_at":1,"disabled_reason":null,"circuit":"open",
        "consecutive_failures":0,"last_attempt_at":null,"last_success_at":null,"secret":"whsec_x","nmae":"z"}"#,
    );
    let mut found = found.unwrap_err();
    found.sort();
    let expected = [
        "/app_id",
        "/circuit",
        "/consecutive_failures",
        "/created_at",
        "/disabled_reason",
        "/id",
        "/last_attempt_at",
        "/last_success_at",
        "/nmae",
        "/secret",
        "/updated_at",
    ];
    assert_eq!(found, expected);
}

#[test]
fn mistakes_point_into_the_patch() {
    for (text, pointer) in [
        (r#"{"url":null}"#, "/url"),
        (r#"{"url":"http://127.0.0.1/"}"#, "/url"),
        (r#"{"timeout_ms":1e400}"#, "/timeout_ms"),
        (r#"{"headers":{"host":"x"}}"#, "/headers/host"),
        (r#"{"headers":[]}"#, "/headers"),
        (r#"{"filter":{"path":"/n","gt":"x"}}"#, "/filter"),
        (r#"{"auth":{"password":null}}"#, "/auth/password"),
    ] {
        let found = patch(&webhook(), text).unwrap_err();
        assert!(found.iter().all(|at| at.starts_with(pointer)), "{text}: {found:?}");
    }
}

#[test]
fn an_unchanged_url_is_not_checked_again() {
    let mut old = webhook();
    old.url = "http://10.0.0.1/since-closed".to_owned();
    assert_eq!(patch(&old, r#"{"status":"paused"}"#).map(|webhook| webhook.status), Ok(WebhookStatus::Paused));
}

#[test]
fn disabling_by_hand_keeps_an_earlier_reason_and_enabling_drops_it() {
    let by_hand = patch(&webhook(), r#"{"status":"disabled"}"#).unwrap();
    assert_eq!(by_hand.disabled_reason, Some(DisabledReason::Manual));
    let mut gone = webhook();
    (gone.status, gone.disabled_reason) = (WebhookStatus::Disabled, Some(DisabledReason::Gone));
    assert_eq!(patch(&gone, r#"{"name":"n"}"#).unwrap().disabled_reason, Some(DisabledReason::Gone));
    assert_eq!(patch(&gone, r#"{"status":"enabled"}"#).unwrap().disabled_reason, None);
}
