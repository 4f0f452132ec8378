//! The answer to a test request, which is not stored.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::native::{test_send, webhooks};
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::webhook::WebhookStatus;
use crate::model::{AttemptMade, Time, Webhook};
use crate::ui::bodies;
use crate::ui::form::PostedForm;
use crate::ui::format::{self, foreign};
use crate::ui::frame::{self, Frame, Section};
use crate::ui::mood;
use crate::ui::respond::html as html_response;

use super::replays;

/// `POST /ui/webhooks/{id}/test`.
pub fn send(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    PostedForm::read(context, request)?;
    let webhook = webhooks::in_path(context, request)?;
    let waiting = context.store.sums(webhook.id, context.now)?.open();
    let frame = Frame::new(context, request, Section::Webhooks);
    Ok(Step::Test {
        test_send: test_send::of_defaults(webhook.clone()),
        then: Box::new(move |made| {
            let content = page(&webhook, &made, waiting, &frame);
            Ok(Step::Reply(html_response(StatusCode::OK, frame.page("Test", &content))))
        }),
    })
}

/// The page. `waiting` deliveries wait for the webhook.
pub fn page(webhook: &Webhook, made: &AttemptMade, waiting: u64, frame: &Frame) -> Markup {
    let path = format!("webhooks/{}", webhook.id);
    let (class, icon) = mood::attempt_parts(made);
    let verdict = if made.success { "The test arrived." } else { "The test did not arrive." };
    html! {
        .head {
            div {
                p.crumb {
                    a href=(frame.link("webhooks")) { "Webhooks" } " / "
                    a href=(frame.link(&path)) { (foreign(&webhook.name)) }
                }
                h1 { (verdict) }
                p.lead role="status" {
                    (frame::tag(class, icon, &mood::answer(made, frame.reader())))
                    " "
                    (foreign(&mood::meaning(made, frame.reader())))
                }
            }
            .acts {
                @if made.success && webhook.status == WebhookStatus::Enabled && waiting > 0 {
                    @let words = format!("Send what waits now… ({})", format::count(waiting));
                    (replays::waiting_button(webhook.id, "btn main", &words, frame))
                }
                (frame.button(&format!("{path}/test"), "btn", "Test again"))
                a.btn href=(frame.link(&path)) { "Back" }
            }
        }
        section.panel aria-label="Request and answer" { (pair(made, frame)) }
    }
}

/// The request and the answer side by side. The body of a request is not part of an attempt.
fn pair(made: &AttemptMade, frame: &Frame) -> Markup {
    let method = format!("{:?}", made.method).to_uppercase();
    html! {
        .pair {
            section aria-labelledby="rq" {
                h3 #rq { "Request" }
                p.start { (method) " " (foreign(&made.url)) }
                h4 { "Headers" }
                (bodies::headers(&made.request_headers))
            }
            (answer(made, None, frame))
        }
    }
}

/// The answer of an attempt: its origin, headers, body and meaning. `erased_at` is the time that its body was erased.
pub fn answer(made: &AttemptMade, erased_at: Option<Time>, frame: &Frame) -> Markup {
    let (class, icon) = mood::attempt_parts(made);
    let body = made.response_body.as_deref().unwrap_or_default();
    let error = made.error.as_ref().filter(|_| !mood::is_hidden(made.outcome, frame.reader()));
    html! {
        section aria-labelledby="rs" {
            h3 #rs { (frame::state(class, icon, &mood::answer(made, frame.reader()))) }
            p.start.muted {
                // A tenant learns no addresses of the operator's network.
                @if let Some(from) = made.remote_addr.as_ref().filter(|_| frame.portal.is_none()) { "from " (foreign(from)) ", " }
                "in " (format::millis(made.timings.total))
            }
            @if made.status_code.is_some() {
                h4 { "Headers" }
                (bodies::headers(&made.response_headers))
                h4 { "Body" }
                @match erased_at.filter(|_| body.is_empty()) {
                    Some(at) => p.muted { "Erased at " (format::moment(at, frame.now)) "." },
                    None => (bodies::block(body)),
                }
                @if made.may_be_cut() { p.muted { "Cut here: no more of an answer is kept." } }
            } @else if let Some(error) = error {
                p { code { (foreign(error)) } }
            }
            h4 { "What it means" }
            p.muted { (foreign(&mood::meaning(made, frame.reader()))) }
        }
    }
}
