//! A compiled webhook: its address parsed, its keys derived and its fixed headers built once.
//!
//! Invariant: it depends only on the webhook's version and its live secrets. `is_current` is false once either changed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

use crate::model::id::AttemptId;
use crate::model::webhook::{self, FieldSet, SignatureScheme, SuccessRule, Webhook, WebhookAuth, WebhookProxy};
use crate::model::{Event, Headers, Time};
use crate::rules::body::{self, BodyInput, BodyShape};
use crate::rules::secrecy;
use crate::rules::signing::{self, Signer};
use crate::store::Dispatch;

use crate::engine::redact::Redactor;
use crate::engine::sender::{OutboundRequest, SendTarget, TARGET_BYTES_MAX, TlsIdentity};

/// The `User-Agent` of deliveries.
const USER_AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
/// Headers of every request. Firewalls of receivers suspect a request without `Accept`.
const DEFAULT_HEADERS: [(HeaderName, &str); 2] = [(header::USER_AGENT, USER_AGENT), (header::ACCEPT, "*/*")];
const DELIVERY_ID: HeaderName = HeaderName::from_static("postrider-delivery-id");
const ATTEMPT: HeaderName = HeaderName::from_static("postrider-attempt");
/// sent.dm's headers for the delivery, by which its receivers tell a retry, and for the event's type.
const SENT_EVENT_ID: HeaderName = HeaderName::from_static("x-webhook-event-id");
const SENT_EVENT_TYPE: HeaderName = HeaderName::from_static("x-webhook-event-type");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub struct CompiledWebhook {
    pub webhook: Arc<Webhook>,
    target: SendTarget,
    method: Method,
    signer: Signer,
    /// The key that encrypts bodies. `None` if they are sent in clear.
    sealing: Option<signing::SecretKey>,
    /// Headers of `auth` and the webhook's own headers.
    fixed: Vec<(HeaderName, HeaderValue)>,
    /// The names of the webhook's own headers as they were given, where they are not in lower case.
    spellings: Arc<[(HeaderName, String)]>,
    /// Redacts the webhook's credentials from stored attempts.
    redactor: Redactor,
    /// When the first of the secrets stops signing.
    until: Option<Time>,
}

/// One rendered request, and its headers as they are stored.
pub struct RenderedRequest {
    pub request: OutboundRequest,
    pub stored_headers: Headers,
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
        let (mut fixed, mut spellings) = (Vec::new(), Vec::new());
        let mut redactor = Redactor::default();
        if let Some(auth) = &webhook.auth {
            let (name, value) = credential(auth, &mut redactor)?;
            redactor.header(name.clone());
            fixed.push((name, value));
        }
        for (given, value) in &webhook.headers {
            let name =
                HeaderName::try_from(given.as_str()).map_err(|_| format!("header name {given:?} cannot be sent"))?;
            // `auth` sets the one, and the handshake the other.
            if fixed.iter().any(|(taken, _)| *taken == name) || webhook.handshake && name == header::ORIGIN {
                continue;
            }
            if secrecy::is_secret_header(webhook, name.as_str()) {
                redactor.header(name.clone());
                redactor.secret(value.rsplit(' ').next().unwrap_or(value));
                redactor.secret(value);
            }
            let value = HeaderValue::try_from(value.as_str())
                .map_err(|_| format!("the value of header {name} cannot be sent"))?;
            if name.as_str() != given {
                spellings.push((name.clone(), given.clone()));
            }
            fixed.push((name, value));
        }
        let mut target = SendTarget::parse(&webhook.url, tls).map_err(|error| error.to_string())?;
        target.bypasses_proxy = webhook.proxy == WebhookProxy::None;
        Ok(CompiledWebhook {
            target,
            method: method_of(webhook.method),
            signer,
            sealing,
            fixed,
            spellings: spellings.into(),
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
        let mut rendered = body::render(shape, &facts);
        if let Some(secret) = &self.sealing {
            rendered = rendered.sealed(secret, nonce);
        }
        let headers = self.headers(dispatch, rendered.content_type, signed_at, &rendered.body)?;
        let target = match &rendered.query {
            Some(query) => self.target.with_query(query).map_err(|_| too_long(query))?,
            None => self.target.clone(),
        };
        let timeout = std::time::Duration::from_millis(u64::from(webhook.timeout_ms));
        Ok(RenderedRequest {
            stored_headers: self.redactor.redact_request(&headers),
            request: OutboundRequest {
                method: self.method.clone(),
                target,
                headers,
                spellings: self.spellings.clone(),
                body: Bytes::from(rendered.body),
                timeout,
                connect_timeout: OutboundRequest::connect_timeout_of(timeout),
            },
            signed_at,
        })
    }

    /// An `OPTIONS` request to the same target, for the handshake. It delivers nothing.
    pub fn question(&self, headers: Vec<(HeaderName, HeaderValue)>) -> OutboundRequest {
        let ours = DEFAULT_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let timeout = std::time::Duration::from_millis(u64::from(self.webhook.timeout_ms));
        OutboundRequest {
            method: Method::OPTIONS,
            target: self.target.clone(),
            headers: self.with_fixed(ours.into_iter().chain(headers).collect()),
            spellings: self.spellings.clone(),
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
    ) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let unsendable = |_| "a header cannot be sent".to_owned();
        let mut headers = Vec::with_capacity(9 + self.fixed.len());
        headers.extend(DEFAULT_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.extend(content_type.map(|text| (header::CONTENT_TYPE, HeaderValue::from_static(text))));
        let ids = signing::SignedIds { event_id: dispatch.event.id, webhook_id: self.webhook.id };
        for (name, value) in self.signer.headers(ids, signed_at, body) {
            headers.push((HeaderName::from_static(name), HeaderValue::try_from(value).map_err(unsendable)?));
        }
        if self.is_sent() {
            let (id, kind) = (dispatch.delivery_id.to_string(), &dispatch.event.attributes.event_type);
            headers.push((SENT_EVENT_ID, HeaderValue::try_from(id).map_err(unsendable)?));
            headers.push((SENT_EVENT_TYPE, HeaderValue::try_from(kind).map_err(unsendable)?));
        }
        headers.push((DELIVERY_ID, HeaderValue::try_from(dispatch.delivery_id.to_string()).map_err(unsendable)?));
        headers.push((ATTEMPT, HeaderValue::from(dispatch.number)));
        if let Some(parent) = trace_of(&dispatch.event) {
            headers.push((TRACEPARENT, parent));
        }
        Ok(self.with_fixed(headers))
    }

    /// Whether the receiver is one of sent.dm's, by its signature or its bodies.
    fn is_sent(&self) -> bool {
        self.webhook.field_set == FieldSet::Sent || self.webhook.signature.contains(&SignatureScheme::Sent)
    }

    /// `ours` with the webhook's fixed headers, which take the place of ours: no name is sent twice, because most are
    /// singletons (RFC 9110 section 5.3).
    fn with_fixed(&self, mut ours: Vec<(HeaderName, HeaderValue)>) -> Vec<(HeaderName, HeaderValue)> {
        ours.retain(|(name, _)| !self.fixed.iter().any(|(own, _)| own == name));
        ours.extend(self.fixed.iter().cloned());
        ours
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
         use another method than GET for this webhook, or publish less data",
        query.len()
    )
}

fn trace_of(event: &Event) -> Option<HeaderValue> {
    event.attributes.traceparent.as_deref().and_then(|parent| HeaderValue::try_from(parent).ok())
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
