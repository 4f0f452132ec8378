//! What a handler gives back: an answer, or the one thing that has to happen before there is one.
//!
//! The server runs steps until a reply: `loop { step = match step { Reply => return, Apply => then(apply(order))?,
//! Test => then(attempt(trial))?, Wait => wait, then handle the call again } }`.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Attempt, Time, Webhook, WebhookId};
use crate::store::{Applied, Rejection, WriteRequest};

use super::error::ApiError;
use super::response::HttpResponse;

/// What follows once `T` is there.
pub type Then<T> = Box<dyn FnOnce(T) -> Result<Step, ApiError> + Send>;

pub enum Step {
    Reply(HttpResponse),
    /// Hand `order` to the writer, then go on with what it says. On `Refusal::Stale` the server does not call `then`:
    /// it handles the call again, a few times, since the handler reads what it changes from the registry.
    Apply {
        write_request: Box<WriteRequest>,
        then: Then<Result<Applied, Rejection>>,
    },
    /// Send one signed request now, store nothing.
    Test {
        test_send: Box<TestSend>,
        then: Then<Attempt>,
    },
    /// Nothing new yet: handle the same call again, with the same `Context::since`, as soon as a delivery of `webhook`
    /// is committed, and at `until` at the latest. The server subscribes to the webhook before it first handles the
    /// call of a route that waits, so that no commit falls between reading and waiting.
    Wait {
        webhook: WebhookId,
        until: Time,
    },
}

/// A test request: the engine makes up an event around it, with ids that stand for nothing.
#[derive(Debug, Clone)]
pub struct TestSend {
    pub webhook: Arc<Webhook>,
    pub event_type: String,
    /// The exact bytes of `data`.
    pub data: Bytes,
}

impl Step {
    /// An order, and how its success is shown; a refusal becomes the fault it stands for.
    pub fn apply(
        write_request: WriteRequest,
        show: impl FnOnce(Applied) -> Result<HttpResponse, ApiError> + Send + 'static,
    ) -> Step {
        let then: Then<Result<Applied, Rejection>> = Box::new(move |result| {
            let applied = result?;
            let replayed = applied.replayed;
            let mut response = show(applied)?;
            if replayed {
                super::idempotency::mark(&mut response);
            }
            Ok(Step::Reply(response))
        });
        Step::Apply { write_request: Box::new(write_request), then }
    }
}
