//! Erases the payloads of several messages, one command after the other, or of all messages of an app by a job.

use std::collections::BTreeMap;
use std::vec::IntoIter;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::EventId;
use crate::model::job::JobSpec;
use crate::store::{Caller, PartitionCommand, Rejection, StateCommand, WriteRequest};

use super::{ids, resend};

/// Maximum number of messages in one request.
pub const MESSAGES_MAX: usize = 250;

/// The outcome of each message, by the name in the request: `expunged` or `not-found`.
#[derive(Serialize, JsonSchema)]
pub struct SvixExpunged {
    results: BTreeMap<String, &'static str>,
}

/// `POST /api/v1/app/{app_id}/msg/bulk-expunge`.
pub fn some(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let mut field_errors = FieldErrors::new();
    let names = request.object()?.strings("ids", &mut field_errors, MESSAGES_MAX, fields::text);
    fields::into_result(field_errors)?;
    let (mut results, mut found) = (BTreeMap::new(), Vec::new());
    for name in names.unwrap_or_default() {
        match ids::find_message(context, &app, &name)? {
            Some(event) => found.push((name, event.id)),
            None => drop(results.insert(name, "not-found")),
        }
    }
    Ok(erase(found.into_iter(), results, request.principal.caller()))
}

/// `POST /api/v1/app/{app_id}/msg/expunge-all-contents`: a job over the messages that the app has now.
pub fn all(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let app = ids::app(context, request)?;
    let spec = JobSpec { app: Some(app.id), erasing: true, ..JobSpec::default() };
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, resend::begun))
}

/// Erases the next message and then the rest.
fn erase(mut rest: IntoIter<(String, EventId)>, mut results: BTreeMap<String, &'static str>, caller: Caller) -> Step {
    let Some((name, id)) = rest.next() else {
        return Step::Reply(HttpResponse::json(StatusCode::OK, &SvixExpunged { results }));
    };
    // A repetition of the whole request erases nothing twice, so the answer is not stored.
    let command = PartitionCommand::EraseEvent { id }.into();
    let write_request = Box::new(WriteRequest { caller: Some(caller.clone()), idempotency: None, command });
    let then = Box::new(move |applied| {
        let became = match applied {
            Ok(_) => "expunged",
            Err(Rejection::NotFound(_)) => "not-found",
            Err(rejection) => return Err(rejection.into()),
        };
        results.insert(name, became);
        Ok(erase(rest, results, caller))
    });
    Step::Apply { write_request, then }
}
