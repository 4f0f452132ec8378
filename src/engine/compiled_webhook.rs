//! A compiled webhook: its address parsed, its keys derived and its fixed headers built once.
//!
//! Invariant: it depends only on the webhook's version and its live secrets. `is_current` is false once either changed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

use crate::model::Time;
use crate::model::id::AttemptId;
use crate::model::webhook::{self, FieldSet, SignatureScheme, SuccessRule, Webhook, WebhookAuth, WebhookProxy};
use crate::rules::body::{self, BodyInput, BodyShape};
use crate::rules::diagnosis::{NUMBER_CHANGED, TARGET_TOO_LONG};
use crate::rules::secrecy;
use crate::rules::signing::{self, Signer};
use crate::store::Dispatch;

use crate::engine::redact::{MASK, Redactor};
use crate::engine::sender::{HeaderLines, OutboundRequest, SendTarget, TARGET_BYTES_MAX, TlsIdentity};

/// The `User-Agent` of deliveries.
const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
/// Headers of every request. Firewalls of receivers suspect a request without `Accept`.
const DEFAULT_HEADERS: [(&str, &str); 2] = [("user-agent", USER_AGENT), ("accept", "*/*")];
const CONTENT_TYPE: &str = "content-type";
const DELIVERY_ID: &str = "postrider-delivery-id";
const ATTEMPT: &str = "postrider-attempt";
/// sent.dm's headers for the delivery, by which its receivers tell a retry, and for the event's type.
const SENT_EVENT_ID: &str = "x-webhook-event-id";
const SENT_EVENT_TYPE: &str = "x-webhook-event-type";
const TRACEPARENT: &str = "traceparent";
/// Approximate bytes of the header lines besides the webhook's own.
const OUR_LINES_BYTES: usize = 512;
/// Maximum memory of a body besides its bytes.
const SPARE_BYTES_MAX: usize = 8 << 10;

/// A webhook with everything that its requests have in common, computed once for each version.
pub struct CompiledWebhook {
    pub webhook: Arc<Webhook>,
    target: SendTarget,
    method: Method,
    signer: Signer,
    /// The key that encrypts bodies. `None` if they are sent in clear.
    sealing: Option<signing::SecretKey>,
    /// The header of `auth` and the webhook's own headers. In their stored form credentials are masked.
    fixed: HeaderLines,
    /// The names of `fixed`.
    fixed_names: Vec<HeaderName>,
    /// Redacts the webhook's credentials from stored attempts.
    redactor: Redactor,
    /// When the first of the secrets stops signing.
    until: Option<Time>,
}

/// One rendered request.
pub struct RenderedRequest {
    pub request: OutboundRequest,
    pub signed_at: i64,
}

impl CompiledWebhook {
    /// # Errors
    /// A description of the part of the webhook that cannot be used any more. The attempt then fails without being
    /// sent.
    pub fn new(webhook: &Arc<Webhook>, now: Time, svix_whitelabel: bool) -> Result<CompiledWebhook, String> {
        let tls = match &webhook.tls {
            Some(tls) => {
                let (ca, cert, key) =
                    (tls.ca_pem.as_deref(), tls.client_cert_pem.as_deref(), tls.client_key_pem.as_deref());
                Some(Arc::new(TlsIdentity::parse(ca, cert, key)?))
            }
            None => None,
        };
        let live: Vec<&str> = webhook.live_secrets(now).map(|secret| secret.text.as_str()).collect();
        let newest = live.first().copied();
        let signer = Signer::new(&webhook.signature, live).map_err(|error| error.to_string())?.named(svix_whitelabel);
        let sealing = match (webhook.encrypted, newest) {
            (false, _) => None,
            (true, Some(secret)) => Some(signing::parse_any_secret(secret).map_err(|error| error.to_string())?),
            (true, None) => return Err("the webhook has no secret to encrypt with".into()),
        };
        let (mut fixed, mut fixed_names) = (HeaderLines::default(), Vec::new());
        let mut redactor = Redactor::default();
        if let Some(auth) = &webhook.auth {
            let (name, value) = credential(auth, &mut redactor)?;
            fixed.push_spelled(name.as_str(), name.as_str(), value.as_bytes(), MASK.as_bytes());
            fixed_names.push(name);
        }
        for (given, value) in &webhook.headers {
            let name =
                HeaderName::try_from(given.as_str()).map_err(|_| format!("header name {given:?} cannot be sent"))?;
            // `auth` sets the one, and the handshake the other.
            if fixed_names.contains(&name) || webhook.handshake && name == header::ORIGIN {
                continue;
            }
            let is_secret = secrecy::is_secret_header(webhook, name.as_str());
            if is_secret {
                redactor.secret(value.rsplit(' ').next().unwrap_or(value));
                redactor.secret(value);
            }
            let value = HeaderValue::try_from(value.as_str())
                .map_err(|_| format!("the value of header {name} cannot be sent"))?;
            let stored = if is_secret { MASK.as_bytes() } else { value.as_bytes() };
            fixed.push_spelled(name.as_str(), given, value.as_bytes(), stored);
            fixed_names.push(name);
        }
        let mut target = SendTarget::parse(&webhook.url, tls).map_err(|error| error.to_string())?;
        target.bypasses_proxy = webhook.proxy == WebhookProxy::None;
        Ok(CompiledWebhook {
            target,
            method: method_of(webhook.method),
            signer,
            sealing,
            fixed,
            fixed_names,
            redactor,
            until: webhook.secrets.iter().filter_map(|secret| secret.expires_at).filter(|end| *end > now).min(),
            webhook: webhook.clone(),
        })
    }

    pub fn is_current(&self, webhook: &Webhook, now: Time) -> bool {
        self.webhook.version == webhook.version && self.until.is_none_or(|until| now < until)
    }

    /// Whether the success rule counts a status as delivered.
    pub fn succeeds(&self, status: u16) -> bool {
        match self.webhook.success_rule {
            SuccessRule::Any2xx => (200..300).contains(&status),
            SuccessRule::Only200 => status == 200,
        }
    }

    /// Renders one attempt of a delivery, signed at `wall`, which the receiver compares with its own clock. The caller
    /// draws `attempt_id` and `nonce`.
    pub fn render(
        &self,
        dispatch: &Dispatch,
        attempt_id: AttemptId,
        wall: Time,
        nonce: [u8; 12],
    ) -> Result<RenderedRequest, String> {
        let webhook = &*self.webhook;
        let signed_at = wall.seconds();
        let shape = BodyShape {
            method: webhook.method,
            content_type: webhook.content_type,
            field_set: webhook.field_set,
            include_html: webhook.include_html,
        };
        let facts = BodyInput {
            event: &dispatch.event,
            data: &dispatch.data,
            attempt_id,
            number: dispatch.number,
            retry_of: dispatch.retry_of,
            timestamp_s: signed_at,
        };
        body::fits(webhook.field_set, &dispatch.data).map_err(|why| format!("{why} [{NUMBER_CHANGED}]"))?;
        let mut rendered = body::render(shape, &facts);
        if let Some(secret) = &self.sealing {
            rendered = rendered.sealed(secret, nonce);
        }
        // The room that a growing body has reserved is held for as long as the request.
        if rendered.body.capacity() - rendered.body.len() > SPARE_BYTES_MAX {
            rendered.body.shrink_to_fit();
        }
        let headers = self.headers(dispatch, rendered.content_type, signed_at, &rendered.body)?;
        let target = match &rendered.query {
            Some(query) => self.target.with_query(query).map_err(|_| too_long(query))?,
            None => self.target.clone(),
        };
        let timeout = std::time::Duration::from_millis(u64::from(webhook.timeout_ms));
        Ok(RenderedRequest {
            request: OutboundRequest {
                method: self.method.clone(),
                target,
                headers,
                body: Bytes::from(rendered.body),
                timeout,
                connect_timeout: OutboundRequest::connect_timeout_of(timeout),
            },
            signed_at,
        })
    }

    /// An `OPTIONS` request to the same target, for the handshake. It delivers nothing.
    pub fn consent_request(&self, headers: Vec<(HeaderName, HeaderValue)>) -> OutboundRequest {
        let mut lines = HeaderLines::default();
        DEFAULT_HEADERS.iter().for_each(|(name, value)| self.put(&mut lines, name, value));
        for (name, value) in headers.iter().filter(|(name, _)| !self.fixed_names.contains(name)) {
            lines.push(name.as_str(), value.as_bytes());
        }
        lines.append(&self.fixed);
        let timeout = std::time::Duration::from_millis(u64::from(self.webhook.timeout_ms));
        OutboundRequest {
            method: Method::OPTIONS,
            target: self.target.clone(),
            headers: lines,
            body: Bytes::new(),
            timeout,
            connect_timeout: OutboundRequest::connect_timeout_of(timeout),
        }
    }

    fn headers(
        &self,
        dispatch: &Dispatch,
        content_type: Option<&'static str>,
        signed_at: i64,
        body: &[u8],
    ) -> Result<HeaderLines, String> {
        let mut lines = HeaderLines::with_capacity(OUR_LINES_BYTES + self.fixed.sent().len());
        let attributes = &dispatch.event.attributes;
        DEFAULT_HEADERS.iter().for_each(|(name, value)| self.put(&mut lines, name, value));
        content_type.iter().for_each(|text| self.put(&mut lines, CONTENT_TYPE, text));
        let ids = signing::SignedIds { event_id: dispatch.event.id, webhook_id: self.webhook.id };
        for (name, value) in self.signer.headers(ids, signed_at, body) {
            self.put(&mut lines, name, &value);
        }
        let delivery_id = dispatch.delivery_id.to_string();
        if self.is_sent() {
            if !is_field_value(&attributes.event_type) {
                return Err("a header cannot be sent".to_owned());
            }
            self.put(&mut lines, SENT_EVENT_ID, &delivery_id);
            self.put(&mut lines, SENT_EVENT_TYPE, &attributes.event_type);
        }
        self.put(&mut lines, DELIVERY_ID, &delivery_id);
        self.put(&mut lines, ATTEMPT, &dispatch.number.to_string());
        if let Some(parent) = attributes.traceparent.as_deref().filter(|parent| is_field_value(parent)) {
            self.put(&mut lines, TRACEPARENT, parent);
        }
        lines.append(&self.fixed);
        Ok(lines)
    }

    /// Whether the receiver is one of sent.dm's, by its signature or its bodies.
    fn is_sent(&self) -> bool {
        self.webhook.field_set == FieldSet::Sent || self.webhook.signature.contains(&SignatureScheme::Sent)
    }

    /// Appends a header of ours, unless the webhook has one of that name: no name is sent twice, because most are
    /// singletons (RFC 9110 section 5.3).
    fn put(&self, lines: &mut HeaderLines, name: &'static str, value: &str) {
        if !self.fixed_names.iter().any(|own| own.as_str() == name) {
            lines.push(name, value.as_bytes());
        }
    }

    pub fn target(&self) -> &SendTarget {
        &self.target
    }

    /// The redactor of the webhook's credentials.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}

/// The error of a `GET` delivery whose data does not fit into the URL.
fn too_long(query: &str) -> String {
    format!(
        "the data makes a query string of {} bytes, and a URL has at most {TARGET_BYTES_MAX} bytes: \
         use another method than GET for this webhook, or publish less data [{TARGET_TOO_LONG}]",
        query.len()
    )
}

/// Whether a text can be sent as the value of a header: visible ASCII, spaces and tabs.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic())
}

fn credential(auth: &WebhookAuth, redactor: &mut Redactor) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = match auth {
        WebhookAuth::Basic { username, password } => {
            let pair = STANDARD.encode(format!("{username}:{password}"));
            redactor.secret(password);
            redactor.secret(&pair);
            (header::AUTHORIZATION, format!("Basic {pair}"))
        }
        WebhookAuth::Bearer { token } => {
            redactor.secret(token);
            (header::AUTHORIZATION, format!("Bearer {token}"))
        }
        WebhookAuth::Header { name, value } => {
            redactor.secret(value);
            let name =
                HeaderName::try_from(name.as_str()).map_err(|_| "the auth header's name cannot be sent".to_owned())?;
            (name, value.clone())
        }
    };
    let mut value = HeaderValue::try_from(value).map_err(|_| "the credential cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn method_of(method: webhook::WebhookMethod) -> Method {
    match method {
        webhook::WebhookMethod::Get => Method::GET,
        webhook::WebhookMethod::Put => Method::PUT,
        webhook::WebhookMethod::Post => Method::POST,
        webhook::WebhookMethod::Patch => Method::PATCH,
        webhook::WebhookMethod::Delete => Method::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Event;
    use crate::model::attempt::Trigger;
    use crate::model::webhook::WebhookMethod;

    /// The header lines of a delivery to `webhook`, as they are sent and as they are stored.
    fn lines(webhook: Webhook) -> (String, Vec<(String, String)>) {
        let compiled = CompiledWebhook::new(&Arc::new(webhook), Time::ZERO, false).unwrap();
        let dispatch = Dispatch {
            webhook_id: compiled.webhook.id,
            delivery_id: crate::model::Id::from_u128(1),
            event: Arc::new(Event::default()),
            data: Bytes::from_static(b"{}"),
            number: 2,
            due: Time::ZERO,
            retry_of: None,
            trigger: Trigger::Event,
            end: Time::MAX,
        };
        let rendered = compiled.render(&dispatch, AttemptId::MIN, Time::ZERO, [0; 12]).unwrap();
        let headers = rendered.request.headers;
        let sent = String::from_utf8(headers.sent().to_vec()).unwrap();
        (sent, headers.into_stored().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn credentials_are_sent_and_stored_masked_and_own_headers_replace_ours() {
        let own = [("X-Api-Key", "sesame-open"), ("Accept", "text/plain"), ("x-plain", "sesame-open")];
        let (sent, stored) = lines(Webhook {
            url: "http://receiver.example/".to_owned(),
            method: WebhookMethod::Post,
            auth: Some(WebhookAuth::Bearer { token: "sesame".to_owned() }),
            signature: Vec::new(),
            headers: own.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
            ..Webhook::new(crate::model::Id::from_u128(3), crate::model::Id::from_u128(4))
        });
        for line in ["authorization: Bearer sesame", "X-Api-Key: sesame-open", "Accept: text/plain"] {
            assert!(sent.contains(&format!("{line}\r\n")), "{line} in {sent}");
        }
        assert_eq!(sent.matches("ccept: ").count(), 1, "{sent}");
        let value = |wanted: &str| {
            let values: Vec<&str> =
                stored.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect();
            values.join(" and ")
        };
        assert_eq!((value("authorization"), value("x-api-key")), (MASK.to_owned(), MASK.to_owned()));
        assert_eq!((value("accept"), value("x-plain")), ("text/plain".to_owned(), "sesame-open".to_owned()));
        assert_eq!((value("postrider-attempt"), stored.len()), ("2".to_owned(), sent.lines().count()));
    }
}
