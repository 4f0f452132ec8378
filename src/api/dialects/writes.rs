//! Writes of webhooks in a vendor's shape, checked by the native rules under the native names.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, JsonObject};
use crate::api::native::{webhook_fields, webhook_patch, webhooks};
use crate::api::request_context::RequestContext;
use crate::model::Webhook;
use crate::rules::signing;
use crate::store::{Applied, Receipt, TenantScope, first_secret};

/// The vendor's name and the native name of each field that has two.
pub type FieldNames = &'static [(&'static str, &'static str)];

/// Fields of a webhook under their native names.
#[derive(Default)]
pub struct NativeForm {
    members: Vec<(&'static str, String)>,
}

impl NativeForm {
    pub fn set(&mut self, name: &'static str, value: impl Serialize) {
        self.members.push((name, serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned())));
    }

    /// Sets a field to the vendor's value as it was given. An absent value sets nothing.
    pub fn set_raw(&mut self, name: &'static str, value: Option<&RawValue>) {
        self.members.extend(value.map(|raw| (name, raw.get().to_owned())));
    }

    fn text(&self) -> String {
        let members = self.members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

/// A new webhook of `tenant` with a fresh secret. 422 with every mistake, `field_errors` included, under the vendor's
/// names.
pub fn new_webhook(
    context: &mut ApiContext<'_>,
    tenant: TenantScope,
    form: &NativeForm,
    names: FieldNames,
    mut field_errors: FieldErrors,
) -> Result<Webhook, ApiError> {
    let app = webhooks::own_app(&context.registry, tenant)?;
    let mut webhook = Webhook::new(tenant.org, app);
    let text = form.text();
    let mut native = FieldErrors::new();
    webhook_fields::read(&mut webhook, &mut object(&text)?, Some(&context.settings.policy), &mut native);
    field_errors.extend(renamed(native, names));
    fields::into_result(field_errors)?;
    webhook.secrets = first_secret(signing::make_secret(|| context.draw()), context.now);
    Ok(webhook)
}

/// `webhook` after `form` as a merge patch. 422 with every mistake, `field_errors` included, under the vendor's names.
/// 403 where only the installation may make the change.
pub fn changed(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: &Webhook,
    form: &NativeForm,
    (names, mut field_errors): (FieldNames, FieldErrors),
) -> Result<Webhook, ApiError> {
    let text = form.text();
    match webhook_patch::apply(webhook, object(&text)?, &context.settings.policy) {
        Ok(patched) => {
            fields::into_result(field_errors)?;
            webhooks::check_bypass(Some(webhook), &patched, request)?;
            Ok(patched)
        }
        Err(api_error) if api_error.errors.is_empty() => Err(api_error),
        Err(api_error) => {
            field_errors.extend(renamed(api_error.errors, names));
            Err(ApiError::invalid(field_errors))
        }
    }
}

fn object(text: &str) -> Result<JsonObject<'_>, ApiError> {
    JsonObject::read(text, String::new()).map_err(|field_error| ApiError::invalid(vec![field_error]))
}

/// The mistakes with the vendor's name of each field.
fn renamed(field_errors: FieldErrors, names: FieldNames) -> impl Iterator<Item = FieldError> {
    field_errors.into_iter().map(move |field_error| {
        let own = field_error.pointer.trim_start_matches('/');
        let (field, rest) =
            own.split_once('/').map_or((own, String::new()), |(field, rest)| (field, format!("/{rest}")));
        match names.iter().find(|(_, native)| *native == field) {
            Some((vendors, _)) => FieldError { pointer: format!("/{vendors}{rest}"), ..field_error },
            None => field_error,
        }
    })
}

/// The webhook of a receipt.
pub fn received(applied: Applied) -> Result<Arc<Webhook>, ApiError> {
    match applied.receipt {
        Receipt::Webhook(webhook) => Ok(webhook),
        _ => Err(ApiError::internal("the store answered something else than was asked")),
    }
}
