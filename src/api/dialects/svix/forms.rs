//! Schemas of Svix's request bodies.

use serde_json::{Map, Value, json};

use crate::api::doc::parts::{about, boolean, choice, event_type, items, nullable, text, time, whole};

use super::portal::CAPABILITIES;
use super::resend::EXAMPLE_INDEX_MAX;

/// All schemas by name.
pub fn all() -> Map<String, Value> {
    let application = [
        ("name", text()),
        ("uid", nullable(uid())),
        ("metadata", nullable(map_of(text()))),
        ("throttleRate", nullable(rate())),
        ("rateLimit", about(nullable(rate()), "The same, of older clients.")),
    ];
    [
        ("SvixApplicationIn", open(&["name"], &application)),
        ("SvixApplicationPatch", open(&[], &application)),
        ("SvixEndpointIn", endpoint(false, true)),
        ("SvixEndpointPatch", endpoint(true, true)),
        ("SvixOperationalEndpointIn", endpoint(false, false)),
        ("SvixOperationalEndpointPatch", endpoint(true, false)),
        ("SvixHeadersIn", open(&["headers"], &[("headers", map_of(nullable(text())))])),
        ("SvixHeadersPatch", open(&[], &[("headers", map_of(nullable(text()))), ("deleteHeaders", items(text(), 50))])),
        ("SvixRotateIn", open(&[], &[("key", nullable(text())), ("gracePeriodSeconds", nullable(whole(0, 604_800)))])),
        ("SvixMessageIn", message(&application)),
        ("SvixEventTypeIn", event_type_form(&["name", "description"])),
        ("SvixEventTypeUpdate", event_type_form(&["description"])),
        ("SvixEventTypePatch", event_type_form(&[])),
        (
            "SvixExampleIn",
            open(
                &["eventType"],
                &[("eventType", event_type()), ("exampleIndex", nullable(whole(0, EXAMPLE_INDEX_MAX)))],
            ),
        ),
        (
            "SvixExpireAllIn",
            open(&[], &[("sessionIds", about(nullable(items(text(), 0)), "Tokens have no session: all of them end."))]),
        ),
        ("SvixRecoverIn", open(&["since"], &[("since", time()), ("until", nullable(time()))])),
        ("SvixSeekIn", open(&["after"], &[("after", time())])),
        ("SvixReplayIn", open(&["since"], &[("since", time()), ("until", nullable(time()))])),
        (
            "SvixBulkReplayIn",
            open(
                &["since"],
                &[
                    ("since", time()),
                    ("until", nullable(time())),
                    ("eventTypes", nullable(items(event_type(), 500))),
                    ("status", nullable(whole(0, 4))),
                    ("statusCodeClass", nullable(json!({ "type": "integer", "enum": [100, 200, 300, 400, 500] }))),
                ],
            ),
        ),
        (
            "SvixPrecheckIn",
            open(&["eventType"], &[("eventType", event_type()), ("channels", nullable(items(text(), 100)))]),
        ),
        ("SvixBulkExpungeIn", open(&[], &[("ids", nullable(items(text(), super::expunge::MESSAGES_MAX)))])),
        ("SvixPortalAccessIn", portal(&application)),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// A new endpoint, or a change of one. An operational webhook has no channels.
fn endpoint(is_patch: bool, has_channels: bool) -> Value {
    let mut members = vec![
        ("url", text()),
        ("description", nullable(text())),
        ("disabled", nullable(boolean())),
        ("eventTypes", about(nullable(items(event_type(), 500)), "Null for all.")),
        ("filterTypes", about(nullable(items(event_type(), 500)), "The same, of older clients.")),
        ("throttleRate", nullable(rate())),
        ("rateLimit", about(nullable(rate()), "The same, of older clients.")),
    ];
    members.push(("version", nullable(whole(1, 65_535))));
    if has_channels {
        members.push(("channels", about(nullable(items(text(), 10)), "Null for all.")));
    }
    if !is_patch {
        members.push(("secret", about(nullable(text()), "`whsec_` and base64. Made if absent.")));
        members.push(("headers", nullable(map_of(nullable(text())))));
    }
    members.push(("uid", nullable(uid())));
    members.push(("metadata", nullable(map_of(text()))));
    open(if is_patch { &[] } else { &["url"] }, &members)
}

fn event_type_form(required: &[&str]) -> Value {
    let mut members = vec![
        ("description", text()),
        ("archived", nullable(boolean())),
        ("deprecated", nullable(boolean())),
        ("schemas", about(nullable(map_of(any_object())), "JSON Schemas by version. They are not enforced.")),
        ("featureFlag", nullable(text())),
        ("featureFlags", nullable(items(text(), 100))),
        ("groupName", nullable(text())),
    ];
    if required.contains(&"name") {
        members.push(("name", event_type()));
    }
    open(required, &members)
}

fn message(application: &[(&str, Value)]) -> Value {
    let raw = open(&[], &[("rawPayload", about(text(), "The body of the requests as text, which must be JSON."))]);
    open(
        &["eventType"],
        &[
            ("eventType", event_type()),
            ("payload", about(any_object(), "Required without a raw payload.")),
            ("data", about(any_object(), "Another name of `payload`.")),
            ("eventId", nullable(uid())),
            ("channels", nullable(items(text(), 5))),
            ("payloadRetentionPeriod", nullable(whole(5, 90))),
            ("deliverAt", nullable(time())),
            ("transformationsParams", nullable(raw)),
            ("application", nullable(open(&["name"], application))),
        ],
    )
}

fn portal(application: &[(&str, Value)]) -> Value {
    open(
        &[],
        &[
            ("expiry", nullable(whole(3_600, 604_800))),
            ("capabilities", nullable(items(choice(&CAPABILITIES), 32))),
            ("readOnly", nullable(boolean())),
            ("featureFlags", nullable(items(text(), 100))),
            ("application", nullable(open(&["name"], application))),
        ],
    )
}

/// An object with these members, and any others, which are ignored.
fn open(required: &[&str], members: &[(&str, Value)]) -> Value {
    let members: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": required, "properties": members })
}

fn any_object() -> Value {
    json!({ "type": "object" })
}

fn map_of(schema: Value) -> Value {
    json!({ "type": "object", "additionalProperties": schema })
}

fn rate() -> Value {
    whole(1, 65_535)
}

fn uid() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": super::ids::NAME_CHARS_MAX, "pattern": "^[a-zA-Z0-9_.-]+$" })
}
