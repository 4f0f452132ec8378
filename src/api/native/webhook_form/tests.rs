//! Tests of the webhook form: accepted values, defaults, and pointers of mistakes.

use super::super::webhook_fields::read;
use super::*;
use crate::model::Id;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The webhook of `members` and a valid URL, or the pointers of the mistakes.
fn read_members(members: &str) -> Result<Webhook, Vec<String>> {
    let comma = if members.is_empty() { "" } else { "," };
    read_text(&format!(r#"{{"url":"https://example.com/in"{comma}{members}}}"#))
}

fn read_text(text: &str) -> Result<Webhook, Vec<String>> {
    let mut webhook = Webhook::new(Id::MIN, Id::MIN);
    let mut field_errors = FieldErrors::new();
    let mut object = JsonObject::read(text, String::new()).unwrap();
    read(&mut webhook, &mut object, Some(&TargetPolicy::default()), &mut field_errors);
    object.optional("secret", &mut field_errors, read_secret);
    object.finish(&mut field_errors);
    if field_errors.is_empty() {
        Ok(webhook)
    } else {
        Err(field_errors.into_iter().map(|field_error| field_error.pointer).collect())
    }
}

#[test]
fn a_url_alone_gives_every_default() {
    let webhook = read_members("").unwrap();
    assert_eq!(webhook.name, "example.com");
    assert_eq!(webhook.retry_schedule_s, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    assert_eq!((webhook.timeout_ms, webhook.max_in_flight, webhook.disable_after_s), (15_000, 16, 432_000));
    assert_eq!(webhook.signature, [SignatureScheme::Standard]);
    assert_eq!(webhook.status, WebhookStatus::Enabled);
    let nulls = r#""name":null,"description":null,"method":null,"content_type":null,"field_set":null,
        "include_html":null,"auth":null,"headers":null,"event_types":null,"channels":null,"filter":null,"status":null,
        "encrypted":null,"signature":null,"tls":null,"handshake":null,"success_rule":null,"retry_schedule_s":null,
        "timeout_ms":null,"max_in_flight":null,"rate_limit_per_s":null,"ordered":null,"disable_after_s":null,
        "secret":null"#;
    assert_eq!(read_members(nulls), Ok(webhook));
}

#[test]
fn every_field_is_read() {
    let webhook = read_members(
        r#""name":"Größe","description":"two\nlines","method":"put","content_type":"application/x-www-form-urlencoded",
        "field_set":"legacy","include_html":true,"auth":{"type":"basic","username":"u","password":"p:w"},
        "headers":{"X-Tenant":"7"},"event_types":["order.*","*"],"channels":["eu"],
        "filter":{"all":[{"path":"/a","gte":5}]},"status":"disabled","encrypted":true,"signature":["ed25519","standard"],
        "handshake":true,"success_rule":"200","retry_schedule_s":[0,60.0],"timeout_ms":1000,"max_in_flight":1000,
        "rate_limit_per_s":0.5,"ordered":"key","disable_after_s":0,
        "secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#,
    )
    .unwrap();
    assert_eq!(webhook.description.as_deref(), Some("two\nlines"));
    assert_eq!(webhook.auth, Some(WebhookAuth::Basic { username: "u".to_owned(), password: "p:w".to_owned() }));
    assert_eq!(webhook.headers["X-Tenant"], "7");
    assert_eq!(webhook.retry_schedule_s, [0, 60]);
    assert_eq!(webhook.disabled_reason, Some(DisabledReason::Manual));
    assert_eq!(webhook.ordered, DeliveryOrder::Key);
    assert_eq!(webhook.signature, [SignatureScheme::Ed25519, SignatureScheme::Standard]);
    assert!(webhook.filter.is_some());
}

#[test]
fn schedules_have_names() {
    for (name, steps) in [("none", 0), ("standard", 9), ("dfns", 4), ("sent", 3), ("everlytic", 864)] {
        let webhook = read_members(&format!(r#""retry_schedule_s":"{name}""#)).unwrap();
        assert_eq!(webhook.retry_schedule_s.len(), steps, "{name}");
    }
}

#[test]
fn every_mistake_points_at_its_field() {
    let long = "x".repeat(5_000);
    for (members, pointer) in [
        (r#""name":"""#, "/name"),
        (&format!(r#""name":"{}""#, "x".repeat(101)), "/name"),
        (r#""name":"a\u0007""#, "/name"),
        (r#""description":7"#, "/description"),
        (&format!(r#""description":"{long}""#), "/description"),
        (r#""method":"POST""#, "/method"),
        (r#""content_type":"text/plain""#, "/content_type"),
        (r#""field_set":"svix""#, "/field_set"),
        (r#""include_html":"yes""#, "/include_html"),
        (r#""auth":"basic""#, "/auth"),
        (r#""auth":{}"#, "/auth/type"),
        (r#""auth":{"type":"digest"}"#, "/auth/type"),
        (r#""auth":{"type":"basic","username":"a:b","password":""}"#, "/auth/username"),
        (r#""auth":{"type":"basic","username":"a"}"#, "/auth/password"),
        (r#""auth":{"type":"bearer","token":"a\nb"}"#, "/auth/token"),
        (r#""auth":{"type":"bearer","token":"a","username":"b"}"#, "/auth/username"),
        (r#""auth":{"type":"header","name":"host","value":"a"}"#, "/auth/name"),
        (r#""auth":{"type":"header","name":"x y","value":"a"}"#, "/auth/name"),
        (r#""secret":"whsec_***""#, "/secret"),
        (r#""secret":"whsec_c2hvcnQ=""#, "/secret"),
        (r#""secret":"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#, "/secret"),
        (r#""headers":["a"]"#, "/headers"),
        (r#""headers":{"x-a":"b\r\nEvil: 1"}"#, "/headers/x-a"),
        (r#""headers":{"x-a":"ä"}"#, "/headers/x-a"),
        (r#""headers":{"x-a":" b"}"#, "/headers/x-a"),
        (r#""headers":{"x-a":null}"#, "/headers/x-a"),
        (r#""headers":{"x a":"b"}"#, "/headers/x a"),
        (r#""headers":{"":"b"}"#, "/headers/"),
        (r#""headers":{"X-A":"1","x-a":"2"}"#, "/headers/x-a"),
        (r#""headers":{"Authorization":"x"},"auth":{"type":"bearer","token":"t"}"#, "/headers/Authorization"),
        (r#""headers":{"X-Key":"x"},"auth":{"type":"header","name":"x-key","value":"t"}"#, "/headers/X-Key"),
        (r#""event_types":"a.b""#, "/event_types"),
        (r#""event_types":["a.b","a b"]"#, "/event_types/1"),
        (r#""event_types":["**"]"#, "/event_types/0"),
        (r#""channels":[""]"#, "/channels/0"),
        (r#""filter":[]"#, "/filter"),
        (r#""filter":{"all":[{"path":"a","eq":1}]}"#, "/filter/all/0/path"),
        (r#""status":"on""#, "/status"),
        (r#""encrypted":1"#, "/encrypted"),
        (r#""encrypted":true,"method":"get""#, "/encrypted"),
        (r#""signature":[]"#, "/signature"),
        (r#""signature":"standard""#, "/signature"),
        (r#""signature":["standard","rsa"]"#, "/signature/1"),
        (r#""signature":["standard","standard"]"#, "/signature/1"),
        (r#""tls":[]"#, "/tls"),
        (r#""tls":{"ca_pem":"x"}"#, "/tls/ca_pem"),
        (r#""tls":{"ca":"x"}"#, "/tls/ca"),
        (
            r#""tls":{"client_cert_pem":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"}"#,
            "/tls/client_key_pem",
        ),
        (r#""handshake":0"#, "/handshake"),
        (r#""success_rule":200"#, "/success_rule"),
        (r#""retry_schedule_s":"fast""#, "/retry_schedule_s"),
        (r#""retry_schedule_s":{}"#, "/retry_schedule_s"),
        (r#""retry_schedule_s":[1,-1]"#, "/retry_schedule_s/1"),
        (r#""retry_schedule_s":[2592001]"#, "/retry_schedule_s/0"),
        (&format!(r#""retry_schedule_s":[{}1]"#, "1,".repeat(1_000)), "/retry_schedule_s"),
        (r#""timeout_ms":999"#, "/timeout_ms"),
        (r#""timeout_ms":120001"#, "/timeout_ms"),
        (r#""timeout_ms":1e400"#, "/timeout_ms"),
        (r#""timeout_ms":"15000""#, "/timeout_ms"),
        (r#""max_in_flight":0"#, "/max_in_flight"),
        (r#""max_in_flight":1001"#, "/max_in_flight"),
        (r#""rate_limit_per_s":0"#, "/rate_limit_per_s"),
        (r#""ordered":"yes""#, "/ordered"),
        (r#""disable_after_s":-1"#, "/disable_after_s"),
        (r#""disabled_reason":"manual""#, "/disabled_reason"),
        (r#""urll":"https://example.com""#, "/urll"),
    ] {
        assert_eq!(read_members(members), Err(vec![pointer.to_owned()]), "{members}");
    }
}

#[test]
fn headers_of_the_sender_itself_cannot_be_set() {
    for name in [
        "host",
        "Connection",
        "content-length",
        "Content-Type",
        "transfer-encoding",
        "TE",
        "Upgrade",
        "webhook-signature",
        "webhook-anything",
        "x-webhook-id",
        "x-dfns-webhook-signature",
        "postrider-attempt",
        "traceparent",
        "expect",
    ] {
        assert_eq!(read_members(&format!(r#""headers":{{"{name}":"x"}}"#)), Err(vec![format!("/headers/{name}")]));
    }
}

#[test]
fn urls_are_checked() {
    for url in [
        "",
        "example.com",
        "ftp://example.com/",
        "https://u:p@example.com/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
    ] {
        assert_eq!(read_text(&format!(r#"{{"url":"{url}"}}"#)), Err(vec!["/url".to_owned()]), "{url}");
    }
    assert_eq!(read_text("{}"), Err(vec!["/url".to_owned()]));
    assert_eq!(read_text(r#"{"url":7}"#), Err(vec!["/url".to_owned()]));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = read_text(r#"{"urll":"x","timeout_ms":1,"ordered":2}"#).unwrap_err();
    assert_eq!(found, ["/url", "/timeout_ms", "/ordered", "/urll"]);
}

#[test]
fn a_valid_secret_is_stored_as_it_is() {
    let raw = RawValue::from_string(format!("\"{SECRET}\"")).unwrap();
    assert_eq!(read_secret(&raw), Ok(SECRET.to_owned()));
}
