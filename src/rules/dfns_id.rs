//! Converts ids to and from Dfns's format.
//!
//! The format is `wh-` or `whe-`, then the id's 128 bits as 26 Crockford base32 digits in groups of 5, 5 and 16.
//!
//! Invariant: the conversion is reversible, and one id has one spelling, so a text that differs in a single character
//! is another id or none. The shape follows the pattern `^whe?-[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{14,16}$` (docs.dfns.co,
//! get-webhook-event). The choice of a UUID for the digits is Postrider's.

use crate::model::{AttemptId, WebhookId};

/// Crockford's digits in lower case: without i, l, o and u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DIGITS_LEN: usize = 26;
/// 26 digits and two hyphens.
const BODY_LEN: usize = 28;

/// `wh-…` of a webhook.
pub fn webhook(id: WebhookId) -> String {
    encode("wh-", id.as_u128())
}

/// `whe-…` of an attempt, which Dfns calls a webhook event.
pub fn event(id: AttemptId) -> String {
    encode("whe-", id.as_u128())
}

/// Parses a webhook id of the form `wh-…`. `None` for any other text.
pub fn parse_webhook(text: &str) -> Option<WebhookId> {
    decode("wh-", text).map(WebhookId::from_u128)
}

/// Parses an attempt id of the form `whe-…`. `None` for any other text.
pub fn parse_event(text: &str) -> Option<AttemptId> {
    decode("whe-", text).map(AttemptId::from_u128)
}

fn encode(prefix: &str, bits: u128) -> String {
    let mut text = String::with_capacity(prefix.len() + BODY_LEN);
    text.push_str(prefix);
    for place in 0..DIGITS_LEN {
        if place == 5 || place == 10 {
            text.push('-');
        }
        let digit = (bits >> (5 * (DIGITS_LEN - 1 - place))) & 31;
        text.push(char::from(DIGITS[digit as usize]));
    }
    text
}

fn decode(prefix: &str, text: &str) -> Option<u128> {
    let body = text.strip_prefix(prefix)?.as_bytes();
    if body.len() != BODY_LEN || body[5] != b'-' || body[11] != b'-' {
        return None;
    }
    let mut bits = 0u128;
    for (at, byte) in body.iter().enumerate() {
        if at == 5 || at == 11 {
            continue;
        }
        let digit = DIGITS.iter().position(|d| d == byte)? as u128;
        // 26 digits hold 130 bits, so the first digit has room for three bits only.
        if at == 0 && digit > 7 {
            return None;
        }
        bits = (bits << 5) | digit;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_examples_are_spelt_as_they_should_be() {
        let id: AttemptId = "019cbd76-1bd6-783d-8e01-b41575aafd08".parse().unwrap();
        assert_eq!(event(id), "whe-01kjy-qc6yp-f0yrw0dm2nttnz88");
        let id: WebhookId = "019ca8a0-3e80-726f-8f06-5e86b5932aa2".parse().unwrap();
        assert_eq!(webhook(id), "wh-01kjm-a0fm0-e9qry1jygtts6an2");
    }

    #[test]
    fn another_spelling_is_no_id() {
        for text in [
            "",
            "whe-",
            "wh-01kjy-qc6yp-f0yrw0dm2nttnz88",
            "whe-01kjy-qc6yp-f0yrw0dm2nttnz8",
            "whe-01kjy-qc6yp-f0yrw0dm2nttnz880",
            "whe-01KJY-qc6yp-f0yrw0dm2nttnz88",
            "whe-01kjyqc6yp-f0yrw0dm2nttnz8-8",
            "whe-o1kjy-qc6yp-f0yrw0dm2nttnz88",
            "whe-81kjy-qc6yp-f0yrw0dm2nttnz88",
            "whe-01kjy-qc6yp-f0yrw0dm2nttnz\u{e9}",
        ] {
            assert_eq!(parse_event(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_comes_back(bits: u128) {
            let (attempt, hook) = (AttemptId::from_u128(bits), WebhookId::from_u128(bits));
            prop_assert_eq!(parse_event(&event(attempt)), Some(attempt));
            prop_assert_eq!(parse_webhook(&webhook(hook)), Some(hook));
        }

        #[test]
        fn a_text_that_reads_as_an_id_is_its_only_spelling(text in "whe-[0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{16}") {
            if let Some(id) = parse_event(&text) {
                prop_assert_eq!(event(id), text);
            }
        }
    }
}
