//! Defines the queries and pages of lists.
//!
//! Lists are ordered newest first, by id. A page ends after `EXAMINED_ROWS_MAX` examined rows, or
//! after fewer that its window names.

use crate::model::id::{DeliveryId, EventId, Id, WebhookId};
use crate::model::{AttemptOutcome, DeliveryStatus, StatusCodes, Time};

use crate::store::command::TenantScope;

/// Maximum number of rows that one page examines, whether they match or not.
pub const EXAMINED_ROWS_MAX: usize = 5_000;
/// Maximum number of rows that one count examines.
pub const COUNTED_ROWS_MAX: usize = 20_000;
/// Bytes of payloads and responses after which a page ends.
pub const PAGE_BYTES_MAX: usize = 16 << 20;
/// Maximum number of index entries that one page examines, whether they match or not.
pub const INDEXED_ROWS_MAX: usize = 5_000;

/// The range and size of a page. `from` (inclusive) and `to` (exclusive) bound the time of the row's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListWindow {
    pub from: Option<Time>,
    pub to: Option<Time>,
    /// Only rows with a smaller id: the last row examined by the page before.
    pub before: Option<u128>,
    pub limit: usize,
    /// Maximum number of rows to examine.
    pub examined_max: usize,
}

impl ListWindow {
    /// The newest rows.
    pub const fn newest(limit: usize) -> ListWindow {
        ListWindow { from: None, to: None, before: None, limit, examined_max: EXAMINED_ROWS_MAX }
    }
}

/// A span of time: `from` is inclusive, `to` is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeSpan {
    pub from: Option<Time>,
    pub to: Option<Time>,
}

impl TimeSpan {
    /// Whether the span has an end on either side.
    pub const fn is_bounded(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Whether a time lies within the span.
    pub fn contains(&self, at: Time) -> bool {
        self.from.is_none_or(|from| from <= at) && self.to.is_none_or(|to| at < to)
    }
}

/// The filters of a list of events. `None` passes every event.
#[derive(Debug, Clone)]
pub struct EventQuery {
    pub tenant: TenantScope,
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    pub subject: Option<String>,
    pub search: Option<Search>,
    pub window: ListWindow,
}

/// The filters of a list of deliveries. `None` passes every delivery.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    pub tenant: TenantScope,
    pub webhook: Option<WebhookId>,
    pub event: Option<EventId>,
    pub status: Option<AnyOf<DeliveryStatus>>,
    pub event_type: Option<String>,
    /// The last attempt's status code.
    pub status_code: Option<AnyOf<StatusCodes>>,
    /// The last attempt's outcome, or `expired`.
    pub outcome: Option<AnyOf<AttemptOutcome>>,
    pub search: Option<Search>,
    /// When the delivery became final. An open delivery is in no bounded span.
    pub ended: TimeSpan,
    pub window: ListWindow,
}

impl DeliveryQuery {
    /// All deliveries within `tenant`.
    pub fn all(tenant: TenantScope, window: ListWindow) -> DeliveryQuery {
        DeliveryQuery {
            tenant,
            webhook: None,
            event: None,
            status: None,
            event_type: None,
            status_code: None,
            outcome: None,
            search: None,
            ended: TimeSpan::default(),
            window,
        }
    }

    /// The window of the list. A search reads the event of a delivery too, so its pages examine half as many deliveries.
    pub const fn examined_window(&self) -> ListWindow {
        let rows_each = if self.search.is_some() { 2 } else { 1 };
        ListWindow { examined_max: self.window.examined_max / rows_each, ..self.window }
    }
}

/// The filters of a list of attempts. `None` passes every attempt.
#[derive(Debug, Clone)]
pub struct AttemptQuery {
    pub tenant: TenantScope,
    pub webhook: Option<WebhookId>,
    pub delivery: Option<DeliveryId>,
    pub event: Option<EventId>,
    pub success: Option<bool>,
    /// The delivery's status now.
    pub status: Option<AnyOf<DeliveryStatus>>,
    pub event_type: Option<String>,
    pub status_code: Option<AnyOf<StatusCodes>>,
    pub outcome: Option<AnyOf<AttemptOutcome>>,
    pub search: Option<Search>,
    pub window: ListWindow,
}

/// A filter that any of several values passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyOf<T>(Vec<T>);

impl<T: PartialEq> AnyOf<T> {
    pub const fn new(values: Vec<T>) -> AnyOf<T> {
        AnyOf(values)
    }

    pub fn has(&self, value: &T) -> bool {
        self.0.contains(value)
    }

    /// Whether no other value passes.
    pub fn is_only(&self, value: &T) -> bool {
        !self.0.is_empty() && self.0.iter().all(|other| other == value)
    }
}

impl AnyOf<StatusCodes> {
    /// Whether a status code passes. A missing one does not.
    pub fn has_code(&self, code: Option<u16>) -> bool {
        code.is_some_and(|code| self.0.iter().any(|codes| codes.has(code)))
    }
}

/// Bytes of the text of an id without its prefix.
const ID_BYTES: usize = 36;

/// `search`: a case-insensitive substring of type, error, URL or subject, or an exact id, `event_id` or status code. Each list looks
/// at those of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    lower: String,
    text: String,
}

impl Search {
    pub fn new(text: &str) -> Search {
        Search { lower: text.to_lowercase(), text: text.to_owned() }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `field` contains the text, ignoring case.
    pub fn within(&self, field: &str) -> bool {
        if field.is_ascii() && self.lower.is_ascii() {
            let (field, wanted) = (field.as_bytes(), self.lower.as_bytes());
            return wanted.is_empty() || field.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted));
        }
        field.to_lowercase().contains(&self.lower)
    }

    /// Whether it is exactly the text of an id.
    pub fn is_id<K>(&self, id: Id<K>) -> bool
    where
        Id<K>: ToString,
    {
        // Most texts are shorter than an id, and a page compares thousands.
        self.text.len() >= ID_BYTES && self.is(&id.to_string())
    }

    /// Whether it is exactly a status code.
    pub fn is_code(&self, code: u16) -> bool {
        self.text.len() == 3 && self.is(&code.to_string())
    }

    /// Whether it is exactly `value`'s text.
    pub fn is(&self, value: &str) -> bool {
        self.text == value
    }
}

/// The rows that a page may still examine, and the bytes that it may still show.
pub(in crate::store) struct PageBudget {
    rows: usize,
    bytes: usize,
}

impl PageBudget {
    /// The budget of one page.
    pub const WHOLE: PageBudget = PageBudget { rows: COUNTED_ROWS_MAX, bytes: PAGE_BYTES_MAX };

    pub fn examine(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    pub fn show(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub const fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// `ListWindow::before` of the next page. `None` at the end of the list. Also set if a filtered page ended early.
    pub next: Option<u128>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_code_or_its_class_is_read_and_nothing_else() {
        let any = |text: &str| AnyOf::new(text.split(',').map(|one| StatusCodes::parse(one).unwrap()).collect());
        for (text, code, expected) in
            [("503", 503, true), ("503", 504, false), ("5xx", 599, true), ("5xx", 400, false), ("404,5xx", 404, true)]
        {
            assert_eq!(any(text).has_code(Some(code)), expected, "{text} {code}");
        }
        assert!(!any("1xx,2xx,3xx,4xx,5xx").has_code(None), "no answer has no code");
        for bad in ["", "5", "50", "6xx", "0xx", "5XX", "5x3", "5033", "099", "600", " 503", "+50"] {
            assert_eq!(StatusCodes::parse(bad), None, "{bad}");
        }
    }
}
