//! The native error envelope: RFC 9457 `application/problem+json`.

use serde::Serialize;

use crate::api::call::HttpResponse;
use crate::api::fault::{ApiError, FieldError};

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
pub fn render(fault: &ApiError, request_id: &str) -> HttpResponse {
    let problem = ProblemDocument {
        r#type: "about:blank",
        title: fault.title(),
        status: fault.status.as_u16(),
        detail: &fault.detail,
        code: fault.code,
        request_id,
        errors: &fault.errors,
    };

    HttpResponse::new(fault.status, MEDIA_TYPE, serde_json::to_vec(&problem).expect("a problem serialises"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_documented_members_in_order() {
        let reply = render(&ApiError::invalid(vec![FieldError::new("/url", "is required")]), "r-1");
        assert_eq!(reply.status, 422);
        assert_eq!(reply.headers["content-type"], MEDIA_TYPE);
        assert_eq!(
            std::str::from_utf8(&reply.body).unwrap(),
            concat!(
                r#"{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"/url is required","#,
                r#""code":"invalid_fields","request_id":"r-1","errors":[{"pointer":"/url","detail":"is required"}]}"#
            )
        );
    }

    #[test]
    fn errors_are_only_there_where_fields_are_wrong() {
        let reply = render(&ApiError::not_found("webhook"), "r-2");
        assert!(!std::str::from_utf8(&reply.body).unwrap().contains("errors"));
    }
}
