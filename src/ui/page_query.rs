//! The query of a page's address: reading its fields, and making addresses with one field more or less.

use url::form_urlencoded;

use crate::api::HttpRequest;
use crate::model::Time;
use crate::model::time::{DAY_MS, HOUR_MS};

/// The fields of a query in their order. Empty ones are absent, because a browser sends every field of a form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery(Vec<(String, String)>);

impl PageQuery {
    pub fn of(http_request: &HttpRequest) -> PageQuery {
        PageQuery::parse(http_request.query.as_deref().unwrap_or_default())
    }

    pub fn parse(query: &str) -> PageQuery {
        let pairs =
            form_urlencoded::parse(query.as_bytes()).map(|(name, value)| (name.into_owned(), value.into_owned()));
        PageQuery(
            pairs.map(|(name, value)| (name, value.trim().to_owned())).filter(|(_, value)| !value.is_empty()).collect(),
        )
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The names that a page does not know.
    pub fn unknown(&self, known: &[&str]) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).filter(|name| !known.contains(name)).collect()
    }

    /// The same query with this value for a field, and from the first page on. An empty value removes the field.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> PageQuery {
        let mut pairs: Vec<_> =
            self.0.iter().filter(|(given, _)| given != name && given != "cursor").cloned().collect();
        if !value.is_empty() {
            pairs.push((name.to_owned(), value.to_owned()));
        }
        PageQuery(pairs)
    }

    /// The fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The fields that pass, in their order.
    #[must_use]
    pub fn only(&self, passes: impl Fn(&str, &str) -> bool) -> PageQuery {
        PageQuery(self.0.iter().filter(|(name, value)| passes(name, value)).cloned().collect())
    }

    /// The address of `path` with this query.
    pub fn to(&self, path: &str) -> String {
        format!("{path}{}", self.link())
    }

    /// The text of the query with a `?`. Empty without fields.
    pub fn link(&self) -> String {
        if self.0.is_empty() {
            // An empty relative address would keep the query.
            return "?".to_owned();
        }
        let mut text = form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(&self.0);
        format!("?{}", text.finish())
    }
}

/// A span of time as an address names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// The span in words, such as `24 hours`. `None` if all of time is meant.
    pub words: Option<String>,
}

/// The spans that a page offers: the value of `last`, and its words.
pub const LASTS: [(&str, &str, i64); 5] = [
    ("1h", "hour", HOUR_MS),
    ("3h", "3 hours", 3 * HOUR_MS),
    ("24h", "24 hours", DAY_MS),
    ("7d", "7 days", 7 * DAY_MS),
    ("31d", "31 days", 31 * DAY_MS),
];

impl Span {
    /// The span of `last`, or of `from` and `to`. Values that are no times are absent.
    pub fn of(page_query: &PageQuery, now: Time) -> Span {
        if let Some((_, words, ms)) = LASTS.into_iter().find(|(value, _, _)| page_query.get("last") == Some(value)) {
            return Span { from: Some(now.minus_ms(ms)), to: None, words: Some(format!("last {words}")) };
        }
        let time = |name| page_query.get(name).and_then(|text| text.parse::<Time>().ok());
        let (from, to) = (time("from"), time("to"));
        let words = match (from, to) {
            (None, None) => None,
            (Some(from), None) => Some(format!("from {from}")),
            (None, Some(to)) => Some(format!("before {to}")),
            (Some(from), Some(to)) => Some(format!("from {from} to {to}")),
        };
        Span { from, to, words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_back_and_drops_its_cursor_when_it_changes() {
        let page_query = PageQuery::parse("search=a%20b&status=failed&empty=&cursor=x");
        assert_eq!((page_query.get("search"), page_query.get("empty")), (Some("a b"), None));
        assert_eq!(page_query.with("status", "").link(), "?search=a+b");
        assert_eq!(page_query.with("last", "1h").link(), "?search=a+b&status=failed&last=1h");
        assert_eq!(PageQuery::parse("status=failed").with("status", "").link(), "?");
        assert_eq!(page_query.unknown(&["search", "cursor"]), ["status"]);
    }

    #[test]
    fn a_span_is_relative_or_of_two_times() {
        let now = Time(1_772_704_800_120);
        assert_eq!(Span::of(&PageQuery::parse("last=1h"), now).from, Some(now.minus_ms(HOUR_MS)));
        let span = Span::of(&PageQuery::parse("from=2026-03-05T10:00:00Z&to=nonsense"), now);
        assert_eq!((span.from, span.to), (Some(Time(1_772_704_800_000)), None));
        assert_eq!(Span::of(&PageQuery::parse("last=never"), now), Span::default());
    }
}
