//! Responses of pages, each with the headers that keep a page to itself.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, LOCATION, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use maud::Markup;

use crate::api::{ApiError, HttpResponse};

/// Only this daemon's own files, no inline script or style, no frames (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";

/// A whole page.
pub fn html(status: StatusCode, page: Markup) -> HttpResponse {
    guarded(HttpResponse::new(status, HTML, page.into_string()))
}

/// The answer to a form: the browser gets the page at `to`, which is relative to the form's action.
///
/// # Errors
/// 500 if `to` cannot be a header.
pub fn see_other(to: &str) -> Result<HttpResponse, ApiError> {
    moved(StatusCode::SEE_OTHER, to)
}

/// A redirect.
///
/// # Errors
/// 500 if `to` cannot be a header.
pub fn moved(status: StatusCode, to: &str) -> Result<HttpResponse, ApiError> {
    let location = HeaderValue::from_str(to).map_err(|_| ApiError::internal("the address of the next page"))?;
    Ok(guarded(HttpResponse::empty(status).with(LOCATION, location)))
}

/// The same response with a cookie of this text.
pub fn with_cookie(mut response: HttpResponse, cookie: &str) -> HttpResponse {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers.append(SET_COOKIE, value);
    }
    response
}

/// The same response with the headers of every answer below `/ui`.
pub fn guarded(mut response: HttpResponse) -> HttpResponse {
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers.insert(name, HeaderValue::from_static(value));
    }
    response.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
