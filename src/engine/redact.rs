//! Redaction: removes a webhook's credentials before an attempt is stored.
//!
//! Credentials are redacted wherever a receiver repeats them, in every usual encoding and case, and also where the text
//! was cut within one. The headers that are sent are masked by name when a webhook is compiled.

use memchr::memmem::Finder;

use crate::model::Headers;
use crate::rules::secret_spellings::secret_spellings;

/// Stands for a credential in a stored attempt.
pub(in crate::engine) const MASK: &str = "********";
/// Minimum length of a redacted word: shorter ones would match unrelated text.
const WORD_BYTES_MIN: usize = 8;
/// Minimum length of a redacted beginning of a word at the end of a cut text.
const CUT_BYTES_MIN: usize = 4;

/// The credentials of one webhook.
#[derive(Default)]
pub struct Redactor {
    /// The spellings of all secrets, in lower case.
    spellings: Vec<Finder<'static>>,
}

impl Redactor {
    /// Redacts `word` wherever a receiver repeats it, in all its spellings.
    pub fn secret(&mut self, word: &str) {
        if word.len() >= WORD_BYTES_MIN {
            let long = secret_spellings(word).into_iter().filter(|spelling| spelling.len() >= WORD_BYTES_MIN);
            self.spellings.extend(long.map(|spelling| Finder::new(&spelling.to_ascii_lowercase()).into_owned()));
        }
    }

    /// Headers of a response, as they are stored. A value is stored whole or not at all.
    pub fn redact_response(&self, headers: Headers) -> Headers {
        match self.spellings.is_empty() {
            true => headers,
            false => headers.iter().map(|(name, value)| (name, self.redact_text(value.to_owned(), false))).collect(),
        }
    }

    /// Text of a response, as it is stored. If it `is_cut`, the beginning of a secret at its end is redacted too.
    pub fn redact_text(&self, text: String, is_cut: bool) -> String {
        if self.spellings.is_empty() {
            return text;
        }
        let lower = text.to_ascii_lowercase();
        let mut found: Vec<(usize, usize)> = Vec::new();
        for spelling in &self.spellings {
            let length = spelling.needle().len();
            found.extend(spelling.find_iter(lower.as_bytes()).map(|at| (at, at + length)));
            if is_cut {
                let begun = (CUT_BYTES_MIN..length.min(lower.len() + 1)).rev();
                let begun = begun.into_iter().find(|count| lower.as_bytes().ends_with(&spelling.needle()[..*count]));
                found.extend(begun.map(|count| (lower.len() - count, lower.len())));
            }
        }
        if found.is_empty() {
            return text;
        }
        found.sort_unstable();
        let (mut redacted, mut kept_to) = (String::with_capacity(text.len()), 0);
        for (from, to) in found {
            if from >= kept_to {
                // A spelling begins and ends between characters, except where the text was cut.
                redacted.push_str(text.get(kept_to..from).unwrap_or_default());
                redacted.push_str(MASK);
            }
            kept_to = kept_to.max(to);
        }
        redacted.push_str(text.get(kept_to..).unwrap_or_default());
        redacted
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_secret_is_redacted_in_headers_and_bodies() {
        let mut redactor = Redactor::default();
        redactor.secret("sesame-open");
        redactor.secret("sesame-open-wide");
        redactor.secret("short");
        let answered: Headers = [("set-cookie", "a=sesame-open")].into_iter().collect();
        assert_eq!(redactor.redact_response(answered).iter().collect::<Vec<_>>(), [("set-cookie", "a=********")]);
        assert_eq!(
            redactor.redact_text("a sesame-open-wide b Sesame-Open short".into(), false),
            "a ******** b ******** short"
        );
    }

    #[test]
    fn a_secret_is_redacted_in_its_encodings_and_where_the_text_was_cut() {
        let mut redactor = Redactor::default();
        redactor.secret("key/with \"marks\"&more");
        for repeated in [
            r#"key\/with \"marks\"&more"#,
            r#"KEY/WITH \"MARKS\"\u0026MORE"#,
            "key%2fwith%20%22marks%22%26more",
            "key%2Fwith+%22marks%22%26more",
            "key/with &quot;marks&quot;&amp;more",
            "6B65792F7769746820226D61726B7322266D6F7265",
        ] {
            assert_eq!(redactor.redact_text(format!("ä {repeated} ö"), false), "ä ******** ö", "{repeated}");
        }
        let encoded = STANDARD.encode("user: key/with \"marks\"&more.");
        let redacted = redactor.redact_text(encoded.clone(), false);
        assert!(redacted.contains(MASK) && !redacted.contains(&encoded[12..24]), "{redacted}");
        assert_eq!(redactor.redact_text("a key/wi".into(), true), "a ********");
        assert_eq!(redactor.redact_text("a key/wi".into(), false), "a key/wi");
        assert_eq!(redactor.redact_text("a key%2Fwith%20%22ma".into(), true), "a ********");
    }
}
