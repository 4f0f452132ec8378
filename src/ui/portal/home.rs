//! The first page of the portal: the webhooks of the app, and its newest deliveries.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::{DeliveryStatus, Scope};
use crate::store::{AnyOf, DeliveryQuery, ListWindow};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::PageQuery;
use crate::ui::pages::delivery_rows::{self, DeliveryRow, RowColumns};
use crate::ui::pages::webhook_rows::{self, RowOrder, WebhookRow};

/// Webhooks on the page.
const WEBHOOKS_SHOWN: usize = 50;
/// Deliveries on the page.
const DELIVERIES_SHOWN: usize = 10;
const TABS: [(&str, &str); 2] = [("", "All"), ("failed", "Failed")];

pub struct PortalHomeView {
    pub webhooks: Vec<WebhookRow>,
    pub deliveries: Vec<DeliveryRow>,
    /// The value of the chosen tab.
    pub tab: &'static str,
}

/// `GET /ui/portal/`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Webhooks);
    let view = view(context, request)?;
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Webhooks", &page(&view, &frame))))
}

fn view(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<PortalHomeView, ApiError> {
    let tenant = request.tenant();
    let page_query = PageQuery::of(request.http);
    let tab =
        TABS.into_iter().map(|(tab, _)| tab).find(|tab| page_query.get("status") == Some(tab)).unwrap_or_default();
    let mut ranked = Vec::new();
    if request.may(Scope::WebhooksRead) {
        for webhook in context.registry.webhooks_within(tenant) {
            ranked.push(webhook_rows::rank(context, webhook)?);
        }
    }
    webhook_rows::sort(&mut ranked, RowOrder::Worst);
    let mut webhooks = webhook_rows::read(context, ranked.iter().take(WEBHOOKS_SHOWN).map(|own| &own.webhook))?;
    for row in &mut webhooks {
        webhook_rows::explain(context, request, row)?;
    }
    let deliveries = match request.may(Scope::EventsRead) {
        true => newest(context, request, tab)?,
        false => Vec::new(),
    };
    Ok(PortalHomeView { webhooks, deliveries, tab })
}

fn newest(context: &ApiContext<'_>, request: &RequestContext<'_>, tab: &str) -> Result<Vec<DeliveryRow>, ApiError> {
    let query = DeliveryQuery {
        status: (tab == "failed").then(|| AnyOf::new(vec![DeliveryStatus::Failed])),
        ..DeliveryQuery::all(request.tenant(), ListWindow::newest(DELIVERIES_SHOWN))
    };
    let rows = match tab {
        "failed" => context.store.failed_deliveries(&query, None, context.now)?.rows,
        _ => context.store.deliveries(&query, context.now)?.rows,
    };
    delivery_rows::read(context, request, rows)
}

/// The page.
pub fn page(view: &PortalHomeView, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { "Webhooks" }
                p.lead {
                    "Where your events are sent. Each request is signed; "
                    a href=(frame.link("help")) { "how to check it" } "."
                }
            }
            @if frame.may(Scope::WebhooksWrite) {
                .acts { a.btn.main href=(frame.link("webhooks/new")) { "Add a webhook" } }
            }
        }
        @if frame.may(Scope::WebhooksRead) {
            section.panel aria-label="Your webhooks" {
                @if view.webhooks.is_empty() {
                    .pad { p { "No webhook yet. A webhook is a URL of yours and which events it wants." } }
                } @else {
                    (webhook_rows::table(&view.webhooks, "Your webhooks", frame))
                }
            }
        }
        @if frame.may(Scope::EventsRead) { (deliveries(view, frame)) }
    }
}

fn deliveries(view: &PortalHomeView, frame: &Frame) -> Markup {
    let columns = RowColumns { check: false, webhook: true, ended: view.tab == "failed" };
    html! {
        section.panel aria-labelledby="rd" {
            header {
                h2 #rd { "Recent deliveries" }
                nav.seg aria-label="Status" {
                    @for (tab, words) in TABS {
                        a href={ "?status=" (tab) "#rd" } aria-current=[(tab == view.tab).then_some("true")] { (words) }
                    }
                }
            }
            @if view.deliveries.is_empty() {
                .pad { p.muted { "None." } }
            } @else {
                (delivery_rows::table(&view.deliveries, columns, "Recent deliveries, newest first", frame))
            }
            footer { a href=(frame.link("deliveries")) { "All deliveries" } }
        }
    }
}
