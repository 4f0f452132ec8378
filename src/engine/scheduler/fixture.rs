//! Webhooks and deliveries for the scheduler's tests.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{DeliveryId, Id};
use crate::model::webhook::Webhook;
use crate::model::{Event, Time};
use crate::store::Dispatch;

pub fn webhook(change: impl FnOnce(&mut Webhook)) -> Webhook {
    let mut webhook = Webhook {
        id: Id::from_u128(1),
        name: "hook".to_owned(),
        url: "http://127.0.0.1/".to_owned(),
        signature: Vec::new(),
        max_in_flight: 1_000,
        disable_after_s: 0,
        version: 1,
        ..Webhook::new(Id::MIN, Id::MIN)
    };
    change(&mut webhook);
    webhook
}

pub fn delivery_id(id: u128) -> DeliveryId {
    Id::from_u128(id)
}

pub fn dispatch(id: u128, due: Time) -> Dispatch {
    dispatch_to(Id::from_u128(1), id, due)
}

pub fn dispatch_to(webhook_id: Id<Webhook>, id: u128, due: Time) -> Dispatch {
    let mut event = Event { id: Id::from_u128(id), occurred_at: due, received_at: due, ..Event::default() };
    event.attributes.event_type = "a".to_owned();
    Dispatch {
        webhook_id,
        delivery_id: delivery_id(id),
        event: Arc::new(event),
        data: Bytes::from_static(b"1"),
        number: 1,
        due,
        retry_of: None,
        trigger: Trigger::Event,
        end: Time::MAX,
    }
}
