//! The front of a stored attempt: the fields that filters compare, without the headers and the body behind them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::attempt::{Attempt, AttemptOutcome};
use super::id::{AppId, AttemptId, DeliveryId, EventId, OrganizationId, WebhookId};

/// The fields of an attempt that filters compare. Its texts are borrowed from the row, so that reading it allocates
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptFront<'a> {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub webhook_id: WebhookId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub event_type: &'a str,
    pub url: &'a str,
    pub success: bool,
    pub outcome: AttemptOutcome,
    pub status_code: Option<u16>,
    pub error: Option<&'a str>,
    /// `None` without an HTTP response.
    pub response_time_ms: Option<u32>,
}

impl<'a> AttemptFront<'a> {
    /// The front of an attempt that was read whole.
    pub fn of(attempt: &'a Attempt) -> AttemptFront<'a> {
        let made = &attempt.made;
        AttemptFront {
            id: attempt.id,
            delivery_id: attempt.delivery_id,
            event_id: attempt.event_id,
            webhook_id: attempt.webhook_id,
            org_id: attempt.org_id,
            app_id: attempt.app_id,
            event_type: &attempt.event_type,
            url: &made.url,
            success: made.success,
            outcome: made.outcome,
            status_code: made.status_code,
            error: made.error.as_deref(),
            response_time_ms: made.response_time_ms,
        }
    }
}

impl<'de> Deserialize<'de> for AttemptFront<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AttemptFront<'de>, D::Error> {
        from.deserialize_seq(FrontVisitor)
    }
}

struct FrontVisitor;

impl<'de> Visitor<'de> for FrontVisitor {
    type Value = AttemptFront<'de>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a row of Attempt")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<AttemptFront<'de>, A::Error> {
        let fields = &mut fields;
        let (id, delivery_id, event_id) = (next(fields)?, next(fields)?, next(fields)?);
        let (webhook_id, org_id, app_id) = (next(fields)?, next(fields)?, next(fields)?);
        let event_type = next(fields)?;
        // The number, `retry_of` and the trigger.
        skip(fields, 3)?;
        let url = next(fields)?;
        // The method, the field set, the content type, `signed_at`, `started_at` and `finished_at`.
        skip(fields, 6)?;
        let (success, outcome, status_code) = (next(fields)?, next(fields)?, next(fields)?);
        let (error, response_time_ms) = (next(fields)?, next(fields)?);
        while fields.next_element::<IgnoredAny>()?.is_some() {}
        Ok(AttemptFront {
            id,
            delivery_id,
            event_id,
            webhook_id,
            org_id,
            app_id,
            event_type,
            url,
            success,
            outcome,
            status_code,
            error,
            response_time_ms,
        })
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(fields: &mut A) -> Result<T, A::Error> {
    fields.next_element()?.ok_or_else(|| A::Error::custom("an attempt ends before its response time"))
}

fn skip<'de, A: SeqAccess<'de>>(fields: &mut A, count: usize) -> Result<(), A::Error> {
    for _ in 0..count {
        next::<IgnoredAny, A>(fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::{AttemptMade, Timings};
    use crate::model::{Id, Time};

    #[test]
    fn the_front_of_a_row_is_that_of_the_whole_attempt() {
        let made = AttemptMade {
            number: 300,
            url: "https://example.net/ä".into(),
            signed_at: 1_772_704_800,
            started_at: Time(1_772_704_800_000),
            finished_at: Time(1_772_704_800_700),
            outcome: AttemptOutcome::HttpStatus,
            status_code: Some(503),
            error: Some("Service Unavailable".into()),
            response_time_ms: Some(700),
            request_headers: [("a", "b")].into_iter().collect(),
            response_headers: [("c", "d")].into_iter().collect(),
            response_body: Some("x".repeat(16 << 10)),
            timings: Timings { dns: Some(1), total: 700, ..Timings::default() },
            ..AttemptMade::default()
        };
        let full = Attempt {
            id: Id::from_u128(1),
            delivery_id: Id::from_u128(2),
            event_id: Id::from_u128(3),
            webhook_id: Id::from_u128(4),
            org_id: Id::from_u128(5),
            app_id: Id::from_u128(6),
            event_type: "a.b".into(),
            retry_of: Some(Id::from_u128(7)),
            next_attempt_at: Some(Time(12)),
            made,
            response_erased_at: None,
        };
        for attempt in [full, Attempt::default()] {
            let row = rmp_serde::to_vec(&attempt).unwrap();
            assert_eq!(rmp_serde::from_slice::<AttemptFront<'_>>(&row).unwrap(), AttemptFront::of(&attempt));
            for bytes in 0..row.len() {
                assert!(rmp_serde::from_slice::<AttemptFront<'_>>(&row[..bytes]).is_err(), "{bytes} bytes");
            }
        }
    }
}
