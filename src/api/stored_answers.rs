//! Stored answers: the first answer to an `Idempotency-Key`, which a repeated request gets again (docs/api.md).
//!
//! The writer stores the answer of a command with its change. A route without a command stores its answer here.

use bytes::Bytes;
use http::StatusCode;

use crate::store::{Applied, Receipt, StateCommand, WriteRequest};

use super::context::ApiContext;
use super::error::ApiError;
use super::idempotency;
use super::request_context::RequestContext;
use super::response::HttpResponse;
use super::step::Step;

/// The first answer to the request's `Idempotency-Key`. 409 if the key came with another request.
pub fn earlier(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Option<Applied>, ApiError> {
    match request.idempotency_key()? {
        Some(key) => Ok(context.store.stored_answer(&key, context.now)?),
        None => Ok(None),
    }
}

/// Whether an earlier answer to the same request is stored. It is given again, whatever has passed since.
pub fn is_answered(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<bool, ApiError> {
    Ok(earlier(context, request)?.is_some())
}

/// The stored answer to this request, if no command made it and the request has an `Idempotency-Key`.
pub fn response(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Option<HttpResponse>, ApiError> {
    let Some(applied) = earlier(context, request)? else { return Ok(None) };
    let mut response = stored_reply(applied)?;
    idempotency::mark(&mut response);
    Ok(Some(response))
}

fn stored_reply(applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::Kept(body) => Ok(HttpResponse::new(StatusCode::OK, "application/json", body)),
        _ => Err(ApiError::internal("the store answered something else than was asked")),
    }
}

/// Answers without a command. With an `Idempotency-Key` the answer is stored first.
pub fn storing(request: &RequestContext<'_>) -> Result<impl FnOnce(HttpResponse) -> Step + Send + use<>, ApiError> {
    let write_request = request
        .idempotency_key()?
        .map(|_| request.write(StateCommand::StoreAnswer { body: Bytes::new() }))
        .transpose()?;
    Ok(move |response: HttpResponse| match write_request {
        None => Step::Reply(response),
        Some(write_request) => {
            let command = StateCommand::StoreAnswer { body: response.body };
            Step::apply(WriteRequest { command: command.into(), ..write_request }, stored_reply)
        }
    })
}
