//! Status codes as filters name them.

use serde::{Deserialize, Serialize};

/// One status code, or a class of them (RFC 9110, section 15). Both ends are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCodes {
    first: u16,
    last: u16,
}

impl StatusCodes {
    /// The regular expression of the texts that `parse` reads.
    pub const PATTERN: &'static str = "[1-5][0-9]{2}|[1-5]xx";

    /// Reads `503` or `5xx`. `None` for any other text.
    pub fn parse(text: &str) -> Option<StatusCodes> {
        let [class @ b'1'..=b'5', rest @ ..] = text.as_bytes() else { return None };
        let hundred = u16::from(class - b'0') * 100;
        match rest {
            b"xx" => Some(StatusCodes { first: hundred, last: hundred + 99 }),
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                let code = hundred + u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
                Some(StatusCodes { first: code, last: code })
            }
            _ => None,
        }
    }

    pub fn has(&self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }

    /// The text that `parse` reads.
    pub fn text(&self) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{}xx", self.first / 100) }
    }
}
