//! The signature of user actions, in form only.
//!
//! The vendor's clients sign a challenge before each write. Here the API key alone is the authority: the challenge is
//! random, no signature is verified, nothing is stored, and no route looks at the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::fields::{self, FieldErrors, FieldResult};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::step::Step;
use crate::api::stored_answers;

use super::CREDENTIALS;

const CREDENTIAL_BYTES_MAX: usize = 128;

/// A challenge to sign.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DfnsChallenge<'a> {
    challenge: String,
    challenge_identifier: String,
    external_authentication_url: &'static str,
    attestation: &'static str,
    user_verification: &'static str,
    supported_credential_kinds: [DfnsCredentialKind; 1],
    allow_credentials: DfnsAllowedCredentials<'a>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
struct DfnsCredentialKind {
    kind: &'static str,
    factor: &'static str,
    requires_second_factor: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DfnsAllowedCredentials<'a> {
    /// The setting `dialects.dfns_credentials`.
    key: Vec<DfnsCredential<'a>>,
    #[schemars(with = "Vec<DfnsCredential<'a>>", length(max = 0))]
    webauthn: [DfnsCredential<'a>; 0],
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct DfnsCredential<'a> {
    r#type: &'static str,
    id: &'a str,
}

/// The end of a signature.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DfnsUserActionToken {
    user_action: String,
}

/// Whether the text may be the id of a credential.
pub fn is_credential(text: &str) -> bool {
    (1..=CREDENTIAL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `POST /auth/action/init`.
pub fn init(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    for name in ["userActionPayload", "userActionHttpMethod", "userActionHttpPath"] {
        object.required(name, &mut field_errors, fields::text);
    }
    object.optional("userActionServerKind", &mut field_errors, fields::text);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let random: [[u8; 32]; 2] = [context.draw(), context.draw()];
    let [challenge, challenge_identifier] = random.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let allowed = context.settings.dialect_lists.get(CREDENTIALS.name).into_iter().flatten();
    let shown = DfnsChallenge {
        challenge,
        challenge_identifier,
        external_authentication_url: "",
        attestation: "direct",
        user_verification: "required",
        supported_credential_kinds: [DfnsCredentialKind {
            kind: "Key",
            factor: "first",
            requires_second_factor: false,
        }],
        allow_credentials: DfnsAllowedCredentials {
            key: allowed.map(|id| DfnsCredential { r#type: "public-key", id }).collect(),
            webauthn: [],
        },
    };
    Ok(stored_answers::storing(request)?(HttpResponse::json(StatusCode::OK, &shown)))
}

/// `POST /auth/action`.
pub fn complete(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    object.required("challengeIdentifier", &mut field_errors, read_some);
    match object.object("firstFactor", &mut field_errors) {
        Some(mut factor) => {
            factor.required("kind", &mut field_errors, read_some);
            // Members differ by kind, and none is verified.
            factor.required("credentialAssertion", &mut field_errors, read_object);
        }
        None if field_errors.iter().any(|field_error| field_error.pointer == "/firstFactor") => {}
        None => drop(object.required("firstFactor", &mut field_errors, read_object)),
    }
    object.optional("secondFactor", &mut field_errors, read_object);
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let token = DfnsUserActionToken { user_action: URL_SAFE_NO_PAD.encode(context.draw::<32>()) };
    Ok(stored_answers::storing(request)?(HttpResponse::json(StatusCode::OK, &token)))
}

fn read_some(raw: &RawValue) -> FieldResult<String> {
    fields::text(raw).and_then(|text| if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) })
}

fn read_object(raw: &RawValue) -> FieldResult<()> {
    if raw.get().starts_with('{') { Ok(()) } else { Err("must be an object".to_owned()) }
}
