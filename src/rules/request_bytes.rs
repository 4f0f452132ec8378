//! The bytes of memory that a request is counted with while it is in flight.

use crate::model::Webhook;
use crate::model::webhook::WebhookMethod;
use crate::rules::body::{self, BodyShape};

/// Requests that take at most this are not counted.
const UNCOUNTED_BYTES_MAX: usize = 16 << 10;
/// Copies of a webhook's own header lines in one request: as they are sent, as they are stored, and in the connection.
const HEADER_COPIES: usize = 3;
/// Copies of a query string: in the target and in the head of the request.
const QUERY_COPIES: usize = 2;

/// The bytes that a request of a webhook is counted with: the most that its payload, its body and its own header lines
/// take. 0 if it is not counted.
pub fn counted_bytes(webhook: &Webhook, payload_bytes: usize) -> usize {
    let shape = BodyShape {
        method: webhook.method,
        content_type: webhook.content_type,
        field_set: webhook.field_set,
        include_html: webhook.include_html,
    };
    let copies = match webhook.method {
        WebhookMethod::Get | WebhookMethod::Delete => QUERY_COPIES,
        _ => 1,
    };
    let content = body::bytes_max(shape, webhook.encrypted, payload_bytes).saturating_mul(copies);
    let lines: usize = webhook.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = payload_bytes.saturating_add(content).saturating_add(lines * HEADER_COPIES);
    if bytes <= UNCOUNTED_BYTES_MAX { 0 } else { bytes }
}
