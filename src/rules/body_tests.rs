//! Bodies against the published shapes, and form pairs against a decoder.

use proptest::prelude::*;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::super::signing::parse_secret;
use super::*;

const OBJECT: &[u8] = br#"{ "message_id":"m-1002", "n": 1.50, "a":[1, 2], "to":"bob@example.com" }"#;
const SETS: [FieldSet; 6] =
    [FieldSet::Standard, FieldSet::Raw, FieldSet::Legacy, FieldSet::Dfns, FieldSet::Sent, FieldSet::Flat];

fn event(event_type: &str, subject: Option<&str>) -> Event {
    let mut event = Event {
        id: "019cbd75-3130-7922-b7c3-94ca668965c7".parse().unwrap(),
        org_id: "019c1837-4000-71f2-b45c-05ad389d5890".parse().unwrap(),
        app_id: "019c1837-43e8-75cb-8edc-ae47474b615c".parse().unwrap(),
        occurred_at: "2026-03-05T10:05:00.000Z".parse().unwrap(),
        received_at: "2026-03-05T10:05:00.080Z".parse().unwrap(),
        ..Event::default()
    };
    event.attributes.event_type = event_type.into();
    event.attributes.subject = subject.map(str::to_owned);
    event
}

fn facts<'a>(event: &'a Event, data: &'a [u8]) -> BodyInput<'a> {
    BodyInput {
        event,
        data,
        attempt_id: "019cbd76-1bd6-783d-8e01-b41575aafd08".parse().unwrap(),
        number: 2,
        retry_of: Some("019cbd75-3176-7361-8d44-5682d3cf73f5".parse().unwrap()),
        timestamp_s: 1_772_705_160,
    }
}

fn shape(method: WebhookMethod, content_type: ContentType, field_set: FieldSet) -> BodyShape {
    BodyShape { method, content_type, field_set, include_html: false }
}

fn as_json(field_set: FieldSet, event: &Event, data: &[u8]) -> String {
    let rendered = render(shape(WebhookMethod::Post, ContentType::Json, field_set), &facts(event, data));
    assert_eq!((rendered.content_type, rendered.query), (Some("application/json"), None));
    String::from_utf8(rendered.body).unwrap()
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

fn as_form(field_set: FieldSet, event: &Event, data: &[u8]) -> Vec<(String, String)> {
    let rendered = render(shape(WebhookMethod::Put, ContentType::Form, field_set), &facts(event, data));
    assert_eq!((rendered.content_type, rendered.query), (Some("application/x-www-form-urlencoded"), None));
    pairs(&rendered.body)
}

fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn the_golden_bodies_come_out() {
    let golden: Value = serde_json::from_str(include_str!("../../tests/golden/signatures.json")).unwrap();
    let event = event("delivered", None);
    let data = br#"{"message_id":"m-1002","to":"bob@example.com"}"#;
    let of = |nth: usize| golden["vectors"][nth]["body"].as_str().unwrap();
    assert_eq!(as_json(FieldSet::Standard, &event, data), of(1));
    assert_eq!(as_json(FieldSet::Dfns, &event, data), of(2));
    let spaced = br#" {"message_id" : "m-1002", "to": "bob\u0040example.com"} "#;
    assert_eq!(as_json(FieldSet::Dfns, &event, spaced), of(2), "written as ECMAScript writes it");
}

#[test]
fn standard_and_raw_carry_data_byte_for_byte() {
    let event = event("a", None);
    for data in [OBJECT, b"[ 1.0 ]", b"\"x\\/\"", b"9007199254740993", b"null", br#"{"1":1, "0":-0}"#] {
        let data_text = std::str::from_utf8(data).unwrap();
        assert_eq!(as_json(FieldSet::Raw, &event, data), data_text);
        let standard = as_json(FieldSet::Standard, &event, data);
        assert!(standard.ends_with(&format!(r#""timestamp":"2026-03-05T10:05:00.000Z","data":{data_text}}}"#)));
    }
}

#[test]
fn legacy_spreads_the_members_behind_the_envelope_own() {
    let event = event("sent", None);
    let head = r#"{"event":{"event_id":"019cbd75-3130-7922-b7c3-94ca668965c7","event_date":"2026-03-05T10:05:00.000Z","event_type":"sent""#;
    let data = br#"{"to":"x","event_id":7,"n":1.0,"k\u0065y":{"a": 1},"event\u005ftype":0}"#;
    assert_eq!(
        as_json(FieldSet::Legacy, &event, data),
        format!(r#"{head},"to":"x","n":1.0,"k\u0065y":{{"a": 1}}}}}}"#)
    );
    assert_eq!(as_json(FieldSet::Legacy, &event, b"{}"), format!("{head}}}}}"));
    assert_eq!(as_json(FieldSet::Legacy, &event, b"[1, 2]"), format!("{head},\"data\":[1, 2]}}}}"));
    let form = as_form(FieldSet::Legacy, &event, data);
    assert_eq!(form, owned(&[("event", &format!(r#"{head},"to":"x","n":1.0,"k\u0065y":{{"a": 1}}}}"#)[9..])]));
}

#[test]
fn html_stays_only_where_it_is_wanted_and_only_of_sent_events() {
    let data = br#"{"html":"<p>","to":"x","sub":{"html":1}}"#;
    for (include_html, event_type, kept) in [(true, "sent", true), (true, "open", false), (false, "sent", false)] {
        let event = event(event_type, None);
        let shape = BodyShape { include_html, ..shape(WebhookMethod::Post, ContentType::Json, FieldSet::Legacy) };
        let body = render(shape, &facts(&event, data)).body;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["event"].get("html").is_some(), kept, "{include_html} {event_type}");
        assert_eq!(body["event"]["sub"]["html"], 1);
    }
    assert!(as_json(FieldSet::Flat, &event("open", None), data).contains("<p>"), "other sets keep it");
}

#[test]
fn sent_names_the_field_and_the_sub_type() {
    let mut event = event("message.delivered", None);
    let head = r#"{"field":"message","sub_type":"message.delivered","event":"message.delivered""#;
    let expected =
        format!(r#"{head},"timestamp":"2026-03-05T10:05:00Z","payload":{{"a": 1}},"request_id":"{}"}}"#, event.id);
    assert_eq!(as_json(FieldSet::Sent, &event, br#"{"a": 1}"#), expected);
    event.attributes.event_type = "bounce".into();
    event.occurred_at = event.occurred_at.plus_ms(90);
    let head = r#"{"field":"bounce","sub_type":"bounce","event":"bounce""#;
    let expected = format!(r#"{head},"timestamp":"2026-03-05T10:05:00Z","payload":[],"request_id":"{}"}}"#, event.id);
    assert_eq!(as_json(FieldSet::Sent, &event, b"[]"), expected);
}

#[test]
fn flat_puts_the_members_beside_its_own() {
    let head = r#"{"timestamp":"2026-03-05T10:05:00.000Z","event_type":"reply","workspace":"019c1837-4000-71f2-b45c-05ad389d5890""#;
    let data = br#"{"lead_email":"b@x","campaign_id":"c","workspace":1}"#;
    let with = as_json(FieldSet::Flat, &event("reply", Some("a\"@x")), data);
    assert_eq!(with, format!(r#"{head},"lead_email":"a\"@x","campaign_id":"c"}}"#));
    let without = as_json(FieldSet::Flat, &event("reply", None), data);
    assert_eq!(without, format!(r#"{head},"lead_email":"b@x","campaign_id":"c"}}"#));
    assert_eq!(as_json(FieldSet::Flat, &event("reply", None), b"5"), format!(r#"{head},"data":5}}"#));
}

#[test]
fn a_first_attempt_at_dfns_repeats_nothing() {
    let event = event("a", None);
    let first = BodyInput { number: 1, retry_of: None, ..facts(&event, b"{}") };
    let body = render(shape(WebhookMethod::Post, ContentType::Json, FieldSet::Dfns), &first).body;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["deliveryAttempt"], body.get("retryOf")), (&json!(1), None));
}

#[test]
fn a_form_has_strings_as_they_are_and_the_rest_as_json() {
    let event = event("a b&c", None);
    let data = br#"{"s":"\u00e9 &=+%","n":1.50,"t":true,"z":null,"o":{"x": "y"},"l":[1, 2],"":"","\"k\"":"v"}"#;
    let members = [
        ("s", "é &=+%"),
        ("n", "1.50"),
        ("t", "true"),
        ("z", "null"),
        ("o", r#"{"x": "y"}"#),
        ("l", "[1, 2]"),
        ("", ""),
        ("\"k\"", "v"),
    ];
    assert_eq!(as_form(FieldSet::Raw, &event, data), owned(&members));
    let id = "019cbd75-3130-7922-b7c3-94ca668965c7";
    let own = [("id", id), ("type", "a b&c"), ("timestamp", "2026-03-05T10:05:00.000Z")];
    let text = std::str::from_utf8(data).unwrap();
    assert_eq!(as_form(FieldSet::Standard, &event, data), owned(&[&own[..], &[("data", text)]].concat()));
    assert_eq!(as_form(FieldSet::Standard, &event, b" \"x\" ").pop(), owned(&[("data", "x")]).pop());
    assert_eq!(as_form(FieldSet::Raw, &event, b"[1, 2]"), owned(&[("data", "[1, 2]")]));
    assert_eq!(as_form(FieldSet::Raw, &event, b"\"x\\n\""), owned(&[("data", "x\n")]));
    assert_eq!(as_form(FieldSet::Raw, &event, b"{}"), owned(&[]));
    assert_eq!(as_form(FieldSet::Dfns, &event, b"{ }").last(), Some(&("data".into(), "{}".into())));
}

#[test]
fn get_and_delete_have_the_pairs_in_the_query_and_no_body() {
    let event = event("sent", Some("a@x"));
    for field_set in SETS {
        let form = render(shape(WebhookMethod::Post, ContentType::Form, field_set), &facts(&event, OBJECT));
        for method in [WebhookMethod::Get, WebhookMethod::Delete] {
            for content_type in [ContentType::Json, ContentType::Form] {
                let rendered = render(shape(method, content_type, field_set), &facts(&event, OBJECT));
                assert_eq!((rendered.body.len(), rendered.content_type), (0, None));
                assert_eq!(rendered.query.unwrap().as_bytes(), form.body, "{field_set:?}");
            }
        }
    }
}

#[test]
fn erased_data_reads_as_null() {
    let event = event("a", None);
    assert_eq!(as_json(FieldSet::Raw, &event, b""), "null");
    for (field_set, at) in [
        (FieldSet::Standard, "/data"),
        (FieldSet::Legacy, "/event/data"),
        (FieldSet::Dfns, "/data"),
        (FieldSet::Sent, "/payload"),
        (FieldSet::Flat, "/data"),
    ] {
        let body: Value = serde_json::from_str(&as_json(field_set, &event, b"")).unwrap();
        assert_eq!(body.pointer(at), Some(&Value::Null), "{field_set:?}");
    }
}

#[test]
fn an_encrypted_webhook_sends_nothing_in_the_clear() {
    let event = event("a", None);
    let secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    for field_set in SETS {
        let plain = render(shape(WebhookMethod::Post, ContentType::Json, field_set), &facts(&event, OBJECT));
        let sealed = plain.clone().sealed(&secret, [7; 12]);
        assert_eq!(sealed.content_type, Some("application/jose"));
        assert_eq!(jwe::open(&secret, std::str::from_utf8(&sealed.body).unwrap()), Some(plain.body));
        let plain = render(shape(WebhookMethod::Get, ContentType::Json, field_set), &facts(&event, OBJECT));
        let sealed = plain.clone().sealed(&secret, [7; 12]);
        assert_eq!((sealed.body.len(), sealed.content_type), (0, None));
        let pairs = pairs(sealed.query.unwrap().as_bytes());
        assert_eq!((pairs.len(), pairs[0].0.as_str()), (1, "jwe"));
        assert_eq!(jwe::open(&secret, &pairs[0].1), Some(plain.query.unwrap().into_bytes()));
    }
}

#[test]
fn no_content_is_larger_than_its_maximum() {
    let event = event("a", None);
    let secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let numbers = format!("[{}1]", "1e20,".repeat(2_000));
    let quotes = format!("[{}1]", "\"\",".repeat(2_000));
    let members = format!("{{{}\"a\":1}}", "\"{}\":[[]],".repeat(2_000));
    // The envelope, and the parts around a ciphertext.
    let besides = 1_500;
    for data in [numbers.as_bytes(), quotes.as_bytes(), members.as_bytes()] {
        for (field_set, content_type) in
            SETS.iter().flat_map(|set| [ContentType::Json, ContentType::Form].map(|kind| (*set, kind)))
        {
            for method in [WebhookMethod::Post, WebhookMethod::Get] {
                let shape = shape(method, content_type, field_set);
                let length =
                    |content: &RenderedBody| content.body.len() + content.query.as_ref().map_or(0, String::len);
                let plain = render(shape, &facts(&event, data));
                assert!(length(&plain) <= bytes_max(shape, false, data.len()) + besides, "{shape:?}");
                let sealed = plain.sealed(&secret, [0; 12]);
                assert!(length(&sealed) <= bytes_max(shape, true, data.len()) + besides, "{shape:?}");
            }
        }
    }
}

#[test]
fn only_dfns_refuses_data_that_ecmascript_would_change() {
    for data in [r#"{"n":9007199254740993}"#, r#"{"b":1,"0":[1e400]}"#] {
        for field_set in SETS {
            assert_eq!(fits(field_set, data.as_bytes()).is_err(), field_set == FieldSet::Dfns, "{data}");
        }
    }
    assert_eq!(fits(FieldSet::Dfns, OBJECT), Ok(()));
    assert_eq!(fits(FieldSet::Dfns, br#"{"b":1.0,"0":0.1}"#), Ok(()), "another order is the same value");
    assert_eq!(fits(FieldSet::Dfns, b""), Ok(()), "erased data is null");
}

fn any_members() -> impl Strategy<Value = Vec<(String, Value)>> {
    let value = prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(Value::Null),
        prop::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
    ];
    let own =
        prop::sample::select(vec!["event_id", "event_date", "event_type", "timestamp", "workspace", "lead_email"]);
    let name = prop_oneof![any::<String>(), own.prop_map(str::to_owned)];
    prop::collection::btree_map(name, value, 0..8).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn a_form_decodes_to_the_members(members in any_members()) {
        let data = serde_json::to_vec(&members.iter().cloned().collect::<serde_json::Map<_, _>>()).unwrap();
        let expected: Vec<_> = members
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        prop_assert_eq!(as_form(FieldSet::Raw, &event("a", None), &data), expected);
    }

    #[test]
    fn every_json_body_is_json_with_each_name_once(members in any_members(), subject: Option<String>) {
        let data = serde_json::to_vec(&members.into_iter().collect::<serde_json::Map<_, _>>()).unwrap();
        let event = event("sent", subject.as_deref());
        for field_set in SETS {
            let body = as_json(field_set, &event, &data);
            // Re-serialised without loss: a name that came twice would be gone.
            let value: Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(serde_json::to_string(&value).unwrap().len(), body.len(), "{}", body);
        }
    }

    #[test]
    fn no_data_makes_rendering_panic(data in any::<Vec<u8>>(), subject: String, kind: String) {
        let event = event(&kind, Some(&subject));
        for field_set in SETS {
            for (method, content_type) in [(WebhookMethod::Post, ContentType::Json), (WebhookMethod::Get, ContentType::Form)] {
                let rendered = render(shape(method, content_type, field_set), &facts(&event, &data));
                prop_assert_eq!(rendered.query.is_some(), method == WebhookMethod::Get);
            }
        }
    }
}
