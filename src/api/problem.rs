//! The native error envelope: RFC 9457 `application/problem+json`.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::{ApiError, FieldError};
use super::fields::FIELD_ERRORS_MAX;
use super::response::HttpResponse;

const MEDIA_TYPE: &str = "application/problem+json";

/// A problem document (RFC 9457). `errors` lists the wrong fields of the body by JSON Pointer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemDocument<'a> {
    /// Always `about:blank`; `code` identifies the problem.
    r#type: &'static str,
    title: &'a str,
    #[schemars(with = "i64")]
    status: u16,
    detail: &'a str,
    /// Stable, for comparison by programs.
    #[schemars(extend("pattern" = "^[a-z][a-z0-9_]*$"))]
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schemars(length(max = FIELD_ERRORS_MAX))]
    errors: &'a [FieldError],
}

/// An error as a problem document. The caller adds the headers of the error.
pub fn render(api_error: &ApiError, request_id: &str) -> HttpResponse {
    let problem = ProblemDocument {
        r#type: "about:blank",
        title: api_error.title(),
        status: api_error.status.as_u16(),
        detail: &api_error.detail,
        code: api_error.code,
        request_id,
        errors: &api_error.errors,
    };

    HttpResponse::new(api_error.status, MEDIA_TYPE, serde_json::to_vec(&problem).expect("a problem serialises"))
}

impl HttpResponse {
    /// A problem document (RFC 9457, api.md section 2). `code` is stable, `detail` is for people.
    pub fn problem(status: StatusCode, code: &'static str, detail: &str, request_id: &str) -> Self {
        render(&ApiError::new(status, code, detail), request_id)
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_problem_response_has_the_published_members_in_order() {
        let response = HttpResponse::problem(StatusCode::NOT_FOUND, "not_found", "no \"such\" webhook", "r-1");
        assert_eq!(response.headers[CONTENT_TYPE], "application/problem+json");
        let expected = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no \"such\" webhook","code":"not_found","request_id":"r-1"}"#;
        assert_eq!(response.body, expected);
    }

    #[test]
    fn a_problem_has_the_documented_members_in_order() {
        let response = render(&ApiError::invalid(vec![FieldError::new("/url", "is required")]), "r-1");
        assert_eq!(response.status, 422);
        assert_eq!(response.headers["content-type"], MEDIA_TYPE);
        assert_eq!(
            std::str::from_utf8(&response.body).unwrap(),
            concat!(
                r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"/url is required","#,
                r#""code":"invalid_fields","request_id":"r-1","errors":[{"pointer":"/url","detail":"is required"}]}"#
            )
        );
    }

    #[test]
    fn a_problem_has_errors_only_for_wrong_fields() {
        let response = render(&ApiError::not_found("webhook"), "r-2");
        assert!(!std::str::from_utf8(&response.body).unwrap().contains("errors"));
    }
}
