//! The settings on a webhook's page: the usual ones, and every other that differs from its default.
//!
//! Invariant: no credential is shown.

use maud::{Markup, html};
use serde_json::Value;

use crate::api::native::webhook_fields::writable;
use crate::api::native::webhook_live::WebhookLive;
use crate::model::webhook::{DeliveryOrder, SuccessRule, WebhookAuth};
use crate::model::{Scope, Webhook};
use crate::rules::{durations, secrecy};
use crate::ui::format::{self, foreign};
use crate::ui::frame::Frame;

/// The members that the page shows by themselves, or beside another.
const SHOWN_APART: [&str; 15] = [
    "name",
    "description",
    "url",
    "method",
    "field_set",
    "event_types",
    "channels",
    "filter",
    "status",
    "signature",
    "retry_schedule_s",
    "timeout_ms",
    "max_in_flight",
    "rate_limit_per_s",
    "ordered",
];

/// A retry schedule in words.
pub fn schedule(seconds: &[u32]) -> String {
    let steps: Vec<String> = seconds.iter().map(|s| format::age(i64::from(*s) * 1_000)).collect();
    if steps.is_empty() { "none".to_owned() } else { steps.join(", ") }
}

/// The panel.
pub fn panel(webhook: &Webhook, frame: &Frame) -> Markup {
    let types = if webhook.event_types.is_empty() { "all".to_owned() } else { webhook.event_types.join(", ") };
    let schemes: Vec<String> = webhook.signature.iter().map(|scheme| format!("{scheme:?}").to_lowercase()).collect();
    let rate = webhook.rate_limit_per_s.map_or("no rate limit".to_owned(), |rate| format!("{rate} a second"));
    let order = match webhook.ordered {
        DeliveryOrder::No => "none",
        DeliveryOrder::Webhook => "strict",
        DeliveryOrder::Key => "strict for each ordering key",
    };
    let path = format!("webhooks/{}", webhook.id);
    html! {
        section.panel aria-labelledby="se" {
            header {
                h2 #se { "Settings" }
                @if frame.may(Scope::WebhooksWrite) { a href=(frame.link(&format!("{path}/edit"))) { "Edit" } }
            }
            dl.facts {
                div { dt { "Events" } dd { code { (foreign(&types)) } } }
                @if !webhook.channels.is_empty() {
                    div { dt { "Channels" } dd { code { (foreign(&webhook.channels.join(", "))) } } }
                }
                @if let Some(filter) = &webhook.filter { div { dt { "Filter" } dd { code { (foreign(filter)) } } } }
                div { dt { "Body" } dd { (format!("{:?}", webhook.field_set).to_lowercase()) } }
                div { dt { "Signature" } dd { @if schemes.is_empty() { "none" } @else { (schemes.join(", ")) } } }
                @if frame.may(Scope::WebhooksSecret) {
                    div {
                        dt { "Secret" }
                        dd {
                            (frame.button(&format!("{path}/secret"), "btn small", "Reveal")) " "
                            @if frame.may(Scope::WebhooksWrite) {
                                a href=(frame.link(&format!("{path}/rotate"))) { "Rotate…" }
                            }
                        }
                    }
                }
                div { dt { "Retries" } dd { (schedule(&webhook.retry_schedule_s)) } }
                div { dt { "Time limit" } dd { (format::millis(webhook.timeout_ms)) } }
                div { dt { "At once" } dd { (webhook.max_in_flight) ", " (rate) } }
                div { dt { "Order" } dd { (order) } }
                @for (name, value) in further(webhook) { div { dt { (name) } dd { (foreign(&value)) } } }
                div { dt { "Made" } dd { (format::moment(webhook.created_at, frame.now)) } }
                div { dt { "Id" } dd { code { (webhook.id) } } }
            }
            @if frame.may(Scope::WebhooksWrite) {
                footer { a href=(frame.link(&format!("{path}/delete"))) { "Delete…" } }
            }
        }
    }
}

/// The name and the value of every setting that is not shown apart and differs from its default.
fn further(webhook: &Webhook) -> Vec<(String, String)> {
    let default = Webhook::new(webhook.org_id, webhook.app_id);
    let live = WebhookLive::default();
    let members = writable().map(|(field, _)| field).filter(|field| !SHOWN_APART.contains(&field.name));
    let set = members.filter(|field| (field.shown)(webhook, &live) != (field.shown)(&default, &live));
    set.map(|field| named(webhook, field.name, (field.shown)(webhook, &live))).collect()
}

/// The name and the value of a setting in words. `json` is the value as the API shows it.
fn named(webhook: &Webhook, name: &str, json: String) -> (String, String) {
    let (label, value) = match name {
        "content_type" => ("Media type", plain(&json)),
        "include_html" => ("HTML", "kept in legacy bodies".to_owned()),
        "auth" => ("Authentication", auth(webhook)),
        "headers" => ("Headers", headers(webhook)),
        "secret_headers" => ("Secret headers", webhook.secret_headers.join(", ")),
        "encrypted" => ("Encryption", "the body as JWE".to_owned()),
        "tls" => ("Certificates", certificates(webhook)),
        "proxy" => ("Proxy", plain(&json)),
        "handshake" => ("Handshake", "of CloudEvents, before the first request".to_owned()),
        "success_rule" => ("Delivered is", success(webhook).to_owned()),
        "disable_after_s" => ("Switched off after", disable_after(webhook.disable_after_s)),
        "uid" => ("Uid", plain(&json)),
        "metadata" => ("Metadata", json),
        // A member that is new to the table is shown as the API shows it.
        _ => return (name.replace('_', " "), plain(&json)),
    };
    (label.to_owned(), value)
}

/// A JSON text without the quotes of a string.
fn plain(json: &str) -> String {
    serde_json::from_str::<Value>(json)
        .ok()
        .as_ref()
        .and_then(Value::as_str)
        .map_or_else(|| json.to_owned(), str::to_owned)
}

/// The kind of the authentication, without its secret.
fn auth(webhook: &Webhook) -> String {
    match &webhook.auth {
        None => "none".to_owned(),
        Some(WebhookAuth::Basic { username, .. }) => format!("Basic, as {username}"),
        Some(WebhookAuth::Bearer { .. }) => "a bearer token".to_owned(),
        Some(WebhookAuth::Header { name, .. }) => format!("the secret header {name}"),
    }
}

/// The names of the headers.
fn headers(webhook: &Webhook) -> String {
    let name = |name: &String| match secrecy::is_secret_header(webhook, name) {
        true => format!("{name} (secret)"),
        false => name.clone(),
    };
    webhook.headers.keys().map(name).collect::<Vec<_>>().join(", ")
}

fn certificates(webhook: &Webhook) -> String {
    let tls = webhook.tls.clone().unwrap_or_default();
    let ca = tls.ca_pem.map(|_| "an own CA");
    let client = tls.client_cert_pem.map(|_| "a client certificate");
    ca.into_iter().chain(client).collect::<Vec<_>>().join(", ")
}

const fn success(webhook: &Webhook) -> &'static str {
    match webhook.success_rule {
        SuccessRule::Any2xx => "any 2xx",
        SuccessRule::Only200 => "200 only",
    }
}

fn disable_after(seconds: u64) -> String {
    match seconds {
        0 => "never".to_owned(),
        _ => format!("{} of failures", durations::exact(seconds as i64 * 1_000)),
    }
}

#[cfg(test)]
mod tests;
