//! One call on one route, as its handler sees it: who asks, what the path and the query say, what the body holds.

use bytes::Bytes;

use crate::model::{Id, Scope};
use crate::rules::json;
use crate::store::{Command, Keep, Order, Reach};

use super::auth::Principal;
use super::call::Call;
use super::fault::{Fault, Flaw};
use super::fields::Object;
use super::idempotency;
use super::params::Params;

/// The named parts of a path, decoded once.
#[derive(Debug, Clone, Default)]
pub struct Segments(pub Vec<(String, String)>);

impl Segments {
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }
}

pub struct Ask<'a> {
    pub call: &'a Call,
    pub principal: &'a Principal,
    pub path: &'a Segments,
    pub query: Params,
}

impl<'a> Ask<'a> {
    pub fn reach(&self) -> Reach {
        self.principal.reach
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.principal.key.may(scope)
    }

    /// The id in the path; anything else there is a thing that does not exist.
    pub fn id<K>(&self, what: &str) -> Result<Id<K>, Fault> {
        self.path.get("id").parse().map_err(|_| Fault::not_found(what))
    }

    /// The body as an object: 400 if it is not strict JSON, 422 if it is something else than an object.
    pub fn object(&self) -> Result<Object<'a>, Fault> {
        Object::read(strict(&self.call.body)?, String::new()).map_err(|flaw| Fault::invalid(vec![flaw]))
    }

    /// The same where no body at all means `{}`.
    pub fn optional_object(&self) -> Result<Object<'a>, Fault> {
        if self.call.body.is_empty() {
            return Object::read("{}", String::new()).map_err(|flaw: Flaw| Fault::invalid(vec![flaw]));
        }
        self.object()
    }

    /// A body without fields, or none.
    pub fn no_fields(&self) -> Result<(), Fault> {
        let mut flaws = Vec::new();
        self.optional_object()?.finish(&mut flaws);
        super::fields::judge(flaws)
    }

    /// What `Idempotency-Key` asks for: on a POST only.
    pub fn keep(&self) -> Result<Option<Keep>, Fault> {
        if self.call.method != http::Method::POST {
            return Ok(None);
        }
        idempotency::keep(self.call, self.principal)
    }

    /// A command of this caller, its answer kept if `Idempotency-Key` is given.
    pub fn order(&self, command: Command) -> Result<Order, Fault> {
        Ok(Order { by: Some(self.principal.caller()), keep: self.keep()?, command })
    }

    /// The same, with something that the answer needs beside the receipt when it is given again.
    pub fn order_with(&self, command: Command, extra: Bytes) -> Result<Order, Fault> {
        let keep = self.keep()?.map(|keep| Keep { extra: Some(extra), ..keep });
        Ok(Order { keep, ..self.order(command)? })
    }

    /// The same for an answer that holds a secret: kept sealed, and not for long.
    pub fn order_secret(&self, command: Command, extra: Option<Bytes>) -> Result<Order, Fault> {
        let keep = self.keep()?.map(|keep| Keep { extra, secret: true, ..keep });
        Ok(Order { keep, ..self.order(command)? })
    }
}

/// The text of a body that is strict JSON (`rules::json`).
pub fn strict(body: &[u8]) -> Result<&str, Fault> {
    json::check(body, json::Limits::default())?;
    std::str::from_utf8(body).map_err(|_| Fault::bad_request("invalid_utf8", "not valid UTF-8"))
}
