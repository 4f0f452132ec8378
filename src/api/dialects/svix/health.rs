//! The health of the server, without a token.

use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;

/// `GET /api/v1/health/ping`.
pub fn ping(_context: &ApiContext<'_>, _request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::empty(StatusCode::NO_CONTENT))
}

/// `GET /api/v1/health`. 500 if the daemon is not ready.
pub fn ready(context: &ApiContext<'_>, _request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    match context.health_source.unready().is_empty() {
        true => Ok(HttpResponse::empty(StatusCode::NO_CONTENT)),
        false => Err(ApiError::internal("the daemon is not ready")),
    }
}
