//! Rows of deliveries, with the last answer and its first line, for every page that lists some.

use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext};
use crate::model::{Delivery, Scope, Time, WebhookId};
use crate::ui::format::{self, foreign};
use crate::ui::frame::Frame;
use crate::ui::mood::{self, PageReader};

/// Characters of an answer's first line in a row.
const FIRST_LINE_CHARS_MAX: usize = 32;

/// A delivery with the facts of its event, its webhook and its last answer.
pub struct DeliveryRow {
    pub delivery: Delivery,
    pub event_id: Option<String>,
    pub webhook: String,
    /// The first line of the last answer's body.
    pub first_line: String,
    /// Milliseconds that the last attempt took, with or without an answer. `None` without an attempt.
    pub took_ms: Option<u32>,
}

/// The columns that only some pages have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowColumns {
    pub check: bool,
    pub webhook: bool,
    /// Whether the last column is the end of the delivery. Otherwise it is the time of its event.
    pub ended: bool,
}

/// Reads the facts that rows show beside their deliveries.
pub fn read(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    deliveries: Vec<Delivery>,
) -> Result<Vec<DeliveryRow>, ApiError> {
    let tenant = request.tenant();
    let mut rows = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let event = context.store.event(tenant, delivery.event_id, context.now)?;
        let last = match delivery.last_attempt_id {
            Some(id) => context.store.attempt(tenant, id, context.now)?,
            None => None,
        };
        let took_ms = last.as_ref().map(|attempt| attempt.made.timings.total);
        let body = last.and_then(|attempt| attempt.made.response_body).unwrap_or_default();
        rows.push(DeliveryRow {
            event_id: event.and_then(|event| event.attributes.event_id),
            webhook: webhook_name(context, request, delivery.webhook_id),
            first_line: first_line(&body),
            took_ms: took_ms.or(delivery.last_response_time_ms),
            delivery,
        });
    }
    Ok(rows)
}

/// The name of a webhook, or its id if it is removed or the key may not read webhooks.
pub fn webhook_name(context: &ApiContext<'_>, request: &RequestContext<'_>, id: WebhookId) -> String {
    let webhook = context.registry.webhook(request.tenant(), id).filter(|_| request.may(Scope::WebhooksRead));
    webhook.map_or_else(|| id.to_string(), |webhook| webhook.name.clone())
}

/// The newest webhooks to choose from, at most `number`, with their names, and the chosen one. None if the key may not read
/// webhooks.
pub fn webhook_choices(
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    number: usize,
    chosen: Option<&str>,
) -> Vec<(String, String)> {
    if !request.may(Scope::WebhooksRead) {
        return Vec::new();
    }
    let webhooks = context.registry.webhooks_within(request.tenant()).take(number);
    let mut choices: Vec<_> = webhooks.map(|webhook| (webhook.id.to_string(), webhook.name.clone())).collect();
    // The chosen one is in the list, also if it is older or removed.
    if let Some(chosen) = chosen.filter(|chosen| !choices.iter().any(|(id, _)| id == chosen)) {
        let name = chosen.parse().map_or_else(|_| chosen.to_owned(), |id| webhook_name(context, request, id));
        choices.push((chosen.to_owned(), name));
    }
    choices
}

/// The field of a list's filters that chooses a webhook. Nothing without choices.
pub fn webhook_field(choices: &[(String, String)], chosen: Option<&str>) -> Markup {
    html! {
        @if !choices.is_empty() {
            label {
                span.vh { "Webhook" }
                select name="webhook" {
                    option value="" { "All webhooks" }
                    @for (id, name) in choices {
                        option value=(id) selected[chosen == Some(id)] { (foreign(name)) }
                    }
                }
            }
        }
    }
}

/// A webhook's name among the choices, or its id.
pub fn chosen_name(choices: &[(String, String)], id: &str) -> String {
    choices.iter().find(|(one, _)| one == id).map_or_else(|| id.to_owned(), |(_, name)| name.clone())
}

/// The first line of a text that is not empty, cut.
pub fn first_line(body: &str) -> String {
    let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(FIRST_LINE_CHARS_MAX).collect()
}

/// The rows as a table.
pub fn table(rows: &[DeliveryRow], columns: RowColumns, caption: &str, frame: &Frame) -> Markup {
    html! {
        table.fixed {
            caption.vh { (foreign(caption)) }
            thead {
                tr {
                    @if columns.check { th.w-check scope="col" { span.vh { "Choose" } } }
                    th.w-state scope="col" { span.fold-h { "Status" } }
                    th.w-type scope="col" { "Event" }
                    @if columns.webhook { th.w-hook.big scope="col" { "Webhook" } }
                    th.big scope="col" { "Last answer" }
                    th.num.w-no.big scope="col" { "Tries" }
                    th.num.w-ms.big scope="col" { "Took" }
                    th.num.w-when scope="col" { @if columns.ended { "Ended" } @else { "Accepted" } }
                }
            }
            tbody { @for row in rows { (table_row(row, columns, frame)) } }
        }
    }
}

fn table_row(row: &DeliveryRow, columns: RowColumns, frame: &Frame) -> Markup {
    let delivery = &row.delivery;
    let answer = last_answer(delivery, frame.reader());
    // A narrow row has the code alone.
    let code = delivery.last_status_code.map(|code| code.to_string());
    let brief = code.as_deref().filter(|code| answer.starts_with(code)).unwrap_or(&answer);
    let at: Time = delivery.completed_at.filter(|_| columns.ended).unwrap_or(delivery.created_at);
    let name = row.event_id.clone().unwrap_or_else(|| delivery.event_id.to_string());
    html! {
        tr {
            @if columns.check {
                td {
                    input type="checkbox" name="id[]" value=(delivery.id) aria-label=(foreign(&name));
                }
            }
            td { (mood::delivery(delivery.status)) }
            td {
                a.key href=(frame.link(&format!("deliveries/{}", delivery.id))) { (foreign(&delivery.event_type)) }
                span.sub.cut.mono { (foreign(&name)) }
                @if columns.webhook || !answer.is_empty() {
                    span.sub.cut.only-small {
                        @if columns.webhook { (foreign(&row.webhook)) @if !answer.is_empty() { " · " } }
                        (foreign(brief))
                    }
                }
            }
            @if columns.webhook {
                td.big {
                    (frame.link_if_may(Scope::WebhooksRead, &format!("webhooks/{}", delivery.webhook_id), &foreign(&row.webhook)))
                }
            }
            td.big {
                @if delivery.attempts == 0 && delivery.last_outcome.is_none() {
                    span.muted { @if delivery.status.is_final() { "not tried" } @else { "not tried yet" } }
                } @else {
                    span.cut { (foreign(&answer)) }
                    @if !row.first_line.is_empty() { span.sub.cut { (foreign(&row.first_line)) } }
                }
            }
            td.num.big { (format::count(u64::from(delivery.attempts))) }
            td.num.big { @match row.took_ms { Some(ms) => (format::millis(ms)), None => "–" } }
            td.num { (format::moment(at, frame.now)) }
        }
    }
}

/// The last answer of a delivery in a few words.
pub fn last_answer(delivery: &Delivery, reader: PageReader) -> String {
    let error = delivery.last_error.as_deref().unwrap_or_default();
    mood::answer_of(delivery.last_status_code, delivery.last_outcome, error, reader)
}
