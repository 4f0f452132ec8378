//! Query parameters: every one known, none repeated, every value checked. A mistake is a 400 that names it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::{DeliveryStatus, Id, Time};
use crate::rules::patterns;
use crate::store::{ListWindow, Search};

use super::cursor;
use super::error::ApiError;

/// Rows of a page where `limit` is not given, and at the most.
pub const LIMIT_DEFAULT: usize = 50;
pub const LIMIT_MAX: usize = 250;
/// Longest `search`, in characters.
pub const SEARCH_CHARS_MAX: usize = 256;

/// The parameters of one request, decoded.
#[derive(Debug, Default)]
pub struct Params {
    values: BTreeMap<&'static str, String>,
}

impl Params {
    /// Reads `name=value&…` (WHATWG URL, application/x-www-form-urlencoded); `known` are the names there may be.
    pub fn parse(query: Option<&str>, known: &'static [&'static str]) -> Result<Params, ApiError> {
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| undecodable(name))?;
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(ApiError::bad_request("unknown_parameter", unknown(&name, known)));
            };
            let value = decode(value).ok_or_else(|| undecodable(name))?;
            if value.is_empty() {
                return Err(wrong(name, "must not be empty"));
            }
            if values.insert(*name, value.into_owned()).is_some() {
                return Err(ApiError::bad_request("repeated_parameter", format!("{name} is given more than once")));
            }
        }
        Ok(Params { values })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of `name` as `read` parses it. `what` describes the allowed values.
    fn read<T>(&self, name: &str, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => read(text).map(Some).ok_or_else(|| wrong(name, what)),
        }
    }

    pub fn id<K>(&self, name: &str) -> Result<Option<Id<K>>, ApiError> {
        self.read(name, "must be a UUID", |text| text.parse().ok())
    }

    pub fn time(&self, name: &str) -> Result<Option<Time>, ApiError> {
        self.read(name, "must be an RFC 3339 time such as 2026-11-22T03:29:00.123Z", |text| text.parse().ok())
    }

    pub fn number(&self, name: &str, min: u32, max: u32) -> Result<Option<u32>, ApiError> {
        let what = format!("must be a whole number from {min} to {max}");
        self.read(name, &what, |text| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten().filter(|n| (min..=max).contains(n))
        })
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "must be true or false", |text| text.parse().ok())
    }

    pub fn limit(&self) -> Result<usize, ApiError> {
        Ok(self.number("limit", 1, LIMIT_MAX as u32)?.map_or(LIMIT_DEFAULT, |n| n as usize))
    }

    pub fn cursor(&self, kind: cursor::CursorKind) -> Result<Option<u128>, ApiError> {
        self.read("cursor", "is not a cursor of this list", |text| cursor::read(kind, text))
    }

    /// `from`, `to`, `limit` and `cursor` together.
    pub fn window(&self, kind: cursor::CursorKind) -> Result<ListWindow, ApiError> {
        Ok(ListWindow {
            from: self.time("from")?,
            to: self.time("to")?,
            before: self.cursor(kind)?,
            limit: self.limit()?,
        })
    }

    pub fn search(&self) -> Result<Option<Search>, ApiError> {
        let what = format!("must have at most {SEARCH_CHARS_MAX} characters");
        self.read("search", &what, |text| (text.chars().count() <= SEARCH_CHARS_MAX).then(|| Search::new(text)))
    }

    pub fn event_type(&self) -> Result<Option<String>, ApiError> {
        let what = "must be an event type: 1 to 128 of a-z, A-Z, 0-9, '_', '.', '-'";
        self.read("type", what, |text| patterns::is_type(text).then(|| text.to_owned()))
    }

    pub fn delivery_status(&self) -> Result<Option<DeliveryStatus>, ApiError> {
        let what = "must be pending, retrying, delivered, failed or cancelled";
        self.read("status", what, DeliveryStatus::parse)
    }

    pub fn status_code(&self) -> Result<Option<u16>, ApiError> {
        Ok(self.number("status_code", 100, 599)?.map(|n| n as u16))
    }
}

/// 400 for a parameter's value.
pub fn wrong(name: &str, detail: &str) -> ApiError {
    ApiError::bad_request("invalid_parameter", format!("{name} {detail}"))
}

fn undecodable(name: &str) -> ApiError {
    ApiError::bad_request("malformed_query", format!("{} is not percent-encoded UTF-8", name.escape_default()))
}

fn unknown(name: &str, known: &[&str]) -> String {
    match known {
        [] => format!("unknown parameter {name:?}: there are none here"),
        _ => format!("unknown parameter {name:?}: there are {}", known.join(", ")),
    }
}

/// `+` is a space, `%` needs two hexadecimal digits behind it, and the whole must be UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    percent(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Percent-decoding, once and strictly: none where an escape is malformed or the bytes are not UTF-8.
pub fn percent(text: &str) -> Option<Cow<'_, str>> {
    let whole =
        |at: usize| text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    if !text.match_indices('%').all(|(at, _)| whole(at)) {
        return None;
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "cursor", "from", "search", "type", "status_code", "status", "webhook_id"];

    fn code(query: &str) -> &'static str {
        let params = match Params::parse(Some(query), KNOWN) {
            Ok(params) => params,
            Err(api_error) => return api_error.code,
        };
        let judged = params
            .window(cursor::CursorKind::Events)
            .and(params.search().map(drop))
            .and(params.event_type().map(drop))
            .and(params.status_code().map(drop))
            .and(params.delivery_status().map(drop))
            .and(params.id::<()>("webhook_id").map(drop));
        judged_code(judged)
    }

    fn judged_code(judged: Result<(), ApiError>) -> &'static str {
        judged.map_or_else(|api_error| api_error.code, |()| "fine")
    }

    #[test]
    fn every_bad_query_is_named() {
        let long = format!("search={}", "x".repeat(SEARCH_CHARS_MAX + 1));
        for (query, expected) in [
            ("", "fine"),
            ("limit=1&&type=a.b", "fine"),
            ("limit=250&search=%C3%A4+b", "fine"),
            ("limit=0", "invalid_parameter"),
            ("limit=251", "invalid_parameter"),
            ("limit=-1", "invalid_parameter"),
            ("limit=%2B1", "invalid_parameter"),
            ("limit=1e1", "invalid_parameter"),
            ("limit=99999999999", "invalid_parameter"),
            ("limit", "invalid_parameter"),
            ("limit=1&limit=2", "repeated_parameter"),
            ("after=2026-01-01T00:00:00Z", "unknown_parameter"),
            ("from=999999-01-01T00:00:00Z", "invalid_parameter"),
            ("from=2026-01-01", "invalid_parameter"),
            ("cursor=abc", "invalid_parameter"),
            ("type=a%20b", "invalid_parameter"),
            ("status=lost", "invalid_parameter"),
            ("status_code=99", "invalid_parameter"),
            ("webhook_id=x", "invalid_parameter"),
            ("search=%", "malformed_query"),
            ("search=%zz", "malformed_query"),
            ("search=%ff", "malformed_query"),
            ("%ff=1", "malformed_query"),
            (&long, "invalid_parameter"),
        ] {
            assert_eq!(code(query), expected, "{query}");
        }
    }

    #[test]
    fn values_are_decoded_once() {
        let params = Params::parse(Some("search=a%2520b+c&%74ype=x"), KNOWN).unwrap();
        assert_eq!(params.text("search"), Some("a%20b c"));
        assert_eq!(params.text("type"), Some("x"));
    }
}
