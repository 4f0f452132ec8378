//! Portal links: a tenant's time-limited way to its own pages, without a key.
//!
//! Invariant: a link never exceeds its maker. It has no further scope, no other app, expires no later, and ends with it.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::doc::{RouteDoc, answer, doc, done};
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors};
use crate::api::limits::{PORTAL_LINK_S_MAX, PORTAL_LINK_S_MIN, RETURN_URL_BYTES_MAX};
use crate::api::portal_token;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::id::{AppId, PortalLinkId};
use crate::model::portal::PortalLink;
use crate::model::{Scope, Time};
use crate::store::{AuditEntry, StateCommand};

use super::publish::{AppLookup, app};

/// Default time of access in seconds.
const EXPIRES_IN_S: u64 = 3_600;
/// Default time in seconds within which a link must be opened.
const ENTER_WITHIN_S: u64 = 300;
/// The scopes of a link that names none, as far as its maker has them.
const USUAL_SCOPES: [Scope; 4] = [Scope::EventsRead, Scope::EventsWrite, Scope::WebhooksRead, Scope::WebhooksWrite];
/// The scope that such a link has besides if its maker lacks `events:write`, which includes it.
const LESSER_SCOPE: Scope = Scope::DeliveriesRetry;

pub const CREATE_DOC: RouteDoc = doc(
    "createPortalLink",
    "apps",
    "Make a link by which a tenant enters its own pages",
    &[answer::<PortalLinkView>(201, "The link. Its URL is a secret until it has expired.")],
)
.takes("NewPortalLink");
pub const REVOKE_DOC: RouteDoc =
    doc("revokePortalLink", "apps", "Revoke a portal link, and end the sessions that it began", &[done("Revoked.")]);

/// A new portal link. Its URL is a secret until it has expired.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PortalLink")]
pub struct PortalLinkView<'a> {
    id: PortalLinkId,
    /// The address for the browser of the tenant.
    url: &'a str,
    app_id: AppId,
    #[schemars(length(min = 1, max = PortalLink::SCOPES.len()))]
    scopes: &'a [Scope],
    /// The time until which the URL opens the portal.
    enter_by: Time,
    /// The time at which the access ends.
    expires_at: Time,
}

fn portal_scope(text: &str) -> Option<Scope> {
    Scope::parse(text).filter(|scope| PortalLink::SCOPES.contains(scope))
}

fn return_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|_| "must be a URL".to_owned())?;
    match (matches!(url.scheme(), "http" | "https"), text.len() <= RETURN_URL_BYTES_MAX) {
        (false, _) => Err("must be an http or https URL".to_owned()),
        (_, false) => Err(format!("must have at most {RETURN_URL_BYTES_MAX} bytes")),
        _ => Ok(url.into()),
    }
}

/// `POST /v1/portal-links`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if !context.settings.pages.portal.enabled {
        return Err(ApiError::conflict("portal_off", "the portal is switched off: set portal.enabled and ui.enabled"));
    }
    let link = read(context, request)?;
    let pages = &context.settings.pages;
    let url = format!("{}/ui/portal/enter?t={}", pages.url, portal_token::text(&link, pages));
    let body = serde_json::to_vec(&PortalLinkView {
        id: link.id,
        url: &url,
        app_id: link.app_id,
        scopes: &link.scopes,
        enter_by: link.enter_by,
        expires_at: link.expires_at,
    });
    let body = bytes::Bytes::from(body.map_err(|_| ApiError::internal("a link"))?);
    let entry = AuditEntry {
        org: request.tenant().org,
        app: Some(link.app_id),
        action: "portal_link.create",
        target: link.id.to_string(),
    };
    // The first answer is stored, because its link has an id of its own.
    let write_request = request.write_secret(StateCommand::Audit(entry), Some(body.clone()))?;
    Ok(Step::apply(write_request, move |mut applied| {
        let body = applied.extra.take().unwrap_or(body);
        Ok(HttpResponse::new(StatusCode::CREATED, "application/json", body))
    }))
}

/// The link that the request asks for.
fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<PortalLink, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let app = app(&mut object, &place, &mut field_errors)?.or(request.tenant().app);
    let given = object.strings("scopes", &mut field_errors, PortalLink::SCOPES.len(), |raw| {
        let text = fields::text(raw)?;
        let names = PortalLink::SCOPES.map(Scope::as_str).join(", ");
        portal_scope(&text).map(|_| text).ok_or_else(|| format!("must be one of {names}"))
    });
    let seconds = |raw: &_| fields::whole(raw, PORTAL_LINK_S_MIN..=PORTAL_LINK_S_MAX);
    let expires_in_s = object.optional("expires_in_s", &mut field_errors, seconds).unwrap_or(EXPIRES_IN_S);
    let within = object.optional("enter_within_s", &mut field_errors, |raw| fields::whole(raw, 1..=PORTAL_LINK_S_MAX));
    let return_url = object.optional("return_url", &mut field_errors, |raw| return_url(&fields::text(raw)?));
    object.optional("language", &mut field_errors, |raw| match fields::text(raw)?.as_str() {
        "en" => Ok(()),
        _ => Err("must be en: the portal has no other language yet".to_owned()),
    });
    object.finish(&mut field_errors);
    if app.is_none() && field_errors.is_empty() {
        field_errors.push(FieldError::new("/app_id", "is required"));
    }
    let scopes: Vec<Scope> = match given {
        Some(given) => given.iter().filter_map(|text| portal_scope(text)).collect(),
        None => {
            let lesser = Some(LESSER_SCOPE).filter(|_| !request.may(Scope::EventsWrite));
            USUAL_SCOPES.into_iter().chain(lesser).filter(|scope| request.may(*scope)).collect()
        }
    };
    if scopes.is_empty() && field_errors.is_empty() {
        field_errors.push(FieldError::new("/scopes", "must have at least one that this key has too"));
    }
    fields::into_result(field_errors)?;
    let app_id = app.ok_or_else(|| ApiError::not_found("app"))?;
    if let Some(scope) = scopes.iter().find(|scope| !request.may(**scope)) {
        let detail = format!("a link cannot give the scope {}, which this key does not have", scope.as_str());
        return Err(ApiError::forbidden("scope_missing", detail));
    }
    let scopes = PortalLink::SCOPES.into_iter().filter(|scope| scopes.contains(scope)).collect();
    let key = &request.principal.key;
    let ends = context.now.plus_ms(expires_in_s as i64 * 1_000);
    let expires_at = key.expires_at.map_or(ends, |end| end.min(ends));
    let random = context.draw();
    Ok(PortalLink {
        id: portal_token::new_id(&context.settings.pages, key.org_id, app_id, random, context.now),
        key_id: key.id,
        key_hash: portal_token::hash_start(key),
        app_id,
        scopes,
        enter_by: context.now.plus_ms(within.unwrap_or(ENTER_WITHIN_S) as i64 * 1_000).min(expires_at),
        expires_at,
        return_url,
        preset: None,
    })
}

/// `DELETE /v1/portal-links/{id}`.
pub fn revoke(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: PortalLinkId = request.id("portal link")?;
    let (tenant, pages) = (request.tenant(), &context.settings.pages);
    let mut apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
    let app = apps.find(|app| portal_token::is_of(pages, tenant.org, app.id, id));
    let app = app.ok_or_else(|| ApiError::not_found("portal link"))?.id;
    let until = id.time().plus_ms(PORTAL_LINK_S_MAX as i64 * 1_000);
    let command = StateCommand::RevokePortalLink { id, app, until };
    Ok(Step::apply(request.write(command)?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}
