//! Entering the portal by a link, and leaving it.

use http::HeaderValue;
use http::StatusCode;
use http::header::{HeaderName, REFERRER_POLICY};
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, HttpRequest, HttpResponse, Principal, RequestContext, Step, portal_token};
use crate::model::portal::PortalLink;
use crate::store::{AuditEntry, StateCommand, WriteRequest};
use crate::ui::form::PostedForm;
use crate::ui::frame::{THEME_COOKIE, portal_alone};
use crate::ui::login::{THEME_S, again, cookie};
use crate::ui::page_query::PageQuery;
use crate::ui::respond::{self, see_other};

use crate::ui::portal_access::{self as access, PORTAL_COOKIE};
use crate::ui::referer;

/// `GET /ui/portal/enter?t=…`: 200 with a page that asks again, because a cookie of a redirect from another site is not
/// sent (SameSite=Strict).
pub fn enter(context: &mut ApiContext<'_>, http_request: &HttpRequest) -> Result<Step, ApiError> {
    if !context.settings.pages.portal.enabled {
        return Err(ApiError::no_route());
    }
    let page_query = PageQuery::of(http_request);
    let pages = &context.settings.pages;
    let link = page_query.get("t").and_then(|text| portal_token::parse(text, pages));
    let link = link.filter(|link| context.now < link.enter_by);
    let key = link.as_ref().and_then(|link| access::key_of(link, &context.registry, context.now));
    let (Some(link), Some(key)) = (link, key) else {
        let content = ended("This link does not open the portal any more", DEAD_LINK, None);
        let page = portal_alone("Link", "../", &content);
        return Ok(Step::Reply(unreferred(respond::html(StatusCode::FORBIDDEN, page))));
    };
    let random = context.draw();
    let pages = &context.settings.pages;
    let cookie = cookie(PORTAL_COOKIE, &portal_token::cookie_text(&link, random, pages), pages.is_secure);
    let response = respond::with_cookie(respond::html(StatusCode::OK, again("./", "../")), &cookie);
    let response = unreferred(response);
    let (org, app) = (key.org_id, Some(link.app_id));
    let principal = Principal { portal_link: Some(link.id), ..Principal::new(key.into(), http_request) };
    let entry = AuditEntry { org, app, action: "portal.enter", target: link.id.to_string() };
    let command = StateCommand::Audit(entry).into();
    let write_request = WriteRequest { caller: Some(principal.caller()), idempotency: None, command };
    Ok(Step::apply(write_request, move |_| Ok(response)))
}

/// The token is in the address, which no other page may learn.
fn unreferred(mut response: HttpResponse) -> HttpResponse {
    response.headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Text beside a link that opens nothing.
const DEAD_LINK: &str = "It is for a short time, and may have been revoked. Ask for a new one where you found it.";
/// Text after leaving.
const LEFT: &str = "Your link opens it again, as long as it is valid.";

/// The page of a link that opens nothing, or of an access that has ended.
fn ended(title: &str, text: &str, link: Option<&PortalLink>) -> Markup {
    html! {
        .card {
            h1 { (title) }
            p { (text) }
            @if let Some(url) = link.and_then(|link| link.return_url.as_deref()) {
                a.btn.main href=(url) rel="noreferrer" { "Back" }
            }
        }
    }
}

/// `POST /ui/portal/leave`.
pub fn leave(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    PostedForm::read(context, request)?;
    let pages = &context.settings.pages;
    let link = access::link_of(request.http, pages, context.now).map(|(link, _)| link);
    let gone = format!("{}; Max-Age=0", cookie(PORTAL_COOKIE, "", pages.is_secure));
    let content = ended("You have left the portal", LEFT, link.as_ref());
    let response = respond::with_cookie(respond::html(StatusCode::OK, portal_alone("Left", "../", &content)), &gone);
    let clear = HeaderName::from_static("clear-site-data");
    Ok(Step::Reply(response.with(clear, HeaderValue::from_static("\"cache\""))))
}

/// `POST /ui/portal/theme`.
pub fn set_theme(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let theme = if form.get("theme") == "dark" { "dark" } else { "light" };
    let to = format!("./{}", referer::below(request.http, "/ui/portal/").unwrap_or_default());
    let cookie = cookie(THEME_COOKIE, theme, context.settings.pages.is_secure);
    Ok(Step::Reply(respond::with_cookie(see_other(&to)?, &format!("{cookie}; Max-Age={THEME_S}"))))
}
