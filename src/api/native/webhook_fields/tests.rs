//! Each entry of the table is read, shown, patched and described, with a value that its own schema gives.

use std::sync::OnceLock;

use super::super::webhook_patch;
use super::super::webhook_view::WebhookView;
use super::*;
use crate::model::Id;

const URL: &str = "https://example.com/in";

/// The webhook of a form with this member, and a URL.
fn read_one(name: &str, value: &Value) -> Webhook {
    let mut form = json!({ "url": URL });
    form[name] = value.clone();
    let (mut webhook, mut field_errors) = (Webhook::new(Id::MIN, Id::MIN), FieldErrors::new());
    let text = form.to_string();
    let mut object = JsonObject::read(&text, String::new()).unwrap();
    read(&mut webhook, &mut object, Some(&TargetPolicy::default()), &mut field_errors);
    object.finish(&mut field_errors);
    assert_eq!(field_errors, [], "{name}: {value}");
    webhook
}

/// The webhook after a patch of one member.
fn patched(webhook: &Webhook, name: &str, value: &Value) -> Webhook {
    let text = json!({ name: value }).to_string();
    let object = JsonObject::read(&text, String::new()).unwrap();
    webhook_patch::apply(webhook, object, &TargetPolicy::default()).unwrap()
}

fn stored(field: &WebhookField, webhook: &Webhook) -> Value {
    serde_json::from_str(&field.stored(webhook)).unwrap()
}

/// A value that the schema allows: the last of its words, and more than the smallest number.
fn sample(schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next()) {
        return sample(&schema::components()[name]);
    }
    let listed = |name: &str| schema[name].as_array().and_then(|values| values.last()).cloned();
    if let Some(value) = listed("examples").or(listed("enum")).or(schema.get("const").cloned()) {
        return value;
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer") => json!(schema["minimum"].as_u64().unwrap() + 1),
        Some("number") => schema["maximum"].clone(),
        Some("array") => json!([sample(&schema["items"])]),
        Some("object") => sample_object(schema),
        Some("string") => sample_text(schema).into(),
        _ => sample(schema["oneOf"].as_array().map_or(&schema["anyOf"][0], |kinds| kinds.last().unwrap())),
    }
}

fn sample_object(schema: &Value) -> Value {
    match schema["properties"].as_object() {
        Some(members) => {
            members.iter().map(|(name, member)| (name.clone(), sample(member))).collect::<Map<_, _>>().into()
        }
        None => json!({ "x-api-key": sample(&schema["additionalProperties"]) }),
    }
}

fn sample_text(schema: &Value) -> String {
    let label = schema["pattern"].as_str().and_then(|pattern| pattern.split("-----").nth(1)?.strip_prefix("BEGIN "));
    match label {
        Some(label) => identity()[usize::from(label == "PRIVATE KEY")].clone(),
        None if schema["format"] == "uri" => "https://sample.example/in".to_owned(),
        None => "sample".to_owned(),
    }
}

/// A certificate and its key, as PEM texts.
fn identity() -> &'static [String; 2] {
    static IDENTITY: OnceLock<[String; 2]> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["sample.example".to_owned()]).unwrap();
        [made.cert.pem(), made.signing_key.serialize_pem()]
    })
}

#[test]
fn every_field_is_read_shown_and_patched() {
    let plain = read_one("url", &json!(URL));
    for (field, form) in writable() {
        let name = field.name;
        let value = sample(&form.schema.unwrap_or(field.schema)());
        let webhook = read_one(name, &value);
        assert_eq!(stored(field, &webhook), value, "{name} is read");
        assert_ne!(stored(field, &plain), value, "{name}: the sample is the default, which proves nothing");
        let shown = serde_json::to_value(WebhookView::new(&webhook, WebhookLive::default())).unwrap();
        // A member with credentials has another text that contains them and is not shown.
        assert_eq!(shown[name] == value, form.stored.is_none(), "{name} is shown as {}", shown[name]);
        assert!(!shown[name].is_null(), "{name} is shown");
        assert_eq!(stored(field, &patched(&plain, name, &value)), value, "{name} is patched");
        if name != "url" {
            assert_eq!(stored(field, &patched(&webhook, name, &Value::Null)), stored(field, &plain), "{name}");
        }
    }
}

#[test]
fn every_field_is_described_and_has_a_flag() {
    let (new, patch) = (new_webhook(), webhook_patch());
    let mut flags = std::collections::BTreeSet::new();
    for (field, form) in writable() {
        for properties in [&new["properties"], &patch["properties"]] {
            assert!(properties[field.name].is_object(), "{} is described", field.name);
        }
        assert_eq!(form.flags.is_empty(), field.name == "url", "{} has a flag", field.name);
        for flag in form.flags {
            assert!(flags.insert(flag.long), "--{} is there twice", flag.long);
            assert!(!flag.help.is_empty() && !flag.value_name.is_empty(), "--{}", flag.long);
        }
    }
    assert_eq!(patch["properties"].as_object().unwrap().len(), writable().count());
}

#[test]
fn no_two_fields_share_a_name() {
    let names: std::collections::BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names.len(), FIELDS.len());
    assert!(is_read_only("circuit") && !is_read_only("url") && !is_read_only("unknown"));
}
