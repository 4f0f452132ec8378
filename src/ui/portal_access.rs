//! The caller of a page of the portal: the key of a link, confined to the link.
//!
//! Invariant: a link is checked at every request. It ends with its time, its key, its app, and by being revoked.

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::api::logins::PageSettings;
use crate::api::portal_token::{self, hash_start};
use crate::api::{ApiError, ApiSettings, HttpRequest, Principal};
use crate::model::portal::PortalLink;
use crate::model::{ApiKey, Time};
use crate::store::Registry;
use crate::ui::session::{CROSS_SITE_CODE, Session, cookies, is_own_form};

/// The name of the cookie.
pub const PORTAL_COOKIE: &str = "pr_portal";
/// The paths of the portal begin so.
pub const PORTAL_PATH: &str = "/ui/portal/";

/// Whether the request is for a page of the portal.
pub fn is_portal(http_request: &HttpRequest) -> bool {
    http_request.path.starts_with(PORTAL_PATH)
}

/// The link by which the browser has entered, and the random bytes in its cookie.
pub fn link_of(http_request: &HttpRequest, pages: &PageSettings, now: Time) -> Option<(PortalLink, [u8; 16])> {
    let links = cookies(http_request, PORTAL_COOKIE).filter_map(|text| portal_token::of_cookie(text, pages));
    links.filter(|(link, _)| now < link.expires_at).max_by_key(|(link, _)| link.id)
}

/// The session of a browser in the portal, for the tokens of its forms.
pub fn session_of(http_request: &HttpRequest, pages: &PageSettings, now: Time) -> Option<Session> {
    link_of(http_request, pages, now).map(|(link, random)| Session::of_link(&link, random, now))
}

/// The key that a link acts for, confined to the link. `None` if the link has ended.
pub fn key_of(link: &PortalLink, registry: &Registry, now: Time) -> Option<ApiKey> {
    let key = registry.key(link.key_id).filter(|key| hash_start(key) == link.key_hash && !key.expired(now))?;
    let app = registry.app_by_id(link.app_id).filter(|app| app.org_id == key.org_id)?;
    let organization = registry.organization(key.org_id)?;
    let is_revoked = organization.revoked_links.iter().any(|revoked| revoked.id == link.id);
    let is_ended = app.portal_ended_at.is_some_and(|at| link.id.time() <= at);
    let is_within = !is_ended && now < link.expires_at && key.app_id.is_none_or(|own| own == app.id);
    let scopes = link.scopes.iter().copied().filter(|scope| key.may(*scope)).collect();
    (!is_revoked && is_within).then(|| ApiKey {
        app_id: Some(app.id),
        scopes,
        installation: false,
        expires_at: Some(link.expires_at),
        ..(**key).clone()
    })
}

/// The caller of a page of the portal.
///
/// # Errors
/// 401 without a link that is valid now, one repetition for a request from another site, 403 for a form of another
/// site, and 404 if there is no portal.
pub fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    settings: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    if !settings.pages.portal.enabled {
        return Err(ApiError::no_route());
    }
    if http_request.method == Method::POST && !is_own_form(http_request) {
        return Err(ApiError::forbidden("form_of_another_site", "this form was sent by another site"));
    }
    let found = link_of(http_request, &settings.pages, now);
    let found = found.and_then(|(link, _)| Some((key_of(&link, registry, now)?, link)));
    match found {
        Some((key, link)) => {
            let principal = Principal::new(Arc::new(key), http_request);
            Ok(Principal { portal_link: Some(link.id), ..principal })
        }
        None if http_request.is_get() && http_request.header("sec-fetch-site") == Some("cross-site") => {
            Err(ApiError::new(StatusCode::OK, CROSS_SITE_CODE, "one moment"))
        }
        None => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "portal_session_missing",
            "your access has ended: ask for a new link where you found the last one",
        )),
    }
}
