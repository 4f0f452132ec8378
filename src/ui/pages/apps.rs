//! Apps: the list, one with its figures, and a new one.

use std::sync::Arc;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::api::native::{apps, portal_links};
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::{App, Scope};
use crate::store::TenantScope;
use crate::ui::form::{self, PostedForm};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::page_query::PageQuery;
use crate::ui::relay::{ApiCall, corrected, member, relay};
use crate::ui::respond::{html as html_response, see_other};
use crate::ui::series::{self, ChartSeries, ChartSpan};

/// `GET /ui/apps`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Apps);
    let content = page(&own_apps(context, request), &PostedForm::default(), &[], &frame);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Apps", &content)))
}

/// The apps that a caller may see, each with the number of its webhooks.
fn own_apps(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Vec<(Arc<App>, usize)> {
    let tenant = request.tenant();
    let apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
    apps.map(|app| (app.clone(), context.registry.webhooks_of(app.id).count())).collect()
}

/// The page, with the form of a new app as it was filled, and its mistakes.
pub fn page(rows: &[(Arc<App>, usize)], form: &PostedForm, errors: &[FieldError], frame: &Frame) -> Markup {
    let fields = html! {
        (form::line("name", "Name", "", form, errors))
        (form::line("uid", "uid, your own name for it", "", form, errors))
        (form::mistakes_beside(&["name", "uid"], errors))
        .acts { button.btn.main type="submit" { "Make an app" } }
    };
    let has_portal = frame.pages.portal.enabled;
    html! {
        .head {
            div { h1 { "Apps" } p.lead { "The tenants of this organization. Each has its own webhooks and events." } }
        }
        section.panel {
            table {
                caption.vh { "Apps" }
                thead {
                    tr {
                        th scope="col" { "App" }
                        th scope="col" { "uid" }
                        th.num scope="col" { "Webhooks" }
                        th.num.big scope="col" { "Made" }
                        @if frame.may(Scope::AppsWrite) && has_portal { th scope="col" { span.vh { "Portal" } } }
                    }
                }
                tbody {
                    @for (app, webhooks) in rows {
                        tr {
                            td {
                                a.key href=(frame.link(&format!("apps/{}", app.id))) { (foreign(&app.name)) }
                                span.sub.mono { (app.id) }
                            }
                            td { (foreign(app.uid.as_deref().unwrap_or("–"))) }
                            td.num {
                                (frame.link_if_may(Scope::WebhooksRead, &format!("webhooks?app={}", app.id), &format::count(*webhooks as u64)))
                            }
                            td.num.big.nowrap { (format::moment(app.created_at, frame.now)) }
                            @if frame.may(Scope::AppsWrite) && has_portal {
                                td.num { (frame.button(&format!("apps/{}/portal-link", app.id), "btn small", "Portal link")) }
                            }
                        }
                    }
                }
            }
        }
        @if frame.may(Scope::AppsWrite) && frame.key.app_id.is_none() {
            section.panel { header { h2 { "New app" } } (frame.form("pad fields", "apps/new", &fields)) }
        }
    }
}

/// `GET /ui/apps/{id}`.
pub fn one(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = context.registry.app_named(request.tenant(), request.path.get("id")).cloned();
    let app = app.ok_or_else(|| ApiError::not_found("app"))?;
    let frame = Frame::new(context, request, Section::Apps);
    let within = TenantScope { org: app.org_id, app: Some(app.id) };
    let span = ChartSpan::of(&PageQuery::of(request.http), context.now);
    let hours = context.store.tenant_hours(within, span.read_from(context.now), context.now)?;
    let series = span.series(&hours, context.store.tenant_open(within, context.now)?);
    let webhooks = context.registry.webhooks_of(app.id).count();
    Ok(Step::Reply(frame.reply(StatusCode::OK, &app.name, &one_page(&app, webhooks, &series, &frame))))
}

/// The page of one app with the number of its webhooks.
pub fn one_page(app: &App, webhooks: usize, series: &ChartSeries, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                p.crumb { a href=(frame.link("apps")) { "Apps" } }
                h1 { (foreign(&app.name)) }
                p.lead {
                    @if frame.may(Scope::WebhooksRead) {
                        a href=(frame.link(&format!("webhooks?app={}", app.id))) {
                            (format::counted(webhooks as u64, "webhook", "webhooks"))
                        }
                        " · "
                    }
                    code { (app.id) }
                }
            }
            .acts {
                (series::links(series))
                @if frame.may(Scope::AppsWrite) && frame.pages.portal.enabled {
                    (frame.button(&format!("apps/{}/portal-link", app.id), "btn", "Portal link"))
                }
            }
        }
        (series::charts(series))
    }
}

/// `POST /ui/apps/new`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let mut body = json!({ "name": form.get("name").trim() });
    if !form.get("uid").trim().is_empty() {
        body["uid"] = form.get("uid").trim().into();
    }
    let call = ApiCall { handler: apps::create, body: body.to_string(), form: Some(&form) };
    let frame = Frame::new(context, request, Section::Apps);
    let (rows, kept) = (own_apps(context, request), form.clone());
    let made = relay(context, request, &call, |_| see_other("../apps?done=created"));
    corrected(made, move |api_error| {
        frame.reply(api_error.status, "Apps", &page(&rows, &kept, &api_error.errors, &frame))
    })
}

/// `POST /ui/apps/{id}/portal-link`: makes a link, and shows it once.
pub fn portal_link(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let app = context.registry.app_named(request.tenant(), request.path.get("id")).cloned();
    let app = app.ok_or_else(|| ApiError::not_found("app"))?;
    let frame = Frame::new(context, request, Section::Apps);
    let body = json!({ "app_id": app.id.to_string() }).to_string();
    let call = ApiCall { handler: portal_links::create, body, form: Some(&form) };
    relay(context, request, &call, move |response| {
        let text = |name: &str| member(&response, name).as_str().unwrap_or_default().to_owned();
        let link = PortalLinkText { id: text("id"), url: text("url"), expires_at: text("expires_at") };
        let content = portal_link_page(&app.name, &link, &frame);
        Ok(html_response(StatusCode::CREATED, frame.page("Portal link", &content)))
    })
}

/// A new portal link as its page shows it.
pub struct PortalLinkText {
    pub id: String,
    pub url: String,
    pub expires_at: String,
}

/// The page with a new portal link.
pub fn portal_link_page(app: &str, link: &PortalLinkText, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                p.crumb { a href=(frame.link("apps")) { "Apps" } }
                h1 { "Portal link for " (foreign(app)) }
                p.lead {
                    "It opens the pages of this app and nothing else, without a key. Open it within 5 minutes. Shown this once."
                }
            }
        }
        section.panel {
            dl.facts {
                div { dt { "Link" } dd { code data-copy="" { (foreign(&link.url)) } } }
                div { dt { "Ends" } dd { (foreign(&link.expires_at)) ", or with your key" } }
                div { dt { "Id" } dd { code { (foreign(&link.id)) } } }
            }
        }
    }
}
