//! Webhooks and deliveries for the scheduler's tests.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::attempt::Trigger;
use crate::model::id::{DeliveryId, Id};
use crate::model::webhook::{ContentType, DeliveryOrder, FieldSet, SuccessRule, Webhook, WebhookMethod, WebhookStatus};
use crate::model::{Event, Time};
use crate::store::Dispatch;

pub fn webhook(change: impl FnOnce(&mut Webhook)) -> Webhook {
    let mut webhook = Webhook {
        id: Id::from_u128(1),
        org_id: Id::MIN,
        app_id: Id::MIN,
        name: "hook".to_owned(),
        description: None,
        url: "http://127.0.0.1/".to_owned(),
        method: WebhookMethod::Post,
        content_type: ContentType::Json,
        field_set: FieldSet::Standard,
        include_html: false,
        auth: None,
        headers: Default::default(),
        event_types: Vec::new(),
        channels: Vec::new(),
        filter: None,
        status: WebhookStatus::Enabled,
        disabled_reason: None,
        encrypted: false,
        signature: Vec::new(),
        tls: None,
        handshake: false,
        success_rule: SuccessRule::Any2xx,
        retry_schedule_s: Vec::new(),
        timeout_ms: 15_000,
        max_in_flight: 1_000,
        rate_limit_per_s: None,
        ordered: DeliveryOrder::No,
        disable_after_s: 0,
        secrets: Vec::new(),
        created_at: Time::ZERO,
        updated_at: Time::ZERO,
        version: 1,
        secret_headers: Vec::new(),
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
    let event = Event {
        id: Id::from_u128(id),
        org_id: Id::MIN,
        app_id: Id::MIN,
        event_type: "a".to_owned(),
        event_id: None,
        occurred_at: due,
        received_at: due,
        subject: None,
        channels: Vec::new(),
        ordering_key: None,
        deliver_at: None,
        expires_at: None,
        metadata: Default::default(),
        traceparent: None,
        deliveries: 1,
        data_bytes: 1,
        erased_at: None,
    };
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
