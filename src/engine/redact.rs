//! Redaction: removes a webhook's credentials before an attempt is stored.
//!
//! Credentials are redacted in the headers that are sent and wherever a receiver repeats them.

use http::{HeaderName, HeaderValue};

use crate::model::Headers;

/// Stands for a credential in a stored attempt.
const MASK: &str = "********";
/// Minimum length of a redacted word: shorter ones would match unrelated text.
const WORD_BYTES_MIN: usize = 8;

/// The credentials of one webhook.
#[derive(Default)]
pub struct Redactor {
    names: Vec<HeaderName>,
    /// Longest first, so that a part never hides a longer match.
    secrets: Vec<String>,
}

impl Redactor {
    /// Redacts the value of the header `name`.
    pub fn header(&mut self, name: HeaderName) {
        self.names.push(name);
    }

    /// Redacts `word` wherever a receiver repeats it.
    pub fn secret(&mut self, word: &str) {
        if word.len() >= WORD_BYTES_MIN {
            self.secrets.push(word.to_owned());
            self.secrets.sort_by_key(|word| std::cmp::Reverse(word.len()));
        }
    }

    /// Headers of a request, as they are stored.
    pub fn redact_request(&self, headers: &[(HeaderName, HeaderValue)]) -> Headers {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
        let mut redacted = Headers::with_capacity(bytes);
        for (name, value) in headers {
            let is_secret = self.names.contains(name);
            redacted.push_bytes(name.as_str(), if is_secret { MASK.as_bytes() } else { value.as_bytes() });
        }
        redacted
    }

    /// Headers of a response, as they are stored.
    pub fn redact_response(&self, headers: Headers) -> Headers {
        match self.secrets.is_empty() {
            true => headers,
            false => headers.iter().map(|(name, value)| (name, self.redact_text(value.to_owned()))).collect(),
        }
    }

    /// Text of a response, as it is stored.
    pub fn redact_text(&self, mut text: String) -> String {
        for word in &self.secrets {
            if text.contains(word.as_str()) {
                text = text.replace(word.as_str(), MASK);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_redacted_in_requests_and_responses() {
        let mut redactor = Redactor::default();
        redactor.header(HeaderName::from_static("x-a"));
        redactor.secret("sesame-open");
        redactor.secret("sesame-open-wide");
        redactor.secret("short");
        let sent = [("x-a", "sesame-open"), ("x-b", "sesame-open")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let redacted = redactor.redact_request(&sent);
        let redacted: Vec<&str> = redacted.iter().map(|(_, value)| value).collect();
        assert_eq!(redacted, [MASK, "sesame-open"], "by name alone: what is public is not looked through");
        let answered: Headers = [("set-cookie", "a=sesame-open")].into_iter().collect();
        assert_eq!(redactor.redact_response(answered).iter().collect::<Vec<_>>(), [("set-cookie", "a=********")]);
        assert_eq!(
            redactor.redact_text("a sesame-open-wide b sesame-open short".into()),
            "a ******** b ******** short"
        );
    }
}
