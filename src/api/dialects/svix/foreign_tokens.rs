//! Tokens of a Svix server, for clients that cannot exchange them: `sub` is its organization, or one of its applications
//! with the organization in `org` (`server/svix-server/src/core/security.rs` of svix-server 1.100).
//!
//! Invariant: a token acts for the one organization of the settings, and a token of an application for that app alone.

use std::sync::Arc;

use crate::api::auth::{self, Principal};
use crate::api::context::ApiSettings;
use crate::api::error::ApiError;
use crate::api::jwt::{self, JwtClaims, JwtSettings};
use crate::api::request::HttpRequest;
use crate::model::{ApiKey, App, AppId, Id, OrganizationId, Scope, Time};
use crate::store::Registry;

use super::ids::Noun;
use super::portal;

/// The caller behind a bearer token: a key, or a token of the Svix server in the settings.
pub fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    settings: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    let text = auth::bearer(&http_request.headers)?;
    match &settings.foreign_tokens {
        Some(tokens) if jwt::is_token(text) => {
            let wrong = || ApiError::unauthorized("credentials_wrong", "this is no valid token");
            let claims = jwt::verified(text, &tokens.key, now).ok_or_else(wrong)?;
            let key = key_of(text, &claims, tokens, registry).ok_or_else(wrong)?;
            Ok(Principal::new(Arc::new(key), http_request))
        }
        _ => auth::by_key(http_request, registry, settings, now),
    }
}

/// The key that a token stands for. It is not stored. `None` for another organization and for an unknown application.
fn key_of(text: &str, claims: &JwtClaims, tokens: &JwtSettings, registry: &Registry) -> Option<ApiKey> {
    let foreign_org = claims.org.as_ref().unwrap_or(&claims.sub);
    if *foreign_org != tokens.foreign_org {
        return None;
    }
    let organization = match tokens.organization {
        Some(id) => registry.organization(id)?,
        None => registry.organizations().next()?,
    };
    let app_id = match claims.org {
        Some(_) => Some(app_of(registry, organization.id, &claims.sub)?),
        None => None,
    };
    let scopes = if app_id.is_some() { portal::ALL_SCOPES.as_slice() } else { &Scope::ALL_APPS };
    Some(ApiKey {
        id: id_of(&claims.sub),
        org_id: organization.id,
        app_id,
        name: claims.sub.clone(),
        scopes: scopes.to_vec(),
        hash: auth::key_hash(text),
        created_at: Time::ZERO,
        expires_at: claims.expires_at(),
        rate_per_s: None,
        installation: false,
        makers: Vec::new(),
        feature_flags: claims.feature_flags.clone(),
        portal: app_id.is_some(),
    })
}

/// The app with this id here, or with this id at Svix.
fn app_of(registry: &Registry, org: OrganizationId, text: &str) -> Option<AppId> {
    let own = Noun::App.read::<App>(text).and_then(|id| registry.app_by_id(id)).filter(|app| app.org_id == org);
    let by_alias = || registry.app_by_alias(org, text).filter(|_| text.starts_with(Noun::App.prefix()));
    own.or_else(by_alias).map(|app| app.id)
}

/// The id of the callers with one subject, in the audit and for their share of the requests. It is a UUID of version 8
/// (RFC 9562 section 5.8), which no stored key has.
fn id_of<K>(subject: &str) -> Id<K> {
    let hash = auth::sha256(&[b"svix token ", subject.as_bytes()]);
    let start: &[u8; 16] = hash.first_chunk().expect("SHA-256 has 32 bytes");
    let bits = u128::from_be_bytes(*start) & !(0xf << 76) & !(0b11 << 62);
    Id::from_u128(bits | 0x8 << 76 | 0b10 << 62)
}
