//! An event as a producer posted it. Its `data` is stored apart, as the exact bytes received.

use std::collections::BTreeMap;

use super::id::{AppId, EventId, OrganizationId};
use super::row::flat_row;
use super::time::Time;

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub id: EventId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub occurred_at: Time,
    pub received_at: Time,
    pub attributes: EventAttributes,
    /// Deliveries made by publishing it.
    pub deliveries: u32,
    /// Length of `data` in bytes; 0 once erased.
    pub data_bytes: u32,
    /// When `data` was erased on request.
    pub erased_at: Option<Time>,
}

/// The properties of an event that are stored as they were posted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventAttributes {
    /// `invoice.paid`: 1 to 256 of `[a-zA-Z0-9_.-]`.
    pub event_type: String,
    /// The caller's own id, unique per app within the idempotency window.
    pub event_id: Option<String>,
    /// Instantly's shape calls it `lead_email`.
    pub subject: Option<String>,
    pub channels: Vec<String>,
    pub ordering_key: Option<String>,
    pub deliver_at: Option<Time>,
    pub expires_at: Option<Time>,
    pub metadata: BTreeMap<String, String>,
    /// The event's W3C trace context, sent on with every attempt.
    pub traceparent: Option<String>,
}

flat_row! {
    Event: id, org_id, app_id, attributes.event_type, attributes.event_id, occurred_at, received_at, attributes.subject,
    attributes.channels, attributes.ordering_key, attributes.deliver_at, attributes.expires_at, attributes.metadata,
    attributes.traceparent, deliveries, data_bytes, erased_at;
    added:
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;
    use crate::model::row::tests::hex;

    /// A row that the first format wrote, with every field set.
    const ROW: &str = "\
        dc0011c41000000000000000000000000000000001c41000000000000000000000000000000002c4100000000000000000000000\
        0000000003a3612e62a16e0405a17391a163a16f060781a16ba176a17408090a";

    #[test]
    fn a_row_has_every_field_in_its_stored_place() {
        let event = Event {
            id: Id::from_u128(1),
            org_id: Id::from_u128(2),
            app_id: Id::from_u128(3),
            occurred_at: Time(4),
            received_at: Time(5),
            attributes: EventAttributes {
                event_type: "a.b".into(),
                event_id: Some("n".into()),
                subject: Some("s".into()),
                channels: vec!["c".into()],
                ordering_key: Some("o".into()),
                deliver_at: Some(Time(6)),
                expires_at: Some(Time(7)),
                metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
                traceparent: Some("t".into()),
            },
            deliveries: 8,
            data_bytes: 9,
            erased_at: Some(Time(10)),
        };
        let row = rmp_serde::to_vec(&event).unwrap();
        assert_eq!(hex(&row), ROW);
        assert_eq!(rmp_serde::from_slice::<Event>(&row).unwrap(), event);
    }
}
