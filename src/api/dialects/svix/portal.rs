//! Tokens of an app's portal: keys that are confined to one app.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::auth::{key_hash, key_text};
use crate::api::context::ApiContext;
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, FieldResult, JsonObject};
use crate::api::limits::PORTAL_LINK_S_MAX;
use crate::api::logins::PageSettings;
use crate::api::native::keys;
use crate::api::portal_token;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::portal::PortalLink;
use crate::model::{AppId, Id, OrganizationId, Scope, Time};
use crate::store::{NewKey, Receipt, StateCommand, WriteRequest};

use super::apps::AppInput;
use super::errors::{absent, generic};
use super::ids;
use crate::api::dialects::derived::ok;

/// Range of the lifetime of a token in seconds.
const EXPIRY_S: std::ops::RangeInclusive<u64> = 3_600..=604_800;
/// Maximum number of capabilities in one request.
const CAPABILITIES_MAX: usize = 32;
const FLAGS_MAX: usize = 100;
/// The capabilities of Svix (`AppPortalCapability`).
pub const CAPABILITIES: [&str; 6] = [
    "ViewBase",
    "ViewEndpointSecret",
    "ManageEndpointSecret",
    "ManageTransformations",
    "CreateAttempts",
    "ManageEndpoint",
];
const READ_SCOPES: [Scope; 3] = [Scope::AppsRead, Scope::WebhooksRead, Scope::EventsRead];
/// The scopes of a token that is not narrowed.
pub const ALL_SCOPES: [Scope; 6] =
    [Scope::AppsRead, Scope::WebhooksRead, Scope::WebhooksWrite, Scope::WebhooksSecret, Scope::EventsRead, RETRY];
/// The scope of acting on messages without sending.
pub const RETRY: Scope = Scope::DeliveriesRetry;

/// A new token of an app's portal.
#[derive(Serialize, JsonSchema)]
pub struct SvixPortalAccess<'a> {
    /// The address for the browser of the tenant: a link to its pages for a day at most. Without a portal it is the server's.
    url: &'a str,
    token: &'a str,
}

/// The members of a request for a token.
struct PortalInput {
    scopes: Vec<Scope>,
    expiry_s: u64,
    feature_flags: Vec<String>,
    application: Option<AppInput>,
}

impl PortalInput {
    fn read(mut object: JsonObject<'_>) -> Result<PortalInput, ApiError> {
        let mut field_errors = FieldErrors::new();
        let expiry_s = object.optional("expiry", &mut field_errors, |raw| fields::whole(raw, EXPIRY_S));
        let capabilities = object.strings("capabilities", &mut field_errors, CAPABILITIES_MAX, read_capability);
        let is_read_only = object.optional("readOnly", &mut field_errors, fields::boolean).unwrap_or(false);
        let flags = object.strings("featureFlags", &mut field_errors, FLAGS_MAX, fields::text);
        let application = object.object("application", &mut field_errors);
        let application = application.map(|mut own| AppInput::read(&mut own, (None, false), &mut field_errors));
        fields::into_result(field_errors)?;
        let scopes = match (capabilities, is_read_only) {
            (_, true) => READ_SCOPES.to_vec(),
            (Some(capabilities), false) => scopes_of(&capabilities),
            (None, false) => ALL_SCOPES.to_vec(),
        };
        Ok(PortalInput {
            scopes,
            expiry_s: expiry_s.unwrap_or(*EXPIRY_S.end()),
            feature_flags: flags.unwrap_or_default(),
            application,
        })
    }
}

fn read_capability(raw: &RawValue) -> FieldResult<String> {
    let text = fields::text(raw)?;
    match CAPABILITIES.contains(&text.as_str()) {
        true => Ok(text),
        false => Err(format!("must be one of {}", CAPABILITIES.join(", "))),
    }
}

/// The scopes of the capabilities. There are no transformations, so managing them gives none.
fn scopes_of(capabilities: &[String]) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = capabilities
        .iter()
        .flat_map(|capability| match capability.as_str() {
            "ViewBase" => READ_SCOPES.as_slice(),
            "ViewEndpointSecret" | "ManageEndpointSecret" => &[Scope::WebhooksSecret],
            "ManageEndpoint" => &[Scope::WebhooksRead, Scope::WebhooksWrite],
            "CreateAttempts" => &[RETRY],
            _ => &[],
        })
        .copied()
        .chain([Scope::AppsRead])
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// `POST /api/v1/auth/app-portal-access/{app_id}`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let found = ids::find_app(context, request, ids::name_in_path(request, "app_id")?);
    let object = request.optional_object()?;
    if found.is_none() && !object.has("application") {
        return Err(absent());
    }
    let mut input = PortalInput::read(object)?;
    let application = input.application.take();
    let (text, key) = new_key(context, request, &input)?;
    let (door, named) = (PortalDoor::new(context, request, &key), request.path.get("app_id"));
    match found {
        Some(app) => {
            let url = door.url(app.id);
            token_step(request.write_secret(command(key, app.id), None)?, &text, url)
        }
        None => {
            request.principal.need(Scope::AppsWrite)?;
            let application = application.unwrap_or_default();
            if application.uid() != Some(named) {
                let detail = "must be there, and be the one in the path";
                return Err(ApiError::invalid(vec![FieldError::new("/application/uid", detail)]));
            }
            let mut write_request = request.write_secret(application.ensure(), None)?;
            let (idempotency, caller) = (write_request.idempotency.take(), write_request.caller.clone());
            let then = Box::new(move |applied: Result<crate::store::Applied, _>| {
                let Receipt::EnsuredApp { app, .. } = applied?.receipt else { return Err(super::unexpected()) };
                let (command, url) = (command(key, app.id).into(), door.url(app.id));
                token_step(WriteRequest { caller, idempotency, command }, &text, url)
            });
            Ok(Step::Apply { write_request: Box::new(write_request), then })
        }
    }
}

/// The access of a browser to an app's pages. It ends with the token, or earlier by the limit of portal links.
struct PortalDoor {
    pages: PageSettings,
    /// The link without its app. `None` if there is no portal, or if the caller's token is not a stored key.
    link: Option<PortalLink>,
    org: OrganizationId,
    random: [u8; 2],
    now: Time,
}

impl PortalDoor {
    fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>, key: &NewKey) -> PortalDoor {
        let maker = &request.principal.key;
        let longest = context.now.plus_ms(PORTAL_LINK_S_MAX as i64 * 1_000);
        let expires_at = key.expires_at.map_or(longest, |end| end.min(longest));
        // The pages of a tenant ask for `events:write` to send again, and send nothing new.
        let is_given = |scope: &Scope| match scope {
            Scope::EventsWrite => key.scopes.contains(&RETRY) && request.may(Scope::EventsWrite),
            other => key.scopes.contains(other),
        };
        let has_portal = context.settings.pages.portal.enabled && context.registry.key(maker.id).is_some();
        let link = has_portal.then(|| PortalLink {
            id: Id::MIN,
            key_id: maker.id,
            key_hash: portal_token::hash_start(maker),
            app_id: AppId::MIN,
            scopes: PortalLink::SCOPES.into_iter().filter(is_given).collect(),
            enter_by: expires_at,
            expires_at,
            return_url: None,
            preset: Some(super::DIALECT.name.to_owned()),
        });
        let link = link.filter(|link| !link.scopes.is_empty());
        let (pages, random) = (context.settings.pages.clone(), context.draw());
        PortalDoor { pages, link, org: maker.org_id, random, now: context.now }
    }

    /// The URL of the app's pages. Without a portal it is that of the server.
    fn url(self, app: AppId) -> String {
        let Some(link) = self.link else { return self.pages.url };
        let id = portal_token::new_id(&self.pages, self.org, app, self.random, self.now);
        let link = PortalLink { id, app_id: app, ..link };
        format!("{}/ui/portal/enter?t={}", self.pages.url, portal_token::text(&link, &self.pages))
    }
}

fn command(key: NewKey, app: AppId) -> StateCommand {
    StateCommand::CreateKey { key: NewKey { app: Some(app), ..key } }
}

/// The key of the token, which does not exceed the key that makes it.
fn new_key(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    input: &PortalInput,
) -> Result<(String, NewKey), ApiError> {
    if let Some(scope) = input.scopes.iter().find(|scope| !request.may(**scope)) {
        let detail = format!("a token cannot have the scope {}, which its maker does not have", scope.as_str());
        return Err(ApiError::forbidden("scope_missing", detail));
    }
    let maker = &request.principal.key;
    let end = context.now.plus_ms(input.expiry_s as i64 * 1_000);
    let limits = keys::limits(maker, Some(maker.expires_at.map_or(end, |own| own.min(end))), None)?;
    let text = key_text(context.draw());
    let key = NewKey {
        app: None,
        name: "portal".to_owned(),
        scopes: input.scopes.clone(),
        hash: key_hash(&text),
        expires_at: limits.expires_at,
        rate_per_s: limits.rate_per_s,
        installation: false,
        makers: limits.makers,
        feature_flags: input.feature_flags.clone(),
        portal: true,
    };
    Ok((text, key))
}

/// The answer with a token and its URL, which a repeated request gets again.
fn token_step(mut write_request: WriteRequest, text: &str, url: String) -> Result<Step, ApiError> {
    let both = format!("{text} {url}");
    if let Some(idempotency) = &mut write_request.idempotency {
        idempotency.extra = Some(both.clone().into());
    }
    Ok(Step::apply(write_request, move |mut applied| {
        let both = keys::first_text(applied.extra.take(), both);
        // An answer that an earlier version stored has the token alone.
        let (token, url) = both.split_once(' ').unwrap_or((&both, &url));
        Ok(HttpResponse::json(StatusCode::OK, &SvixPortalAccess { url, token }))
    }))
}

/// `POST /api/v1/auth/dashboard-access/{app_id}`, of older clients.
pub fn create_plain(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let input = PortalInput {
        scopes: ALL_SCOPES.to_vec(),
        expiry_s: *EXPIRY_S.end(),
        feature_flags: Vec::new(),
        application: None,
    };
    let (text, key) = new_key(context, request, &input)?;
    let url = PortalDoor::new(context, request, &key).url(app.id);
    token_step(request.write_secret(command(key, app.id), None)?, &text, url)
}

/// `POST /api/v1/auth/app/{app_id}/expire-all`: ends all tokens and links of an app's portal at once. Other keys of
/// the app stay.
pub fn expire_all(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let mut field_errors = FieldErrors::new();
    let sessions = request.optional_object()?.take("sessionIds");
    if sessions.is_some_and(|raw| !fields::elements(raw, usize::MAX).is_ok_and(|items| items.is_empty())) {
        field_errors
            .push(FieldError::new("/sessionIds", "is not taken: tokens have no session here, and all of them end"));
    }
    fields::into_result(field_errors)?;
    Ok(Step::apply(request.write(StateCommand::EndPortal { id: app.id })?, |_| {
        Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
    }))
}

/// `POST /api/v1/auth/logout`: ends the token that calls.
pub fn logout(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    if request.tenant().app.is_none() {
        return Err(generic("only the token of an app's portal can end itself"));
    }
    let id = request.principal.key.id;
    if context.registry.key(id).is_none() {
        return Err(generic("a token of the Svix server ends when it expires"));
    }
    Ok(Step::apply(request.write(StateCommand::RevokeKey { id })?, |_| Ok(HttpResponse::empty(StatusCode::NO_CONTENT))))
}

/// The caller.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixWhoami {
    /// The app of a token that is confined to one.
    app_id: Option<String>,
    /// `SvixJwt` for a token of a Svix server, and `RegionalAuthToken` for a key.
    permission_source: &'static str,
}

/// `GET /api/v1/auth/whoami`.
pub fn whoami(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let is_key = context.registry.key(request.principal.key.id).is_some();
    ok(&SvixWhoami {
        app_id: request.tenant().app.map(|app| ids::Noun::App.write(app)),
        permission_source: if is_key { "RegionalAuthToken" } else { "SvixJwt" },
    })
}
