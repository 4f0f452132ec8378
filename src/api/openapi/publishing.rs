//! The schemas of published events and CloudEvents.

use serde_json::{Map, Value, json};

use crate::api::doc::parts::{about, app_name, event_type, form, items, line, nullable, reference, time};
use crate::api::limits::{
    BATCH_EVENTS_MAX, CHANNEL_CHARS_MAX, CHANNELS_MAX, EVENT_ID_CHARS_MAX, METADATA_ENTRIES_MAX,
    METADATA_NAME_CHARS_MAX, METADATA_VALUE_CHARS_MAX, ORDERING_KEY_CHARS_MAX, SUBJECT_CHARS_MAX,
};

pub fn schemas() -> Map<String, Value> {
    [
        ("NewEvent", new_event()),
        ("NewEvents", form(&["events"], [("events", batch_of("NewEvent"))])),
        ("CloudEvent", cloud_event()),
        ("CloudEvents", batch_of("CloudEvent")),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn batch_of(name: &str) -> Value {
    json!({ "type": "array", "items": reference(name), "minItems": 1, "maxItems": BATCH_EVENTS_MAX })
}

fn own_type() -> Value {
    let mut schema = about(event_type(), "Not `postrider.…`: those are made by Postrider itself.");
    schema["not"] = json!({ "type": "string", "pattern": "^postrider\\." });
    schema
}

fn new_event() -> Value {
    let metadata = json!({
        "type": "object",
        "propertyNames": { "minLength": 1, "maxLength": METADATA_NAME_CHARS_MAX },
        "additionalProperties": line(0, METADATA_VALUE_CHARS_MAX),
        "maxProperties": METADATA_ENTRIES_MAX,
    });
    let mut schema = form(
        &["type", "data"],
        [
            ("type", own_type()),
            ("data", json!({ "description": "Any JSON; kept and sent byte for byte." })),
            ("event_id", about(line(1, EVENT_ID_CHARS_MAX), "The producer's own id: the same again is a duplicate.")),
            ("occurred_at", about(time(), "The time of receipt where it is not given.")),
            ("subject", line(1, SUBJECT_CHARS_MAX)),
            ("channels", items(line(1, CHANNEL_CHARS_MAX), CHANNELS_MAX)),
            (
                "app_id",
                about(
                    app_name(),
                    "An app's id or `uid`; the key's own app, or the default app, where it is not given.",
                ),
            ),
            ("ordering_key", line(1, ORDERING_KEY_CHARS_MAX)),
            (
                "deliver_at",
                about(time(), "Not before this; the retry schedule after it must end within the retention."),
            ),
            ("expires_at", about(time(), "Not after this; not before `deliver_at`.")),
            ("metadata", metadata),
        ],
    );
    schema["examples"] = json!([{ "type": "invoice.paid", "data": { "id": 42 }, "event_id": "inv-42-paid" }]);
    schema
}

/// CloudEvents 1.0, JSON format. Other attributes go to `metadata`.
fn cloud_event() -> Value {
    json!({
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": line(1, METADATA_VALUE_CHARS_MAX),
            "source": { "type": "string", "minLength": 1, "maxLength": METADATA_VALUE_CHARS_MAX, "pattern": "^[!-~]+$" },
            "type": own_type(),
            "subject": nullable(line(1, SUBJECT_CHARS_MAX)),
            "time": nullable(time()),
            "datacontenttype": nullable(line(1, METADATA_VALUE_CHARS_MAX)),
            "dataschema": nullable(line(1, METADATA_VALUE_CHARS_MAX)),
            "partitionkey": nullable(line(1, ORDERING_KEY_CHARS_MAX)),
            "traceparent": nullable(line(1, METADATA_VALUE_CHARS_MAX)),
            "data": {},
            "data_base64": nullable(json!({ "type": "string", "contentEncoding": "base64", "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$" })),
        },
        "propertyNames": { "pattern": "^([a-z0-9]+|data_base64)$" },
        "maxProperties": METADATA_ENTRIES_MAX,
        "additionalProperties": { "anyOf": [line(0, METADATA_VALUE_CHARS_MAX), { "type": ["boolean", "number", "null"] }] },
        "not": { "required": ["data", "data_base64"], "properties": { "data_base64": { "type": "string" } } },
    })
}
