//! Parameters as constants, which the route tables name, the handlers read and the OpenAPI document describes.
//!
//! Invariant: a query has only known parameters, each once, with a valid value. A mistake is a 400 that names it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::limits::{LIMIT_DEFAULT, LIMIT_MAX, SEARCH_CHARS_MAX};
use crate::model::id::IdKind;
use crate::model::{AttemptOutcome, DeliveryStatus, Id, StatusCodes, Time};
use crate::rules::patterns;
use crate::store::{AnyOf, FailedPosition, ListWindow, Search, TimeSpan, WaitingPosition};

use super::cursor::{self, CursorKind, RankedPosition};
use super::error::ApiError;

/// A parameter of a route in its path, its query or its headers.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    pub name: &'static str,
    pub values: ParamValues,
    pub required: bool,
    pub description: &'static str,
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy)]
pub enum ParamValues {
    /// A UUID.
    Id,
    /// An RFC 3339 time.
    Time,
    /// An ISO 8601 calendar date.
    Date,
    Boolean,
    EventType,
    /// The id or the `uid` of an app.
    AppName,
    /// A text that is not empty. `None` if only the request target bounds its length.
    Text {
        chars_max: Option<usize>,
    },
    /// Any text, also an empty one.
    AnyText,
    /// A text of visible ASCII characters that is not empty.
    VisibleAscii {
        chars_max: usize,
    },
    Whole(WholeNumber),
    /// One of the words of the enumeration with this name in the OpenAPI document.
    OneOf(&'static str),
    /// A cursor of this list.
    Cursor(CursorKind),
    /// A text that matches the regular expression.
    Pattern(fn() -> String),
}

/// The bounds of a whole number, both inclusive.
#[derive(Debug, Clone, Copy)]
pub struct WholeNumber {
    pub min: u32,
    pub max: u32,
    /// `None` if the document names no default.
    pub default: Option<u32>,
    /// Whether a fraction of zeros may follow, as in `10.0`.
    pub zero_fraction: bool,
}

/// The meaning of a parameter without a value, as in `search=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyValues {
    /// A mistake: 400.
    Refused,
    /// An empty value means that the parameter is absent.
    Absent,
}

impl Param {
    /// An optional parameter.
    pub const fn new(name: &'static str, values: ParamValues, description: &'static str) -> Param {
        Param { name, values, required: false, description }
    }

    /// An optional whole number from `min` to `max`.
    pub const fn whole(name: &'static str, min: u32, max: u32, description: &'static str) -> Param {
        Param::new(name, ParamValues::Whole(WholeNumber { min, max, default: None, zero_fraction: false }), description)
    }

    /// The same parameter with a default. Another kind of parameter has none.
    #[must_use]
    pub const fn or(self, default: u32) -> Param {
        match self.values {
            ParamValues::Whole(number) => {
                let values = ParamValues::Whole(WholeNumber { default: Some(default), ..number });
                Param { values, ..self }
            }
            _ => self,
        }
    }

    /// The same whole number, which may also be written with a fraction of zeros. Another kind of parameter stays as it is.
    #[must_use]
    pub const fn with_zero_fraction(self) -> Param {
        match self.values {
            ParamValues::Whole(number) => {
                let values = ParamValues::Whole(WholeNumber { zero_fraction: true, ..number });
                Param { values, ..self }
            }
            _ => self,
        }
    }

    /// The same parameter, which the request must have.
    #[must_use]
    pub const fn required(self) -> Param {
        Param { required: true, ..self }
    }

    /// The bounds of a whole number. Those of `u32` for another kind of parameter.
    pub const fn bounds(&self) -> WholeNumber {
        match self.values {
            ParamValues::Whole(number) => number,
            _ => WholeNumber { min: 0, max: u32::MAX, default: None, zero_fraction: false },
        }
    }
}

pub const LIMIT: Param = Param::whole("limit", 1, LIMIT_MAX, "Rows of a page.").or(LIMIT_DEFAULT);
pub const FROM: Param = Param::new("from", ParamValues::Time, "Only rows of this time or later.");
pub const TO: Param = Param::new("to", ParamValues::Time, "Only rows before this time.");
/// [`FROM`] of attempts.
pub const FROM_RECORDED: Param = Param::new(
    "from",
    ParamValues::Time,
    "Only attempts that were recorded at this time or later, which is some milliseconds after `finished_at`.",
);
/// [`TO`] of attempts.
pub const TO_RECORDED: Param =
    Param::new("to", ParamValues::Time, "Only attempts that were recorded before this time, as `from`.");
pub const SEARCH: Param = Param::new(
    "search",
    ParamValues::Text { chars_max: Some(SEARCH_CHARS_MAX) },
    "Part of a type, error, URL or subject, whatever the case; or an exact id, `event_id` or status code. A list looks at \
     those of its rows: deliveries have the URL of their webhook as it is now, and the subject and `event_id` of their event; \
     attempts have the URL that was called, and neither subject nor `event_id`.",
);
pub const EVENT_TYPE: Param = Param::new("type", ParamValues::EventType, "Only of this event type.");
pub const STATUS_CODE: Param = Param::new(
    "status_code",
    ParamValues::Pattern(status_codes_pattern),
    "Only with one of these status codes or classes of them at the last attempt, such as `404,5xx`.",
);
pub const OUTCOME: Param = Param::new(
    "outcome",
    ParamValues::Pattern(outcomes_pattern),
    "Only with one of these outcomes at the last attempt, such as `timeout,tls_error`.",
);
pub const DELIVERY_STATUS: Param = Param::new(
    "status",
    ParamValues::Pattern(statuses_pattern),
    "Only deliveries of one of these statuses, such as `pending,retrying`.",
);

pub const ENDED_FROM: Param =
    Param::new("ended_from", ParamValues::Time, "Only deliveries that became final at this time or later.");
pub const ENDED_TO: Param =
    Param::new("ended_to", ParamValues::Time, "Only deliveries that became final before this time.");
/// The position in a list of deliveries.
pub const DELIVERIES_CURSOR: Param = Param::new(
    "cursor",
    ParamValues::Pattern(cursor::deliveries_pattern),
    "`next_cursor` of the page before, of the same filters.",
);

/// The position in the list of a webhook's waiting deliveries.
pub const WAITING_CURSOR: Param =
    Param::new("cursor", ParamValues::Pattern(cursor::waiting_pattern), "`next_cursor` of the page before.");

/// The position in the list of webhooks.
pub const WEBHOOKS_CURSOR: Param = Param::new(
    "cursor",
    ParamValues::Pattern(cursor::webhooks_pattern),
    "`next_cursor` of the page before, of the same order.",
);

/// The position in a list.
pub const fn cursor(kind: CursorKind) -> Param {
    Param::new("cursor", ParamValues::Cursor(kind), "`next_cursor` of the page before.")
}

const NOT_OF_LIST: &str = "is not a cursor of this list";

/// The parameters of one request, decoded.
#[derive(Debug, Default)]
pub struct Params {
    values: BTreeMap<&'static str, String>,
}

impl Params {
    /// Reads `name=value&…` (WHATWG URL, application/x-www-form-urlencoded); `known` are the parameters of the route.
    pub fn parse(query: Option<&str>, known: &'static [Param], empty: EmptyValues) -> Result<Params, ApiError> {
        let mut values: BTreeMap<&'static str, String> = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| undecodable(name))?;
            let Some(Param { name, .. }) = known.iter().find(|known| known.name == name) else {
                return Err(ApiError::bad_request("unknown_parameter", unknown(&name, known)));
            };
            let value = decode(value).ok_or_else(|| undecodable(name))?;
            if value.is_empty() && empty == EmptyValues::Refused {
                return Err(wrong(name, "must not be empty"));
            }
            if values.insert(*name, value.into_owned()).is_some() {
                return Err(ApiError::bad_request("repeated_parameter", format!("{name} is given more than once")));
            }
        }
        values.retain(|_, value| !value.is_empty());
        Ok(Params { values })
    }

    /// The value of `param`. `None` if it is absent.
    pub fn text(&self, param: &Param) -> Option<&str> {
        self.values.get(param.name).map(String::as_str)
    }

    /// Reads the value of `param` by `read`. The text `requirement` describes the allowed values.
    fn read<T>(
        &self,
        param: &Param,
        requirement: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.text(param) {
            None => Ok(None),
            Some(text) => read(text).map(Some).ok_or_else(|| wrong(param.name, requirement)),
        }
    }

    pub fn id<K: IdKind>(&self, param: &Param) -> Result<Option<Id<K>>, ApiError> {
        self.read(param, "must be a UUID", |text| text.parse().ok())
    }

    pub fn time(&self, param: &Param) -> Result<Option<Time>, ApiError> {
        self.read(param, "must be an RFC 3339 time such as 2026-11-22T03:29:00.123Z", |text| text.parse().ok())
    }

    /// The value of a whole number within the bounds of `param`.
    pub fn number(&self, param: &Param) -> Result<Option<u32>, ApiError> {
        let WholeNumber { min, max, zero_fraction, .. } = param.bounds();
        let requirement = format!("must be a whole number from {min} to {max}");
        self.read(param, &requirement, |text| {
            let digits = match text.split_once('.') {
                Some((digits, zeros)) if zero_fraction && is_made_of(zeros, |byte| byte == b'0') => digits,
                _ => text,
            };
            let plain = is_made_of(digits, |byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().filter(|n| (min..=max).contains(n))
        })
    }

    /// The value of a whole number, or its default. Without a default its minimum.
    pub fn number_or_default(&self, param: &Param) -> Result<u32, ApiError> {
        let WholeNumber { min, default, .. } = param.bounds();
        Ok(self.number(param)?.unwrap_or(default.unwrap_or(min)))
    }

    pub fn boolean(&self, param: &Param) -> Result<Option<bool>, ApiError> {
        self.read(param, "must be true or false", |text| text.parse().ok())
    }

    pub fn limit(&self) -> Result<usize, ApiError> {
        Ok(self.number_or_default(&LIMIT)? as usize)
    }

    pub fn cursor(&self, kind: CursorKind) -> Result<Option<u128>, ApiError> {
        self.read(&cursor(kind), NOT_OF_LIST, |text| cursor::read(kind, text))
    }

    /// The position of a cursor in a parameter of another name.
    pub fn position(&self, param: &Param, kind: CursorKind) -> Result<Option<u128>, ApiError> {
        self.read(param, NOT_OF_LIST, |text| cursor::read(kind, text))
    }

    /// `from`, `to`, `limit` and `cursor` together.
    pub fn window(&self, kind: CursorKind) -> Result<ListWindow, ApiError> {
        Ok(ListWindow {
            from: self.time(&FROM)?,
            to: self.time(&TO)?,
            before: self.cursor(kind)?,
            ..ListWindow::newest(self.limit()?)
        })
    }

    /// The position in the list of failed deliveries. `has_whole_index` says whether all of them are in the index: then no page
    /// ends at a delivery without an entry.
    pub fn failed_position(&self, has_whole_index: bool) -> Result<Option<FailedPosition>, ApiError> {
        let is_of_list = |at: &FailedPosition| !has_whole_index || matches!(at, FailedPosition::Indexed(..));
        self.read(&DELIVERIES_CURSOR, NOT_OF_LIST, |text| cursor::read_failed(text).filter(is_of_list))
    }

    /// The position in the list of webhooks.
    pub fn webhooks_position(&self) -> Result<Option<RankedPosition>, ApiError> {
        self.read(&WEBHOOKS_CURSOR, NOT_OF_LIST, cursor::read_ranked)
    }

    /// The position in the list of a webhook's waiting deliveries.
    pub fn waiting_position(&self) -> Result<Option<WaitingPosition>, ApiError> {
        self.read(&WAITING_CURSOR, NOT_OF_LIST, cursor::read_waiting)
    }

    /// `ended_from` and `ended_to`.
    pub fn ended(&self) -> Result<TimeSpan, ApiError> {
        Ok(TimeSpan { from: self.time(&ENDED_FROM)?, to: self.time(&ENDED_TO)? })
    }

    /// A text of at most `chars_max` characters of the parameter's `ParamValues::Text`.
    pub fn bounded_text(&self, param: &Param) -> Result<Option<String>, ApiError> {
        let ParamValues::Text { chars_max: Some(max) } = param.values else {
            return Ok(self.text(param).map(str::to_owned));
        };
        let requirement = format!("must have at most {max} characters");
        self.read(param, &requirement, |text| (text.chars().count() <= max).then(|| text.to_owned()))
    }

    pub fn search(&self) -> Result<Option<Search>, ApiError> {
        let requirement = format!("must have at most {SEARCH_CHARS_MAX} characters");
        self.read(&SEARCH, &requirement, |text| (text.chars().count() <= SEARCH_CHARS_MAX).then(|| Search::new(text)))
    }

    pub fn event_type(&self) -> Result<Option<String>, ApiError> {
        let requirement = "must be an event type: 1 to 256 of a-z, A-Z, 0-9, '_', '.', '-'";
        self.read(&EVENT_TYPE, requirement, |text| patterns::is_type(text).then(|| text.to_owned()))
    }

    pub fn delivery_status(&self) -> Result<Option<AnyOf<DeliveryStatus>>, ApiError> {
        let requirement =
            "must be pending, retrying, delivered, failed or cancelled, or several of them with commas between";
        self.any_of(&DELIVERY_STATUS, requirement, DeliveryStatus::parse)
    }

    pub fn status_code(&self) -> Result<Option<AnyOf<StatusCodes>>, ApiError> {
        let requirement =
            "must be a status code from 100 to 599 or a class such as 5xx, or several of them with commas between";
        self.any_of(&STATUS_CODE, requirement, StatusCodes::parse)
    }

    pub fn outcome(&self) -> Result<Option<AnyOf<AttemptOutcome>>, ApiError> {
        let words = AttemptOutcome::ALL.map(AttemptOutcome::as_str).join(", ");
        let requirement = format!("must be one or several, with commas between, of {words}");
        self.any_of(&OUTCOME, &requirement, |text| AttemptOutcome::ALL.into_iter().find(|one| one.as_str() == text))
    }

    /// Several values with commas between.
    fn any_of<T: PartialEq>(
        &self,
        param: &Param,
        requirement: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<AnyOf<T>>, ApiError> {
        self.read(param, requirement, |text| text.split(',').map(read).collect::<Option<Vec<T>>>().map(AnyOf::new))
    }
}

/// The regular expression of several values with commas between.
fn several(one: &str) -> String {
    format!("^({one})(,({one}))*$")
}

fn statuses_pattern() -> String {
    several(&DeliveryStatus::ALL.map(DeliveryStatus::as_str).join("|"))
}

fn status_codes_pattern() -> String {
    several(StatusCodes::PATTERN)
}

fn outcomes_pattern() -> String {
    several(&AttemptOutcome::ALL.map(AttemptOutcome::as_str).join("|"))
}

/// Whether a text is not empty and every byte of it passes.
fn is_made_of(text: &str, passes: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(passes)
}

/// 400 for a parameter's value.
pub fn wrong(name: &str, detail: &str) -> ApiError {
    ApiError::bad_request("invalid_parameter", format!("{name} {detail}"))
}

fn undecodable(name: &str) -> ApiError {
    ApiError::bad_request("malformed_query", format!("{} is not percent-encoded UTF-8", name.escape_default()))
}

fn unknown(name: &str, known: &[Param]) -> String {
    match known {
        [] => format!("unknown parameter {name:?}: there are none here"),
        _ => {
            let names: Vec<&str> = known.iter().map(|param| param.name).collect();
            format!("unknown parameter {name:?}: there are {}", names.join(", "))
        }
    }
}

/// `+` is a space, `%` must precede two hexadecimal digits, and the result must be UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    percent(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Percent-decoding, once and strictly. `None` if an escape is malformed or the bytes are not UTF-8.
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

    const WEBHOOK: Param = Param::new("webhook_id", ParamValues::Id, "");
    const KNOWN: &[Param] =
        &[LIMIT, cursor(CursorKind::Events), FROM, SEARCH, EVENT_TYPE, STATUS_CODE, DELIVERY_STATUS, WEBHOOK];

    fn code(query: &str) -> &'static str {
        let params = match Params::parse(Some(query), KNOWN, EmptyValues::Refused) {
            Ok(params) => params,
            Err(api_error) => return api_error.code,
        };
        let checked = params
            .window(CursorKind::Events)
            .and(params.search().map(drop))
            .and(params.event_type().map(drop))
            .and(params.status_code().map(drop))
            .and(params.delivery_status().map(drop))
            .and(params.id::<crate::model::Webhook>(&WEBHOOK).map(drop));
        code_of(checked)
    }

    fn code_of(checked: Result<(), ApiError>) -> &'static str {
        checked.map_or_else(|api_error| api_error.code, |()| "fine")
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
        let params = Params::parse(Some("search=a%2520b+c&%74ype=x"), KNOWN, EmptyValues::Refused).unwrap();
        assert_eq!(params.text(&SEARCH), Some("a%20b c"));
        assert_eq!(params.text(&EVENT_TYPE), Some("x"));
    }

    #[test]
    fn an_empty_value_is_refused_or_absent() {
        for query in ["search=", "search", "limit=&search="] {
            assert!(Params::parse(Some(query), KNOWN, EmptyValues::Refused).is_err(), "{query}");
            let params = Params::parse(Some(query), KNOWN, EmptyValues::Absent).unwrap();
            assert_eq!((params.text(&SEARCH), params.limit().unwrap()), (None, LIMIT_DEFAULT as usize), "{query}");
        }
        let twice = Params::parse(Some("search=&search=x"), KNOWN, EmptyValues::Absent);
        assert_eq!(twice.map(drop).unwrap_err().code, "repeated_parameter");
    }

    #[test]
    fn a_fraction_of_zeros_is_accepted_only_where_the_parameter_says_so() {
        const KNOWN: &[Param] = &[Param::whole("take", 1, 100, "").with_zero_fraction(), LIMIT];
        let number = |query, param| Params::parse(Some(query), KNOWN, EmptyValues::Refused).unwrap().number(param);
        for (query, expected) in [("take=10", 10), ("take=10.0", 10), ("take=100.000", 100)] {
            assert_eq!(number(query, &KNOWN[0]).unwrap(), Some(expected), "{query}");
        }
        for query in ["take=1.5", "take=10.", "take=.0", "take=0.0", "take=101.0", "take=-1.0", "take=1.0.0"] {
            assert!(number(query, &KNOWN[0]).is_err(), "{query}");
        }
        assert!(number("limit=10.0", &LIMIT).is_err());
    }
}
