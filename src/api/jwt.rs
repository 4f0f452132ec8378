//! JSON Web Tokens of another server, signed with HMAC SHA-256 (RFC 7519, and RFC 7515 for the signature).
//!
//! Invariant: claims are read only after the signature was verified with the one algorithm HS256.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::Deserialize;

use crate::model::{OrganizationId, Time};

/// The only algorithm (RFC 7518 section 3.2).
const ALGORITHM: &str = "HS256";
/// Tolerated clock skew in seconds: a token whose `nbf` is this far ahead is valid already.
const SKEW_S: f64 = 60.0;

/// The tokens of a Svix server that are taken in place of keys.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// The secret that signs them.
    pub key: hmac::Key,
    /// The organization's id at Svix. Tokens of any other one are refused.
    pub foreign_org: String,
    /// The organization here that they act for. `None` for the oldest one.
    pub organization: Option<OrganizationId>,
}

impl JwtSettings {
    pub fn new(secret: &str, foreign_org: String, organization: Option<OrganizationId>) -> JwtSettings {
        JwtSettings { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), foreign_org, organization }
    }
}

#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    /// Extensions that a reader must know (RFC 7515 section 4.1.11). None is known here.
    crit: Option<serde::de::IgnoredAny>,
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct JwtClaims {
    pub sub: String,
    /// The organization of a token of one application.
    pub org: Option<String>,
    /// Seconds since 1970, with or without a fraction.
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    pub feature_flags: Vec<String>,
}

impl JwtClaims {
    /// The time from which on the token is expired. `None` if it never is.
    pub fn expires_at(&self) -> Option<Time> {
        self.exp.map(|s| Time((s * 1_000.0) as i64))
    }

    fn is_valid_at(&self, now: Time) -> bool {
        let is_begun = self.nbf.is_none_or(|s| s <= now.0 as f64 / 1_000.0 + SKEW_S);
        is_begun && self.expires_at().is_none_or(|end| now < end)
    }
}

/// Whether a text has the three parts of a signed token. A key has one.
pub fn is_token(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The claims of a token that the key has signed and that is valid now. `None` for any other text.
pub fn verified(token: &str, key: &hmac::Key, now: Time) -> Option<JwtClaims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: JwtHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.alg != ALGORITHM || header.crit.is_some() {
        return None;
    }
    hmac::verify(key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let claims: JwtClaims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.is_valid_at(now).then_some(claims)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Time = Time(1_700_000_000_000);

    fn key(secret: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
    }

    fn token(header: &Value, claims: &Value, secret: &str) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = hmac::sign(&key(secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn read(header: Value, claims: Value) -> Option<JwtClaims> {
        verified(&token(&header, &claims, "x"), &key("x"), NOW)
    }

    #[test]
    fn a_token_of_rfc_7515_is_verified() {
        // Appendix A.1, with its octet sequence as the key. Its claims have no subject, so they are refused after that.
        let k = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(k).unwrap());
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                      Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = URL_SAFE_NO_PAD.decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn times_and_algorithms_are_checked() {
        let head = || json!({ "alg": "HS256", "typ": "JWT" });
        let s = NOW.0 / 1_000;
        assert_eq!(read(head(), json!({ "sub": "org_a" })).unwrap().sub, "org_a");
        assert!(read(head(), json!({ "sub": "a", "exp": s + 1, "nbf": s + 60, "iat": s + 900 })).is_some());
        assert!(read(head(), json!({ "sub": "a", "exp": s as f64 + 0.5 })).is_some());
        for wrong in [
            json!({ "sub": "a", "exp": s }),
            json!({ "sub": "a", "exp": -1 }),
            json!({ "sub": "a", "nbf": s + 61 }),
            json!({ "sub": "a", "exp": "never" }),
            json!({ "org": "a" }),
            json!({ "sub": 7 }),
            json!([]),
        ] {
            assert!(read(head(), wrong.clone()).is_none(), "{wrong}");
        }
        for wrong in [
            json!({ "alg": "none" }),
            json!({ "alg": "hs256" }),
            json!({ "alg": "HS512" }),
            json!({ "alg": "HS256", "crit": ["exp"] }),
            json!({}),
        ] {
            assert!(read(wrong.clone(), json!({ "sub": "a" })).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_changed_token_is_none() {
        let good = token(&json!({ "alg": "HS256" }), &json!({ "sub": "a" }), "x");
        assert!(is_token(&good) && verified(&good, &key("x"), NOW).is_some());
        assert!(verified(&good, &key("y"), NOW).is_none());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let unsigned = token(&json!({ "alg": "none" }), &json!({ "sub": "a" }), "x");
        let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
        for wrong in [
            format!("{signed}."),
            format!("{unsigned}."),
            format!("{signed}.{signature}="),
            format!("{signed}.{}", &signature[1..]),
            format!("x{signed}.{signature}"),
            signed.to_owned(),
            "..".to_owned(),
            String::new(),
        ] {
            assert!(verified(&wrong, &key("x"), NOW).is_none(), "{wrong}");
        }
        assert!(!is_token("pr_key"));
    }
}
