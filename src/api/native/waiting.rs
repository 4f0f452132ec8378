//! Why open deliveries wait: `GET /v1/webhooks/{id}/waiting`, and the member `waiting_for` of one delivery.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor;
use crate::api::doc::schema::extends;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::{Delivery, DeliveryId, Time};
use crate::rules::diagnosis::DiagnosisReader;
use crate::rules::waiting::{self, WaitReason};
use crate::store::TenantScope;

use super::deliveries::DeliveryView;
use super::webhooks;

/// Why an open delivery is not sent now: the reason that ends last, or has no known end.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeliveryWait")]
pub struct DeliveryWaitView {
    #[schemars(extend("enum" = WaitReason::ALL.map(WaitReason::as_str)))]
    reason: &'static str,
    /// When the reason ends. Null if no time is known: a call, an answer or another delivery ends it.
    until: Option<Time>,
    /// The delivery that stands before it in an ordered queue.
    behind: Option<DeliveryId>,
}

/// A delivery, and why it waits.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeliveryWithWait")]
pub struct WaitingDeliveryView<'a> {
    #[serde(flatten)]
    #[schemars(schema_with = "extends::<DeliveryView>")]
    delivery: DeliveryView<'a>,
    /// Null once the delivery is final.
    waiting_for: Option<DeliveryWaitView>,
}

impl<'a> WaitingDeliveryView<'a> {
    /// `behind` is the delivery that stands before it in an ordered queue.
    pub fn new(
        context: &ApiContext<'_>,
        reader: DiagnosisReader,
        (delivery, behind): (&'a Delivery, Option<DeliveryId>),
    ) -> Self {
        let tenant = TenantScope { org: delivery.org_id, app: None };
        let waiting_for = context.registry.webhook(tenant, delivery.webhook_id).and_then(|webhook| {
            let now_of = (context.store.state(webhook.id), context.health_source.pace(webhook));
            waiting::of_delivery(delivery, webhook, now_of, behind, context.now)
        });
        let waiting_for = waiting_for.map(|wait| DeliveryWaitView {
            reason: wait.reason.as_str(),
            until: wait.until,
            behind: wait.behind,
        });
        WaitingDeliveryView { delivery: DeliveryView::new(reader, delivery), waiting_for }
    }
}

/// A page of waiting deliveries.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WaitingList")]
pub struct WaitingListView<'a> {
    data: Vec<WaitingDeliveryView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /v1/webhooks/{id}/waiting`.
pub fn of_webhook(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let (after, limit) = (request.query.waiting_position()?, request.query.limit()?);
    let reader = request.reader();
    let page = context.store.waiting(webhook.id, after, limit, context.now)?;
    let view = WaitingListView {
        data: page.rows.iter().map(|(row, behind)| WaitingDeliveryView::new(context, reader, (row, *behind))).collect(),
        next_cursor: page.next.map(cursor::write_waiting),
    };
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}
