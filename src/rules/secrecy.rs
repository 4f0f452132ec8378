//! Decides which of a webhook's own headers contain a credential.
//!
//! A header is secret if the webhook marks it so or if its name says so.
//!
//! Invariant: the value of a secret header is never shown, and it is stored only in the sealed webhook.

use crate::model::Webhook;

/// Words of a header name that mark its value as a credential.
const CREDENTIAL_WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "authentication",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
    "session",
    "token",
];

/// Words before `key` in a header name that mark a credential. A routing or idempotency key is not one.
const KEY_WORDS: [&str; 14] = [
    "access",
    "account",
    "admin",
    "api",
    "app",
    "application",
    "client",
    "functions",
    "integration",
    "license",
    "master",
    "private",
    "service",
    "subscription",
];

/// Whether the value of the webhook's own header `name` is a credential.
pub fn is_secret_header(webhook: &Webhook, name: &str) -> bool {
    webhook.secret_headers.iter().any(|secret| secret.eq_ignore_ascii_case(name)) || names_a_credential(name)
}

fn names_a_credential(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.iter().any(|word| CREDENTIAL_WORDS.contains(word))
        || words.windows(2).any(|pair| pair[1] == "key" && KEY_WORDS.contains(&pair[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_credential_is_one() {
        for name in [
            "Authorization",
            "Cookie",
            "X-API-Key",
            "x-apikey",
            "X-Auth-Token",
            "PRIVATE-TOKEN",
            "x-functions-key",
            "Ocp-Apim-Subscription-Key",
            "x_client_secret",
            "X-Vault-Token",
            "DD-API-KEY",
        ] {
            assert!(names_a_credential(name), "{name}");
        }
        for name in ["Accept", "X-Env", "Idempotency-Key", "X-Routing-Key", "X-Author", "Key", "X-Tokens-Left", ""] {
            assert!(!names_a_credential(name), "{name}");
        }
    }
}
