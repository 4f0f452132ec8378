//! Checks signatures as a receiver does, from an independent reading of the specification and with another library's
//! HMAC: `id.timestamp.body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::Request;

/// The parts of `webhook-signature`, in their order.
pub fn parts(request: &Request) -> Vec<(String, String)> {
    let header = request.header("webhook-signature");
    let split = |part: &str| part.split_once(',').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a comma");
    header.split(' ').map(split).collect()
}

/// The signed text of a request.
pub fn signed_text(request: &Request) -> Vec<u8> {
    let head = format!("{}.{}.", request.header("webhook-id"), request.header("webhook-timestamp"));
    [head.as_bytes(), &request.body].concat()
}

/// Whether one of the `v1` signatures is of this secret.
pub fn is_signed_by(request: &Request, secret: &str) -> bool {
    let bytes = STANDARD.decode(secret.strip_prefix("whsec_").expect("a prefix")).expect("base64");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
    let right = STANDARD.encode(hmac::sign(&key, &signed_text(request)));
    parts(request).iter().any(|(version, signature)| version == "v1" && *signature == right)
}
