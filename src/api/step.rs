//! Steps: the result of a handler, which is a response or the one operation that must happen before it.
//!
//! The server runs steps until a response: `loop { step = match step { Reply => return, Apply =>
//! then(apply(write_request))?, Test => then(attempt(test_send))?, Wait => wait, then handle the request again } }`.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::feed_topic::FeedTopic;
use crate::model::{AttemptMade, Time, Webhook};
use crate::store::{Applied, Rejection, WriteRequest};

use super::error::ApiError;
use super::link::LinkRequest;
use super::response::HttpResponse;

/// The continuation once `T` is available.
pub type Then<T> = Box<dyn FnOnce(T) -> Result<Step, ApiError> + Send>;

pub enum Step {
    Reply(HttpResponse),
    /// Apply `write_request`, then continue with the result. On `Rejection::Stale` the server does not call `then`: it
    /// handles the request again, a few times, because the handler reads the current object from the registry.
    Apply {
        write_request: Box<WriteRequest>,
        then: Then<Result<Applied, Rejection>>,
    },
    /// Send one signed request now and store nothing.
    Test {
        test_send: Box<TestSend>,
        then: Then<AttemptMade>,
    },
    /// No row yet: handle the same request again, with the same `ApiContext::since`. That is as soon as a row of
    /// `topic` is committed, and at `until` at the latest. The server subscribes to the topic before it first handles
    /// such a request, so that no commit falls between reading and waiting.
    Wait {
        topic: FeedTopic,
        until: Time,
        /// The position behind all that was examined, so that the next run does not examine it again.
        reached: Option<u128>,
    },
    /// Answer a standby, and give it the connection if it asked for a stream.
    Link(LinkRequest),
}

/// A test request. The engine invents an event for it, with ids that refer to no row.
#[derive(Debug, Clone)]
pub struct TestSend {
    pub webhook: Arc<Webhook>,
    pub event_type: String,
    /// The exact bytes of `data`.
    pub data: Bytes,
}

impl Step {
    /// A write request, and the view of its success. A rejection becomes the error that it stands for.
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
