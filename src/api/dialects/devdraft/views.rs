//! Devdraft's webhooks as they are shown: with their figures and their newest deliveries.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::dialects::derived;
use crate::api::error::ApiError;
use crate::model::{App, Attempt, Delivery, DeliveryStatus, Time, Webhook};
use crate::rules::health;
use crate::store::WebhookFigures;

use super::docs;

/// Stands for the secret if the key may not read it.
pub const SECRET_MASK: &str = "whsec_********";

/// A webhook with its figures.
#[derive(Serialize, JsonSchema)]
pub struct DevdraftWebhook<'a> {
    #[schemars(extend("pattern" = docs::id_pattern("wh")))]
    id: String,
    name: &'a str,
    url: &'a str,
    #[serde(rename = "isActive")]
    is_active: bool,
    encrypted: bool,
    signing_secret: &'a str,
    created_at: Time,
    updated_at: Time,
    delivery_stats: DevdraftStats,
    app: DevdraftApp<'a>,
    /// Only with `include_events=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<DevdraftRecentEvent<'a>>", length(max = docs::EVENTS_LIMIT.bounds().max))]
    recent_events: Option<Vec<DevdraftRecentEvent<'a>>>,
}

/// The vendor's pages differ: its clients read a webhook, one page has the three members after it.
#[derive(Serialize, JsonSchema)]
pub struct DevdraftRemovedWebhook<'a> {
    #[serde(flatten)]
    pub webhook: DevdraftWebhook<'a>,
    pub message: &'static str,
    #[schemars(extend("pattern" = docs::id_pattern("wh")))]
    pub webhook_id: String,
    pub deleted_at: Time,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DevdraftStats {
    /// Deliveries with at least one attempt.
    total_events: u64,
    successful_deliveries: u64,
    /// Failed attempts.
    failed_deliveries: u64,
    last_delivery: Option<Time>,
    #[schemars(range(min = 0, max = 100))]
    success_rate: Option<f64>,
    average_response_time: Option<u32>,
    last_24h_events: u64,
    last_24h_failures: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DevdraftApp<'a> {
    #[schemars(extend("pattern" = docs::id_pattern("app")))]
    id: String,
    name: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DevdraftRecentEvent<'a> {
    #[schemars(extend("pattern" = docs::id_pattern("evt")))]
    id: String,
    event_type: &'a str,
    #[schemars(extend("enum" = ["delivered", "failed", "pending"]))]
    delivery_status: &'static str,
    #[schemars(with = "Option<i64>")]
    response_code: Option<u16>,
    response_time: Option<u32>,
    error_message: Option<&'a str>,
    created_at: Time,
    delivered_at: Option<Time>,
    retry_count: u32,
}

/// A webhook with the figures that its answer shows.
pub struct WebhookActivity {
    pub figures: WebhookFigures,
    pub app: Option<Arc<App>>,
    pub recent: Option<Vec<(Delivery, Option<Attempt>)>>,
}

impl WebhookActivity {
    pub fn of(context: &ApiContext<'_>, webhook: &Webhook) -> Result<WebhookActivity, ApiError> {
        let figures = context.store.figures(webhook.id, context.now)?;
        Ok(WebhookActivity { figures, app: context.registry.app_by_id(webhook.app_id).cloned(), recent: None })
    }

    pub fn shown<'a>(&'a self, webhook: &'a Webhook, secret: Option<&'a str>) -> DevdraftWebhook<'a> {
        DevdraftWebhook {
            id: prefixed("wh_", webhook.id.as_u128()),
            name: &webhook.name,
            url: &webhook.url,
            is_active: derived::is_active(webhook),
            encrypted: webhook.encrypted,
            signing_secret: secret.unwrap_or(SECRET_MASK),
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            delivery_stats: DevdraftStats::new(&self.figures),
            app: DevdraftApp {
                id: prefixed("app_", webhook.app_id.as_u128()),
                name: self.app.as_ref().map_or("", |app| &app.name),
            },
            recent_events: self.recent.as_ref().map(|rows| rows.iter().map(DevdraftRecentEvent::new).collect()),
        }
    }
}

impl DevdraftStats {
    fn new(figures: &WebhookFigures) -> Self {
        let sums = &figures.sums;
        DevdraftStats {
            total_events: sums.started,
            successful_deliveries: sums.delivered,
            failed_deliveries: sums.attempts_failed,
            last_delivery: sums.last_attempt_at,
            success_rate: health::success_rate(sums.attempts_succeeded(), sums.attempts_failed),
            average_response_time: health::average(sums.response_ms, sums.responses),
            last_24h_events: figures.minutes.iter().map(|(_, minute)| u64::from(minute.started)).sum(),
            last_24h_failures: figures.minutes.iter().map(|(_, minute)| u64::from(minute.failures)).sum(),
        }
    }
}

impl<'a> DevdraftRecentEvent<'a> {
    fn new((delivery, last): &'a (Delivery, Option<Attempt>)) -> Self {
        DevdraftRecentEvent {
            id: prefixed("evt_", delivery.id.as_u128()),
            event_type: &delivery.event_type,
            delivery_status: match delivery.status {
                DeliveryStatus::Delivered => "delivered",
                DeliveryStatus::Failed | DeliveryStatus::Cancelled => "failed",
                DeliveryStatus::Pending | DeliveryStatus::Retrying => "pending",
            },
            response_code: delivery.last_status_code,
            response_time: delivery.last_response_time_ms,
            error_message: delivery.last_error.as_deref(),
            // An event's id carries when it was received.
            created_at: delivery.event_id.time(),
            delivered_at: last.as_ref().map(|last| last.made.started_at),
            retry_count: delivery.attempts.saturating_sub(1),
        }
    }
}

/// An id as the vendor writes it.
pub fn prefixed(prefix: &str, id: u128) -> String {
    format!("{prefix}{id:032x}")
}
