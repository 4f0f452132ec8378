//! The native error envelope: RFC 9457 `application/problem+json`.

use serde::Serialize;

use crate::api::error::{ApiError, FieldError};
use crate::api::request::HttpResponse;

const MEDIA_TYPE: &str = "application/problem+json";

#[derive(Serialize)]
struct ProblemDocument<'a> {
    /// RFC 9457 section 4.2.1: nothing beyond the status; `code` says which problem.
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// A fault as a problem document. The headers of the fault are added by the caller.
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn errors_are_only_there_where_fields_are_wrong() {
        let response = render(&ApiError::not_found("webhook"), "r-2");
        assert!(!std::str::from_utf8(&response.body).unwrap().contains("errors"));
    }
}
