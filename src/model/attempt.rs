//! An attempt: one HTTP request of a delivery, immutable once finished.

use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::id::{AppId, AttemptId, DeliveryId, EventId, OrganizationId, WebhookId};
use super::time::Time;
use super::webhook::{ContentType, FieldSet, WebhookMethod};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub webhook_id: WebhookId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub event_type: String,
    /// The number of the attempt, from 1.
    pub number: u32,
    pub retry_of: Option<AttemptId>,
    pub trigger: Trigger,
    pub url: String,
    pub method: WebhookMethod,
    /// The shape of the body, so that it can be rendered again.
    pub field_set: FieldSet,
    pub content_type: ContentType,
    /// The signature's timestamp in Unix seconds.
    pub signed_at: i64,
    pub started_at: Time,
    pub finished_at: Time,
    pub success: bool,
    pub outcome: AttemptOutcome,
    pub status_code: Option<u16>,
    /// The status's reason phrase, or a fixed phrase for the outcome.
    pub error: Option<String>,
    /// `None` without an HTTP response.
    pub response_time_ms: Option<u32>,
    /// The retry that was scheduled when the attempt finished.
    pub next_attempt_at: Option<Time>,
    pub remote_addr: Option<String>,
    /// In the order sent, with credentials masked.
    pub request_headers: Headers,
    pub response_headers: Headers,
    /// As text, cut at 16 KiB.
    pub response_body: Option<String>,
    pub timings: Timings,
    #[serde(default)]
    pub include_html: bool,
}

/// Milliseconds of each phase. `None` for a phase that did not occur: a reused connection has no dns, connect and tls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    pub dns: Option<u32>,
    pub connect: Option<u32>,
    pub tls: Option<u32>,
    pub first_byte: Option<u32>,
    pub total: u32,
}

/// The reason for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Event,
    Retry,
    Replay,
    Manual,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Success,
    HttpStatus,
    Timeout,
    ConnectTimeout,
    ConnectRefused,
    ConnectReset,
    DnsError,
    TlsError,
    BlockedAddress,
    RequestError,
    /// The forward proxy of the installation failed. It says nothing about the receiver.
    ProxyError,
    /// The outcome of a delivery whose `expires_at` has passed. No attempt has it.
    Expired,
}

impl AttemptOutcome {
    pub const ALL: [AttemptOutcome; 12] = [
        AttemptOutcome::Success,
        AttemptOutcome::HttpStatus,
        AttemptOutcome::Timeout,
        AttemptOutcome::ConnectTimeout,
        AttemptOutcome::ConnectRefused,
        AttemptOutcome::ConnectReset,
        AttemptOutcome::DnsError,
        AttemptOutcome::TlsError,
        AttemptOutcome::BlockedAddress,
        AttemptOutcome::RequestError,
        AttemptOutcome::ProxyError,
        AttemptOutcome::Expired,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Success => "success",
            AttemptOutcome::HttpStatus => "http_status",
            AttemptOutcome::Timeout => "timeout",
            AttemptOutcome::ConnectTimeout => "connect_timeout",
            AttemptOutcome::ConnectRefused => "connect_refused",
            AttemptOutcome::ConnectReset => "connect_reset",
            AttemptOutcome::DnsError => "dns_error",
            AttemptOutcome::TlsError => "tls_error",
            AttemptOutcome::BlockedAddress => "blocked_address",
            AttemptOutcome::RequestError => "request_error",
            AttemptOutcome::ProxyError => "proxy_error",
            AttemptOutcome::Expired => "expired",
        }
    }

    /// The fixed phrase that `error` begins with if there is no status code.
    pub const fn phrase(self) -> &'static str {
        match self {
            AttemptOutcome::Success => "",
            AttemptOutcome::HttpStatus => "Unexpected status",
            AttemptOutcome::Timeout => "Request timeout",
            AttemptOutcome::ConnectTimeout => "Connection timeout",
            AttemptOutcome::ConnectRefused => "Connection refused",
            AttemptOutcome::ConnectReset => "Connection reset",
            AttemptOutcome::DnsError => "Host name could not be resolved",
            AttemptOutcome::TlsError => "TLS handshake failed",
            AttemptOutcome::BlockedAddress => "Address not allowed",
            AttemptOutcome::RequestError => "Invalid response",
            AttemptOutcome::ProxyError => "The proxy failed",
            AttemptOutcome::Expired => "Expired before it was delivered",
        }
    }
}
