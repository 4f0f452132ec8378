//! Values that several dialects derive alike from the rows (`docs/dialects.md`, "One store").

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::error::ApiError;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::webhook::{ContentType, Webhook, WebhookMethod, WebhookStatus};
use crate::model::{Attempt, Delivery, DeliveryStatus, Time};
use crate::rules::body::{self, BodyInput, BodyShape};
use crate::rules::patterns;
use crate::store::AttemptDetails;

/// The time of the next attempt. A superseded attempt has the schedule of its time, and the latest one the current
/// schedule.
pub fn next_retry(attempt: &Attempt, delivery: &Delivery) -> Option<Time> {
    if attempt.made.success {
        return None;
    }
    if delivery.last_attempt_id != Some(attempt.id) {
        return attempt.next_attempt_at;
    }
    delivery.next_attempt_at.filter(|_| delivery.status == DeliveryStatus::Retrying)
}

/// The status of vendors that answer wrong values with 400 in place of 422.
pub fn wrong_values_as_400(status: StatusCode) -> StatusCode {
    if status == StatusCode::UNPROCESSABLE_ENTITY { StatusCode::BAD_REQUEST } else { status }
}

/// Whether a vendor with the states on and off would call it on. A paused webhook still takes events, so it is on.
pub fn is_active(webhook: &Webhook) -> bool {
    webhook.status != WebhookStatus::Disabled
}

/// The body of an attempt as a JSON object, before encryption and form encoding. Data that is not an object (`raw`)
/// becomes a member `data`.
pub fn payload(facts: &AttemptDetails) -> Result<Box<RawValue>, ApiError> {
    let attempt = &facts.attempt;
    let shape = BodyShape {
        method: WebhookMethod::Post,
        content_type: ContentType::Json,
        field_set: attempt.made.field_set,
        include_html: attempt.made.include_html,
    };
    let rendered = body::render(
        shape,
        &BodyInput {
            event: &facts.event,
            data: facts.data.as_deref().unwrap_or_default(),
            attempt_id: attempt.id,
            number: attempt.made.number,
            retry_of: attempt.retry_of,
            timestamp_s: attempt.made.signed_at,
        },
    );
    let text = String::from_utf8(rendered.body).map_err(|_| unreadable())?;
    let is_object = text.trim_start().starts_with('{');
    let text = if is_object { text } else { format!("{{\"data\":{text}}}") };
    RawValue::from_string(text).map_err(|_| unreadable())
}

/// The data of an event as JSON, byte for byte as received. `None` once erased.
pub fn data(bytes: Option<&[u8]>) -> Result<Option<&RawValue>, ApiError> {
    bytes.map(serde_json::from_slice).transpose().map_err(|_| unreadable())
}

fn unreadable() -> ApiError {
    ApiError::internal("the event's data cannot be read back")
}

/// The event types that Postrider itself publishes.
const SYSTEM_TYPES: [&str; 8] = [
    "postrider.delivery.exhausted",
    "postrider.delivery.expired",
    "postrider.webhook.created",
    "postrider.webhook.deleted",
    "postrider.webhook.disabled",
    "postrider.webhook.failing",
    "postrider.webhook.recovered",
    "postrider.webhook.updated",
];

/// The event types that these webhooks name, and Postrider's own. It takes any type, so there is no fixed list.
pub fn named_types<'a>(webhooks: impl Iterator<Item = &'a Arc<Webhook>>) -> BTreeSet<&'a str> {
    let named = webhooks.flat_map(|webhook| webhook.event_types.iter().map(String::as_str));
    named.filter(|name| patterns::is_type(name)).chain(SYSTEM_TYPES).collect()
}

/// A 200 with `value` as its JSON body.
pub fn ok(value: &impl Serialize) -> Result<Step, ApiError> {
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, value)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::webhook::FieldSet;
    use crate::model::{AttemptId, AttemptMade, AttemptOutcome, Event, Id};

    fn attempt(id: u128, success: bool, next: Option<i64>) -> Attempt {
        let made = AttemptMade { success, outcome: AttemptOutcome::Timeout, ..AttemptMade::default() };
        Attempt { id: Id::from_u128(id), next_attempt_at: next.map(Time), made, ..Attempt::default() }
    }

    fn delivery(status: DeliveryStatus, last: u128, next: Option<i64>) -> Delivery {
        let last_attempt_id = Some(AttemptId::from_u128(last));
        Delivery { status, attempts: 1, next_attempt_at: next.map(Time), last_attempt_id, ..Delivery::default() }
    }

    #[test]
    fn the_next_retry_is_the_plan_of_the_past_or_the_one_of_now() {
        use DeliveryStatus::{Cancelled, Delivered, Failed, Retrying};
        let failed = attempt(1, false, Some(60));
        // (the delivery now, the retry that the attempt shows)
        for (delivery, expected) in [
            (delivery(Retrying, 1, Some(70)), Some(70)),
            (delivery(Failed, 1, None), None),
            (delivery(Cancelled, 1, None), None),
            (delivery(Retrying, 2, Some(90)), Some(60)),
            (delivery(Delivered, 2, None), Some(60)),
            (delivery(Cancelled, 2, None), Some(60)),
        ] {
            assert_eq!(next_retry(&failed, &delivery), expected.map(Time), "{:?}", delivery.status);
        }
        assert_eq!(next_retry(&attempt(1, true, None), &delivery(Delivered, 1, None)), None);
    }

    #[test]
    fn a_payload_is_an_object_whatever_was_sent() {
        let mut event = Event::default();
        event.attributes.event_type = "a".into();
        let shown = |field_set, data: Option<&'static str>| {
            let mut attempt = attempt(1, true, None);
            attempt.made.field_set = field_set;
            attempt.made.content_type = ContentType::Form;
            let delivery = delivery(DeliveryStatus::Delivered, 1, None);
            let data = data.map(|text| Bytes::from_static(text.as_bytes()));
            payload(&AttemptDetails { attempt, delivery, event: event.clone(), data }).unwrap().get().to_owned()
        };
        assert_eq!(shown(FieldSet::Raw, Some(" {\"n\": 1}")), "{\"n\": 1}");
        assert_eq!(shown(FieldSet::Raw, Some("[1]")), "{\"data\":[1]}");
        assert_eq!(shown(FieldSet::Raw, None), "{\"data\":null}");
        assert!(shown(FieldSet::Standard, Some("[1]")).ends_with(",\"data\":[1]}"));
        assert!(shown(FieldSet::Standard, None).ends_with(",\"data\":null}"));
    }
}
