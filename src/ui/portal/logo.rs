//! The operator's logo: a file of the data directory, served as it is under rules of its own.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderValue, StatusCode};

use crate::api::{ApiContext, ApiError, HttpRequest, HttpResponse};
use crate::ui::respond;

/// An SVG may style itself. It runs nothing and loads nothing (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'";

/// `GET /ui/portal/logo`.
pub fn serve(context: &ApiContext<'_>, _: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let portal = &context.settings.pages.portal;
    let logo = portal.logo.as_ref().filter(|_| portal.enabled).ok_or_else(ApiError::no_route)?;
    let response = HttpResponse::new(StatusCode::OK, logo.content_type, logo.content.clone());
    let response = response.with(CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
    let mut response = respond::guarded(response);
    response.headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}
