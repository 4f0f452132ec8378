//! Checks whether a request was signed with a known secret: Standard Webhooks' symmetric scheme, `v1` (HMAC-SHA256 over
//! `id.timestamp.body`), by the rules for receivers. It shares no code with the signer, so that each checks the other.
//! Source: standard-webhooks specification, "Webhook Security" and "Signature scheme".

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use ring::hmac;

/// Maximum difference of the sender's clock in seconds, in either direction.
const TOLERANCE_S: u64 = 300;
/// Maximum signatures that are checked. No rotation needs more.
const SIGNATURES_MAX: usize = 32;

/// The result of checking a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureCheck {
    /// Signed with one of the secrets, and fresh.
    Verified,
    /// Not trusted, and the reason.
    Bad(&'static str),
    /// There is no secret to check with.
    NotChecked,
}

/// Characters of a plain secret, as Devdraft's webhooks may have one.
const PLAIN_SECRET_CHARS: std::ops::RangeInclusive<usize> = 32..=128;

/// A `whsec_` secret or a plain one, ready to check with.
#[derive(Clone, Debug)]
pub struct Secret(hmac::Key);

impl std::str::FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a secret is whsec_ and base64, or plain: 32 to 128 letters, digits, _ and -".to_owned();
        let text = text.trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| wrong())?,
            // The bytes of a plain secret are the key as they stand.
            None => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                let fits = PLAIN_SECRET_CHARS.contains(&text.len()) && text.bytes().all(is_plain);
                if fits { text.as_bytes().to_vec() } else { return Err(wrong()) }
            }
        };
        match bytes.is_empty() {
            true => Err(wrong()),
            false => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
        }
    }
}

/// Checks a request's signature. The comparison takes the same time for every wrong signature.
pub fn check_signature(secrets: &[Secret], headers: &HeaderMap, body: &[u8], now_s: i64) -> SignatureCheck {
    if secrets.is_empty() {
        return SignatureCheck::NotChecked;
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(timestamp), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return SignatureCheck::Bad("no signature");
    };
    let Ok(sent_s) = timestamp.parse::<i64>() else {
        return SignatureCheck::Bad("the timestamp is no number");
    };
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let of_v1 = signatures.split(' ').take(SIGNATURES_MAX).filter_map(|text| text.strip_prefix("v1,"));
    let mut decoded = of_v1.filter_map(|text| STANDARD.decode(text).ok());
    let matches = |tag: Vec<u8>| secrets.iter().any(|secret| hmac::verify(&secret.0, &signed, &tag).is_ok());
    match (decoded.any(matches), now_s.abs_diff(sent_s) <= TOLERANCE_S) {
        (true, true) => SignatureCheck::Verified,
        (true, false) => SignatureCheck::Bad("the timestamp is more than 300 s away"),
        (false, _) => SignatureCheck::Bad("no signature matches"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector of scheme standard-webhooks in the project's golden signatures.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "019cbd75-3130-7922-b7c3-94ca668965c7";
    const SENT_S: i64 = 1_772_705_160;
    const SIGNATURE: &str = "v1,ln38qQKQA37ttjgPDOcNyu0hh+HhDJtl9rl6YCJuW38=";
    const BODY: &str = "{\"id\":\"019cbd75-3130-7922-b7c3-94ca668965c7\",\"type\":\"delivered\",\
        \"timestamp\":\"2026-03-05T10:05:00.000Z\",\"data\":{\"message_id\":\"m-1002\",\"to\":\"bob@example.com\"}}";

    fn checked(signature: &str, body: &str, now_s: i64) -> SignatureCheck {
        let secrets: Vec<Secret> = [OTHER, SECRET].iter().map(|text| text.parse().expect("a secret")).collect();
        let mut headers = HeaderMap::new();
        let sent = SENT_S.to_string();
        for (name, value) in [("webhook-id", ID), ("webhook-timestamp", &sent), ("webhook-signature", signature)] {
            headers.insert(name, value.parse().expect("a header"));
        }
        check_signature(&secrets, &headers, body.as_bytes(), now_s)
    }

    const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn the_known_vector_is_verified_alone_and_among_others() {
        assert_eq!(checked(SIGNATURE, BODY, SENT_S), SignatureCheck::Verified);
        let among = format!("v1a,AAAA v1,AAAA= v1,AAAA {SIGNATURE}");
        assert_eq!(checked(&among, BODY, SENT_S + 300), SignatureCheck::Verified);
    }

    #[test]
    fn changed_stale_and_foreign_requests_are_bad() {
        let no_match = SignatureCheck::Bad("no signature matches");
        assert_eq!(checked(SIGNATURE, &BODY.replace("bob", "eve"), SENT_S), no_match);
        assert_eq!(checked("v1,AAAA", BODY, SENT_S), no_match);
        assert_eq!(checked(&SIGNATURE.replace("v1,", "v1a,"), BODY, SENT_S), no_match);
        let away = SignatureCheck::Bad("the timestamp is more than 300 s away");
        assert_eq!(checked(SIGNATURE, BODY, SENT_S + 301), away);
        assert_eq!(checked(SIGNATURE, BODY, SENT_S - 301), away);
        let other = [OTHER.parse().expect("a secret")];
        assert_eq!(check_signature(&other, &HeaderMap::new(), b"", 0), SignatureCheck::Bad("no signature"));
    }

    #[test]
    fn a_plain_secret_is_the_key_as_it_stands() {
        let secrets = ["devdraft_secret-0123456789-abcdefgh".parse().expect("a secret")];
        let mut headers = HeaderMap::new();
        let (sent, signature) = (SENT_S.to_string(), "v1,Cm+WGhz1xWBd26syL/IfItOh4xhKN6rtCyi1gSzVatk=");
        for (name, value) in [("webhook-id", ID), ("webhook-timestamp", &sent), ("webhook-signature", signature)] {
            headers.insert(name, value.parse().expect("a header"));
        }
        assert_eq!(check_signature(&secrets, &headers, BODY.as_bytes(), SENT_S), SignatureCheck::Verified);
        assert_eq!(check_signature(&secrets, &headers, b"", SENT_S), SignatureCheck::Bad("no signature matches"));
    }

    #[test]
    fn without_a_secret_nothing_is_checked() {
        assert_eq!(check_signature(&[], &HeaderMap::new(), b"", 0), SignatureCheck::NotChecked);
    }

    #[test]
    fn secrets_have_their_form() {
        let (short, odd) = ("a".repeat(31), "+".repeat(40));
        for wrong in ["", "whsec_", "whsec_!", &short, &odd] {
            assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
        }
    }
}
