//! `Idempotency-Key` on every POST (docs/api.md), reduced to the two hashes that the store compares.
//!
//! The key hash covers API key, method and path, so that it never finds another caller's or another path's answer. It also
//! covers the app of a visitor of the portal, since visitors share a key, and the app that a dialect names in a header. The
//! request hash covers the query, the body, and the headers of CloudEvents in binary mode.

use http::{HeaderName, HeaderValue};

use super::limits::KEY_CHARS_MAX;
use crate::store::IdempotencyKey;

use super::auth::{Principal, sha256};
use super::error::ApiError;
use super::request::HttpRequest;
use super::response::HttpResponse;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Names the app of a request in the shape of sent.dm.
const PROFILE: HeaderName = HeaderName::from_static("x-profile-id");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Marks a response as the repeated first answer.
pub fn mark(response: &mut HttpResponse) {
    response.headers.insert(REPLAYED, HeaderValue::from_static("true"));
}

/// Whether a response is the repeated first answer.
pub fn is_marked(response: &HttpResponse) -> bool {
    response.headers.contains_key(REPLAYED)
}

/// The idempotency key of a request. `None` without the header. 422 unless it is 1 to 255 visible ASCII characters,
/// once.
pub fn key_of(http_request: &HttpRequest, principal: &Principal) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut given = http_request.headers.get_all(HEADER).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let value = value.as_bytes();
    if given.next().is_some() || !(1..=KEY_CHARS_MAX).contains(&value.len()) || !value.iter().all(u8::is_ascii_graphic)
    {
        return Err(ApiError::invalid_header(
            "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters",
        ));
    }
    let (caller, method) = (principal.key.id, http_request.method.as_str());
    let app = principal.tenant.app.filter(|_| principal.portal_link.is_some());
    let mut parts: Vec<&[u8]> = vec![caller.as_bytes(), method.as_bytes(), http_request.path.as_bytes(), value];
    parts.extend(app.iter().map(|app| app.as_bytes().as_slice()));
    parts.extend(http_request.headers.get(PROFILE).map(HeaderValue::as_bytes));
    Ok(Some(IdempotencyKey { key: fingerprint(&parts), request: request(http_request), extra: None, secret: false }))
}

fn request(http_request: &HttpRequest) -> [u8; 32] {
    let query = http_request.query.as_deref().unwrap_or_default();
    let mut attributes: Vec<(&str, &[u8])> = http_request
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("ce-"))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    attributes.sort_unstable();
    let mut parts = vec![query.as_bytes()];
    parts.extend(attributes.iter().flat_map(|(name, value)| [name.as_bytes(), value]));
    parts.push(&http_request.body);
    fingerprint(&parts)
}

/// SHA-256 over the parts, each after its length, so that no two lists of parts have the same input.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
    let framed: Vec<&[u8]> = lengths.iter().zip(parts).flat_map(|(length, part)| [&length[..], part]).collect();
    sha256(&framed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::model::{ApiKey, Id, Time};

    fn call(path: &str, body: &str, key: &str) -> HttpRequest {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(key.as_bytes()).unwrap());
        HttpRequest {
            method: Method::POST,
            path: path.to_owned(),
            query: None,
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            remote: None,
            request_id: String::new(),
        }
    }

    fn principal(http_request: &HttpRequest, id: u128) -> Principal {
        let key = ApiKey {
            id: Id::from_u128(id),
            org_id: Id::MIN,
            app_id: None,
            name: String::new(),
            scopes: Vec::new(),
            hash: [0; 32],
            created_at: Time::ZERO,
            expires_at: None,
            rate_per_s: None,
            installation: false,
            makers: Vec::new(),
            feature_flags: Vec::new(),
            portal: false,
        };
        Principal::new(Arc::new(key), http_request)
    }

    fn key_with(http_request: &HttpRequest, id: u128) -> IdempotencyKey {
        key_of(http_request, &principal(http_request, id)).unwrap().unwrap()
    }

    #[test]
    fn the_same_request_is_the_same_and_every_difference_counts() {
        let first = call("/v1/events", "{}", "k");
        assert_eq!(key_with(&first, 1), key_with(&first, 1));
        assert_ne!(key_with(&first, 1).key, key_with(&first, 2).key, "another API key");
        assert_ne!(key_with(&first, 1).key, key_with(&call("/v1/events", "{}", "l"), 1).key);
        assert_ne!(key_with(&first, 1).key, key_with(&call("/v1/event", "{}", "sk"), 1).key, "a shifted boundary");
        let other = key_with(&call("/v1/events", "{ }", "k"), 1);
        assert_eq!(other.key, key_with(&first, 1).key);
        assert_ne!(other.request, key_with(&first, 1).request);
        let mut binary = first.clone();
        binary.headers.insert("ce-id", HeaderValue::from_static("1"));
        assert_ne!(key_with(&binary, 1).request, key_with(&first, 1).request, "attributes of a CloudEvent");
        let mut profiled = first.clone();
        profiled.headers.insert("x-profile-id", HeaderValue::from_static("1"));
        assert_ne!(key_with(&profiled, 1).key, key_with(&first, 1).key, "the app that sent.dm names in a header");
    }

    #[test]
    fn visitors_of_the_portal_share_a_key_and_no_answer() {
        let http_request = call("/ui/portal/webhooks/new", "{}", "k");
        let of_app = |app: u128, link: Option<u128>| {
            let mut visitor = principal(&http_request, 1);
            (visitor.tenant.app, visitor.portal_link) = (Some(Id::from_u128(app)), link.map(Id::from_u128));
            key_of(&http_request, &visitor).unwrap().unwrap().key
        };
        assert_ne!(of_app(1, Some(8)), of_app(2, Some(9)));
        assert_eq!(of_app(1, Some(8)), of_app(1, Some(9)), "another link of one app");
        assert_eq!(of_app(1, None), key_with(&http_request, 1).key, "a key of one app as before");
    }

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        for (key, good) in [
            ("a%00b", true),
            ("\"quoted\"", true),
            (&"a".repeat(255), true),
            (&"a".repeat(256), false),
            ("", false),
            ("a b", false),
            ("ä", false),
        ] {
            let http_request = call("/v1/events", "{}", key);
            let key_read = key_of(&http_request, &principal(&http_request, 1));
            assert_eq!(key_read.is_ok(), good, "{key}");
            assert!(good || key_read.unwrap_err().status == 422);
        }
    }
}
