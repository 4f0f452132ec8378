//! The members by which callers fit apps and webhooks into their own systems: `uid` and `metadata`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::doc::parts::{about, app_name};
use crate::api::fields::{self, FieldResult};
use crate::api::limits::{METADATA_BYTES_MAX, UID_CHARS_MAX};
use crate::model::id::{Id, IdKind};

/// Reads the `uid` of a `K`. It must not have the form of an id, so that a name means one object.
pub fn read_uid<K: IdKind>(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    match plain && (1..=UID_CHARS_MAX).contains(&text.len()) && text.parse::<Id<K>>().is_err() {
        true => Ok(text),
        false => Err(format!("must be 1 to {UID_CHARS_MAX} of a-z, A-Z, 0-9, '_', '.', '-', and no UUID")),
    }
}

/// Reads `metadata`: an object of strings.
pub fn read_metadata(raw: &RawValue) -> FieldResult<BTreeMap<String, String>> {
    let wrong = || format!("must be an object of strings, at most {METADATA_BYTES_MAX} bytes as JSON");
    let map = serde_json::from_str::<BTreeMap<String, String>>(raw.get()).map_err(|_| wrong())?;
    let bytes = serde_json::to_vec(&map).map_err(|_| wrong())?.len();
    if bytes <= METADATA_BYTES_MAX { Ok(map) } else { Err(wrong()) }
}

/// The schema of a `uid`.
pub fn uid_schema(description: &str) -> Value {
    let mut schema = about(app_name(), description);
    schema["not"] = json!({ "type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" });
    schema
}

/// The schema of `metadata`.
pub fn metadata_schema() -> Value {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    about(schema, "Your own data, which Postrider keeps and does not read. At most 4,096 bytes as JSON.")
}

/// The schema of a merge patch of `metadata`. Null removes an entry.
pub fn metadata_patch() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, Webhook};

    fn raw(value: &Value) -> Box<RawValue> {
        RawValue::from_string(value.to_string()).unwrap()
    }

    #[test]
    fn a_uid_has_up_to_256_characters_and_no_form_of_an_id() {
        let longest = "a".repeat(256);
        for good in ["a", "A_b.c-9", &longest, "org_1"] {
            assert_eq!(read_uid::<Webhook>(&raw(&json!(good))).as_deref(), Ok(good));
        }
        let id = "019cbd70-9d78-7320-aa3a-de3497964cb8";
        for wrong in ["", "a b", "ä", &format!("{longest}a"), id, &format!("whk_{id}")] {
            assert!(read_uid::<Webhook>(&raw(&json!(wrong))).is_err(), "{wrong}");
        }
        assert!(read_uid::<App>(&raw(&json!(format!("app_{id}")))).is_err());
    }

    #[test]
    fn metadata_is_strings_of_4096_bytes_at_most() {
        let longest = json!({ "k": "v".repeat(4_096 - r#"{"k":""}"#.len()) });
        assert_eq!(read_metadata(&raw(&longest)).map(|map| map.len()), Ok(1));
        for wrong in [json!({ "k": "v".repeat(4_096) }), json!({ "k": 1 }), json!([]), json!("a"), json!({ "k": null })]
        {
            assert!(read_metadata(&raw(&wrong)).is_err(), "{wrong}");
        }
    }
}
