//! The schemas of request bodies that configure: webhooks, apps, keys, organizations, replays.

use serde_json::{Map, Value, json};

use crate::api::limits::{
    EVENT_TYPES_MAX, NAME_CHARS_MAX, OVERLAP_S_MAX, PORTAL_LINK_S_MAX, PORTAL_LINK_S_MIN, RETRY_IDS_MAX,
    RETURN_URL_BYTES_MAX, STATUS_CODES_MAX,
};
use crate::api::native::keys::FEATURE_FLAGS_MAX;
use crate::api::native::owned::{self, metadata_schema};
use crate::api::native::registered_types;
use crate::api::native::webhook_fields;
use crate::api::native::webhook_schema::{self, pattern, rate};
use crate::model::portal::PortalLink;
use crate::model::{AttemptOutcome, Scope, StatusCodes};

use crate::api::doc::parts::{
    about, app_name, boolean, choice, event_type, form, id, items, line, nullable, secret, time, whole,
};

pub fn schemas() -> Map<String, Value> {
    let forms = [
        ("NewWebhook", webhook_fields::new_webhook()),
        ("WebhookPatch", webhook_fields::webhook_patch()),
        ("Rotation", form(&[], [("secret", secret()), ("overlap_s", whole(0, OVERLAP_S_MAX))])),
        ("Trial", form(&[], [("type", event_type()), ("data", json!({}))])),
        ("DeliveryIds", form(&["ids"], [("ids", delivery_ids())])),
        ("NewReplay", new_replay()),
        ("NewApp", new_app()),
        ("AppPatch", app_patch()),
        ("NewKey", new_key()),
        ("Resend", form(&["webhook_id"], [("webhook_id", about(app_name(), "The webhook's id or its `uid`."))])),
        ("NewEventType", new_event_type()),
        ("EventTypeMembers", form(&[], registered_types::member_schemas())),
        ("NewPortalLink", new_portal_link()),
        ("NewOrganization", form(&["name"], [("name", name())])),
        ("Nothing", form(&[], [])),
    ];
    let mut all = webhook_schema::components();
    all.extend(forms.map(|(name, schema)| (name.to_owned(), schema)));
    all
}

fn new_event_type() -> Value {
    let mut schema = form(&["type"], registered_types::member_schemas());
    schema["properties"]["type"] = event_type();
    schema
}

fn name() -> Value {
    line(1, NAME_CHARS_MAX)
}

fn uid() -> Value {
    owned::uid_schema("The caller's own name for the app; not of the form of a UUID.")
}

fn throttle() -> Value {
    about(rate(), "Requests a second to all webhooks of the app together.")
}

fn new_app() -> Value {
    let members =
        [("name", name()), ("uid", uid()), ("metadata", metadata_schema()), ("throttle_rate_per_s", throttle())];
    form(&["name"], members)
}

fn app_patch() -> Value {
    let members = json!({
        "name": name(),
        "uid": nullable(uid()),
        "metadata": nullable(metadata_schema()),
        "throttle_rate_per_s": nullable(throttle()),
    });
    json!({ "type": "object", "properties": members, "additionalProperties": false })
}

fn new_replay() -> Value {
    let mut schema = form(
        &[],
        [
            ("webhook_id", about(id(), "Either this or `app_id`.")),
            ("app_id", app_name()),
            ("from", time()),
            ("to", time()),
            ("types", items(pattern(), EVENT_TYPES_MAX)),
            ("status", choice(&["delivered", "failed", "cancelled"])),
            ("outcome", items(choice(&AttemptOutcome::ALL.map(AttemptOutcome::as_str)), AttemptOutcome::ALL.len())),
            ("status_code", items(status_codes(), STATUS_CODES_MAX)),
            ("ended_from", about(time(), "Only events whose last delivery became final at this time or later.")),
            ("ended_to", about(time(), "Only events whose last delivery became final before this time.")),
            (
                "waiting",
                about(
                    boolean(),
                    "Send what waits now: the same deliveries become due, also those with `deliver_at`. `outcome` and \
                     `status_code` are those of the last attempt.",
                ),
            ),
            (
                "missing",
                about(
                    boolean(),
                    "Only events that match now and were never delivered there; not with `status` and other filters of the last delivery.",
                ),
            ),
            ("dry_run", boolean()),
            ("rate_per_s", rate()),
        ],
    );
    schema["oneOf"] = json!([
        { "required": ["webhook_id"], "properties": { "webhook_id": { "type": "string" }, "app_id": { "type": "null" } } },
        { "required": ["app_id"], "properties": { "app_id": { "type": "string" }, "webhook_id": { "type": "null" } } },
    ]);
    schema
}

fn status_codes() -> Value {
    let description = "A status code of the last delivery, or a class of them.";
    about(json!({ "type": "string", "pattern": format!("^({})$", StatusCodes::PATTERN) }), description)
}

fn delivery_ids() -> Value {
    let mut schema = items(id(), RETRY_IDS_MAX);
    schema["minItems"] = 1.into();
    schema["uniqueItems"] = true.into();
    schema
}

fn scopes() -> Value {
    let mut schema = items(choice(&Scope::ALL.map(Scope::as_str)), Scope::ALL.len());
    schema["minItems"] = 1.into();
    schema
}

fn new_key() -> Value {
    form(
        &["name", "scopes"],
        [
            ("name", name()),
            ("scopes", about(scopes(), "Only scopes that the maker has as well.")),
            ("app_id", about(app_name(), "Confines the key to an app.")),
            ("expires_at", time()),
            ("rate_per_s", rate()),
            (
                "feature_flags",
                about(
                    items(event_type(), FEATURE_FLAGS_MAX),
                    "With a key of one app they choose the registered event types that it is shown.",
                ),
            ),
        ],
    )
}

fn new_portal_link() -> Value {
    let mut scopes = items(choice(&PortalLink::SCOPES.map(Scope::as_str)), PortalLink::SCOPES.len());
    scopes["minItems"] = 1.into();
    let usual =
        "Only scopes that the maker has as well. Absent: events and webhooks, read and write, as far as it has them.";
    let expires = "Seconds of access. Absent: 3,600.";
    let within = "Seconds within which the URL must be opened. Absent: 300.";
    form(
        &[],
        [
            ("app_id", about(app_name(), "The app that the link opens. A key of an app may leave it out.")),
            ("scopes", about(scopes, usual)),
            ("expires_in_s", about(whole(PORTAL_LINK_S_MIN, PORTAL_LINK_S_MAX), expires)),
            ("enter_within_s", about(whole(1, PORTAL_LINK_S_MAX), within)),
            ("return_url", about(line(1, RETURN_URL_BYTES_MAX), "An http or https URL that the portal leads back to.")),
            ("language", about(choice(&["en"]), "The language of the pages.")),
        ],
    )
}
