//! API keys: shown once at creation, listed without their text, revoked (docs/api.md).
//!
//! Invariant: a key never exceeds its creator. It has no further scope, no other app, and never the installation. It
//! expires no later, and draws from its creator's rate.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::auth::{key_hash, key_text};
use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::doc::schema::extends;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::{RATE_PER_S_MAX, RATE_PER_S_MIN};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::{ApiKey, AppId, KeyId, MakerRate, Scope, Time};
use crate::rules::patterns::{self, TYPE_BYTES_MAX};
use crate::store::{NewKey, Receipt, StateCommand, TenantScope};

use super::publish::{AppLookup, app};
use super::{apps, page, webhook_form};

/// Maximum feature flags of a key or an event type.
pub const FEATURE_FLAGS_MAX: usize = 100;

/// Maximum keys with a rate that made a key, each made by the next.
const MAKERS_MAX: usize = 8;

/// An API key, without its text.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView<'a> {
    id: KeyId,
    name: &'a str,
    #[schemars(length(min = 1, max = Scope::ALL.len()))]
    scopes: &'a [Scope],
    app_id: Option<AppId>,
    created_at: Time,
    expires_at: Option<Time>,
    #[schemars(range(min = RATE_PER_S_MIN, max = RATE_PER_S_MAX))]
    rate_per_s: Option<f64>,
    /// With a key of one app they choose the registered event types that it is shown.
    feature_flags: &'a [String],
}

/// A new API key, this once with its text.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedKey")]
pub struct NewKeyView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<KeyView>")]
    view: KeyView<'a>,
    key: &'a str,
}

impl<'a> KeyView<'a> {
    pub fn new(key: &'a ApiKey) -> Self {
        KeyView {
            id: key.id,
            name: &key.name,
            scopes: &key.scopes,
            app_id: key.app_id,
            created_at: key.created_at,
            expires_at: key.expires_at,
            rate_per_s: key.rate_per_s,
            feature_flags: &key.feature_flags,
        }
    }
}

/// Reads the name of a feature flag.
pub fn read_flag(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match patterns::is_type(&text) {
        true => Ok(text),
        false => Err(format!("must be 1 to {TYPE_BYTES_MAX} of a-z, A-Z, 0-9, '_', '.', '-'")),
    }
}

/// Whether a caller of this scope may see the key.
fn covers(tenant: TenantScope, key: &ApiKey) -> bool {
    key.org_id == tenant.org && tenant.app.is_none_or(|own| key.app_id == Some(own))
}

/// `POST /v1/keys`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let app = app(&mut object, &place, &mut field_errors)?.or(request.tenant().app);
    let name = object.required("name", &mut field_errors, apps::read_name);
    let scopes = read_scopes(&mut object, app.is_some(), &mut field_errors);
    let expires_at = object.optional("expires_at", &mut field_errors, fields::time);
    let rate_per_s = object.optional("rate_per_s", &mut field_errors, webhook_form::read_rate);
    let feature_flags = object.strings("feature_flags", &mut field_errors, FEATURE_FLAGS_MAX, read_flag);
    let feature_flags = feature_flags.unwrap_or_default();
    if expires_at.is_some_and(|at| at <= context.now) && !stored_answers::is_answered(context, request)? {
        field_errors.push(FieldError::new("/expires_at", "must lie in the future"));
    }
    object.finish(&mut field_errors);
    if scopes.is_empty() && field_errors.is_empty() {
        field_errors.push(FieldError::new("/scopes", "must have at least one item"));
    }
    fields::into_result(field_errors)?;
    if let Some(scope) = scopes.iter().find(|scope| !request.may(**scope)) {
        let detail = format!("a key cannot give the scope {}, which it does not have", scope.as_str());
        return Err(ApiError::forbidden("scope_missing", detail));
    }
    check_flags(&request.principal.key, &feature_flags)?;
    let limits = limits(&request.principal.key, expires_at, rate_per_s)?;
    let text = key_text(context.draw());
    let key = NewKey {
        app,
        name: name.unwrap_or_default(),
        scopes,
        hash: key_hash(&text),
        expires_at: limits.expires_at,
        rate_per_s: limits.rate_per_s,
        installation: false,
        makers: limits.makers,
        feature_flags,
        portal: false,
    };
    let write_request = request.write_secret(StateCommand::CreateKey { key }, Some(text.clone().into()))?;
    Ok(Step::apply(write_request, move |mut applied| {
        let text = first_text(applied.extra.take(), text);
        match applied.receipt {
            Receipt::Key(key) => {
                Ok(HttpResponse::json(StatusCode::CREATED, &NewKeyView { view: KeyView::new(&key), key: &text }))
            }
            _ => Err(super::unexpected()),
        }
    }))
}

/// The scopes in order, each once.
fn read_scopes(object: &mut JsonObject<'_>, is_of_app: bool, field_errors: &mut FieldErrors) -> Vec<Scope> {
    if !object.has("scopes") {
        field_errors.push(FieldError::new("/scopes", "is required"));
    }
    let scopes = object.strings("scopes", field_errors, Scope::ALL.len(), |raw| {
        let text = fields::text(raw)?;
        match Scope::parse(&text) {
            Some(_) => Ok(text),
            None => Err(format!("must be one of {}", Scope::ALL.map(Scope::as_str).join(", "))),
        }
    });
    let mut scopes: Vec<Scope> = scopes.unwrap_or_default().iter().filter_map(|text| Scope::parse(text)).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if is_of_app && scopes.contains(&Scope::Replicate) {
        field_errors.push(FieldError::new("/scopes", "replicate reads every app, so it is not for a key of one app"));
    }
    scopes
}

/// 403 if a key of one app gives a feature flag that it does not have.
fn check_flags(own: &ApiKey, given: &[String]) -> Result<(), ApiError> {
    match given.iter().find(|flag| own.app_id.is_some() && !own.feature_flags.contains(flag)) {
        None => Ok(()),
        Some(flag) => {
            let detail = format!("a key of one app cannot give the feature flag {flag}, which it does not have");
            Err(ApiError::forbidden("feature_flag_missing", detail))
        }
    }
}

/// The limits of a new key.
pub struct NewKeyLimits {
    pub expires_at: Option<Time>,
    pub rate_per_s: Option<f64>,
    pub makers: Vec<MakerRate>,
}

/// The limits that a key gives to one that it makes: its own, unless lower ones are asked for.
pub fn limits(maker: &ApiKey, expires_at: Option<Time>, rate_per_s: Option<f64>) -> Result<NewKeyLimits, ApiError> {
    let mut field_errors = FieldErrors::new();
    if let (Some(end), Some(asked)) = (maker.expires_at, expires_at)
        && asked > end
    {
        field_errors
            .push(FieldError::new("/expires_at", format!("must not be after {end}, when your own key expires")));
    }
    let own = maker.rate_per_s.map(|per_s| MakerRate { key: maker.id, per_s });
    let makers: Vec<MakerRate> = own.into_iter().chain(maker.makers.iter().copied()).collect();
    let lowest = makers.iter().map(|maker| maker.per_s).reduce(f64::min);
    if let (Some(lowest), Some(asked)) = (lowest, rate_per_s)
        && asked > lowest
    {
        field_errors
            .push(FieldError::new("/rate_per_s", format!("must not be more than {lowest}, your own key's rate")));
    }
    fields::into_result(field_errors)?;
    if makers.len() > MAKERS_MAX {
        let detail = format!("a key with a rate cannot be made by more than {MAKERS_MAX} others in turn");
        return Err(ApiError::forbidden("too_many_makers", detail));
    }
    Ok(NewKeyLimits { expires_at: expires_at.or(maker.expires_at), rate_per_s: rate_per_s.or(lowest), makers })
}

/// The key's text in the first answer. The receipt has its hash only.
pub fn first_text(kept: Option<bytes::Bytes>, made: String) -> String {
    kept.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()).unwrap_or(made)
}

/// `GET /v1/keys`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = request.tenant();
    let rows = context.registry.keys().rev().filter(|key| covers(tenant, key));
    let page = page::cut(CursorKind::Keys, &request.query, rows, |key| key.id.as_u128())?;
    Ok(Step::Reply(page::response(CursorKind::Keys, &page, |key| KeyView::new(key))))
}

/// `DELETE /v1/keys/{id}`.
pub fn revoke(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: KeyId = request.id("key")?;
    if !context.registry.key(id).is_some_and(|key| covers(request.tenant(), key)) {
        return Err(ApiError::not_found("key"));
    }
    Ok(Step::apply(request.write(StateCommand::RevokeKey { id })?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
