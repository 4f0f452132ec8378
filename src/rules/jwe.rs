//! Encrypts bodies as compact JWE (RFC 7516) with `dir` and `A256GCM` (api.md section 8).
//!
//! Invariant: a nonce is used once with a secret. The nonce is an argument, and the caller draws 96 random bits for it.
//!
//! The key is HKDF-SHA256 of the webhook's current secret. So a receiver needs no further key, and any JOSE library
//! decrypts the text. The header has no `cty`: the content type is the webhook's setting.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead;

use super::signing::SecretKey;

/// `content-type` of a compact JWE (RFC 7515 section 9.2.1).
pub const CONTENT_TYPE: &str = "application/jose";

const INFO: &[u8] = b"postrider jwe v1";
/// base64url of `{"alg":"dir","enc":"A256GCM"}`. It is also the authenticated data (RFC 7516 section 5.1, step 14).
const HEADER: &str = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0";

/// The key in use: 32 bytes for AES-256-GCM.
pub fn key(secret: &SecretKey) -> [u8; 32] {
    secret.derive(INFO)
}

/// `plaintext` as a compact JWE: header, no encrypted key, nonce, ciphertext, tag.
pub fn seal(secret: &SecretKey, nonce: [u8; 12], plaintext: &[u8]) -> String {
    let mut ciphertext = plaintext.to_vec();
    let tag = cipher(secret)
        .seal_in_place_separate_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(HEADER.as_bytes()),
            &mut ciphertext,
        )
        .expect("a body is far below AES-GCM's 64 GiB");
    let mut text = String::with_capacity(HEADER.len() + 42 + ciphertext.len().div_ceil(3) * 4);
    text.push_str(HEADER);
    text.push_str("..");
    URL_SAFE_NO_PAD.encode_string(nonce, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(&ciphertext, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut text);
    text
}

/// Decrypts a text made by `seal`. `None` for any other text or another secret.
pub fn open(secret: &SecretKey, text: &str) -> Option<Vec<u8>> {
    let rest = text.strip_prefix(HEADER)?.strip_prefix("..")?;
    let mut parts = rest.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let (nonce, mut sealed, tag) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || tag.len() != aead::AES_256_GCM.tag_len() {
        return None;
    }
    sealed.extend_from_slice(&tag);
    let nonce = aead::Nonce::try_assume_unique_for_key(&nonce).ok()?;
    let plain_len = cipher(secret).open_in_place(nonce, aead::Aad::from(HEADER.as_bytes()), &mut sealed).ok()?.len();
    sealed.truncate(plain_len);
    Some(sealed)
}

fn cipher(secret: &SecretKey) -> aead::LessSafeKey {
    let key = aead::UnboundKey::new(&aead::AES_256_GCM, &key(secret)).expect("AES-256 takes 32 bytes");
    aead::LessSafeKey::new(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::signing::parse_secret;
    use super::*;

    /// Computed with node:crypto: HKDF, then AES-256-GCM with nonce 00 01 … 0b over `{"id":42}`.
    const VECTOR: &str =
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAECAwQFBgcICQoL.XrGeTz0EtfiF.ejCqqAzFfe4vK0UW-cfqRA";

    fn secret() -> SecretKey {
        parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    #[test]
    fn a_sealed_body_is_that_of_another_implementation() {
        let nonce = std::array::from_fn(|i| i as u8);
        assert_eq!(seal(&secret(), nonce, br#"{"id":42}"#), VECTOR);
    }

    #[test]
    fn the_header_says_dir_and_a256gcm() {
        let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(HEADER).unwrap()).unwrap();
        assert_eq!(header, serde_json::json!({ "alg": "dir", "enc": "A256GCM" }));
    }

    #[test]
    fn a_changed_text_does_not_open() {
        assert_eq!(open(&secret(), VECTOR).as_deref(), Some(br#"{"id":42}"#.as_slice()));
        for at in 0..VECTOR.len() {
            let mut text = VECTOR.as_bytes().to_vec();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&secret(), std::str::from_utf8(&text).unwrap()), None, "changed at {at}");
        }
        for text in ["", "....", &format!("{VECTOR}."), &VECTOR[..VECTOR.len() - 4]] {
            assert_eq!(open(&secret(), text), None, "{text}");
        }
        let other = parse_secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX").unwrap();
        assert_eq!(open(&other, VECTOR), None);
    }

    proptest! {
        #[test]
        fn a_sealed_text_opens(nonce: [u8; 12], body in any::<Vec<u8>>()) {
            prop_assert_eq!(open(&secret(), &seal(&secret(), nonce, &body)), Some(body));
        }
    }
}
