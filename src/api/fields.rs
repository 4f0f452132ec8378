//! Reads JSON objects field by field and collects every mistake with its pointer, unknown fields included.
//!
//! Values that are stored as received (`data`) stay slices of the body.
//!
//! Invariant: the text has passed `rules::json::check`, so every member name is unique and every text is UTF-8.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::model::Time;
use crate::rules::json::{JsonMember, escape_token, walk};

use super::error::{ApiError, FieldError};

/// The mistakes found so far.
pub type FieldErrors = Vec<FieldError>;

/// A value, or the requirement that it misses, as the end of a sentence that begins with the field's name.
pub type FieldResult<T> = Result<T, String>;

/// Maximum number of reported mistakes. Without it a body full of mistakes would get an answer of its own size.
pub const FIELD_ERRORS_MAX: usize = 100;

/// 422 with all mistakes, if there are any.
pub fn into_result(mut field_errors: FieldErrors) -> Result<(), ApiError> {
    if field_errors.is_empty() {
        return Ok(());
    }
    field_errors.truncate(FIELD_ERRORS_MAX);
    Err(ApiError::invalid(field_errors))
}

/// An object whose members are removed one by one. Members that remain at the end are unknown.
pub struct JsonObject<'a> {
    at: String,
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl<'a> JsonObject<'a> {
    /// Reads the object in `text`, which is at the pointer `at`.
    pub fn read(text: &'a str, at: String) -> Result<JsonObject<'a>, FieldError> {
        match serde_json::from_str::<RawMembers<'a>>(text) {
            Ok(RawMembers(members)) => Ok(JsonObject { at, members }),
            Err(_) => Err(FieldError::new(at, "must be an object")),
        }
    }

    /// The object with these members, as `rules::json::members` found them.
    pub fn of(members: Option<Vec<JsonMember<'a>>>, at: String) -> Result<JsonObject<'a>, FieldError> {
        let Some(members) = members else { return Err(FieldError::new(at, "must be an object")) };
        let named = |member: JsonMember<'a>| (walk::unescaped(member.name.as_bytes()), member.value);
        Ok(JsonObject { at, members: members.into_iter().map(named).collect() })
    }

    /// Reads the object in `text` as `read` does, in less time. `text` has passed `rules::json::check`.
    pub fn walked(text: &'a str, at: String) -> Result<JsonObject<'a>, FieldError> {
        let mut members = Vec::new();
        let end = walk::each_member(text.as_bytes(), walk::start(text.as_bytes(), 0), |name, start| {
            let end = walk::skip(text.as_bytes(), start)?;
            let name = std::str::from_utf8(name).ok()?;
            members.push(JsonMember { name, value: text.get(start..end)? });
            Some(end)
        });
        JsonObject::of(end.map(|_| members), at)
    }

    /// The pointer of the object itself.
    pub fn pointer(&self) -> &str {
        &self.at
    }

    /// The pointer of a member.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{}", self.at, escape_token(name))
    }

    /// Takes a member. `null` counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take_text(name).filter(|text| *text != "null").and_then(raw_value)
    }

    /// Takes a member, even if it is `null`.
    pub fn take_any(&mut self, name: &str) -> Option<&'a RawValue> {
        self.take_text(name).and_then(raw_value)
    }

    /// Takes the text of a member, even if it is `null`.
    pub fn take_text(&mut self, name: &str) -> Option<&'a str> {
        let found = self.members.iter().position(|(given, _)| given == name)?;
        Some(self.members.swap_remove(found).1)
    }

    /// Whether a member of this name, `null` or not, has not been taken yet.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(given, _)| given == name)
    }

    /// An optional member, read by `read`. `None` if it is absent or wrong.
    pub fn optional<T>(
        &mut self,
        name: &str,
        field_errors: &mut FieldErrors,
        read: impl FnOnce(&'a RawValue) -> FieldResult<T>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        read(raw).map_err(|detail| field_errors.push(FieldError::new(self.at(name), detail))).ok()
    }

    /// A required member.
    pub fn required<T>(
        &mut self,
        name: &str,
        field_errors: &mut FieldErrors,
        read: impl FnOnce(&'a RawValue) -> FieldResult<T>,
    ) -> Option<T> {
        if !self.members.iter().any(|(given, text)| given == name && *text != "null") {
            self.take_text(name);
            field_errors.push(FieldError::new(self.at(name), "is required"));
            return None;
        }
        self.optional(name, field_errors, read)
    }

    /// An optional object, with the pointers of its members.
    pub fn object(&mut self, name: &str, field_errors: &mut FieldErrors) -> Option<JsonObject<'a>> {
        let raw = self.take(name)?;
        JsonObject::read(raw.get(), self.at(name)).map_err(|field_error| field_errors.push(field_error)).ok()
    }

    /// The elements of an optional array, each with its pointer.
    pub fn array(
        &mut self,
        name: &str,
        field_errors: &mut FieldErrors,
        items_max: usize,
    ) -> Option<Vec<(String, &'a RawValue)>> {
        let items = self.optional(name, field_errors, |raw| elements(raw, items_max))?;
        let at = self.at(name);
        Some(items.into_iter().enumerate().map(|(n, raw)| (format!("{at}/{n}"), raw)).collect())
    }

    /// An optional array of strings.
    pub fn strings(
        &mut self,
        name: &str,
        field_errors: &mut FieldErrors,
        items_max: usize,
        read: impl Fn(&RawValue) -> FieldResult<String>,
    ) -> Option<Vec<String>> {
        let items = self.array(name, field_errors, items_max)?;
        let mut texts = Vec::with_capacity(items.len());
        for (at, raw) in items {
            match read(raw) {
                Ok(text) => texts.push(text),
                Err(detail) => field_errors.push(FieldError::new(at, detail)),
            }
        }
        Some(texts)
    }

    /// The remaining members in order, for maps whose names the caller chooses.
    pub fn rest(self) -> Vec<(Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter().filter_map(|(name, text)| Some((name, raw_value(text)?))).collect()
    }

    /// Adds a mistake for every remaining member.
    pub fn finish(self, field_errors: &mut FieldErrors) {
        for (name, _) in &self.members {
            field_errors.push(FieldError::new(self.at(name), "is not a known field"));
        }
    }
}

/// A checked text as a value of serde_json.
fn raw_value(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

struct RawMembers<'a>(Vec<(Cow<'a, str>, &'a str)>);

#[derive(Deserialize)]
#[serde(transparent)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = RawMembers<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((MemberName(name), raw)) = map.next_entry::<MemberName<'de>, &'de RawValue>()? {
                    members.push((name, raw.get()));
                }
                Ok(RawMembers(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// The elements of an array.
pub fn elements(raw: &RawValue, items_max: usize) -> FieldResult<Vec<&RawValue>> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| "must be an array".to_owned())?;
    if items.len() > items_max {
        return Err(format!("must have at most {items_max} items"));
    }
    Ok(items)
}

/// Any string.
pub fn text(raw: &RawValue) -> FieldResult<String> {
    let inner = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    if let Some(plain) = inner.filter(|text| !text.contains('\\')) {
        return Ok(plain.to_owned());
    }
    serde_json::from_str(raw.get()).map_err(|_| "must be a string".to_owned())
}

/// A string of bounded length without control characters.
pub fn line(raw: &RawValue, chars: RangeInclusive<usize>) -> FieldResult<String> {
    let text = text(raw)?;
    if !chars.contains(&text.chars().count()) {
        return Err(format!("must have {} to {} characters", chars.start(), chars.end()));
    }
    if text.chars().any(char::is_control) {
        return Err("must not have control characters".to_owned());
    }
    Ok(text)
}

pub fn boolean(raw: &RawValue) -> FieldResult<bool> {
    serde_json::from_str(raw.get()).map_err(|_| "must be true or false".to_owned())
}

/// A whole number within a range. `5.0` is one too (JSON Schema's integer).
pub fn whole(raw: &RawValue, range: RangeInclusive<u64>) -> FieldResult<u64> {
    let exact = serde_json::from_str::<u64>(raw.get()).ok();
    let spelled = || serde_json::from_str::<f64>(raw.get()).ok().filter(|n| n.fract() == 0.0).map(|n| n as u64);
    let is_number = raw.get().starts_with(|c: char| c.is_ascii_digit());
    let number = exact.or_else(|| is_number.then(spelled).flatten());
    number
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

/// A number within a range.
pub fn number(raw: &RawValue, range: RangeInclusive<f64>) -> FieldResult<f64> {
    serde_json::from_str::<f64>(raw.get())
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
}

pub fn time(raw: &RawValue) -> FieldResult<Time> {
    let parsed = text(raw).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| "must be an RFC 3339 time such as 2026-11-22T03:29:00.123Z".to_owned())
}

/// One of the strings that `T`'s plain variants are written as. `names` lists them for the error.
pub fn choice<T: DeserializeOwned>(raw: &RawValue, names: &str) -> FieldResult<T> {
    let wrong = || format!("must be {names}");
    let text = text(raw).map_err(|_| wrong())?;
    let plain = de::value::StrDeserializer::<de::value::Error>::new(&text);
    T::deserialize(plain).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::json;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn members_are_read_and_the_rest_is_unknown() {
        let mut field_errors = FieldErrors::new();
        let mut object = JsonObject::read(r#" {"a": null, "b/~c": 1e400, "d": [1, 2]} "#, String::new()).unwrap();
        assert!(object.take("a").is_none());
        assert_eq!(object.required("e", &mut field_errors, text), None);
        assert_eq!(object.array("d", &mut field_errors, 2).unwrap()[1].0, "/d/1");
        object.finish(&mut field_errors);
        let pointers: Vec<_> = field_errors.iter().map(|field_error| field_error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/e", "/b~1~0c"]);
    }

    #[test]
    fn each_way_of_reading_finds_the_same_members() {
        for text in [
            r#" {"a": null ,"b/~c":{"d":[1, {"e":"}"}]}, "\u0061\"" : "x\\" ,"n":-0.0e1} "#,
            "{}",
            "[]",
            r#""{""#,
            "null",
        ] {
            let members = json::members(text.as_bytes(), json::JsonLimits::default()).unwrap();
            let ways = [
                JsonObject::read(text, "/x".to_owned()),
                JsonObject::walked(text, "/x".to_owned()),
                JsonObject::of(members, "/x".to_owned()),
            ];
            let found = ways.map(|object| object.map(|object| object.members));
            assert_eq!((&found[0], &found[0]), (&found[1], &found[2]), "{text}");
        }
    }

    #[test]
    fn null_is_no_required_value() {
        let mut field_errors = FieldErrors::new();
        let mut object = JsonObject::read(r#"{"a": null}"#, "/x".to_owned()).unwrap();
        assert_eq!(object.required("a", &mut field_errors, text), None);
        object.finish(&mut field_errors);
        assert_eq!(field_errors, [FieldError::new("/x/a", "is required")]);
    }

    #[test]
    fn whole_numbers_are_whole_and_in_range() {
        for (text, expected) in [("5", Some(5)), ("5.0", Some(5)), ("5e0", Some(5)), ("10", Some(10))] {
            assert_eq!(whole(&raw(text), 1..=10).ok(), expected, "{text}");
        }
        for text in ["0", "11", "-1", "5.5", "1e400", "\"5\"", "true", "null", "[5]", "-0.0"] {
            assert!(whole(&raw(text), 1..=10).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_finite_and_in_range() {
        assert_eq!(number(&raw("0.5"), 0.1..=1.0), Ok(0.5));
        for text in ["1e400", "0", "2", "\"1\"", "true"] {
            assert!(number(&raw(text), 0.1..=1.0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_choice_is_a_string_and_nothing_else_that_serde_accepts() {
        use crate::model::webhook::WebhookMethod;
        assert_eq!(choice::<WebhookMethod>(&raw("\"get\""), "get"), Ok(WebhookMethod::Get));
        for text in ["{\"get\":null}", "0", "\"GET\"", "\"\""] {
            assert!(choice::<WebhookMethod>(&raw(text), "get").is_err(), "{text}");
        }
    }

    #[test]
    fn lines_have_no_control_characters() {
        assert!(line(&raw(r#""a\u0000b""#), 1..=9).is_err());
        assert!(line(&raw(r#""""#), 1..=9).is_err());
        assert_eq!(line(&raw(r#""größe""#), 1..=5), Ok("größe".to_owned()));
    }
}
