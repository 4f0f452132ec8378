//! The context of a request on a route: its caller, the parts of its path and query, and its body.

use bytes::Bytes;

use crate::model::id::IdKind;
use crate::model::{Id, Scope};
use crate::rules::diagnosis::DiagnosisReader;
use crate::rules::json;
use crate::store::{Command, IdempotencyKey, TenantScope, WriteRequest};

use super::auth::Principal;
use super::error::{ApiError, FieldError};
use super::fields::JsonObject;
use super::idempotency;
use super::params::Params;
use super::request::HttpRequest;

/// The named parts of a path, decoded once.
#[derive(Debug, Clone, Default)]
pub struct PathSegments(pub Vec<(String, String)>);

impl PathSegments {
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

pub struct RequestContext<'a> {
    pub http: &'a HttpRequest,
    pub principal: &'a Principal,
    pub path: &'a PathSegments,
    pub query: Params,
    /// Whether the route takes `Idempotency-Key`.
    pub takes_key: bool,
}

impl<'a> RequestContext<'a> {
    pub fn tenant(&self) -> TenantScope {
        self.principal.tenant
    }

    /// The reader of causes and cures: a key of one app is its customer's.
    pub fn reader(&self) -> DiagnosisReader {
        if self.tenant().app.is_some() { DiagnosisReader::Tenant } else { DiagnosisReader::Operator }
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.principal.key.may(scope)
    }

    /// The id in the path. 404 for any other text there.
    pub fn id<K: IdKind>(&self, noun: &str) -> Result<Id<K>, ApiError> {
        self.path.get("id").parse().map_err(|_| ApiError::not_found(noun))
    }

    /// The body as an object: 400 if it is not strict JSON, 422 if it is something else than an object.
    pub fn object(&self) -> Result<JsonObject<'a>, ApiError> {
        strict_object(&self.http.body)
    }

    /// The same, with an absent body read as `{}`.
    pub fn optional_object(&self) -> Result<JsonObject<'a>, ApiError> {
        if self.http.body.is_empty() {
            return JsonObject::read("{}", String::new())
                .map_err(|field_error: FieldError| ApiError::invalid(vec![field_error]));
        }
        self.object()
    }

    /// `optional_object` if the body `may_lack`, as that of a change whose fields are all optional; else `object`.
    pub fn object_or_none(&self, may_lack: bool) -> Result<JsonObject<'a>, ApiError> {
        if may_lack { self.optional_object() } else { self.object() }
    }

    /// 422 unless the body has no fields or is absent.
    pub fn no_fields(&self) -> Result<(), ApiError> {
        let mut field_errors = Vec::new();
        self.optional_object()?.finish(&mut field_errors);
        super::fields::into_result(field_errors)
    }

    /// The `Idempotency-Key` of the request. `None` on routes that take none.
    pub fn idempotency_key(&self) -> Result<Option<IdempotencyKey>, ApiError> {
        if !self.takes_key {
            return Ok(None);
        }
        idempotency::key_of(self.http, self.principal)
    }

    /// A write request of this caller, with its `Idempotency-Key`.
    pub fn write(&self, command: impl Into<Command>) -> Result<WriteRequest, ApiError> {
        Ok(WriteRequest {
            caller: Some(self.principal.caller()),
            idempotency: self.idempotency_key()?,
            command: command.into(),
        })
    }

    /// The same with bytes that a repeated answer needs besides the receipt.
    pub fn write_with(&self, command: impl Into<Command>, extra: Bytes) -> Result<WriteRequest, ApiError> {
        let idempotency = self.idempotency_key()?.map(|key| IdempotencyKey { extra: Some(extra), ..key });
        Ok(WriteRequest { idempotency, ..self.write(command)? })
    }

    /// The same for an answer with a secret, which is stored sealed and for a short time.
    pub fn write_secret(&self, command: impl Into<Command>, extra: Option<Bytes>) -> Result<WriteRequest, ApiError> {
        let idempotency = self.idempotency_key()?.map(|key| IdempotencyKey { extra, secret: true, ..key });
        Ok(WriteRequest { idempotency, ..self.write(command)? })
    }
}

/// The text of a body that is strict JSON (`rules::json`).
pub fn strict(body: &[u8]) -> Result<&str, ApiError> {
    Ok(json::checked(body, json::JsonLimits::default())?)
}

/// The object that a body is: 400 if it is not strict JSON, 422 if it is something else than an object.
pub fn strict_object(body: &[u8]) -> Result<JsonObject<'_>, ApiError> {
    let members = json::members(body, json::JsonLimits::default())?;
    JsonObject::of(members, String::new()).map_err(|field_error| ApiError::invalid(vec![field_error]))
}
