//! sent.dm's webhooks and events.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api::error::ApiError;
use crate::model::webhook::WebhookState;
use crate::model::{AppId, DeliveryId, DeliveryStatus, Time, Webhook, WebhookId};
use crate::rules::body::offset_time;
use crate::store::DeliveryDetails;

use crate::api::dialects::derived;

use super::event_types::EventFamilies;

/// The position of a page.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentPagination")]
pub struct SentdmPagination {
    pub page: u64,
    pub page_size: u64,
    pub total_count: u64,
    pub total_pages: u64,
    pub has_more: bool,
    pub cursors: (),
}

/// One delivery.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentEvent")]
pub struct SentdmEvent<'a> {
    id: DeliveryId,
    event_type: &'a str,
    /// Byte for byte as received. Null once erased.
    event_data: Option<&'a RawValue>,
    #[schemars(extend("enum" = ["pending", "retrying", "delivered", "failed"]))]
    delivery_status: &'static str,
    #[schemars(with = "Option<i64>")]
    http_status_code: Option<u16>,
    response_body: Option<&'a str>,
    delivery_attempts: u32,
    error_message: Option<&'a str>,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    processing_started_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    processing_completed_at: Option<String>,
}

impl<'a> SentdmEvent<'a> {
    pub fn new(facts: &'a DeliveryDetails) -> Result<Self, ApiError> {
        let delivery = &facts.delivery;
        let response_body = facts.last.as_ref().and_then(|last| last.made.response_body.as_deref());
        Ok(SentdmEvent {
            id: delivery.id,
            event_type: &delivery.event_type,
            event_data: derived::data(facts.data.as_deref())?,
            delivery_status: match delivery.status {
                DeliveryStatus::Pending => "pending",
                DeliveryStatus::Retrying => "retrying",
                DeliveryStatus::Delivered => "delivered",
                DeliveryStatus::Failed | DeliveryStatus::Cancelled => "failed",
            },
            http_status_code: delivery.last_status_code,
            response_body: response_body.filter(|body| !body.is_empty()),
            delivery_attempts: delivery.attempts,
            error_message: delivery.last_error.as_deref(),
            created_at: offset_time(delivery.created_at),
            processing_started_at: delivery.first_attempt_at.map(offset_time),
            processing_completed_at: delivery.completed_at.map(offset_time),
        })
    }
}

/// A webhook.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentWebhook")]
pub struct SentdmWebhook<'a> {
    id: WebhookId,
    /// The profile: an app.
    customer_id: AppId,
    display_name: &'a str,
    endpoint_url: &'a str,
    /// In clear in the answer that made it, otherwise null.
    signing_secret: Option<&'a str>,
    is_active: bool,
    #[schemars(length(min = 1))]
    event_types: Vec<String>,
    /// Sub-types by family, of a webhook with bodies of sent.dm's shape.
    #[schemars(with = "Option<BTreeMap<String, Vec<String>>>")]
    event_filters: Option<Map<String, Value>>,
    retry_count: usize,
    timeout_seconds: u32,
    #[schemars(with = "Option<Time>")]
    last_delivery_attempt_at: Option<String>,
    #[schemars(with = "Option<Time>")]
    last_successful_delivery_at: Option<String>,
    consecutive_failures: u32,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Option<Time>")]
    updated_at: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "OneWebhook")]
pub struct SentdmOneWebhook<'a>(pub SentdmWebhook<'a>);

impl<'a> SentdmWebhook<'a> {
    pub fn new(webhook: &'a Webhook, state: &WebhookState) -> Self {
        let families = EventFamilies::of(webhook);
        SentdmWebhook {
            id: webhook.id,
            customer_id: webhook.app_id,
            display_name: &webhook.name,
            endpoint_url: &webhook.url,
            signing_secret: None,
            is_active: derived::is_active(webhook),
            event_filters: families.shown_filters().cloned(),
            event_types: families.types,
            retry_count: webhook.retry_schedule_s.len(),
            timeout_seconds: webhook.timeout_ms.div_ceil(1_000),
            last_delivery_attempt_at: state.last_attempt_at.map(offset_time),
            last_successful_delivery_at: state.last_success_at.map(offset_time),
            consecutive_failures: state.consecutive_failures,
            created_at: offset_time(webhook.created_at),
            updated_at: Some(webhook.updated_at).filter(|at| *at != webhook.created_at).map(offset_time),
        }
    }

    /// `retry_count` and `timeout_seconds` as they are shown.
    pub fn limits(webhook: &Webhook) -> (u64, u64) {
        (webhook.retry_schedule_s.len() as u64, u64::from(webhook.timeout_ms.div_ceil(1_000)))
    }

    /// The same with the newest secret in clear.
    pub fn with_secret(self, webhook: &'a Webhook) -> Self {
        let signing_secret = webhook.secrets.first().map(|secret| secret.text.as_str());
        SentdmWebhook { signing_secret, ..self }
    }
}
