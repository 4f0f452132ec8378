//! The filters of an address: the fields that a section knows, and the values that it can read.

use crate::api::HttpRequest;
use crate::model::{AttemptOutcome, DeliveryStatus, EventId, StatusCodes, Time, WebhookId};
use crate::rules::patterns;

use super::frame::Section;
use super::page_query::{LASTS, PageQuery};

/// Maximum number of characters of a value that a notice repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A filter whose value cannot be read. The page leaves it out, and says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedFilter {
    pub name: String,
    /// The value, cut.
    pub value: String,
    /// The values that the filter takes.
    pub cure: &'static str,
}

/// The fields that an address in a section may have, beside `done`.
pub const fn known(section: Section) -> &'static [&'static str] {
    match section {
        Section::Overview => &["last"],
        Section::Deliveries => {
            &["status", "webhook", "event", "type", "outcome", "search", "last", "from", "to", "cursor", "attempt"]
        }
        Section::Webhooks => &["search", "app", "state", "order", "cursor", "last", "status"],
        Section::Events => &["type", "event_id", "subject", "search", "last", "from", "to", "cursor"],
        Section::Live => &["webhook", "only", "search", "after", "wait_s"],
        Section::Replays => &["cursor", "webhook", "status", "outcome", "last", "from", "to", "rate"],
        Section::Apps => &["last", "cursor"],
        Section::Keys | Section::EventTypes => &["cursor"],
        Section::Audit => &["key", "action", "target", "last", "from", "to", "cursor"],
        Section::System | Section::Help => &[],
        Section::Aside => &["q", "cursor"],
    }
}

/// The values that a filter takes, in words. `None` if it takes this value.
fn cure(section: Section, name: &str, value: &str) -> Option<&'static str> {
    let (is_read, cure) = match (section, name) {
        (_, "last") => (LASTS.iter().any(|(last, ..)| *last == value), "choose 1h, 3h, 24h, 7d or 31d"),
        (_, "from" | "to") => (value.parse::<Time>().is_ok(), "write a time such as 2026-11-28T02:00:00Z"),
        (Section::Replays, "webhook") if value.starts_with("app:") => (true, ""),
        (Section::Deliveries | Section::Live | Section::Replays, "webhook") => {
            (value.parse::<WebhookId>().is_ok(), "choose a webhook of the list, or write its id")
        }
        (Section::Deliveries, "event") => (value.parse::<EventId>().is_ok(), "write the id of an event"),
        (Section::Deliveries | Section::Replays, "outcome") => (
            StatusCodes::parse(value).is_some() || AttemptOutcome::ALL.iter().any(|one| one.as_str() == value),
            "choose an outcome of the list, or write a status such as 503 or 5xx",
        ),
        (Section::Deliveries, "status") => {
            (value == "waiting" || DeliveryStatus::parse(value).is_some(), "choose one of the tabs")
        }
        (Section::Replays, "status") => {
            (matches!(value, "waiting" | "missing" | "failed" | "cancelled" | "delivered"), "choose one of the list")
        }
        (Section::Webhooks, "state") => {
            (matches!(value, "trouble" | "failing" | "enabled" | "paused" | "disabled"), "choose one of the tabs")
        }
        (Section::Webhooks, "order") => {
            (matches!(value, "worst" | "busiest" | "name" | "newest"), "choose worst, busiest, name or newest")
        }
        (Section::Live, "only") => (value == "failed", "only failed can be chosen"),
        (Section::Deliveries | Section::Events, "type") => (patterns::is_type(value), "write a whole event type"),
        (Section::Audit, "key") => (value.parse::<crate::model::KeyId>().is_ok(), "write the id of a key"),
        _ => (true, ""),
    };
    (!is_read).then_some(cure)
}

/// The filters of a query that a section cannot read.
pub fn dropped(section: Section, page_query: &PageQuery) -> Vec<DroppedFilter> {
    let unread = page_query.fields().filter_map(|(name, value)| {
        let cure = cure(section, name, value)?;
        Some(DroppedFilter { name: name.to_owned(), value: value.chars().take(SHOWN_CHARS_MAX).collect(), cure })
    });
    unread.collect()
}

/// The filters of a request that its section knows and can read.
pub fn of(http_request: &HttpRequest, section: Section) -> PageQuery {
    readable(&PageQuery::of(http_request), section)
}

/// The filters of a query that a section knows and can read.
pub fn readable(page_query: &PageQuery, section: Section) -> PageQuery {
    page_query.only(|name, value| known(section).contains(&name) && cure(section, name, value).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_is_no_filter_and_is_named() {
        let page_query =
            PageQuery::parse("status=failed&from=yesterday&webhook=garbage&outcome=bogus&last=99h&done=paused&odd=1");
        let names: Vec<_> =
            dropped(Section::Deliveries, &page_query).into_iter().map(|one| (one.name, one.value)).collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            names,
            [pair("from", "yesterday"), pair("webhook", "garbage"), pair("outcome", "bogus"), pair("last", "99h")]
        );
        assert_eq!(readable(&page_query, Section::Deliveries).link(), "?status=failed");
    }

    #[test]
    fn values_of_the_lists_are_read() {
        let webhook = "0195a000-0000-7000-8000-000000000000";
        for (section, query) in [
            (Section::Deliveries, format!("status=waiting&webhook={webhook}&event={webhook}&outcome=5xx&last=24h")),
            (Section::Deliveries, "outcome=timeout&from=2026-11-28T02:00:00Z&search=last%3D99h".to_owned()),
            (Section::Replays, format!("status=missing&webhook=app:{webhook}&outcome=503")),
            (Section::Webhooks, "state=trouble&order=newest".to_owned()),
            (Section::Live, format!("only=failed&webhook={webhook}")),
        ] {
            assert_eq!(dropped(section, &PageQuery::parse(&query)), [], "{query}");
        }
    }
}
