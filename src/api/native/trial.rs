//! `POST /v1/webhooks/{id}/test`: one signed request now, nothing stored.

use bytes::Bytes;
use http::StatusCode;

use crate::api::ask::Ask;
use crate::api::call::Reply;
use crate::api::context::Context;
use crate::api::fault::Fault;
use crate::api::fields::{self, Flaws};
use crate::api::step::{Step, Trial};

use super::attempts::AttemptView;
use super::publish::read_type;
use super::{replays, webhooks};

const TYPE_DEFAULT: &str = "postrider.test";
const DATA_DEFAULT: &[u8] = br#"{"test":true}"#;

/// Sends `type` and `data` of the body, or its own. With an `Idempotency-Key` that was answered before, nothing is sent.
pub fn send(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let webhook = webhooks::in_path(context, ask)?;
    let mut object = ask.optional_object()?;
    let mut flaws = Flaws::new();
    let event_type = object.optional("type", &mut flaws, read_type).unwrap_or_else(|| TYPE_DEFAULT.to_owned());
    let data = match object.take("data") {
        Some(raw) => ask.call.body.slice_ref(raw.get().as_bytes()),
        None => Bytes::from_static(DATA_DEFAULT),
    };
    object.finish(&mut flaws);
    fields::judge(flaws)?;
    if let Some(kept) = replays::kept(context, ask)? {
        return Ok(Step::Reply(kept));
    }
    let give = replays::keeping(ask)?;
    let trial = Box::new(Trial { webhook, event_type, data });
    Ok(Step::Test {
        trial,
        then: Box::new(move |attempt| Ok(give(Reply::json(StatusCode::OK, &AttemptView::unstored(&attempt))))),
    })
}
