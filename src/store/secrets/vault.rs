//! Secrets at rest: AES-256-GCM under a data key, which the master key wraps.
//!
//! Invariant: a sealed value opens only as the record that it was sealed for. The record's identity is the associated
//! data.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;

/// Bytes of a master key and of the data key.
pub const KEY_BYTES: usize = 32;

/// Seals and opens with one key.
pub struct Vault {
    key: LessSafeKey,
    /// The root of keys that are derived from the same key.
    root: hkdf::Prk,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    pub fn new(key: &[u8; KEY_BYTES]) -> Vault {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key");
        Vault { key: LessSafeKey::new(key), root }
    }

    /// The key of another purpose, by HKDF-SHA256 (RFC 5869) without a salt. It does not reveal this one.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let mut derived = [0; KEY_BYTES];
        let info = [purpose.as_bytes()];
        let made = self.root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut derived));
        made.expect("32 bytes are one block of HKDF-SHA256");
        derived
    }

    /// Seals `plain` for the record `identity`. The nonce comes first.
    pub fn seal(&self, identity: &[u8], plain: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(identity), &mut sealed)
            .expect("a row is shorter than GCM's limit");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens a row that was sealed for `identity`. `None` with another key, for another record, or if it was altered.
    pub fn open(&self, identity: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(identity), &mut body).ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_has_a_key_of_its_own() {
        let vault = Vault::new(&[7; 32]);
        assert_eq!(vault.derive("a"), Vault::new(&[7; 32]).derive("a"));
        assert_ne!(vault.derive("a"), vault.derive("b"));
        assert_ne!(vault.derive("a"), Vault::new(&[8; 32]).derive("a"));
        assert_ne!(vault.derive("a"), [7; 32]);
    }

    #[test]
    fn only_the_same_record_and_key_open_it() {
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal(b"webhook:1", b"whsec_abc", [1; 12]);
        assert_eq!(vault.open(b"webhook:1", &sealed).as_deref(), Some(b"whsec_abc".as_slice()));
        assert_eq!(vault.open(b"webhook:2", &sealed), None);
        assert_eq!(Vault::new(&[8; 32]).open(b"webhook:1", &sealed), None);
        assert!(!sealed.windows(5).any(|w| w == b"whsec"));
        assert_eq!(format!("{vault:?}"), "Vault(…)", "the key is not shown");
    }
}
