//! Signs requests by Standard Webhooks (HMAC and Ed25519), Dfns's, sent.dm's and Svix's schemes.
//!
//! Sources: the Standard Webhooks specification (`webhook-id`, `-timestamp`, `-signature`), the
//! vendors' pages (docs/dialects.md), and RFC 8037 for the JWKS. `v1` is HMAC-SHA256 and `v1a` is Ed25519, both over
//! `id.timestamp.body`.
//!
//! Invariants: the signature covers the body as sent, byte for byte, and the timestamp of the header. `webhook-id` and
//! `webhook-timestamp` are sent with every scheme but Svix's and without one, because a receiver drops repetitions by
//! them. Svix's scheme states another id, so it sends headers of its own names in their place. `get`
//! and `delete` send no body, so their signature covers the empty body and not the query string.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::signature::KeyPair as _;
use ring::{digest, hkdf, hmac, signature};
use serde_json::{Value, json};

use crate::model::webhook::SignatureScheme;
use crate::model::{EventId, WebhookId, ksuid};

pub const SECRET_PREFIX: &str = "whsec_";
/// Minimum length of a decoded secret in bytes (Standard Webhooks: 24 to 64, Svix: 24 to 75).
pub const SECRET_BYTES_MIN: usize = 24;
pub const SECRET_BYTES_MAX: usize = 75;
/// Minimum length of a plain secret in characters (Devdraft: at least 32 letters, digits, `_` and `-`).
pub const PLAIN_SECRET_CHARS_MIN: usize = 32;
pub const PLAIN_SECRET_CHARS_MAX: usize = 128;
/// Maximum distance of a signature's timestamp from the receiver's clock, in seconds. Both vendors and Standard
/// Webhooks recommend it.
pub const TOLERANCE_S: i64 = 300;

pub const WEBHOOK_ID: &str = "webhook-id";
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";
pub const SENT_ID: &str = "x-webhook-id";
pub const SENT_TIMESTAMP: &str = "x-webhook-timestamp";
pub const SENT_SIGNATURE: &str = "x-webhook-signature";
pub const DFNS_SIGNATURE: &str = "x-dfns-webhook-signature";
pub const SVIX_ID: &str = "svix-id";
pub const SVIX_TIMESTAMP: &str = "svix-timestamp";
pub const SVIX_SIGNATURE: &str = "svix-signature";
/// Prefix of a message's id in Svix's form.
pub const SVIX_MESSAGE_PREFIX: &str = "msg_";
/// Headers that signing may set, in lower case. A webhook's own `headers` must not name one.
pub const HEADERS: [&str; 10] = [
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    SENT_ID,
    SENT_TIMESTAMP,
    SENT_SIGNATURE,
    DFNS_SIGNATURE,
    SVIX_ID,
    SVIX_TIMESTAMP,
    SVIX_SIGNATURE,
];

const ED25519_INFO: &[u8] = b"postrider ed25519 v1";
/// Maximum draws of a secret. 36 % of draws have no `+` and no `/`, so this many failures mean that the source does not
/// vary.
const SECRET_DRAWS_MAX: usize = 256;
/// The standard alphabet only. `=` may be omitted.
const LENIENT_PADDING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A parsed signing secret: its text and the bytes that it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey {
    text: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Why a text is not a signing secret, or why there is no secret to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("a secret begins with `whsec_`")]
    Prefix,
    #[error("the text behind `whsec_` is not base64 of the standard alphabet")]
    Base64,
    #[error("a secret has 24 to 75 bytes, this one has {0}")]
    Length(usize),
    #[error("a plain secret has 32 to 128 letters, digits, `_` and `-`")]
    Plain,
    #[error("there is no secret to sign with")]
    Missing,
}

/// Reads `whsec_` and base64 of 24 to 75 bytes. The padding may be omitted. White space and the URL alphabet are
/// refused.
pub fn parse_secret(text: &str) -> Result<SecretKey, BadSecret> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(BadSecret::Prefix)?;
    let bytes = LENIENT_PADDING.decode(encoded).map_err(|_| BadSecret::Base64)?;
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
        return Err(BadSecret::Length(bytes.len()));
    }
    Ok(SecretKey { text: text.to_owned(), bytes })
}

/// Reads a plain secret, whose text is the key. A text with the prefix `whsec_` must have the other form.
pub fn parse_plain_secret(text: &str) -> Result<SecretKey, BadSecret> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let fits = (PLAIN_SECRET_CHARS_MIN..=PLAIN_SECRET_CHARS_MAX).contains(&text.len());
    if !is_plain || !fits || text.starts_with(SECRET_PREFIX) {
        return Err(BadSecret::Plain);
    }
    Ok(SecretKey { text: text.to_owned(), bytes: text.as_bytes().to_vec() })
}

/// Reads a secret of either form.
pub fn parse_any_secret(text: &str) -> Result<SecretKey, BadSecret> {
    match text.starts_with(SECRET_PREFIX) {
        true => parse_secret(text),
        false => parse_plain_secret(text),
    }
}

/// A new secret from 24 random bytes. It is drawn again until its text has no `+` and no `/`, so that it fits receivers
/// that accept letters, digits, `_` and `-` only (Devdraft's rule).
pub fn make_secret(mut draw: impl FnMut() -> [u8; 24]) -> String {
    let mut text = String::with_capacity(SECRET_PREFIX.len() + 32);
    for _ in 0..SECRET_DRAWS_MAX {
        text.clear();
        text.push_str(SECRET_PREFIX);
        STANDARD.encode_string(draw(), &mut text);
        if !text.contains(['+', '/']) {
            break;
        }
    }
    text
}

impl SecretKey {
    /// The text of the secret as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Derives 32 bytes for one purpose by HKDF-SHA256 (RFC 5869) over the secret's bytes, without salt.
    pub fn derive(&self, info: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(&self.bytes)
            .expand(&[info], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("one block is within what HKDF gives");
        key
    }

    fn ed25519(&self) -> signature::Ed25519KeyPair {
        signature::Ed25519KeyPair::from_seed_unchecked(&self.derive(ED25519_INFO)).expect("any 32 bytes are a seed")
    }

    fn standard_hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.bytes)
    }

    /// Dfns uses the secret's text as the key, prefix included.
    fn dfns_hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.text.as_bytes())
    }

    /// The Ed25519 public key that `v1a` signatures of this secret verify with.
    pub fn public_key(&self) -> [u8; 32] {
        self.ed25519().public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }
}

/// The Standard Webhooks spelling of a public key: `whpk_` + base64.
pub fn public_key_text(key: &[u8; 32]) -> String {
    let mut text = String::from("whpk_");
    STANDARD.encode_string(key, &mut text);
    text
}

/// The public keys as a JWK Set (RFC 7517, RFC 8037). `kid` is the key's thumbprint (RFC 7638), so it never changes.
pub fn jwks(keys: &[[u8; 32]]) -> Value {
    let keys: Vec<Value> = keys.iter().map(jwk).collect();
    json!({ "keys": keys })
}

fn jwk(key: &[u8; 32]) -> Value {
    let x = URL_SAFE_NO_PAD.encode(key);
    // RFC 7638 section 3.2: the required members only, in lexicographic order.
    let required = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, required.as_bytes()));
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA" })
}

/// Ids that the headers of a request carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedIds {
    pub event_id: EventId,
    pub webhook_id: WebhookId,
}

/// The compiled keys of a webhook, valid as long as the same secrets are live. Deriving an Ed25519 key costs as much as
/// signing with it.
pub struct Signer {
    /// HMAC keys over the secrets' bytes, newest first.
    standard: Vec<hmac::Key>,
    ed25519: Vec<signature::Ed25519KeyPair>,
    /// The newest secret's key.
    sent: Option<hmac::Key>,
    /// The newest secret's key.
    dfns: Option<hmac::Key>,
    /// HMAC keys over the secrets' bytes, newest first. Empty without Svix's scheme.
    svix: Vec<hmac::Key>,
    /// The names of the headers of Svix's scheme.
    svix_names: [&'static str; 3],
}

/// The id of an event's message as Svix's scheme and API state it.
pub fn svix_message_id(event: EventId) -> String {
    format!("{SVIX_MESSAGE_PREFIX}{}", ksuid::encode(event.as_u128()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Signer {
    /// Builds the keys from the texts of the live secrets, newest first. Fails on a text that is not a secret. Also
    /// fails on schemes without a secret, so that no request is unsigned by mistake.
    pub fn new<'s>(
        schemes: &[SignatureScheme],
        secrets: impl IntoIterator<Item = &'s str>,
    ) -> Result<Signer, BadSecret> {
        let asked = |scheme| schemes.contains(&scheme);
        let mut signer = Signer {
            standard: Vec::new(),
            ed25519: Vec::new(),
            sent: None,
            dfns: None,
            svix: Vec::new(),
            svix_names: [SVIX_ID, SVIX_TIMESTAMP, SVIX_SIGNATURE],
        };
        if schemes.is_empty() {
            return Ok(signer);
        }
        let mut none = true;
        for text in secrets {
            let key = parse_any_secret(text)?;
            if asked(SignatureScheme::Standard) {
                signer.standard.push(key.standard_hmac());
            }
            if asked(SignatureScheme::Svix) {
                signer.svix.push(key.standard_hmac());
            }
            if asked(SignatureScheme::Ed25519) {
                signer.ed25519.push(key.ed25519());
            }
            if none && asked(SignatureScheme::Sent) {
                signer.sent = Some(key.standard_hmac());
            }
            if none && asked(SignatureScheme::Dfns) {
                signer.dfns = Some(key.dfns_hmac());
            }
            none = false;
        }
        if none { Err(BadSecret::Missing) } else { Ok(signer) }
    }

    /// The same keys. With `whitelabel` the headers of Svix's scheme have the names of Standard Webhooks.
    pub fn named(mut self, whitelabel: bool) -> Signer {
        if whitelabel {
            self.svix_names = [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE];
        }
        self
    }

    /// The headers of one request, with names in lower case. `standard` and `ed25519` sign with every live secret,
    /// space-separated, so that receivers may change over at any time. So does `svix`. The headers of `sent` and `dfns` hold one
    /// signature, made with the newest secret, because the receivers of both vendors compare the whole value.
    pub fn headers(&self, ids: SignedIds, timestamp_s: i64, body: &[u8]) -> Vec<(&'static str, String)> {
        let mut headers = Vec::with_capacity(HEADERS.len());
        let (event_id, timestamp) = (ids.event_id.to_string(), timestamp_s.to_string());
        let mut signatures = String::new();
        for key in &self.standard {
            push_hmac(&mut signatures, key, [&event_id, &timestamp], body);
        }
        if !self.ed25519.is_empty() {
            let message = message(&event_id, &timestamp, body);
            for pair in &self.ed25519 {
                push_signature(&mut signatures, "v1a,", pair.sign(&message).as_ref());
            }
        }
        let sent = self.sent.as_ref().map(|key| {
            let (id, mut text) = (ids.webhook_id.to_string(), String::new());
            push_hmac(&mut text, key, [&id, &timestamp], body);
            [(SENT_ID, id), (SENT_TIMESTAMP, timestamp.clone()), (SENT_SIGNATURE, text)]
        });
        if !self.svix.is_empty() {
            let (message_id, mut text) = (svix_message_id(ids.event_id), String::new());
            self.svix.iter().for_each(|key| push_hmac(&mut text, key, [&message_id, &timestamp], body));
            headers.extend(self.svix_names.into_iter().zip([message_id, timestamp.clone(), text]));
        }
        if self.svix.is_empty() || !signatures.is_empty() {
            headers.push((WEBHOOK_ID, event_id));
            headers.push((WEBHOOK_TIMESTAMP, timestamp));
        }
        if !signatures.is_empty() {
            headers.push((WEBHOOK_SIGNATURE, signatures));
        }
        headers.extend(sent.into_iter().flatten());
        if let Some(key) = &self.dfns {
            headers.push((DFNS_SIGNATURE, dfns_value(key, body)));
        }
        headers
    }
}

/// The headers of one request from the texts of the secrets, newest first. The `Signer` is used once.
pub fn sign<'s>(
    schemes: &[SignatureScheme],
    secrets: impl IntoIterator<Item = &'s str>,
    ids: SignedIds,
    timestamp_s: i64,
    body: &[u8],
) -> Result<Vec<(&'static str, String)>, BadSecret> {
    Ok(Signer::new(schemes, secrets)?.headers(ids, timestamp_s, body))
}

/// Appends the `v1` signature of `id.timestamp.body`.
fn push_hmac(to: &mut String, key: &hmac::Key, [id, timestamp]: [&str; 2], body: &[u8]) {
    let mut context = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    push_signature(to, "v1,", context.sign().as_ref());
}

fn push_signature(to: &mut String, version: &str, bytes: &[u8]) {
    if !to.is_empty() {
        to.push(' ');
    }
    to.push_str(version);
    STANDARD.encode_string(bytes, to);
}

fn message(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

fn dfns_value(key: &hmac::Key, body: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut value = String::with_capacity(71);
    value.push_str("sha256=");
    for byte in hmac::sign(key, body).as_ref() {
        value.push(char::from(HEX[usize::from(byte >> 4)]));
        value.push(char::from(HEX[usize::from(byte & 15)]));
    }
    value
}

/// Why a received request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("no signature header")]
    Unsigned,
    #[error("the id or the timestamp that is signed is missing or malformed")]
    Incomplete,
    #[error("the timestamp is more than 300 s away from now")]
    Stale,
    #[error("no signature matches the body and the secret")]
    Mismatch,
}

/// The names of the headers that requests with these schemes carry. With `whitelabel` those of Svix's scheme are the ones
/// of Standard Webhooks.
pub fn header_names(schemes: &[SignatureScheme], whitelabel: bool) -> Vec<&'static str> {
    let secret = make_secret(|| [0; 24]);
    let signer = Signer::new(schemes, [secret.as_str()]).expect("a secret of its own form").named(whitelabel);
    let ids = SignedIds { event_id: EventId::MIN, webhook_id: WebhookId::MIN };
    signer.headers(ids, 0, b"").into_iter().map(|(name, _)| name).collect()
}

/// Checks a received request as a receiver would. The first header present of `svix-signature`, `webhook-signature`,
/// `x-webhook-signature` and Dfns's header decides, and one matching signature in it suffices. Returns the scheme that
/// matched.
///
/// `header` finds a header by its lower-case name. Dfns states the time inside the body (`timestampSent`). A body
/// without it, such as an encrypted one, is accepted at any age.
pub fn verify<'h>(
    key: &SecretKey,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now_s: i64,
) -> Result<SignatureScheme, VerifyError> {
    if let Some(signatures) = header(SVIX_SIGNATURE) {
        let message = received(header(SVIX_ID), header(SVIX_TIMESTAMP), body, now_s)?;
        return match match_any(key, signatures, &message)? {
            SignatureScheme::Standard => Ok(SignatureScheme::Svix),
            _ => Err(VerifyError::Mismatch),
        };
    }
    if let Some(signatures) = header(WEBHOOK_SIGNATURE) {
        let message = received(header(WEBHOOK_ID), header(WEBHOOK_TIMESTAMP), body, now_s)?;
        return match_any(key, signatures, &message);
    }
    if let Some(signatures) = header(SENT_SIGNATURE) {
        let message = received(header(SENT_ID), header(SENT_TIMESTAMP), body, now_s)?;
        return match match_any(key, signatures, &message)? {
            SignatureScheme::Standard => Ok(SignatureScheme::Sent),
            _ => Err(VerifyError::Mismatch),
        };
    }
    let given = header(DFNS_SIGNATURE).ok_or(VerifyError::Unsigned)?;
    let given = given.strip_prefix("sha256=").and_then(unhex).ok_or(VerifyError::Mismatch)?;
    hmac::verify(&key.dfns_hmac(), body, &given).map_err(|_| VerifyError::Mismatch)?;
    #[derive(serde::Deserialize)]
    struct StatedSignature {
        #[serde(rename = "timestampSent")]
        timestamp_s: i64,
    }
    match serde_json::from_slice::<StatedSignature>(body) {
        Ok(stated) if stated.timestamp_s.abs_diff(now_s) > TOLERANCE_S.unsigned_abs() => Err(VerifyError::Stale),
        _ => Ok(SignatureScheme::Dfns),
    }
}

/// The signed bytes of a request that states its id and a fresh timestamp in headers.
fn received(id: Option<&str>, timestamp: Option<&str>, body: &[u8], now_s: i64) -> Result<Vec<u8>, VerifyError> {
    let (Some(id), Some(timestamp)) = (id, timestamp) else { return Err(VerifyError::Incomplete) };
    let stated: i64 = timestamp.parse().map_err(|_| VerifyError::Incomplete)?;
    if stated.abs_diff(now_s) > TOLERANCE_S.unsigned_abs() {
        return Err(VerifyError::Stale);
    }
    Ok(message(id, timestamp, body))
}

fn match_any(key: &SecretKey, signatures: &str, message: &[u8]) -> Result<SignatureScheme, VerifyError> {
    for one in signatures.split(' ') {
        let Some((version, encoded)) = one.split_once(',') else { continue };
        let Ok(given) = STANDARD.decode(encoded) else { continue };
        match version {
            "v1" if hmac::verify(&key.standard_hmac(), message, &given).is_ok() => {
                return Ok(SignatureScheme::Standard);
            }
            "v1a" => {
                let public = signature::UnparsedPublicKey::new(&signature::ED25519, key.public_key());
                if public.verify(message, &given).is_ok() {
                    return Ok(SignatureScheme::Ed25519);
                }
            }
            _ => {}
        }
    }
    Err(VerifyError::Mismatch)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
