//! Relays a form to the handler of the API that does the same: its fields become the JSON that the API reads.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use crate::api::idempotency;
use crate::api::params::Params;
use crate::api::request_context::PathSegments;
use crate::api::route::Handler;
use crate::api::{ApiContext, ApiError, HttpRequest, HttpResponse, RequestContext, Step};

use super::form::{ONCE_FIELD, PostedForm};
use super::resend::Resend;

/// The continuation with the API's response.
type Reshape = Box<dyn FnOnce(HttpResponse) -> Result<HttpResponse, ApiError> + Send>;

/// One call of a handler of the API.
pub struct ApiCall<'a> {
    pub handler: Handler,
    /// The text of a JSON object. Empty for no body.
    pub body: String,
    /// Its `once` is sent as `Idempotency-Key`. `None` for a call that makes nothing.
    pub form: Option<&'a PostedForm>,
}

/// Runs `call` with the caller and the path of `request`, and shows its response by `reshape`. A form that had been sent
/// before gets a page that says so.
///
/// # Errors
/// Those of the handler, before it returns a step.
pub fn relay(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    call: &ApiCall<'_>,
    reshape: impl FnOnce(HttpResponse) -> Result<HttpResponse, ApiError> + Send + 'static,
) -> Result<Step, ApiError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let once = call.form.map(|form| form.get(ONCE_FIELD)).filter(|once| !once.is_empty());
    if let Some(once) = once.and_then(|once| HeaderValue::from_str(once).ok()) {
        headers.insert("idempotency-key", once);
    }
    let body = Bytes::from(call.body.clone());
    let inner = HttpRequest {
        method: Method::POST,
        path: request.http.path.clone(),
        query: None,
        headers,
        body,
        remote: request.http.remote,
        request_id: request.http.request_id.clone(),
    };
    let path = PathSegments(request.path.0.clone());
    let (principal, query) = (request.principal, Params::default());
    let inner = RequestContext { http: &inner, principal, path: &path, query, takes_key: true };
    let resend = Resend::of(request, call.form.unwrap_or(&PostedForm::default()), context.draw());
    let step = (call.handler)(context, &inner)?;
    reshaped(step, Box::new(reshape), resend)
}

/// Shows the form of a request again by `again`, if the request has mistakes in its fields. The store may find them too.
///
/// # Errors
/// Those without a field.
pub fn corrected(
    made: Result<Step, ApiError>,
    again: impl FnOnce(ApiError) -> HttpResponse + Send + 'static,
) -> Result<Step, ApiError> {
    match made {
        Err(api_error) if !api_error.errors.is_empty() => Ok(Step::Reply(again(api_error))),
        Ok(Step::Apply { write_request, then }) => {
            let then = move |result| corrected(then(result), again);
            Ok(Step::Apply { write_request, then: Box::new(then) })
        }
        other => other,
    }
}

fn reshaped(step: Step, reshape: Reshape, resend: Resend) -> Result<Step, ApiError> {
    Ok(match step {
        Step::Reply(response) if idempotency::is_marked(&response) => Step::Reply(resend.after(reshape(response)?)?),
        Step::Reply(response) => Step::Reply(reshape(response)?),
        Step::Apply { write_request, then } => {
            let then = move |result| match then(result) {
                Ok(step) => reshaped(step, reshape, resend),
                Err(api_error) => resend.in_place_of(api_error).map(Step::Reply),
            };
            Step::Apply { write_request, then: Box::new(then) }
        }
        Step::Test { test_send, then } => {
            Step::Test { test_send, then: Box::new(move |made| reshaped(then(made)?, reshape, resend)) }
        }
        Step::Wait { .. } | Step::Link(_) => return Err(ApiError::internal("a form has no answer to wait for")),
    })
}

/// The member of a JSON response. Null if there is none.
pub fn member(response: &HttpResponse, name: &str) -> Value {
    serde_json::from_slice::<Value>(&response.body).map_or(Value::Null, |mut value| value[name].take())
}
