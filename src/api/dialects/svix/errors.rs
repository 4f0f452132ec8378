//! Errors in Svix's words: `{code, detail}`, and for wrong values `{detail: [{loc, msg, type}]}`.
//!
//! Invariant: every error has a JSON body, because the SDKs parse the body of every 4xx.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::error::{ApiError, FieldError};
use crate::api::response::HttpResponse;
use crate::api::route::ErrorContext;

/// The pointer of a wrong query parameter begins with this, and no pointer into a body does.
const QUERY: &str = "?";
/// The pointer of a wrong path parameter begins with this.
const PATH: &str = ":";

/// These texts name things as this API does, where the store's name them natively.
const TOO_MANY_SECRETS: &str =
    "ten old secrets sign already: wait until one has ended, or end them all with gracePeriodSeconds 0";
const DISABLED: &str = "the endpoint is disabled: enable it first";

/// An error, with a `detail` for people or a list of the wrong values.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SvixError<'a> {
    Plain { code: &'a str, detail: &'a str },
    Invalid { detail: Vec<SvixWrongValue<'a>> },
}

/// A wrong value of a body, a query or a path.
#[derive(Serialize, JsonSchema)]
pub struct SvixWrongValue<'a> {
    /// `body`, `query` or `path`, then names of members and positions such as `[0]`.
    loc: Vec<String>,
    msg: &'a str,
    r#type: &'static str,
}

/// 422 for a query parameter.
pub fn wrong_query(name: &str, detail: &str) -> ApiError {
    ApiError::invalid(vec![FieldError::new(format!("{QUERY}{name}"), detail)])
}

/// 422 for a path parameter.
pub fn wrong_path(name: &str, detail: &str) -> ApiError {
    ApiError::invalid(vec![FieldError::new(format!("{PATH}{name}"), detail)])
}

/// 400 with a code of Svix.
pub fn refused(code: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::bad_request(code, detail)
}

/// 400 without a code of its own.
pub fn generic(detail: impl Into<String>) -> ApiError {
    refused("generic_error", detail)
}

/// 404 for anything.
pub fn absent() -> ApiError {
    ApiError::not_found("entity")
}

pub fn render(api_error: &ApiError, _: &ErrorContext<'_>) -> HttpResponse {
    if api_error.is_about_json() || api_error.status == StatusCode::UNPROCESSABLE_ENTITY {
        return HttpResponse::json(StatusCode::UNPROCESSABLE_ENTITY, &SvixError::Invalid { detail: wrong(api_error) });
    }
    let detail = api_error.detail.as_str();
    let (code, detail) = match (api_error.status, api_error.code) {
        (StatusCode::UNAUTHORIZED, _) => ("authentication_failed", "Invalid token"),
        (StatusCode::FORBIDDEN, _) => ("insufficient access", detail),
        (StatusCode::NOT_FOUND, "not_served") => ("not_found", detail),
        (StatusCode::NOT_FOUND, _) => ("not_found", "Entity not found"),
        (StatusCode::CONFLICT, "uid_taken" | "alias_taken") => ("conflict", detail),
        (StatusCode::CONFLICT, "event_id_conflict") => ("conflict", "a message with this eventId exists already"),
        (StatusCode::CONFLICT, "too_many_secrets") => ("limit_reached", TOO_MANY_SECRETS),
        (StatusCode::CONFLICT, "webhook_disabled") => ("endpoint_disabled", DISABLED),
        (StatusCode::PAYLOAD_TOO_LARGE, _) => ("payload_too_large", detail),
        (StatusCode::INTERNAL_SERVER_ERROR, _) => ("server_error", "Internal Server Error"),
        (StatusCode::BAD_REQUEST, "invalid_parameter" | "malformed_query") => ("generic_error", detail),
        (_, code) => (code, detail),
    };
    let status = if code == "limit_reached" { StatusCode::BAD_REQUEST } else { api_error.status };
    HttpResponse::json(status, &SvixError::Plain { code, detail })
}

/// The wrong values. At least one.
fn wrong(api_error: &ApiError) -> Vec<SvixWrongValue<'_>> {
    let about_json = api_error.is_about_json();
    let one = |pointer: &str, msg| SvixWrongValue { loc: location(pointer), msg, r#type: kind(about_json, msg) };
    if api_error.errors.is_empty() || about_json {
        return vec![one("", &api_error.detail)];
    }
    api_error.errors.iter().map(|field_error| one(&field_error.pointer, &field_error.detail)).collect()
}

/// A wrong type, an unknown word or a missing member is named like text that is no JSON: all are found while the text is read.
fn kind(about_json: bool, msg: &str) -> &'static str {
    let types = [
        "must be a string",
        "must be an object",
        "must be an array",
        "must be true or false",
        "must be one of",
        "is required",
    ];
    let is_of_type = types.iter().any(|start| msg.starts_with(start));
    if about_json || is_of_type { "value_error.jsondecode" } else { "value_error" }
}

/// The place of a JSON Pointer (RFC 6901), or of a parameter.
fn location(pointer: &str) -> Vec<String> {
    if let Some(name) = pointer.strip_prefix(QUERY) {
        return vec!["query".to_owned(), name.to_owned()];
    }
    if let Some(name) = pointer.strip_prefix(PATH) {
        return vec!["path".to_owned(), name.to_owned()];
    }
    let part = |token: &str| match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("[{token}]"),
        false => token.replace("~1", "/").replace("~0", "~"),
    };
    std::iter::once("body".to_owned()).chain(pointer.split('/').skip(1).map(part)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Time;

    fn shown(api_error: &ApiError) -> (u16, Value) {
        let context = ErrorContext { request_id: "r", now: Time::ZERO, verb: None, pattern: "", slashes: 1 };
        let response = render(api_error, &context);
        (response.status.as_u16(), serde_json::from_slice(&response.body).unwrap())
    }

    #[test]
    fn an_error_has_the_code_of_the_vendor() {
        for (api_error, status, code) in [
            (ApiError::unauthorized("credentials_wrong", "x"), 401, "authentication_failed"),
            (ApiError::forbidden("scope_missing", "x"), 403, "insufficient access"),
            (ApiError::not_found("app"), 404, "not_found"),
            (ApiError::no_route(), 404, "not_found"),
            (ApiError::conflict("uid_taken", "x"), 409, "conflict"),
            (ApiError::conflict("event_type_exists", "x"), 409, "event_type_exists"),
            (ApiError::too_large(5), 413, "payload_too_large"),
            (ApiError::method_not_allowed("GET"), 405, "method_not_allowed"),
            (ApiError::internal("x"), 500, "server_error"),
        ] {
            let (is, body) = shown(&api_error);
            assert_eq!((is, &body["code"]), (status, &json!(code)));
            assert!(!body["detail"].as_str().unwrap().is_empty());
        }
        let why = "transformations are absent";
        assert_eq!(shown(&ApiError::not_served(why)).1, json!({ "code": "not_found", "detail": why }));
    }

    #[test]
    fn wrong_values_have_their_place() {
        let both = ApiError::invalid(vec![
            FieldError::new("/a~1b/0", "must be a string"),
            FieldError::new("/url", "is not allowed"),
        ]);
        let expected = json!({ "detail": [
            { "loc": ["body", "a/b", "[0]"], "msg": "must be a string", "type": "value_error.jsondecode" },
            { "loc": ["body", "url"], "msg": "is not allowed", "type": "value_error" },
        ] });
        assert_eq!(shown(&both), (422, expected));
        let query = json!({ "detail": [{ "loc": ["query", "limit"], "msg": "x", "type": "value_error" }] });
        assert_eq!(shown(&wrong_query("limit", "x")), (422, query));
        assert_eq!(shown(&wrong_path("id", "x")).1["detail"][0]["loc"], json!(["path", "id"]));
        let (status, body) = shown(&ApiError::bad_request("malformed_json", "not JSON"));
        assert_eq!((status, &body["detail"][0]["type"]), (422, &json!("value_error.jsondecode")));
    }
}
