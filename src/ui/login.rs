//! Logging in by a key or by a one-time link, and logging out.

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};

use crate::api::auth::{Principal, key_of};
use crate::api::logins::PageSettings;
use crate::api::{ApiContext, ApiError, HttpRequest, HttpResponse, RequestContext, Step};
use crate::model::ApiKey;
use crate::model::Scope;
use crate::rules::durations;
use crate::store::{AuditEntry, StateCommand, WriteRequest};

use super::assets;
use super::form::PostedForm;
use super::frame::{Frame, Section, THEME_COOKIE, alone, icon};
use super::page_query::PageQuery;
use super::referer;
use super::respond::{self, see_other};
use super::session::{SESSION_COOKIE, Session, may_log_in};

/// Seconds for which a choice of colours is stored.
pub const THEME_S: u32 = 31_536_000;

/// A cookie without `Path`: the browser takes the folder that it sees, also behind a proxy that adds a prefix.
pub fn cookie(name: &str, value: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{name}={value}; HttpOnly; SameSite=Strict{secure}")
}

/// `GET /ui/login`.
pub fn show(context: &ApiContext<'_>, http_request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let page_query = PageQuery::of(http_request);
    let is_out = page_query.get("done") == Some("logged-out");
    let said = is_out.then_some("You are logged out.");
    Ok(page(context, http_request, page_query.get("to").unwrap_or_default(), said, StatusCode::OK))
}

fn page(
    context: &ApiContext<'_>,
    http_request: &HttpRequest,
    to: &str,
    said: Option<&str>,
    status: StatusCode,
) -> HttpResponse {
    let host = http_request.header(http::header::HOST).unwrap_or_default();
    respond::html(status, alone("Log in", "", &card(host, to, said, is_plain(&context.settings.pages, http_request))))
}

/// Whether the key would come over a network in clear text.
fn is_plain(pages: &PageSettings, http_request: &HttpRequest) -> bool {
    !pages.is_secure && http_request.remote.is_some_and(|remote| !remote.ip().to_canonical().is_loopback())
}

fn card(host: &str, to: &str, said: Option<&str>, is_plain: bool) -> Markup {
    html! {
        form.card action="login" method="post" {
            span.brand { (icon("horn")) "Postrider" }
            h1 { "Log in" }
            p.muted { (host) }
            @if let Some(said) = said { p.said role="status" { (said) } }
            @if is_plain {
                p.said role="status" { "This connection is not encrypted: anybody on its way can read the key." }
            }
            input type="hidden" name="to" value=(to);
            // A password manager files the key under a name.
            input type="text" name="username" autocomplete="username" value="key" hidden;
            label for="key" { "Key" }
            input #key name="key" type="password" autocomplete="current-password" required aria-describedby="hint";
            button.btn.main type="submit" { "Log in" }
            p.hint #hint {
                "A key with " code { "events:read" } " and " code { "webhooks:read" }
                " sees everything and changes nothing. The first start keeps one in " code { "first-key" } "; "
                code { "postrider key create me --scope events:read,webhooks:read" }
                " makes another. The browser gets a session, never the key."
            }
        }
    }
}

/// `POST /ui/login`.
///
/// # Errors
/// 403 for a form of another site.
pub fn enter(context: &ApiContext<'_>, http_request: &HttpRequest) -> Result<LoginResult, ApiError> {
    if !may_log_in(http_request) {
        return Err(ApiError::forbidden("form_of_another_site", "this form was sent by another site"));
    }
    let form = PostedForm::parse(&http_request.body);
    let (pages, to) = (&context.settings.pages, form.get("to"));
    let refuse = |said: &str, status| LoginResult::Refused(page(context, http_request, to, Some(said), status));
    if pages.require_tls && is_plain(pages, http_request) {
        return Ok(refuse("Log in over https: this daemon takes no key in clear text.", StatusCode::FORBIDDEN));
    }
    if let Err(wait_s) = pages.logins.count_try(http_request.remote.map(|remote| remote.ip()), context.now) {
        let said = format!("Too many tries. Try again in {}.", durations::rough(i64::from(wait_s) * 1_000));
        let refused = page(context, http_request, to, Some(&said), StatusCode::TOO_MANY_REQUESTS);
        return Ok(LoginResult::Refused(refused.with(RETRY_AFTER, HeaderValue::from(wait_s))));
    }
    match key_of(form.get("key").trim(), &context.registry, context.now) {
        Ok(key) => Ok(LoginResult::Entered(key, below(to).to_owned())),
        // The same answer for every key, so that none can be told from another.
        Err(_) => {
            let remote = http_request.remote.map(|remote| remote.ip());
            tracing::warn!(?remote, request_id = http_request.request_id, "a login to the pages was refused");
            Ok(refuse("There is no such key, or it has expired.", StatusCode::UNAUTHORIZED))
        }
    }
}

/// The outcome of a try to log in.
pub enum LoginResult {
    Refused(HttpResponse),
    /// The key, and the page below `/ui/` that was asked for.
    Entered(std::sync::Arc<ApiKey>, String),
}

/// The page to go to, if it is one below `/ui/`. The overview otherwise.
fn below(to: &str) -> &str {
    let path = to.split('?').next().unwrap_or_default();
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_'));
    let is_shown = to.bytes().all(|byte| byte.is_ascii_graphic());
    if !to.is_empty() && is_plain && is_shown && !to.starts_with('/') { to } else { "./" }
}

/// `POST /ui/login`, as a step: a successful one is in the audit.
pub fn submit(context: &mut ApiContext<'_>, http_request: &HttpRequest) -> Result<Step, ApiError> {
    match enter(context, http_request)? {
        LoginResult::Refused(response) => Ok(Step::Reply(response)),
        LoginResult::Entered(key, to) => {
            let cookie = new_cookie(context, &key);
            begin(http_request, &key, move || Ok(respond::with_cookie(see_other(&to)?, &cookie)))
        }
    }
}

/// `GET /ui/enter?t=…`: logs in once by the link that `serve` prints, only from this machine. The answer is no redirect,
/// because a browser that followed a link would not send a strict cookie with it.
pub fn by_link(context: &mut ApiContext<'_>, http_request: &HttpRequest) -> Result<Step, ApiError> {
    let pages = context.settings.pages.clone();
    // A proxy on this machine speaks for others.
    let is_forwarded = ["forwarded", "x-forwarded-for"].iter().any(|name| http_request.headers.contains_key(*name));
    let is_here = !is_forwarded && http_request.remote.is_some_and(|remote| remote.ip().to_canonical().is_loopback());
    let page_query = PageQuery::of(http_request);
    let token = page_query.get("t").unwrap_or_default();
    let key = match is_here {
        true => pages.logins.take_link(token, context.now).and_then(|id| context.registry.key(id).cloned()),
        false => None,
    };
    let Some(key) = key.filter(|key| !key.expired(context.now)) else {
        let said = "This link has been used, is too old, or is for the machine of the daemon only. Log in with a key.";
        return Ok(Step::Reply(page(context, http_request, "", Some(said), StatusCode::FORBIDDEN)));
    };
    let cookie = new_cookie(context, &key);
    begin(http_request, &key, move || Ok(respond::with_cookie(respond::html(StatusCode::OK, again("./", "")), &cookie)))
}

/// A page that asks for another one at once. `up` is the way to `/ui/`.
pub fn again(to: &str, up: &str) -> Markup {
    html! {
        (maud::DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0;url=" (to) };
                title { "One moment" }
                // Without it a browser asks for `/favicon.ico`, which is not there without a key.
                link rel="icon" href={ (up) (assets::HORN.name()) } type="image/svg+xml";
            }
            body { p { a href=(to) { "Go on" } } }
        }
    }
}

fn new_cookie(context: &mut ApiContext<'_>, key: &ApiKey) -> String {
    let random = context.draw();
    let pages = &context.settings.pages;
    let session = Session::begin(key, pages, random, context.now);
    cookie(SESSION_COOKIE, &session.text(pages), pages.is_secure)
}

/// Writes the login into the audit, and answers.
fn begin(
    http_request: &HttpRequest,
    key: &std::sync::Arc<ApiKey>,
    answer: impl FnOnce() -> Result<HttpResponse, ApiError> + Send + 'static,
) -> Result<Step, ApiError> {
    let caller = Principal::new(key.clone(), http_request).caller();
    let entry = AuditEntry { org: key.org_id, app: key.app_id, action: "ui.login", target: key.id.to_string() };
    let command = StateCommand::Audit(entry).into();
    Ok(Step::apply(WriteRequest { caller: Some(caller), idempotency: None, command }, move |_| answer()))
}

/// `POST /ui/logout`.
pub fn leave(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    PostedForm::read(context, request)?;
    let gone = format!("{}; Max-Age=0", cookie(SESSION_COOKIE, "", context.settings.pages.is_secure));
    let response = respond::with_cookie(see_other("login?done=logged-out")?, &gone);
    let clear = HeaderName::from_static("clear-site-data");
    Ok(Step::Reply(response.with(clear, HeaderValue::from_static("\"cache\""))))
}

/// `GET /ui/renewed.css`: an empty file whose answer renews the session, for pages below a folder.
pub fn renewed(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Aside);
    let response = HttpResponse::new(StatusCode::OK, "text/css; charset=utf-8", "");
    Ok(Step::Reply(frame.renewing(respond::guarded(response))))
}

/// `POST /ui/theme`.
pub fn set_theme(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let theme = if form.get("theme") == "dark" { "dark" } else { "light" };
    let to = format!("./{}", referer::below(request.http, "/ui/").unwrap_or_default());
    let cookie = cookie(THEME_COOKIE, theme, context.settings.pages.is_secure);
    Ok(Step::Reply(respond::with_cookie(see_other(&to)?, &format!("{cookie}; Max-Age={THEME_S}"))))
}

/// The first page that a key may see, for a key that may not see the overview.
pub fn first_page(key: &ApiKey) -> &'static str {
    let pages = [
        (Scope::WebhooksRead, "./"),
        (Scope::EventsRead, "deliveries"),
        (Scope::AppsRead, "apps"),
        (Scope::KeysRead, "keys"),
    ];
    pages.into_iter().find(|(scope, _)| key.may(*scope)).map_or("find", |(_, page)| page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_this_daemon_only() {
        for to in ["webhooks/1", "deliveries?status=failed&last=24h", "webhooks?search=a%2F..%2Fb"] {
            assert_eq!(below(to), to);
        }
        for to in [
            "",
            "%2e%2e/v1",
            "//evil.example",
            "/v1",
            "https://evil.example",
            "../../v1",
            "a\r\nb",
            "javascript:alert(1)",
            "\\\\e",
        ] {
            assert_eq!(below(to), "./", "{to}");
        }
    }
}
