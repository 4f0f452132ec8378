//! One HTTP exchange on an open connection: writes the request, reads the response.
//!
//! The body is read to its end or to `RESPONSE_BODY_BYTES_MAX`.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::sender::failure::SendFailure;
use crate::engine::sender::http1::{HttpConnection, RequestHead, ResponseEnd, ResponseHead};
use crate::engine::sender::limits::{IDLE_LIFE, KEEP_ALIVE_MARGIN, RESPONSE_HEAD_BYTES_MAX};
use crate::engine::sender::proxy::DeliveryProxy;
use crate::engine::sender::{OutboundRequest, millis};
use crate::model::Timings;

/// The part of a response received so far. It outlives the exchange, which may be cancelled at any moment.
#[derive(Default)]
pub(in crate::engine) struct PartialResponse {
    pub head: Option<ResponseHead>,
    pub body: Vec<u8>,
    pub timings: Timings,
}

impl PartialResponse {
    /// Whether the receiver waited in vain for a request (RFC 9110 section 15.5.9). On a reused connection this answers
    /// no request: the receiver was closing the connection while the request was on its way.
    pub fn is_request_timeout(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.status == 408)
    }

    /// Maximum time for which the connection may stay idle and be reused.
    pub fn idle_life(&self) -> Duration {
        let Some(allowed_s) = self.head.as_ref().and_then(|head| head.keep_alive_s) else { return IDLE_LIFE };
        Duration::from_secs(u64::from(allowed_s)).saturating_sub(KEEP_ALIVE_MARGIN).min(IDLE_LIFE)
    }
}

/// Sends the request on `link` and reads the response into `partial`. `proxy` is the peer if the request is addressed to
/// a proxy and not to the receiver.
///
/// Dropping the future abandons the request. Then `link` must be dropped too.
pub(in crate::engine) async fn exchange(
    link: &mut HttpConnection,
    request: &OutboundRequest,
    proxy: Option<&DeliveryProxy>,
    partial: &mut PartialResponse,
) -> Result<ResponseEnd, SendFailure> {
    let began = Instant::now();
    let head = RequestHead {
        method: &request.method,
        path_and_query: request.target.path_and_query.as_str(),
        host: &request.target.origin.host_header,
        is_absolute: proxy.is_some(),
        lines: request.headers.sent(),
        proxy_authorization: proxy.and_then(DeliveryProxy::authorization),
        body_bytes: request.body.len(),
    };
    let asked = link.ask(request.body.clone(), RESPONSE_HEAD_BYTES_MAX, |out| head.write(out));
    let framed = asked.await.map_err(|why| SendFailure::exchanging(&why))?;
    let framing = framed.framing().map_err(|why| SendFailure::exchanging(&why.into()))?;
    partial.timings.first_byte = Some(millis(began.elapsed()));
    let keeps_open = framed.keeps_open();
    partial.head = Some(framed.head);
    link.read_body(framing, keeps_open, &mut partial.body).await.map_err(|why| SendFailure::exchanging(&why))
}
