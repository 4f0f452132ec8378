//! The route of one request: directly, through a tunnel of the proxy, or addressed to the proxy.
//!
//! Invariant: a connection returns to the pool only if it was opened under the current proxy. The generation is read
//! before the proxy, and rises after the proxy was set.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::sender::exchange::PartialResponse;
use crate::engine::sender::failure::SendFailure;
use crate::engine::sender::limits::{PROXY_SILENCE_MIN, RESPONSE_BODY_BYTES_MAX};
use crate::engine::sender::proxy::{DeliveryProxy, ProxyContact, blamed, credentials_asked, out_of_time};
use crate::engine::sender::target::SendTarget;
use crate::engine::sender::{ExchangeResult, Sender};
use crate::model::AttemptOutcome;

/// The route of a request to its receiver.
pub(in crate::engine) struct RequestRoute {
    pub proxy: Option<Arc<DeliveryProxy>>,
    /// The generation of the pool to which the connection returns.
    pub generation: u64,
    /// Whether the request is addressed to the proxy, as those to http receivers are.
    absolute: bool,
}

impl Sender {
    /// The route to `target` under the current proxy.
    pub(in crate::engine) fn route_to(&self, target: &SendTarget) -> RequestRoute {
        let (direct, proxied) = (self.pool.generation(), self.proxied.generation());
        let proxy = self.proxy_of(target);
        let absolute = proxy.is_some() && !target.origin.https;
        RequestRoute { generation: if proxy.is_some() { proxied } else { direct }, proxy, absolute }
    }
}

impl RequestRoute {
    /// The proxy that takes the request itself. `None` if the receiver takes it.
    pub fn peer(&self) -> Option<&DeliveryProxy> {
        self.proxy.as_deref().filter(|_| self.absolute)
    }

    /// The contact of a request on a connection that was open already.
    pub fn reached(&self) -> ProxyContact {
        if self.proxy.is_some() { ProxyContact::Reached } else { ProxyContact::None }
    }

    /// The failure of a connection that was not open after `waited`, with the proxy's part named. A webhook may have a
    /// short timeout, so only a long silence makes the proxy unreachable for others.
    pub fn too_late(&self, failure: SendFailure, waited: Duration, contact: &mut ProxyContact) -> SendFailure {
        if self.proxy.is_none() || failure.outcome != AttemptOutcome::ConnectTimeout {
            return failure;
        }
        let late = out_of_time(*contact);
        if *contact == ProxyContact::TunnelRefused {
            *contact = ProxyContact::TunnelTimedOut;
        }
        if *contact == ProxyContact::Unreachable && waited < PROXY_SILENCE_MIN {
            *contact = ProxyContact::None;
        }
        late
    }

    /// The end of the attempt, with the proxy's failures named as such.
    pub fn outcome_of(
        &self,
        ended: Result<(), SendFailure>,
        partial: &mut PartialResponse,
        contact: &mut ProxyContact,
    ) -> Result<(), SendFailure> {
        let status = partial.head.as_ref().map(|head| head.status);
        match ended {
            Err(failure) if self.absolute => Err(blamed(failure, status.is_some())),
            Ok(()) if self.absolute && status == Some(407) => {
                *contact = ProxyContact::CredentialsAsked;
                // The proxy wrote this page, which may describe its network.
                (partial.head, partial.body) = (None, Vec::new());
                Err(credentials_asked())
            }
            ended => ended,
        }
    }
}

impl ExchangeResult {
    /// The result without the credentials of the proxy that took the request.
    pub(in crate::engine) fn redacted(mut self, proxy: Option<&DeliveryProxy>) -> ExchangeResult {
        let Some(redactor) = proxy.map(DeliveryProxy::redactor) else { return self };
        self.response_headers = redactor.redact_response(self.response_headers);
        let text = String::from_utf8_lossy(&self.response_body);
        let redacted = redactor.redact_text(text.clone().into_owned(), text.len() >= RESPONSE_BODY_BYTES_MAX);
        if redacted != text {
            self.response_body = redacted.into_bytes();
        }
        self
    }
}
