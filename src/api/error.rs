//! The API's error type, in terms that every mount can put into its own envelope.

use http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::rules::json;
use crate::store::{self, Rejection};

/// Seconds after which a caller should try again when storage failed.
const STORAGE_RETRY_S: u32 = 5;
/// `Retry-After` seconds while the disk is full, because an operator has to free space.
const DISK_RETRY_S: u32 = 30;
/// `Retry-After` seconds while no standby confirms.
const STANDBY_RETRY_S: u32 = 2;

/// An error in a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) into the body. Empty for the whole body.
    pub pointer: String,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Why a request was rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub status: StatusCode,
    /// Stable and snake_case, for programs.
    pub code: &'static str,
    /// A description of this request's problem, for people.
    pub detail: String,
    /// All wrong fields.
    pub errors: Vec<FieldError>,
    /// Headers of the response: `Allow`, `Retry-After`, `WWW-Authenticate`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError { status, code, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// The short name of the kind of problem: the status's own phrase, which RFC 9457 section 4.2.1 requires for
    /// `about:blank`.
    pub fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.headers.push((name, value));
        self
    }

    /// The same error with `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> ApiError {
        self.with(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401 with the scheme that this API accepts.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> ApiError {
        let challenge = HeaderValue::from_static("Bearer realm=\"postrider\"");
        ApiError::new(StatusCode::UNAUTHORIZED, code, detail).with(WWW_AUTHENTICATE, challenge)
    }

    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404 for an object such as `webhook` or `event`.
    pub fn not_found(noun: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("{noun} not found"))
    }

    /// 404 for a path without a route.
    pub fn no_route() -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "route_not_found", "nothing is served at this path")
    }

    /// 404 for a path that is deliberately not served, with the reason.
    pub fn not_served(why: &'static str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_served", why)
    }

    /// 405 with `Allow`. `allow` lists the path's methods, comma-separated.
    pub fn method_not_allowed(allow: &str) -> ApiError {
        let api_error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this path answers to {allow} only"),
        );
        match HeaderValue::from_str(allow) {
            Ok(value) => api_error.with(ALLOW, value),
            Err(_) => api_error,
        }
    }

    pub fn conflict(code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413. The connection is closed, because the next request lies behind the rest of the body.
    pub fn too_large(bytes_max: usize) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is over {bytes_max} bytes"))
            .with(CONNECTION, HeaderValue::from_static("close"))
    }

    pub fn unsupported(code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, detail)
    }

    /// 422 for well-formed JSON with wrong values. `field_errors` is not empty.
    pub fn invalid(field_errors: Vec<FieldError>) -> ApiError {
        let detail = match field_errors.as_slice() {
            [only] if only.pointer.is_empty() => format!("the body {}", only.detail),
            [only] => format!("{} {}", only.pointer, only.detail),
            many => format!("{} fields are wrong", many.len()),
        };
        ApiError { errors: field_errors, ..ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_fields", detail) }
    }

    /// 422 for a header's value.
    pub fn invalid_header(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_header", detail)
    }

    /// 500: an error of Postrider and never of the request.
    pub fn internal(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Whether the body is no JSON, or JSON that readers understand differently. The pointer is then where reading ended, and
    /// no field is wrong.
    pub fn is_about_json(&self) -> bool {
        let codes = ["malformed_json", "duplicate_member", "lone_surrogate", "invalid_utf8"];
        self.status == StatusCode::BAD_REQUEST && codes.contains(&self.code)
    }
}

impl From<json::JsonError> for ApiError {
    /// 400: the text is not JSON, or JSON that readers understand differently.
    fn from(field_error: json::JsonError) -> ApiError {
        let code = match field_error.kind {
            json::JsonErrorKind::DuplicateMember => "duplicate_member",
            json::JsonErrorKind::LoneSurrogate => "lone_surrogate",
            json::JsonErrorKind::InvalidUtf8 => "invalid_utf8",
            _ => "malformed_json",
        };
        let detail = field_error.to_string();
        let errors = vec![FieldError::new(field_error.pointer, field_error.kind.to_string())];
        ApiError { errors, ..ApiError::bad_request(code, detail) }
    }
}

impl From<store::Error> for ApiError {
    /// A damaged row stays damaged, so a retry has no use. Any other error may pass.
    fn from(error: store::Error) -> ApiError {
        match error {
            store::Error::Damaged { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged_row", "what was stored cannot be read back")
            }
            _ => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "storage_failed", "storage cannot be read right now")
                .retry_after(STORAGE_RETRY_S),
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(refusal: Rejection) -> ApiError {
        match refusal {
            Rejection::NotFound(noun) => ApiError::not_found(noun),
            Rejection::Conflict { code, detail, pointer } => {
                let errors = pointer.map(|pointer| FieldError::new(pointer, detail.clone())).into_iter().collect();
                ApiError { errors, ..ApiError::conflict(code, detail) }
            }
            Rejection::Invalid { pointer, detail } => ApiError::invalid(vec![FieldError::new(pointer, detail)]),
            Rejection::Stale => ApiError::conflict("changed_meanwhile", "another request changed it at the same time"),
            Rejection::DiskFull => {
                ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "the disk is full: nothing new is taken")
                    .retry_after(DISK_RETRY_S)
            }
            Rejection::Unconfirmed => {
                let detail = "standby.required is set and no standby has confirmed it; it may be kept all the same, so repeat \
                              it with the same event_id or Idempotency-Key";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "standby_missing", detail).retry_after(STANDBY_RETRY_S)
            }
            Rejection::TenureEnded => {
                let detail = "another node may own the cluster's store now; the change may be kept all the same, so repeat it \
                              with the same event_id or Idempotency-Key";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stepped_down", detail).retry_after(STANDBY_RETRY_S)
            }
            Rejection::Failed(_) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "storage_failed", "storage failed: nothing was kept")
                    .retry_after(STORAGE_RETRY_S)
            }
        }
    }
}
