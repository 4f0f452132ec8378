//! Sending the chosen deliveries of a list again, after a page that asks.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::api::native::bulk_retry;
use crate::api::{ApiContext, ApiError, HttpResponse, RequestContext, Step};
use crate::model::webhook::WebhookStatus;
use crate::model::{Delivery, DeliveryId, Scope};
use crate::ui::form::PostedForm;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, member, relay};
use crate::ui::respond::see_other;

use super::deliveries::{self, LIST_FIELD};
use super::delivery_rows;

/// Where the form posts to.
pub const ACTION: &str = "deliveries/retry";

/// `POST /ui/deliveries/retry`: asks, and sends the chosen deliveries again once the answer is sure.
pub fn resend(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let ids: Vec<&str> = form.all("id[]").collect();
    if ids.is_empty() {
        return Ok(Step::Reply(see_other(&deliveries::back(&form, "none-chosen"))?));
    }
    if !form.has("sure") {
        let mut chosen = Vec::new();
        for id in ids.iter().filter_map(|id| id.parse::<DeliveryId>().ok()).take(deliveries::ROWS_MAX) {
            chosen.extend(context.store.delivery(request.tenant(), id, context.now)?);
        }
        let webhooks = names(context, request, &chosen);
        let frame = Frame::new(context, request, Section::Deliveries);
        let content = page(&chosen, &webhooks, form.get(LIST_FIELD), &frame);
        return Ok(Step::Reply(frame.reply(StatusCode::OK, "Send deliveries again", &content)));
    }
    let call = ApiCall { handler: bulk_retry::retry, body: json!({ "ids": ids }).to_string(), form: Some(&form) };
    let list = form.clone();
    relay(context, request, &call, move |response| see_other(&deliveries::back(&list, done(&response))))
}

/// The word for the deliveries that the API has sent: all of the chosen ones, some or none.
fn done(response: &HttpResponse) -> &'static str {
    let data = member(response, "data");
    let rows = data.as_array().map(Vec::as_slice).unwrap_or_default();
    match rows.iter().filter(|row| row["delivery"].is_null()).count() {
        0 => "retried-many",
        unsent if unsent < rows.len() => "retried-some",
        _ => "retried-none",
    }
}

/// The names of the webhooks that these deliveries go to, each once, in the order of the deliveries. A paused, disabled or
/// deleted one says so.
fn names(context: &ApiContext<'_>, request: &RequestContext<'_>, chosen: &[Delivery]) -> Vec<String> {
    let mut webhooks = Vec::new();
    for delivery in chosen {
        if !webhooks.contains(&delivery.webhook_id) {
            webhooks.push(delivery.webhook_id);
        }
    }
    let note = |id| match context.registry.webhook(request.tenant(), id).map(|webhook| webhook.status) {
        Some(WebhookStatus::Paused) => " (paused: sent once it is resumed)",
        Some(WebhookStatus::Disabled) => " (disabled: not sent)",
        Some(WebhookStatus::Enabled) => "",
        None => " (deleted: not sent)",
    };
    let name = |id| {
        let note = if request.may(Scope::WebhooksRead) { note(id) } else { "" };
        format!("{}{note}", delivery_rows::webhook_name(context, request, id))
    };
    webhooks.into_iter().map(name).collect()
}

/// The page that asks before these deliveries are sent again to the named webhooks. `list` is the query of the list that
/// they were chosen in.
pub fn page(chosen: &[Delivery], webhooks: &[String], list: &str, frame: &Frame) -> Markup {
    let counted = format::counted(chosen.len() as u64, "delivery", "deliveries");
    let fields = html! {
        p { "To " (foreign(&webhooks.join(", "))) ", at once, and no faster than the webhook's own rate." }
        p.muted { "A delivery that has ended is sent as a new one. A delivery that waits becomes due now." }
        @for delivery in chosen { input type="hidden" name="id[]" value=(delivery.id); }
        input type="hidden" name="sure" value="yes";
        input type="hidden" name=(LIST_FIELD) value=(list);
        .acts {
            @if !chosen.is_empty() { button.btn.main type="submit" { "Send " (counted) " again" } }
            a.btn href=(frame.link(&format!("deliveries{}", deliveries::kept_query(list)))) { "Leave them" }
        }
    };
    html! {
        .head { div { h1 { "Send " (counted) " again" } p.lead { "Nothing has been sent yet." } } }
        section.panel { (frame.form("pad fields", ACTION, &fields)) }
    }
}
