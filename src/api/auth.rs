//! Authentication: reading keys from requests, finding them, and their permissions.
//!
//! Invariant: a key's text exists in the request that carries it and in the answer that created it. All other places
//! have its SHA-256.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use ring::digest;

use crate::model::id::{AppId, KeyId, PortalLinkId};
use crate::model::{ApiKey, Scope, Time};
use crate::store::{Caller, Registry, TenantScope};

use super::context::ApiSettings;
use super::error::ApiError;
use super::request::HttpRequest;

/// Prefix of the keys that this program makes.
pub const KEY_PREFIX: &str = "pr_";

/// The caller of a request, and its tenant scope.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The server enforces its `rate_per_s`.
    pub key: Arc<ApiKey>,
    pub tenant: TenantScope,
    pub remote: Option<SocketAddr>,
    pub request_id: String,
    /// The portal link by which the caller acts for the key.
    pub portal_link: Option<PortalLinkId>,
}

/// The caller whose turns and rate limit a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestOwner {
    Key(KeyId),
    /// All visitors of one app's portal. They act for the key that made their link and use none of its turns.
    Portal(AppId),
}

impl Principal {
    pub fn owner(&self) -> RequestOwner {
        match (self.portal_link, self.tenant.app) {
            (Some(_), Some(app)) => RequestOwner::Portal(app),
            _ => RequestOwner::Key(self.key.id),
        }
    }

    pub fn new(key: Arc<ApiKey>, http_request: &HttpRequest) -> Principal {
        let tenant = TenantScope { org: key.org_id, app: key.app_id };
        let (remote, request_id) = (http_request.remote, http_request.request_id.clone());
        Principal { key, tenant, remote, request_id, portal_link: None }
    }

    /// 403 if the key lacks `scope`.
    pub fn need(&self, scope: Scope) -> Result<(), ApiError> {
        if self.key.may(scope) {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "scope_missing",
            format!("this key, {}, does not have the scope {}", self.key.name, scope.as_str()),
        ))
    }

    /// The caller, as the store records it.
    pub fn caller(&self) -> Caller {
        Caller {
            key: self.key.id,
            tenant: self.tenant,
            remote_addr: self.remote.map(|addr| addr.ip()),
            request_id: self.request_id.clone(),
            portal_link: self.portal_link,
        }
    }
}

/// The text of a new key: `pr_` and 43 characters of base64url.
pub fn key_text(random: [u8; 32]) -> String {
    let mut text = String::with_capacity(KEY_PREFIX.len() + 43);
    text.push_str(KEY_PREFIX);
    URL_SAFE_NO_PAD.encode_string(random, &mut text);
    text
}

/// The stored form of a key: SHA-256 of its text.
pub fn key_hash(text: &str) -> [u8; 32] {
    sha256(&[text.as_bytes()])
}

/// SHA-256 over the parts in sequence.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The token of the one `Authorization: Bearer …` header (RFC 6750 section 2.1). The scheme's case is free.
pub fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        return Err(ApiError::unauthorized(
            "credentials_missing",
            "an Authorization: Bearer header with a key is needed",
        ));
    };
    if given.next().is_some() {
        return Err(ApiError::bad_request("ambiguous_credentials", "there is more than one Authorization header"));
    }
    let token = value.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, rest)| {
        let token = rest.trim_matches(' ');
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
    });
    token.ok_or_else(|| {
        ApiError::unauthorized("credentials_malformed", "the Authorization header is not Bearer and a key")
    })
}

/// The live key with this text. Unknown and expired keys give different errors, because only the holder learns that.
pub fn key_of(text: &str, registry: &Registry, now: Time) -> Result<Arc<ApiKey>, ApiError> {
    let Some(key) = registry.key_by_hash(&key_hash(text)) else {
        return Err(ApiError::unauthorized("credentials_wrong", "there is no such key"));
    };
    if key.expired(now) {
        return Err(ApiError::unauthorized("key_expired", "this key has expired"));
    }
    Ok(key.clone())
}

/// The caller behind a bearer token that is a key.
pub fn by_key(
    http_request: &HttpRequest,
    registry: &Registry,
    _: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    let key = key_of(bearer(&http_request.headers)?, registry, now)?;
    Ok(Principal::new(key, http_request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_prefix_and_all_of_its_randomness() {
        let text = key_text([0xff; 32]);
        assert_eq!(text, format!("pr_{}8", "_".repeat(42)));
        assert_ne!(key_hash(&text), key_hash(&key_text([0xfe; 32])));
    }

    #[test]
    fn the_hash_is_plain_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hex: String = key_hash("abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
