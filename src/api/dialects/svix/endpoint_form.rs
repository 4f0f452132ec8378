//! Reads the members of an endpoint into a webhook.
//!
//! A member that is absent means its default in a new or replaced endpoint, and no change in a patch. Null clears.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::api::error::FieldError;
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::native::webhook_form;
use crate::model::Webhook;
use crate::model::webhook::{FieldSet, SignatureScheme, WebhookStatus};
use crate::rules::target::{self, TargetPolicy};

use super::apps::{ALIAS, nullable, read_alias, read_metadata, read_rate, read_uid};
use super::ids::{Noun, is_name};
use super::query::CHANNEL_CHARS_MAX;

/// Maximum number of channels of an endpoint.
const CHANNELS_MAX: usize = 10;
/// Maximum number of event types of an endpoint.
const TYPES_MAX: usize = crate::api::limits::EVENT_TYPES_MAX;
const TIMEOUT_MS: u32 = 30_000;
/// Seconds before each retry.
const SCHEDULE_S: [u32; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// The members of an endpoint that a caller sets. `None` for an absent one, `Some(None)` for null.
#[derive(Default)]
pub struct EndpointInput {
    url: Option<String>,
    description: Option<String>,
    disabled: Option<bool>,
    event_types: Option<Option<Vec<String>>>,
    channels: Option<Option<Vec<String>>>,
    rate: Option<Option<f64>>,
    uid: Option<Option<String>>,
    metadata: Option<BTreeMap<String, String>>,
    alias: Option<Option<String>>,
}

impl EndpointInput {
    /// Reads the members of a new endpoint, or of a change of `old`. The URL is required unless the body is a patch. Values
    /// that a webhook got natively may be beyond the rules of this API, and stay if they are sent back.
    pub fn read(
        object: &mut JsonObject<'_>,
        (old, is_patch): (Option<&Webhook>, bool),
        policy: &TargetPolicy,
        field_errors: &mut FieldErrors,
    ) -> EndpointInput {
        let read = |raw: &RawValue| read_url(raw, policy);
        let url = match is_patch && !object.has("url") {
            true => None,
            false => object.required("url", field_errors, read),
        };
        // `version` is checked and not stored: every endpoint is of version 1.
        object.optional("version", field_errors, |raw| fields::whole(raw, 1..=u64::from(u16::MAX)));
        EndpointInput {
            url,
            description: object.optional("description", field_errors, webhook_form::read_description),
            disabled: object.optional("disabled", field_errors, fields::boolean),
            event_types: read_types(object, old.map_or(&[], |old| &old.event_types), field_errors),
            channels: names(
                object,
                "channels",
                (CHANNELS_MAX, CHANNEL_CHARS_MAX),
                old.map_or(&[], |old| &old.channels),
                field_errors,
            ),
            rate: read_rate(object, old.and_then(|old| old.rate_limit_per_s), field_errors),
            uid: nullable(object, "uid", field_errors, |raw| read_uid(raw, Noun::Endpoint)),
            metadata: read_metadata(object, field_errors),
            alias: nullable(object, ALIAS, field_errors, |raw| read_alias(raw, Noun::Endpoint)),
        }
    }

    /// The event types that the body names.
    pub fn named_types(&self) -> &[String] {
        self.event_types.as_ref().and_then(Option::as_deref).unwrap_or_default()
    }

    /// The webhook with the members that are given. In place of a patch the others get their defaults.
    pub fn apply(self, webhook: &mut Webhook, is_patch: bool) {
        if let Some(url) = self.url {
            webhook.url = url;
        }
        let keeps = |is_absent: bool| is_patch && is_absent;
        if !keeps(self.description.is_none()) {
            webhook.description = self.description.filter(|text| !text.is_empty());
        }
        if !keeps(self.disabled.is_none()) {
            set_disabled(webhook, self.disabled.unwrap_or(false));
        }
        if !keeps(self.event_types.is_none()) {
            webhook.event_types = self.event_types.flatten().unwrap_or_default();
        }
        if !keeps(self.channels.is_none()) {
            webhook.channels = self.channels.flatten().unwrap_or_default();
        }
        if !keeps(self.rate.is_none()) {
            webhook.rate_limit_per_s = self.rate.flatten();
        }
        if !keeps(self.uid.is_none()) {
            webhook.uid = self.uid.flatten();
        }
        if !keeps(self.metadata.is_none()) {
            webhook.metadata = self.metadata.unwrap_or_default();
        }
        // A client of Svix does not know it, so its absence changes nothing.
        if let Some(alias) = self.alias {
            webhook.alias = alias;
        }
    }
}

/// A paused webhook is not disabled, and stays paused.
fn set_disabled(webhook: &mut Webhook, is_disabled: bool) {
    match (is_disabled, webhook.status) {
        (true, _) => webhook.status = WebhookStatus::Disabled,
        (false, WebhookStatus::Disabled) => webhook.status = WebhookStatus::Enabled,
        (false, WebhookStatus::Enabled | WebhookStatus::Paused) => {}
    }
}

/// A new endpoint before its members are read: raw bodies, signed and retried as Svix does.
pub fn preset(webhook: &mut Webhook) {
    webhook.field_set = FieldSet::Raw;
    webhook.signature = vec![SignatureScheme::Svix];
    webhook.retry_schedule_s = SCHEDULE_S.to_vec();
    webhook.timeout_ms = TIMEOUT_MS;
}

/// A URL that may be delivered to, in the form of the WHATWG URL standard.
fn read_url(raw: &RawValue, policy: &TargetPolicy) -> FieldResult<String> {
    let text = fields::text(raw)?;
    let url = url::Url::parse(&text).map_err(|_| "must be a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have user information: credentials belong in headers".to_owned());
    }
    target::check_url(url.as_str(), policy).map_err(|refused| refused.to_string())?;
    Ok(url.into())
}

/// `eventTypes`, or `filterTypes` of older clients.
fn read_types(
    object: &mut JsonObject<'_>,
    kept: &[String],
    field_errors: &mut FieldErrors,
) -> Option<Option<Vec<String>>> {
    let is_given = |object: &JsonObject<'_>, name: &str| object.has(name);
    let both = is_given(object, "eventTypes") && is_given(object, "filterTypes");
    let limits = (TYPES_MAX, crate::rules::patterns::TYPE_BYTES_MAX);
    let types = names(object, "eventTypes", limits, kept, field_errors);
    let older = names(object, "filterTypes", limits, kept, field_errors);
    if both && types.as_ref().is_some_and(Option::is_some) && older.as_ref().is_some_and(Option::is_some) {
        field_errors.push(FieldError::new("/filterTypes", "must not stand beside eventTypes"));
    }
    match (types, older) {
        (Some(None) | None, Some(older)) => Some(older),
        (types, _) => types,
    }
}

/// A list of at least one name. Items of `kept`, the list before, are taken as they are.
fn names(
    object: &mut JsonObject<'_>,
    member: &str,
    (items_max, chars_max): (usize, usize),
    kept: &[String],
    field_errors: &mut FieldErrors,
) -> Option<Option<Vec<String>>> {
    if !object.has(member) {
        return None;
    }
    let read = |raw: &RawValue| {
        let text = fields::text(raw)?;
        match kept.contains(&text) || is_name(&text) && text.len() <= chars_max {
            true => Ok(text),
            false => Err(format!("must be 1 to {chars_max} of a-z, A-Z, 0-9, '_', '.', '-'")),
        }
    };
    let before = field_errors.len();
    let mut list = object.strings(member, field_errors, items_max.max(kept.len()), read);
    object.take_any(member);
    if list.as_ref().is_some_and(Vec::is_empty) && field_errors.len() == before {
        field_errors.push(FieldError::new(object.at(member), "must have at least one item"));
    }
    if let Some(list) = &mut list {
        list.sort_unstable();
        list.dedup();
    }
    Some(list)
}
