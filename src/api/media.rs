//! The bodies that a route accepts: media type and size, checked by the headers before the body is read.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::context::ApiSettings;
use super::error::ApiError;
use super::limits::{BATCH_BODY_BYTES_MAX, CONFIG_BODY_BYTES_MAX, IGNORED_BODY_BYTES_MAX};

/// A route's rule for bodies.
#[derive(Debug, Clone, Copy)]
pub enum BodyRule {
    /// The body is ignored.
    None,
    /// A JSON object.
    Json,
    /// A JSON object, or no body.
    OptionalJson,
    /// A JSON object as a merge patch (RFC 7396), with either media type.
    MergePatch,
    /// One event, or CloudEvents in any mode. The function answers 415 if the headers announce neither.
    Event(fn(&HeaderMap) -> Result<(), ApiError>),
    /// `{"events": […]}`.
    Batch,
    /// The fields of an HTML form.
    Form,
    /// A JSON object or no body, with any `Content-Type`.
    AnyType,
}

impl BodyRule {
    /// Whether the route reads no body.
    pub const fn is_none(self) -> bool {
        matches!(self, BodyRule::None)
    }

    /// Maximum size of the body in bytes.
    pub fn bytes_max(self, settings: &ApiSettings) -> usize {
        match self {
            BodyRule::None => IGNORED_BODY_BYTES_MAX,
            BodyRule::Json | BodyRule::OptionalJson | BodyRule::MergePatch | BodyRule::Form | BodyRule::AnyType => {
                CONFIG_BODY_BYTES_MAX
            }
            BodyRule::Event(_) => settings.max_event_bytes,
            BodyRule::Batch => BATCH_BODY_BYTES_MAX,
        }
    }

    /// 415 for a media type that the route does not accept, and for any `Content-Encoding`.
    pub fn admit(self, headers: &HeaderMap) -> Result<(), ApiError> {
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(ApiError::unsupported(
                "unsupported_content_encoding",
                "bodies are taken without Content-Encoding",
            ));
        }
        match self {
            BodyRule::OptionalJson => Ok(()),
            BodyRule::Event(check) => check(headers),
            _ if may_lack_body(headers) => Ok(()),
            rule => rule.media_types().map_or(Ok(()), |accepted| one_of(headers, accepted)),
        }
    }

    /// 415 for a body of the wrong type that `admit` could not detect. A body that is missing has no type: the route
    /// says whether it needs one.
    pub fn admit_bytes(self, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
        let accepted = self.media_types().filter(|_| !body.is_empty());
        accepted.map_or(Ok(()), |accepted| one_of(headers, accepted))
    }

    /// The media types that the route accepts. `None` if it accepts any, or checks them itself.
    fn media_types(self) -> Option<&'static [&'static str]> {
        match self {
            BodyRule::None | BodyRule::AnyType | BodyRule::Event(_) => None,
            BodyRule::Json | BodyRule::OptionalJson | BodyRule::Batch => Some(&["application/json"]),
            BodyRule::MergePatch => Some(&["application/json", "application/merge-patch+json"]),
            BodyRule::Form => Some(&["application/x-www-form-urlencoded"]),
        }
    }
}

/// Whether the headers announce neither a type nor bytes (RFC 9112 section 6.3). Over HTTP/2 bytes may follow all the
/// same.
fn may_lack_body(headers: &HeaderMap) -> bool {
    let has_length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    !has_length && !headers.contains_key(header::CONTENT_TYPE) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn one_of(headers: &HeaderMap, accepted: &[&str]) -> Result<(), ApiError> {
    match media_type(headers)? {
        Some(given) if accepted.contains(&&*given) => Ok(()),
        _ => Err(wanted(accepted)),
    }
}

/// 415 that names the accepted types.
pub fn wanted(accepted: &[&str]) -> ApiError {
    ApiError::unsupported("media_type", format!("the body must come as Content-Type: {}", accepted.join(" or ")))
}

/// The request's media type in lower case, without parameters. `None` without the header. 415 if it is malformed,
/// repeated, or in another charset than UTF-8.
pub fn media_type(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, ApiError> {
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let malformed = || ApiError::unsupported("media_type", "the Content-Type header is malformed");
    if given.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim();
    for parameter in parts.filter(|part| !part.trim().is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or_else(malformed)?;
        let is_utf8 = value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(ApiError::unsupported("charset", "bodies are taken in UTF-8 only"));
        }
    }
    let is_lower = !essence.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(Some(if is_lower { essence.into() } else { essence.to_ascii_lowercase().into() }))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::api::native::cloudevents;

    const EVENT: BodyRule = BodyRule::Event(cloudevents::check_mode);

    fn status(rule: BodyRule, content_type: &str) -> u16 {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        rule.admit(&headers).map_or_else(|api_error| api_error.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_json_in_utf_8_is_accepted() {
        for (content_type, expected) in [
            ("application/json", 200),
            ("Application/JSON; Charset=\"UTF-8\"", 200),
            ("application/json;", 200),
            ("application/json; charset=latin1", 415),
            ("application/json; charset", 415),
            ("text/plain", 415),
            ("application/jsonp", 415),
            ("application/merge-patch+json", 415),
            ("", 200),
        ] {
            assert_eq!(status(BodyRule::Json, content_type), expected, "{content_type}");
        }
        assert_eq!(status(BodyRule::MergePatch, "application/merge-patch+json"), 200);
        assert_eq!(status(BodyRule::OptionalJson, ""), 200);
        assert_eq!(status(EVENT, "text/plain"), 415);
        assert_eq!(status(EVENT, "application/cloudevents+json"), 200);
    }

    #[test]
    fn an_encoded_body_is_refused_on_every_route() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
        for rule in
            [BodyRule::None, BodyRule::Json, BodyRule::OptionalJson, BodyRule::MergePatch, EVENT, BodyRule::Batch]
        {
            assert_eq!(rule.admit(&headers).unwrap_err().status, 415);
        }
    }

    #[test]
    fn a_body_needs_its_media_type_once_it_is_there() {
        let headers = HeaderMap::new();
        for rule in [BodyRule::OptionalJson, BodyRule::Json, BodyRule::MergePatch, BodyRule::Batch, BodyRule::Form] {
            assert!(rule.admit(&headers).is_ok() && rule.admit_bytes(&headers, b"").is_ok(), "{rule:?}");
            assert_eq!(rule.admit_bytes(&headers, b"{}").unwrap_err().status, 415, "{rule:?}");
        }
        for (name, value) in [(header::CONTENT_LENGTH, "2"), (header::TRANSFER_ENCODING, "chunked")] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(BodyRule::Json.admit(&headers).unwrap_err().status, 415, "before the body is read");
        }
    }
}
