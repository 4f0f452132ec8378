//! The signing secret of an endpoint.

use http::header::USER_AGENT;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult};
use crate::api::native::webhook_form;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::model::webhook::SigningSecret;
use crate::rules::signing;
use crate::store::{Applied, StateCommand};

use super::{endpoints, ids};

/// Seconds that an old secret signs if the body does not say.
const GRACE_S_DEFAULT: u32 = 86_400;
const GRACE_S_MAX: u64 = 604_800;
/// The beginning of Svix's Ed25519 private keys.
const PRIVATE_KEY_PREFIX: &str = "whsk_";

/// The current secret.
#[derive(Serialize, JsonSchema)]
pub struct SvixSecret<'a> {
    key: &'a str,
}

/// A secret as the caller gives it.
pub fn read(raw: &RawValue) -> FieldResult<String> {
    if fields::text(raw)?.starts_with(PRIVATE_KEY_PREFIX) {
        return Err("must be a whsec_ secret: private Ed25519 keys are not taken".to_owned());
    }
    webhook_form::read_secret(raw)
}

/// The first version of the Python SDK that takes any 2xx answer to a rotation.
const PYTHON_READS_200: (u32, u32) = (1, 57);

/// Whether the caller is a Python SDK that fails on every answer to a rotation but 204. The user agent of such a one is
/// `svix-libs/<version>/python`.
fn needs_no_content(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let version = agent.strip_prefix("svix-libs/").and_then(|rest| rest.strip_suffix("/python"));
    let mut parts = version.unwrap_or_default().split('.').map(|part| part.parse().ok());
    let version = parts.next().flatten().zip(parts.next().flatten());
    version.is_some_and(|version: (u32, u32)| version < PYTHON_READS_200)
}

fn shown(applied: Applied) -> Result<HttpResponse, ApiError> {
    let webhook = endpoints::received(applied)?;
    let key = webhook.secrets.first().map_or("", |secret| secret.text.as_str());
    Ok(HttpResponse::json(StatusCode::OK, &SvixSecret { key }))
}

/// `GET …/endpoint/{endpoint_id}/secret`. It is a command, because every reading is audited.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id = ids::endpoint(context, request)?.1.id;
    Ok(Step::apply(request.write(StateCommand::ReadSecret { id })?, shown))
}

/// `POST …/endpoint/{endpoint_id}/secret/rotate`.
pub fn rotate(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = ids::endpoint(context, request)?.1;
    let mut object = request.optional_object()?;
    let mut field_errors = FieldErrors::new();
    let key = object.optional("key", &mut field_errors, read);
    let grace = |raw: &RawValue| fields::whole(raw, 0..=GRACE_S_MAX);
    let grace_s = object.optional("gracePeriodSeconds", &mut field_errors, grace);
    fields::into_result(field_errors)?;
    let overlap_s = grace_s.map_or(GRACE_S_DEFAULT, |s| s as u32);
    let text = key.unwrap_or_else(|| signing::make_secret(|| context.draw()));
    let secret = SigningSecret { text, created_at: context.now, expires_at: None };
    let command = StateCommand::RotateSecret { id: webhook.id, secret, overlap_s };
    let is_bare = needs_no_content(&request.http.headers);
    Ok(Step::apply(request.write_secret(command, None)?, move |applied| match is_bare {
        true => Ok(HttpResponse::empty(StatusCode::NO_CONTENT)),
        false => shown(applied),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_python_sdks_are_known_by_their_user_agent() {
        let is_bare = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            needs_no_content(&headers)
        };
        for agent in ["svix-libs/1.30.0/python", "svix-libs/1.56.0/python", "svix-libs/0.80.0/python"] {
            assert!(is_bare(agent), "{agent}");
        }
        for agent in [
            "svix-libs/1.57.0/python",
            "svix-libs/1.99.1/python httpx/0.28",
            "svix-libs/2.9.1/python",
            "svix-libs/1.56.0/javascript",
            "svix-libs/1/python",
            "svix-libs//python",
            "",
        ] {
            assert!(!is_bare(agent), "{agent}");
        }
        assert!(!needs_no_content(&HeaderMap::new()));
    }
}
