//! `POST /v1/webhooks/{id}/test`: one signed request now, nothing stored.

use bytes::Bytes;
use http::StatusCode;

use crate::api::ask::RequestContext;
use crate::api::call::HttpResponse;
use crate::api::context::ApiContext;
use crate::api::fault::ApiError;
use crate::api::fields::{self, FieldErrors};
use crate::api::step::{Step, TestSend};

use super::attempts::AttemptView;
use super::publish::read_type;
use super::{replays, webhooks};

const TYPE_DEFAULT: &str = "postrider.test";
const DATA_DEFAULT: &[u8] = br#"{"test":true}"#;

/// Sends `type` and `data` of the body, or its own. With an `Idempotency-Key` that was answered before, nothing is sent.
pub fn send(context: &mut ApiContext<'_>, ask: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, ask)?;
    let mut object = ask.optional_object()?;
    let mut flaws = FieldErrors::new();
    let event_type = object.optional("type", &mut flaws, read_type).unwrap_or_else(|| TYPE_DEFAULT.to_owned());
    let data = match object.take("data") {
        Some(raw) => ask.http.body.slice_ref(raw.get().as_bytes()),
        None => Bytes::from_static(DATA_DEFAULT),
    };
    object.finish(&mut flaws);
    fields::into_result(flaws)?;
    if let Some(kept) = replays::kept(context, ask)? {
        return Ok(Step::Reply(kept));
    }
    let give = replays::keeping(ask)?;
    let trial = Box::new(TestSend { webhook, event_type, data });
    Ok(Step::Test {
        trial,
        then: Box::new(move |attempt| Ok(give(HttpResponse::json(StatusCode::OK, &AttemptView::unstored(&attempt))))),
    })
}
