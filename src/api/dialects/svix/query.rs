//! The query parameters of Svix's lists. Unknown ones are ignored.

use crate::api::error::ApiError;
use crate::api::params::{Param, ParamValues, decode};
use crate::api::request_context::RequestContext;
use crate::model::Time;

use super::errors::{generic, wrong_query};
use super::ids::{Noun, is_name};
use super::iterator::Travel;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;
/// Maximum length of a channel in characters.
pub const CHANNEL_CHARS_MAX: usize = 128;

pub const LIMIT: Param = Param::whole("limit", 1, LIMIT_MAX as u32, "Items of a page.").or(LIMIT_DEFAULT as u32);
pub const ITERATOR: Param = Param::new(
    "iterator",
    ParamValues::Text { chars_max: None },
    "`iterator` of a page gives the next one, and `prevIterator` the one before.",
);
pub const ORDER: Param = Param::new("order", ParamValues::Text { chars_max: None }, "`ascending` or `descending`.");
pub const BEFORE: Param = Param::new("before", ParamValues::Time, "Only items before this time.");
pub const AFTER: Param =
    Param::new("after", ParamValues::Time, "Only items of this time or later. Alone it gives the oldest of them.");
pub const CHANNEL: Param =
    Param::new("channel", ParamValues::Text { chars_max: None }, "Only messages of this channel.");
pub const EVENT_TYPES: Param =
    Param::new("event_types", ParamValues::Text { chars_max: None }, "Only of these event types, with commas between.");
pub const EVENT_TYPE: Param =
    Param::new("event_type", ParamValues::Text { chars_max: None }, "Only of this event type.");
pub const WITH_CONTENT: Param =
    Param::new("with_content", ParamValues::Boolean, "Whether payloads and answers are shown.");
pub const WITH_MSG: Param = Param::new("with_msg", ParamValues::Boolean, "Whether the message is shown too.");
pub const STATUS: Param =
    Param::new("status", ParamValues::Text { chars_max: None }, "0 success, 1 pending, 2 fail, 3 sending, 4 canceled.");
pub const STATUS_CODE_CLASS: Param = Param::new(
    "status_code_class",
    ParamValues::Text { chars_max: None },
    "0 without an answer, or 100, 200, 300, 400, 500.",
);
pub const EXPANDED_STATUSES: Param =
    Param::new("expanded_statuses", ParamValues::Boolean, "Whether canceled is shown as 4 and not as 2.");
pub const ENDPOINT_ID: Param =
    Param::new("endpoint_id", ParamValues::Text { chars_max: None }, "Only of this endpoint, by id or uid.");
pub const GET_IF_EXISTS: Param =
    Param::new("get_if_exists", ParamValues::Boolean, "Whether an existing one of this uid is answered.");
pub const INCLUDE_ARCHIVED: Param =
    Param::new("include_archived", ParamValues::Boolean, "Whether archived ones are shown.");
pub const EXPUNGE: Param = Param::new("expunge", ParamValues::Boolean, "Whether it is removed for good.");
pub const TASK: Param = Param::new("task", ParamValues::Text { chars_max: None }, "Only of this kind.");
pub const TASK_STATUS: Param =
    Param::new("status", ParamValues::Text { chars_max: None }, "`running`, `finished` or `failed`.");
pub const SINCE: Param = Param::new("since", ParamValues::Time, "The begin of the span.");
pub const UNTIL: Param = Param::new("until", ParamValues::Time, "The end of the span.");

/// Stands in an iterator before a name that begins with a hyphen, which would lead back.
const NAME_MARK: char = '~';

/// The iterator that leads on from a name.
pub fn named_iterator(name: &str) -> String {
    if name.starts_with('-') { format!("{NAME_MARK}{name}") } else { name.to_owned() }
}

/// A request's parameters in their order.
pub struct SvixQuery(Vec<(String, String)>);

impl SvixQuery {
    /// Reads `name=value&…`. 400 if it is not percent-encoded UTF-8.
    pub fn read(request: &RequestContext<'_>) -> Result<SvixQuery, ApiError> {
        SvixQuery::of(request.http.query.as_deref().unwrap_or_default())
    }

    fn of(query: &str) -> Result<SvixQuery, ApiError> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(name).zip(decode(value));
            let (name, value) = decoded.ok_or_else(|| generic("the query is not percent-encoded UTF-8"))?;
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(SvixQuery(pairs))
    }

    /// The first value that is not empty.
    pub fn text(&self, param: &Param) -> Option<&str> {
        self.0.iter().find(|(name, value)| name == param.name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, param: &Param) -> Result<Option<bool>, ApiError> {
        let wrong = || generic(format!("{} must be true or false", param.name));
        self.text(param).map(|text| text.parse().map_err(|_| wrong())).transpose()
    }

    /// `limit`: 400 if it is no whole number, and 422 if it is out of bounds.
    pub fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.text(&LIMIT) else { return Ok(LIMIT_DEFAULT) };
        let wrong = || generic(format!("limit must be a whole number from 1 to {LIMIT_MAX}"));
        let limit: u64 = text.parse().map_err(|_| wrong())?;
        match limit {
            0 => Err(wrong_query(LIMIT.name, "Given limit must not be 0")),
            1..=250 => Ok(limit as usize),
            _ => Err(wrong_query(LIMIT.name, "Given limit must not exceed 250")),
        }
    }

    /// Whether `order` is `ascending`.
    pub fn is_ascending(&self, default: bool) -> Result<bool, ApiError> {
        match self.text(&ORDER) {
            None => Ok(default),
            Some("ascending") => Ok(true),
            Some("descending") => Ok(false),
            Some(_) => Err(generic("order must be ascending or descending")),
        }
    }

    /// A time, rounded up to the next millisecond, because the times of ids have no finer digits.
    pub fn time(&self, param: &Param) -> Result<Option<Time>, ApiError> {
        let wrong = || generic(format!("{} must be an RFC 3339 time such as 2026-11-22T03:29:00Z", param.name));
        self.text(param).map(|text| read_time(text).ok_or_else(wrong)).transpose()
    }

    /// `iterator` as the place of an id.
    pub fn travel(&self, noun: Noun) -> Result<Option<Travel<u128>>, ApiError> {
        let wrong = || wrong_query(ITERATOR.name, &format!("must be an id that begins with {}", noun.prefix()));
        self.text(&ITERATOR).map(|text| Travel::read(text, |id| noun.place(id)).ok_or_else(wrong)).transpose()
    }

    /// `iterator` as a name.
    pub fn named_travel(&self) -> Result<Option<Travel<String>>, ApiError> {
        let wrong = || wrong_query(ITERATOR.name, "must be a name");
        let read = |name: &str| is_name(name).then(|| name.to_owned());
        let travel = |text: &str| match text.strip_prefix(NAME_MARK) {
            Some(name) => read(name).map(Travel::Next),
            None => Travel::read(text, read),
        };
        self.text(&ITERATOR).map(|text| travel(text).ok_or_else(wrong)).transpose()
    }

    /// `status`.
    pub fn status(&self) -> Result<Option<u8>, ApiError> {
        let Some(text) = self.text(&STATUS) else { return Ok(None) };
        let status: i64 = text.parse().map_err(|_| generic("status must be a whole number"))?;
        match u8::try_from(status) {
            Ok(status @ 0..=4) => Ok(Some(status)),
            _ => Err(generic("status must be 0, 1, 2, 3 or 4")),
        }
    }

    /// `status_code_class` as its first digit.
    pub fn status_class(&self) -> Result<Option<u16>, ApiError> {
        let Some(text) = self.text(&STATUS_CODE_CLASS) else { return Ok(None) };
        match text {
            "0" | "100" | "200" | "300" | "400" | "500" => Ok(text.parse::<u16>().ok().map(|class| class / 100)),
            _ => Err(generic("status_code_class must be 0, 100, 200, 300, 400 or 500")),
        }
    }

    pub fn channel(&self) -> Result<Option<&str>, ApiError> {
        let channel = self.text(&CHANNEL);
        match channel.is_none_or(|text| is_name(text) && text.len() <= CHANNEL_CHARS_MAX) {
            true => Ok(channel),
            false => Err(wrong_query(CHANNEL.name, "must be 1 to 128 of a-z, A-Z, 0-9, '_', '.', '-'")),
        }
    }

    /// `event_types=a,b`, also repeated, and as `event_types[]` or `event_types[1]`. Empty if it is absent.
    pub fn event_types(&self) -> Result<Vec<&str>, ApiError> {
        let is_one = |name: &str| {
            name.strip_prefix(EVENT_TYPES.name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('[') && rest.ends_with(']'))
        };
        let values = self.0.iter().filter(|(name, _)| is_one(name)).flat_map(|(_, value)| value.split(','));
        let types: Vec<&str> = values.filter(|text| !text.is_empty()).collect();
        match types.iter().all(|text| is_name(text)) {
            true => Ok(types),
            false => Err(wrong_query(EVENT_TYPES.name, "must be names of event types with commas between")),
        }
    }
}

/// RFC 3339, also with a space for `T`, ` UTC` for `Z`, and a space for the `+` of an offset that was not encoded.
fn read_time(text: &str) -> Option<Time> {
    let mut text = text.replacen(" UTC", "Z", 1);
    if let Some((start, offset)) = text.split_at_checked(text.len().checked_sub(6)?)
        && offset.starts_with(' ')
    {
        text = format!("{start}+{}", &offset[1..]);
    }
    let time: Time = text.parse().ok()?;
    let digits = text.split_once('.').map_or("", |(_, rest)| rest);
    let is_finer = digits.bytes().take_while(u8::is_ascii_digit).skip(3).any(|digit| digit != b'0');
    Some(if is_finer { time.plus_ms(1) } else { time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> SvixQuery {
        SvixQuery::of(text).unwrap()
    }

    #[test]
    fn a_limit_is_bounded_and_unknown_parameters_are_ignored() {
        let status = |text: &str| query(text).limit().map_err(|api_error| api_error.status.as_u16());
        assert_eq!(status("tag=x&x=1"), Ok(50));
        assert_eq!((status("limit=250"), status("limit=1"), status("limit=")), (Ok(250), Ok(1), Ok(50)));
        assert_eq!((status("limit=251"), status("limit=0")), (Err(422), Err(422)));
        assert_eq!((status("limit=-1"), status("limit=x"), status("limit=1.0")), (Err(400), Err(400), Err(400)));
        assert!(SvixQuery::of("a=%zz").is_err());
    }

    #[test]
    fn event_types_are_given_in_every_spelling() {
        let types = |text: &str| query(text).event_types().unwrap().join(" ");
        assert_eq!(types("event_types=a,b&event_types=c&event_types[]=d&event_types%5B1%5D=e.f"), "a b c d e.f");
        assert_eq!(types("event_types=&event_types[=x&event_typesx=y"), "");
        assert!(query("event_types=a b").event_types().is_err());
    }

    #[test]
    fn times_are_read_in_the_spellings_of_clients() {
        let noon: Time = "2026-03-05T12:00:00.123Z".parse().unwrap();
        for text in [
            "2026-03-05T12:00:00.123Z",
            "2026-03-05 12:00:00.123 UTC",
            "2026-03-05T13:00:00.123+01:00",
            "2026-03-05T13:00:00.123 01:00",
            "2026-03-05T12:00:00.122001Z",
            "2026-03-05T12:00:00.123000Z",
        ] {
            assert_eq!(read_time(text), Some(noon), "{text}");
        }
        for text in ["", "x", "2026-03-05", "2026-03-05T12:00:00", "ääääää"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_and_its_class_are_known_ones() {
        assert_eq!(query("status=4").status().unwrap(), Some(4));
        assert!(query("status=5").status().is_err() && query("status=x").status().is_err());
        assert_eq!(query("status_code_class=500").status_class().unwrap(), Some(5));
        assert_eq!(query("status_code_class=0").status_class().unwrap(), Some(0));
        assert!(query("status_code_class=404").status_class().is_err());
        assert!(!query("order=descending").is_ascending(true).unwrap());
        assert!(query("order=up").is_ascending(true).is_err());
    }

    #[test]
    fn an_iterator_has_the_form_of_an_id() {
        let id = format!("msg_{}", crate::model::ksuid::encode(7 << 80));
        assert!(matches!(query(&format!("iterator={id}")).travel(Noun::Message), Ok(Some(Travel::Next(_)))));
        assert!(matches!(query(&format!("iterator=-{id}")).travel(Noun::Message), Ok(Some(Travel::Previous(_)))));
        for text in [id.replace("msg", "app"), "x".into(), "-".into(), "msg_1".into(), format!("--{id}")] {
            let api_error = query(&format!("iterator={text}")).travel(Noun::Message).unwrap_err();
            assert_eq!(api_error.status, 422, "{text}");
        }
        let named = |text: &str| query(&format!("iterator={text}")).named_travel().unwrap();
        assert_eq!(named("-a.b"), Some(Travel::Previous("a.b".to_owned())));
        assert_eq!(named(&named_iterator("-a")), Some(Travel::Next("-a".to_owned())));
        assert_eq!(named("--a"), Some(Travel::Previous("-a".to_owned())));
    }
}
