//! `POST /v1/webhooks/{id}/test`: sends one signed request now and stores nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::{Step, TestSend};
use crate::api::stored_answers;
use crate::model::Webhook;

use super::attempts::AttemptView;
use super::publish::read_type;
use super::webhooks;

const TYPE_DEFAULT: &str = "postrider.test";
const DATA_DEFAULT: &[u8] = br#"{"test":true}"#;

/// The test of a webhook with the default type and data.
pub fn of_defaults(webhook: Arc<Webhook>) -> Box<TestSend> {
    Box::new(TestSend { webhook, event_type: TYPE_DEFAULT.to_owned(), data: Bytes::from_static(DATA_DEFAULT) })
}

/// Sends `type` and `data` of the body, or default ones. If the `Idempotency-Key` has an answer already, nothing is
/// sent.
pub fn send(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let mut object = request.optional_object()?;
    let mut field_errors = FieldErrors::new();
    let event_type = object.optional("type", &mut field_errors, read_type).unwrap_or_else(|| TYPE_DEFAULT.to_owned());
    let data = match object.take("data") {
        Some(raw) => request.http.body.slice_ref(raw.get().as_bytes()),
        None => Bytes::from_static(DATA_DEFAULT),
    };
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let give = stored_answers::storing(request)?;
    let (id, reader) = (webhook.id, request.reader());
    let test_send = Box::new(TestSend { webhook, event_type, data });
    let shown = move |made: &_| HttpResponse::json(StatusCode::OK, &AttemptView::unstored(reader, id, made));
    Ok(Step::Test { test_send, then: Box::new(move |made| Ok(give(shown(&made)))) })
}
