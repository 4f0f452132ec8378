//! An attempt: one HTTP request of a delivery, immutable once finished.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::id::{AppId, AttemptId, DeliveryId, EventId, OrganizationId, WebhookId};
use super::row::flat_row;
use super::time::Time;
use super::webhook::{ContentType, FieldSet, WebhookMethod};

/// Maximum length of a stored response body in bytes. The rest of an answer is never read.
pub const RESPONSE_BODY_BYTES_MAX: usize = 16 * 1024;

/// An attempt as it is stored: the request that was made, and its place in the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    pub id: AttemptId,
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub webhook_id: WebhookId,
    pub org_id: OrganizationId,
    pub app_id: AppId,
    pub event_type: String,
    pub retry_of: Option<AttemptId>,
    /// The retry that was scheduled when the attempt finished.
    pub next_attempt_at: Option<Time>,
    pub made: AttemptMade,
    /// When the response's body was erased: with its event, or with its headers on request.
    pub response_erased_at: Option<Time>,
}

/// The request of an attempt and its outcome, as the sender saw them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttemptMade {
    /// The number of the attempt, from 1.
    pub number: u32,
    pub trigger: Trigger,
    pub url: String,
    pub method: WebhookMethod,
    /// The shape of the body, so that it can be rendered again.
    pub field_set: FieldSet,
    pub content_type: ContentType,
    pub include_html: bool,
    /// The signature's timestamp in Unix seconds.
    pub signed_at: i64,
    pub started_at: Time,
    pub finished_at: Time,
    /// The verdict of the webhook's success rule.
    pub success: bool,
    pub outcome: AttemptOutcome,
    pub status_code: Option<u16>,
    /// The status's reason phrase, or a fixed phrase for the outcome.
    pub error: Option<String>,
    /// `None` without an HTTP response.
    pub response_time_ms: Option<u32>,
    pub remote_addr: Option<String>,
    /// The headers in the order sent, with credentials masked.
    pub request_headers: Headers,
    pub response_headers: Headers,
    /// The body as text, cut at `RESPONSE_BODY_BYTES_MAX`.
    pub response_body: Option<String>,
    pub timings: Timings,
}

impl AttemptMade {
    /// Whether the stored response body may be the beginning of a longer one: it has the maximum length, or less than its
    /// `content-length`.
    pub fn may_be_cut(&self) -> bool {
        let Some(stored) = self.response_body.as_ref().map(String::len) else { return false };
        let announced = self.response_headers.iter().find(|(name, _)| *name == "content-length");
        let announced = announced.and_then(|(_, value)| value.parse::<usize>().ok()).unwrap_or(0);
        // A character that the maximum cut into is replaced by one of three bytes.
        stored + 3 >= RESPONSE_BODY_BYTES_MAX || announced > stored
    }
}

flat_row! {
    Attempt: id, delivery_id, event_id, webhook_id, org_id, app_id, event_type, made.number, retry_of, made.trigger,
    made.url, made.method, made.field_set, made.content_type, made.signed_at, made.started_at, made.finished_at,
    made.success, made.outcome, made.status_code, made.error, made.response_time_ms, next_attempt_at, made.remote_addr,
    made.request_headers, made.response_headers, made.response_body, made.timings;
    added: made.include_html, response_erased_at
}

/// Milliseconds of each phase. `None` for a phase that did not occur: a reused connection has no dns, connect and tls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Timings {
    pub dns: Option<u32>,
    pub connect: Option<u32>,
    pub tls: Option<u32>,
    pub first_byte: Option<u32>,
    pub total: u32,
}

/// The reason for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Trigger {
    #[default]
    Event,
    Retry,
    Replay,
    Manual,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
    #[default]
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

    /// The number that stored figures have for the outcome. It never changes.
    pub const fn code(self) -> u8 {
        match self {
            AttemptOutcome::Success => 0,
            AttemptOutcome::HttpStatus => 1,
            AttemptOutcome::Timeout => 2,
            AttemptOutcome::ConnectTimeout => 3,
            AttemptOutcome::ConnectRefused => 4,
            AttemptOutcome::ConnectReset => 5,
            AttemptOutcome::DnsError => 6,
            AttemptOutcome::TlsError => 7,
            AttemptOutcome::BlockedAddress => 8,
            AttemptOutcome::RequestError => 9,
            AttemptOutcome::ProxyError => 10,
            AttemptOutcome::Expired => 11,
        }
    }

    /// The outcome of a code. `None` if no outcome has it.
    pub fn of_code(code: u8) -> Option<AttemptOutcome> {
        AttemptOutcome::ALL.into_iter().find(|outcome| outcome.code() == code)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;
    use crate::model::row::tests::hex;

    /// A row of the first format with the fields that were added since, every field set.
    const ROW: &str = "\
        dc001ec41000000000000000000000000000000001c41000000000000000000000000000000002c4100000000000000000000000\
        0000000003c41000000000000000000000000000000004c41000000000000000000000000000000005c410000000000000000000\
        00000000000006a3612e6202c41000000000000000000000000000000007a57265747279a175a3707574a464666e73d921617070\
        6c69636174696f6e2f782d7777772d666f726d2d75726c656e636f64656408090ac3ab687474705f737461747573ccc9a1650b0c\
        a172a4710a310aa4730a320aa162950dc00e0f10c311";

    #[test]
    fn a_row_has_every_field_in_its_stored_place() {
        let attempt = Attempt {
            id: Id::from_u128(1),
            delivery_id: Id::from_u128(2),
            event_id: Id::from_u128(3),
            webhook_id: Id::from_u128(4),
            org_id: Id::from_u128(5),
            app_id: Id::from_u128(6),
            event_type: "a.b".into(),
            retry_of: Some(Id::from_u128(7)),
            next_attempt_at: Some(Time(12)),
            made: AttemptMade {
                number: 2,
                trigger: Trigger::Retry,
                url: "u".into(),
                method: WebhookMethod::Put,
                field_set: FieldSet::Dfns,
                content_type: ContentType::Form,
                include_html: true,
                signed_at: 8,
                started_at: Time(9),
                finished_at: Time(10),
                success: true,
                outcome: AttemptOutcome::HttpStatus,
                status_code: Some(201),
                error: Some("e".into()),
                response_time_ms: Some(11),
                remote_addr: Some("r".into()),
                request_headers: [("q", "1")].into_iter().collect(),
                response_headers: [("s", "2")].into_iter().collect(),
                response_body: Some("b".into()),
                timings: Timings { dns: Some(13), connect: None, tls: Some(14), first_byte: Some(15), total: 16 },
            },
            response_erased_at: Some(Time(17)),
        };
        let row = rmp_serde::to_vec(&attempt).unwrap();
        assert_eq!(hex(&row), ROW);
        assert_eq!(rmp_serde::from_slice::<Attempt>(&row).unwrap(), attempt);
    }

    #[test]
    fn a_row_may_lack_the_fields_that_were_added_and_no_other() {
        let attempt = Attempt::default();
        let row = rmp_serde::to_vec(&attempt).unwrap();
        let shortened = |fields: u8| {
            // The last three fields are five timings with a byte for their array, a flag and a time.
            let bytes = row.len() - [8, 2, 1][usize::from(fields) - 27];
            [&[0xdc, 0, fields], &row[3..bytes]].concat()
        };
        for fields in [28, 29] {
            assert_eq!(rmp_serde::from_slice::<Attempt>(&shortened(fields)).unwrap(), attempt);
        }
        let error = rmp_serde::from_slice::<Attempt>(&shortened(27)).unwrap_err().to_string();
        assert!(error.contains("timings"), "{error}");
    }
}
