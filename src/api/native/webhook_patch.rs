//! `PATCH /v1/webhooks/{id}`: a merge patch (RFC 7396) on the webhook's JSON form, then read like a new one.
//!
//! It departs from merging in three places where merging would be useless. A credential that is sent back as its mask
//! stays. An `auth` of another `type` replaces the whole old one. So does a filter that is complete by itself.

use serde_json::{Map, Value};

use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, JsonObject};
use crate::api::request_context::RequestContext;
use crate::model::Webhook;
use crate::rules::filter::Filter;
use crate::rules::secrecy;
use crate::rules::target::TargetPolicy;

use super::webhook_fields::{self, is_read_only, writable};
use super::webhook_text::MASK;

/// The webhook after the request's patch. 422 with every mistake at once, 400 for a body that is not strict JSON.
pub fn patched(webhook: &Webhook, request: &RequestContext<'_>, policy: &TargetPolicy) -> Result<Webhook, ApiError> {
    apply(webhook, request.object()?, policy)
}

/// The webhook after `patch`, whose names may have been translated from another mount's.
pub fn apply(webhook: &Webhook, mut patch: JsonObject<'_>, policy: &TargetPolicy) -> Result<Webhook, ApiError> {
    let mut field_errors = FieldErrors::new();
    let (checked, has_tls) = (patch.has("url").then_some(policy), patch.has("tls"));
    let mut form = Vec::new();
    for (field, _) in writable() {
        let (name, before) = (field.name, field.stored(webhook));
        let after = match patch.take_any(name) {
            None => before,
            Some(raw) if name == "filter" && Filter::parse_text(raw.get().as_bytes()).is_ok() => raw.get().to_owned(),
            Some(raw) => match serde_json::from_str::<Value>(raw.get()) {
                Ok(change) => merge_field(name, &before, change, &mut field_errors),
                // A number beyond a double: no field accepts it, and its reader reports it.
                Err(_) => raw.get().to_owned(),
            },
        };
        form.push(format!("\"{name}\":{after}"));
    }
    refuse_rest(patch, &mut field_errors);
    let text = format!("{{{}}}", form.join(","));
    let mut merged = webhook.clone();
    let mut object =
        JsonObject::read(&text, String::new()).map_err(|field_error| ApiError::invalid(vec![field_error]))?;
    webhook_fields::read(&mut merged, &mut object, checked, &mut field_errors);
    if !has_tls {
        // Like a stored URL, stored certificates are not judged again: earlier versions took some that cannot be used.
        field_errors.retain(|field_error| !field_error.pointer.starts_with("/tls"));
    }
    stay_secret(webhook, &merged, &mut field_errors);
    fields::into_result(field_errors)?;
    Ok(merged)
}

/// A masked value is not revealed by removing its mark. The caller must send it again.
fn stay_secret(before: &Webhook, after: &Webhook, field_errors: &mut FieldErrors) {
    let shown = |(name, value): (&String, &String)| {
        secrecy::is_secret_header(before, name)
            && !secrecy::is_secret_header(after, name)
            && after.headers.get(name) == Some(value)
    };
    if let Some((name, _)) = before.headers.iter().find(|header| shown(*header)) {
        let detail = format!("must still name {name}, unless the header gets a new value");
        field_errors.push(FieldError::new("/secret_headers", detail));
    }
}

/// Names the remaining members of the patch, and why they cannot be patched.
fn refuse_rest(patch: JsonObject<'_>, field_errors: &mut FieldErrors) {
    for (name, _) in patch.rest() {
        let detail = match name.as_ref() {
            "secret" => "is set at creation and changed by rotate-secret",
            name if is_read_only(name) => "is read-only",
            _ => "is not a known field",
        };
        field_errors.push(FieldError::new(format!("/{}", crate::rules::json::escape_token(&name)), detail));
    }
}

fn merge_field(name: &str, before: &str, change: Value, field_errors: &mut FieldErrors) -> String {
    let mut value: Value = serde_json::from_str(before).unwrap_or(Value::Null);
    let credentials: Vec<String> = match name {
        "auth" => ["password", "token", "value"].map(str::to_owned).into(),
        "tls" => vec!["client_key_pem".to_owned()],
        "headers" => secret_headers(&change),
        _ => Vec::new(),
    };
    let kept: Vec<Option<Value>> = credentials.iter().map(|member| value.get(member).cloned()).collect();
    let other_kind = name == "auth" && change.get("type").is_some_and(|kind| value.get("type") != Some(kind));
    if other_kind {
        value = Value::Null;
    }
    merge(&mut value, change);
    for (member, kept) in credentials.into_iter().zip(kept) {
        if value.get(&member).and_then(Value::as_str) != Some(MASK) {
            continue;
        }
        match kept {
            Some(credential) if !other_kind => value[&member] = credential,
            // The reader of the field refuses it.
            _ if name != "tls" => {}
            _ => field_errors
                .push(FieldError::new(format!("/{name}/{member}"), "is the mask that stands for a credential")),
        }
    }
    value.to_string()
}

/// The headers that arrive as the mask, which keep their values.
fn secret_headers(change: &Value) -> Vec<String> {
    let members = change.as_object().into_iter().flatten();
    members.filter(|(_, value)| value.as_str() == Some(MASK)).map(|(name, _)| name.clone()).collect()
}

/// RFC 7396 section 2, `MergePatch(Target, Patch)`.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests;
