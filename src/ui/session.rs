//! Sessions of browsers: a signed cookie that names a key, and the tokens of forms.
//!
//! Invariant: nothing is stored. A session ends with its key, with its time, or after a time without a request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_LOCATION, COOKIE, HOST, LOCATION, ORIGIN};
use http::{HeaderValue, Method, StatusCode};
use ring::hmac;

use crate::api::logins::PageSettings;
use crate::api::{ApiError, ApiSettings, HttpRequest, Principal};
use crate::model::id::KeyId;
use crate::model::portal::PortalLink;
use crate::model::{ApiKey, Id, Time};
use crate::store::Registry;

use super::portal_access as access;
use super::referer;

/// The name of the cookie.
pub const SESSION_COOKIE: &str = "pr_session";
/// Bytes of a cookie before its HMAC: key id, start of the key's hash, two times, and random bytes.
const SIGNED_BYTES: usize = 16 + HASH_BYTES + 8 + 8 + 16;
const HASH_BYTES: usize = 8;
const MAC_BYTES: usize = 32;
/// Bytes of a form's token.
const TOKEN_BYTES: usize = 16;
/// Code of the error for a request from another site without the cookie. The browser sends it when the page asks again.
pub const CROSS_SITE_CODE: &str = "session_cross_site";

/// A session with the fields of its cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    key_id: KeyId,
    /// The first bytes of the key's hash.
    hash: [u8; HASH_BYTES],
    /// When this cookie was made.
    issued: Time,
    /// When the session ends.
    expires: Time,
    /// Random bytes, which stay the same when the cookie is renewed.
    random: [u8; 16],
}

impl Session {
    /// A session that begins now.
    pub fn begin(key: &ApiKey, settings: &PageSettings, random: [u8; 16], now: Time) -> Session {
        Session { key_id: key.id, hash: start_of(key), issued: now, expires: now.plus_ms(settings.session_ms), random }
    }

    /// The text of the cookie.
    pub fn text(&self, settings: &PageSettings) -> String {
        let mut bytes = Vec::with_capacity(SIGNED_BYTES + MAC_BYTES);
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.issued.0.to_be_bytes());
        bytes.extend_from_slice(&self.expires.0.to_be_bytes());
        bytes.extend_from_slice(&self.random);
        let mac = hmac::sign(&mac_key(settings), &[b"session".as_slice(), &bytes].concat());
        bytes.extend_from_slice(mac.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The session of a cookie's text. `None` if it was not made with the key of `settings`.
    fn parse(text: &str, settings: &PageSettings) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (signed, mac) = bytes.split_at_checked(SIGNED_BYTES)?;
        hmac::verify(&mac_key(settings), &[b"session".as_slice(), signed].concat(), mac).ok()?;
        let (key_id, rest) = signed.split_first_chunk::<16>()?;
        let (hash, rest) = rest.split_first_chunk::<HASH_BYTES>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        Some(Session {
            key_id: Id::from_bytes(*key_id),
            hash: *hash,
            issued: Time(i64::from_be_bytes(*issued)),
            expires: Time(i64::from_be_bytes(*expires)),
            random: rest.try_into().ok()?,
        })
    }

    /// The session of a browser that has entered the portal by `link`. It is never renewed.
    pub fn of_link(link: &PortalLink, random: [u8; 16], now: Time) -> Session {
        Session { key_id: link.key_id, hash: link.key_hash, issued: now, expires: link.expires_at, random }
    }

    /// The session of a request. `None` without a cookie that is valid now.
    pub fn of(http_request: &HttpRequest, settings: &PageSettings, now: Time) -> Option<Session> {
        if access::is_portal(http_request) {
            return access::session_of(http_request, settings, now);
        }
        let sessions = cookies(http_request, SESSION_COOKIE).filter_map(|text| Session::parse(text, settings));
        sessions.filter(|session| session.is_live(settings, now)).max_by_key(|session| session.issued)
    }

    fn is_live(&self, settings: &PageSettings, now: Time) -> bool {
        now < self.expires && now.since(self.issued) < settings.idle_ms
    }

    /// The same session, if its cookie should be renewed now: once a quarter of the idle time has passed.
    pub fn renewed(&self, settings: &PageSettings, now: Time) -> Option<Session> {
        (now.since(self.issued) >= settings.idle_ms / 4).then_some(Session { issued: now, ..*self })
    }

    /// The token of the form that posts to `action`, a path below `/ui/`.
    pub fn token(&self, settings: &PageSettings, action: &str) -> String {
        let mac = hmac::sign(&mac_key(settings), &[b"form".as_slice(), &self.random, action.as_bytes()].concat());
        URL_SAFE_NO_PAD.encode(&mac.as_ref()[..TOKEN_BYTES])
    }

    /// Whether `token` is the one of the form.
    pub fn has_token(&self, settings: &PageSettings, action: &str, token: &str) -> bool {
        let own = self.token(settings, action);
        own.len() == token.len() && own.bytes().zip(token.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

fn mac_key(settings: &PageSettings) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &settings.key)
}

fn start_of(key: &ApiKey) -> [u8; HASH_BYTES] {
    *key.hash.first_chunk().expect("a hash is longer")
}

/// The values of a cookie with this name. A browser sends several if several paths set it.
pub fn cookies<'a>(http_request: &'a HttpRequest, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = http_request.headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(given, _)| *given == name).map(|(_, value)| value)
}

/// The caller of a page: the key of its session.
///
/// # Errors
/// Without a session, a redirect to the login, or one repetition for a request from another site. 403 for a form of
/// another site.
pub fn identify(
    http_request: &HttpRequest,
    registry: &Registry,
    settings: &ApiSettings,
    now: Time,
) -> Result<Principal, ApiError> {
    if access::is_portal(http_request) {
        return access::identify(http_request, registry, settings, now);
    }
    // A listener of the pages alone gets paths of the API too, whose login would be at another folder.
    if !http_request.path.starts_with("/ui/") {
        return Err(ApiError::no_route());
    }
    if http_request.method == Method::POST && !is_own_form(http_request) {
        return Err(ApiError::forbidden("form_of_another_site", "this form was sent by another site"));
    }
    let session = Session::of(http_request, &settings.pages, now);
    let key = session.and_then(|session| {
        let key = registry.key(session.key_id)?;
        (start_of(key) == session.hash && !key.expired(now)).then_some(key)
    });
    match key {
        Some(key) => Ok(Principal::new(key.clone(), http_request)),
        None => Err(no_session(http_request)),
    }
}

/// Whether a page of this daemon sent the form: by `Sec-Fetch-Site`, or without it by `Origin` (Fetch Metadata).
pub fn is_own_form(http_request: &HttpRequest) -> bool {
    if http_request.headers.contains_key("sec-fetch-site") {
        return http_request.header("sec-fetch-site") == Some("same-origin");
    }
    is_own_origin(http_request)
}

/// Whether `Origin` names the host that the request is for.
fn is_own_origin(http_request: &HttpRequest) -> bool {
    let origin = http_request.header(ORIGIN).and_then(|origin| origin.split_once("://"));
    let host = http_request.header(HOST).unwrap_or_default();
    origin.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Whether a login may be accepted: it has no session that another site could use, so that a client without both
/// headers is no browser.
pub fn may_log_in(http_request: &HttpRequest) -> bool {
    let names_its_sender =
        http_request.headers.contains_key("sec-fetch-site") || http_request.headers.contains_key(ORIGIN);
    !names_its_sender || is_own_form(http_request)
}

fn no_session(http_request: &HttpRequest) -> ApiError {
    if http_request.method == Method::POST {
        let api_error =
            ApiError::new(StatusCode::UNAUTHORIZED, "session_missing", "your session has ended: log in again");
        // The way back is the page of the form, which its browser names.
        let to = referer::below(http_request, "/ui/");
        let to = to.map(|below| HeaderValue::try_from(login_with(http_request, below)));
        return match to {
            Some(Ok(login)) => api_error.with(CONTENT_LOCATION, login),
            _ => api_error,
        };
    }
    if http_request.header("sec-fetch-site") == Some("cross-site") {
        return ApiError::new(StatusCode::OK, CROSS_SITE_CODE, "one moment");
    }
    let below = http_request.path.strip_prefix("/ui/").unwrap_or_default();
    let query = http_request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let to = login_with(http_request, &format!("{below}{query}"));
    let api_error = ApiError::new(StatusCode::SEE_OTHER, "session_missing", "log in first");
    match HeaderValue::from_str(&to) {
        Ok(location) => api_error.with(LOCATION, location),
        Err(_) => api_error.with(LOCATION, HeaderValue::from_static("login")),
    }
}

/// The address of the login, which leads to the page `back` below `/ui/` afterwards.
fn login_with(http_request: &HttpRequest, back: &str) -> String {
    let up = "../".repeat(http_request.path.matches('/').count().saturating_sub(2));
    let back: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
    if back.is_empty() { format!("{up}login") } else { format!("{up}login?to={back}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_772_704_800_000);

    fn key() -> ApiKey {
        ApiKey {
            id: Id::from_u128(7),
            org_id: Id::MIN,
            app_id: None,
            name: "k".to_owned(),
            scopes: Vec::new(),
            hash: [9; 32],
            created_at: NOW,
            expires_at: None,
            rate_per_s: None,
            installation: false,
            makers: Vec::new(),
            feature_flags: Vec::new(),
            portal: false,
        }
    }

    fn request(cookie: &str) -> HttpRequest {
        let mut headers = http::HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        HttpRequest {
            method: Method::GET,
            path: "/ui/webhooks/a".to_owned(),
            query: None,
            headers,
            body: bytes::Bytes::new(),
            remote: None,
            request_id: String::new(),
        }
    }

    #[test]
    fn a_cookie_reads_back_until_its_time_is_over() {
        let settings = PageSettings::new([1; 32]);
        let session = Session::begin(&key(), &settings, [3; 16], NOW);
        let sent = request(&format!("a=b; {SESSION_COOKIE}={}", session.text(&settings)));
        assert_eq!(Session::of(&sent, &settings, NOW.plus_ms(settings.idle_ms - 1)), Some(session));
        assert_eq!(Session::of(&sent, &settings, NOW.plus_ms(settings.idle_ms)), None, "idle");
        assert_eq!(Session::of(&sent, &PageSettings::new([2; 32]), NOW), None, "another store");
        let later = Session { issued: NOW.plus_ms(settings.session_ms), ..session };
        let sent = request(&format!("{SESSION_COOKIE}={}", later.text(&settings)));
        assert_eq!(Session::of(&sent, &settings, NOW.plus_ms(settings.session_ms)), None, "over");
    }

    #[test]
    fn no_altered_cookie_is_accepted() {
        let settings = PageSettings::new([1; 32]);
        let text = Session::begin(&key(), &settings, [3; 16], NOW).text(&settings);
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(Session::parse(&altered, &settings), None, "{at}");
        }
        for short in ["", "AAAA", &text[..text.len() - 1]] {
            assert_eq!(Session::parse(short, &settings), None);
        }
    }

    #[test]
    fn a_token_is_for_one_action_of_one_session() {
        let settings = PageSettings::new([1; 32]);
        let session = Session::begin(&key(), &settings, [3; 16], NOW);
        let token = session.token(&settings, "webhooks/a/pause");
        assert!(session.has_token(&settings, "webhooks/a/pause", &token));
        assert!(!session.has_token(&settings, "webhooks/b/pause", &token));
        assert!(!session.has_token(&settings, "webhooks/a/pause", ""));
        assert!(!Session { random: [4; 16], ..session }.has_token(&settings, "webhooks/a/pause", &token));
        let renewed = session.renewed(&settings, NOW.plus_ms(settings.idle_ms / 4)).unwrap();
        assert!(renewed.has_token(&settings, "webhooks/a/pause", &token), "a renewed cookie keeps its tokens");
    }

    #[test]
    fn a_form_is_accepted_from_the_same_origin_only() {
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut sent = request("a=b");
            sent.headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8080"));
            for (name, value) in pairs {
                sent.headers.insert(*name, HeaderValue::from_static(value));
            }
            sent
        };
        assert!(is_own_form(&with(&[("sec-fetch-site", "same-origin")])));
        assert!(is_own_form(&with(&[("origin", "http://127.0.0.1:8080")])));
        for other in ["same-site", "cross-site", "none", ""] {
            assert!(!is_own_form(&with(&[("sec-fetch-site", other), ("origin", "http://127.0.0.1:8080")])), "{other}");
        }
        for origin in ["null", "http://evil.example", "http://127.0.0.1:8081"] {
            assert!(!is_own_form(&with(&[("origin", origin)])) && !may_log_in(&with(&[("origin", origin)])));
        }
        assert!(!is_own_form(&with(&[])) && may_log_in(&with(&[])));
    }
}
