//! Cancelling the chosen deliveries of a list, after a page that asks.

use std::collections::VecDeque;

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::DeliveryId;
use crate::store::{PartitionCommand, Rejection, WriteRequest};
use crate::ui::form::PostedForm;
use crate::ui::format;
use crate::ui::frame::{Frame, Section};
use crate::ui::respond::see_other;

use super::deliveries::{self, LIST_FIELD};

/// Where the form posts to.
pub const ACTION: &str = "deliveries/cancel";

/// `POST /ui/deliveries/cancel`: asks, and cancels the chosen deliveries once the answer is sure.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let chosen = form.all("id[]").filter_map(|id| id.parse::<DeliveryId>().ok()).take(deliveries::ROWS_MAX);
    let mut open = Vec::new();
    for id in chosen {
        let delivery = context.store.delivery(request.tenant(), id, context.now)?;
        open.extend(delivery.filter(|delivery| !delivery.status.is_final()).map(|delivery| delivery.id));
    }
    if open.is_empty() {
        return Ok(Step::Reply(see_other(&deliveries::back(&form, "none-open"))?));
    }
    if !form.has("sure") {
        let frame = Frame::new(context, request, Section::Deliveries);
        return Ok(Step::Reply(frame.reply(
            StatusCode::OK,
            "Cancel deliveries",
            &page(&open, form.get(LIST_FIELD), &frame),
        )));
    }
    let write = |id| request.write(PartitionCommand::CancelDelivery { id });
    run(open.into_iter().map(write).collect::<Result<_, _>>()?, deliveries::back(&form, "cancelled-many"))
}

/// Applies the commands one after another, then shows the page at `to`. A delivery that became final meanwhile stays as
/// it is.
fn run(mut left: VecDeque<WriteRequest>, to: String) -> Result<Step, ApiError> {
    let Some(write_request) = left.pop_front() else {
        return Ok(Step::Reply(see_other(&to)?));
    };
    Ok(Step::Apply {
        write_request: Box::new(write_request),
        then: Box::new(move |applied| match applied {
            Ok(_) | Err(Rejection::NotFound(_) | Rejection::Conflict { code: "delivery_final", .. }) => run(left, to),
            Err(rejection) => Err(rejection.into()),
        }),
    })
}

/// The page that asks before these deliveries are cancelled. `list` is the query of the list that they were chosen in.
pub fn page(open: &[DeliveryId], list: &str, frame: &Frame) -> Markup {
    let counted = format::counted(open.len() as u64, "delivery", "deliveries");
    let fields = html! {
        p { "They are not sent any more. Each of them can be sent again later." }
        @for id in open { input type="hidden" name="id[]" value=(id); }
        input type="hidden" name="sure" value="yes";
        input type="hidden" name=(LIST_FIELD) value=(list);
        .acts {
            button.btn.main type="submit" { "Cancel " (counted) }
            a.btn href=(frame.link(&format!("deliveries{}", deliveries::kept_query(list)))) { "Leave them" }
        }
    };
    html! {
        .head { div { h1 { "Cancel " (counted) } } }
        section.panel { (frame.form("pad fields", ACTION, &fields)) }
    }
}
