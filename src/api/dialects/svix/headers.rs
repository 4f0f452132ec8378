//! The headers that an endpoint's requests carry, with the names that Svix refuses or hides.

use std::collections::{BTreeMap, HashSet};

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::HEADERS_MAX;
use crate::api::native::webhook_form;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::Webhook;
use crate::rules::json::escape_token;
use crate::rules::secrecy;
use crate::store::StateCommand;

use super::ids;
use crate::api::dialects::derived::ok;

/// Names whose values are not shown.
const SENSITIVE: [&str; 6] =
    ["x-auth-token", "x-api-key", "www-authenticate", "authorization", "proxy-authenticate", "proxy-authorization"];
const REFUSED: [&str; 15] = [
    "user-agent",
    "keep-alive",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "age",
    "cache-control",
    "clear-site-data",
    "expires",
    "pragma",
    "warning",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
];
const REFUSED_PREFIXES: [&str; 9] =
    ["svix-", "x-svix-", "x-amz-", "x-amzn-", "x-google", "x-goog-", "x-gfe", "x-azure-", "x-fd-"];

/// Headers of an endpoint.
#[derive(Serialize, JsonSchema)]
pub struct SvixHeaders<'a> {
    /// Without the sensitive ones.
    headers: BTreeMap<&'a str, &'a str>,
    /// Names of the headers that are not shown.
    sensitive: Vec<&'a str>,
}

impl<'a> SvixHeaders<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let is_hidden = |name: &str| {
            SENSITIVE.iter().any(|known| known.eq_ignore_ascii_case(name)) || secrecy::is_secret_header(webhook, name)
        };
        let (hidden, open): (Vec<_>, Vec<_>) = webhook.headers.iter().partition(|(name, _)| is_hidden(name));
        SvixHeaders {
            headers: open.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            sensitive: hidden.into_iter().map(|(name, _)| name.as_str()).collect(),
        }
    }
}

fn read_name(name: String) -> FieldResult<String> {
    let lower = name.to_ascii_lowercase();
    let is_refused =
        REFUSED.contains(&lower.as_str()) || REFUSED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if is_refused { Err("is a header that cannot be set".to_owned()) } else { webhook_form::read_header_name(name) }
}

/// Reads a map of headers.
pub fn read(map: JsonObject<'_>, field_errors: &mut FieldErrors) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for (name, value) in read_changes(map, field_errors) {
        headers.extend(value.map(|value| (name, value)));
    }
    headers
}

/// Reads a map of headers, in which null removes.
fn read_changes(map: JsonObject<'_>, field_errors: &mut FieldErrors) -> Vec<(String, Option<String>)> {
    let at = map.pointer().to_owned();
    let members = map.rest();
    if members.len() > HEADERS_MAX {
        field_errors.push(FieldError::new(at, format!("must have at most {HEADERS_MAX} entries")));
        return Vec::new();
    }
    let (mut changes, mut names) = (Vec::new(), HashSet::new());
    for (name, raw) in members {
        let here = format!("{at}/{}", escape_token(&name));
        if !names.insert(name.to_ascii_lowercase()) {
            field_errors.push(FieldError::new(here.clone(), "is there already, spelled otherwise"));
        }
        let value = || match raw.get() {
            "null" => Ok(None),
            _ => webhook_form::read_header_value(raw).map(Some),
        };
        match read_name(name.into_owned()).and_then(|name| Ok((name, value()?))) {
            Ok(change) => changes.push(change),
            Err(detail) => field_errors.push(FieldError::new(here, detail)),
        }
    }
    changes
}

/// Removes a header of any spelling.
fn remove(headers: &mut BTreeMap<String, String>, name: &str) {
    headers.retain(|own, _| !own.eq_ignore_ascii_case(name));
}

/// `GET …/endpoint/{endpoint_id}/headers`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    ok(&SvixHeaders::new(&ids::endpoint(context, request)?.1))
}

/// `PUT …/endpoint/{endpoint_id}/headers`: replaces all.
pub fn replace(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let given = object.object("headers", &mut field_errors);
    if given.is_none() && field_errors.is_empty() {
        field_errors.push(required());
    }
    let headers = given.map(|map| read(map, &mut field_errors)).unwrap_or_default();
    fields::into_result(field_errors)?;
    set(request, &webhook, headers)
}

/// `PATCH …/endpoint/{endpoint_id}/headers`: merges. Null, or the name in `deleteHeaders`, removes.
pub fn patch(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let removes = object.has("deleteHeaders");
    let given = object.object("headers", &mut field_errors);
    if given.is_none() && !removes && field_errors.is_empty() {
        field_errors.push(required());
    }
    let changes = given.map(|map| read_changes(map, &mut field_errors)).unwrap_or_default();
    let removed = object.strings("deleteHeaders", &mut field_errors, HEADERS_MAX, fields::text).unwrap_or_default();
    let mut headers = webhook.headers.clone();
    for name in &removed {
        remove(&mut headers, name);
    }
    for (name, value) in changes {
        remove(&mut headers, &name);
        headers.extend(value.map(|value| (name, value)));
    }
    if headers.len() > HEADERS_MAX {
        field_errors.push(FieldError::new("/headers", format!("must have at most {HEADERS_MAX} entries in all")));
    }
    fields::into_result(field_errors)?;
    set(request, &webhook, headers)
}

/// The mistake of a body without headers. Null is as good as absent.
fn required() -> FieldError {
    FieldError::new("/headers", "is required")
}

fn set(request: &RequestContext<'_>, old: &Webhook, headers: BTreeMap<String, String>) -> Result<Step, ApiError> {
    let done = || HttpResponse::empty(StatusCode::NO_CONTENT);
    if headers == old.headers {
        return Ok(Step::Reply(done()));
    }
    let mut webhook = Webhook { headers, ..old.clone() };
    webhook.secret_headers.retain(|name| webhook.headers.keys().any(|own| own.eq_ignore_ascii_case(name)));
    let write_request = request.write(StateCommand::UpdateWebhook { webhook: Box::new(webhook) })?;
    Ok(Step::apply(write_request, move |_| Ok(done())))
}
