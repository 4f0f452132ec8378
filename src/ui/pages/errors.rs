//! The page of an error, in place of the page that was asked for.

use http::StatusCode;
use http::header::{CONTENT_LOCATION, LOCATION};
use maud::{Markup, html};

use crate::api::{ApiError, ErrorContext, HttpResponse};
use crate::ui::form::MISTAKES_LISTED;
use crate::ui::format::foreign;
use crate::ui::frame::{alone, icon, portal_alone};
use crate::ui::login::again;
use crate::ui::portal_words as words;
use crate::ui::respond;
use crate::ui::session::CROSS_SITE_CODE;

/// Renders an error below `/ui`: a page, a redirect to the login, or one repetition.
pub fn render(api_error: &ApiError, error_context: &ErrorContext<'_>) -> HttpResponse {
    let up = "../".repeat(error_context.slashes.saturating_sub(2));
    if api_error.code == CROSS_SITE_CODE {
        return respond::html(StatusCode::OK, again("", &up));
    }
    if api_error.headers.iter().any(|(name, _)| *name == LOCATION) {
        return respond::guarded(HttpResponse::empty(api_error.status));
    }
    if error_context.pattern.starts_with("/ui/portal") || api_error.code == "portal_session_missing" {
        let home = "../".repeat(error_context.slashes.saturating_sub(3));
        let content = portal_card(api_error, error_context.request_id, &home);
        return respond::html(api_error.status, portal_alone(api_error.title(), &up, &content));
    }
    respond::html(api_error.status, alone(api_error.title(), &up, &card(api_error, error_context.request_id, &up)))
}

/// The same for a tenant, who has no key to log in with.
fn portal_card(api_error: &ApiError, request_id: &str, home: &str) -> Markup {
    html! {
        .card {
            h1 { (api_error.title()) }
            p { (foreign(words::refusal(api_error))) "." }
            @if api_error.status != StatusCode::UNAUTHORIZED {
                a.btn href=(if home.is_empty() { "./" } else { home }) { "Webhooks" }
            }
            p.hint { "Request " code { (foreign(request_id)) } }
        }
    }
}

fn card(api_error: &ApiError, request_id: &str, up: &str) -> Markup {
    let home = if up.is_empty() { "./" } else { up };
    html! {
        .card {
            span.brand { (icon("horn")) "Postrider" }
            h1 { (api_error.title()) }
            p { (foreign(&api_error.detail)) "." }
            @for field_error in api_error.errors.iter().take(MISTAKES_LISTED) {
                p { code { (foreign(&field_error.pointer)) } " " (foreign(&field_error.detail)) }
            }
            @if api_error.status == StatusCode::NOT_FOUND {
                p.muted { "It may be deleted, belong to another app, or be older than the time that events are kept." }
            }
            @if api_error.status == StatusCode::UNAUTHORIZED {
                @let login = api_error.headers.iter().find(|(name, _)| *name == CONTENT_LOCATION);
                @let login = login.and_then(|(_, login)| login.to_str().ok()).map_or_else(|| format!("{up}login"), str::to_owned);
                a.btn.main href=(login) { "Log in" }
            } @else {
                a.btn href=(home) { "Overview" }
            }
            p.hint { "Request " code { (foreign(request_id)) } }
        }
    }
}
