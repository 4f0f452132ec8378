//! Header fields as they were sent or received: names and values in order, in one allocation.
//!
//! Invariant: a name is never empty and neither part contains a line break, which HTTP forbids, so line breaks separate
//! fields. An attempt has a dozen of them, and a string for each would dominate an event's allocations.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Separates a name from its value, and ends each value.
const BREAK: char = '\n';

/// Names and values with repeated names. Stored as one string. Earlier versions stored a list of pairs, which is still
/// read.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(String);

impl Headers {
    /// Reserves bytes for names and values.
    pub fn with_capacity(bytes: usize) -> Headers {
        Headers(String::with_capacity(bytes))
    }

    /// Appends a field. A line break, which no HTTP message can carry, becomes a space (RFC 9110 section 5.5).
    pub fn push(&mut self, name: &str, value: &str) {
        self.push_line(name);
        self.push_line(value);
    }

    /// Appends a field whose value is bytes. Invalid UTF-8 is replaced.
    pub fn push_bytes(&mut self, name: &str, value: &[u8]) {
        match std::str::from_utf8(value) {
            Ok(value) => self.push(name, value),
            Err(_) => self.push(name, &String::from_utf8_lossy(value)),
        }
    }

    /// Appends a received field: its name in lower case, its value with invalid UTF-8 replaced.
    pub fn push_received(&mut self, name: &str, value: &[u8]) {
        let start = self.0.len();
        self.push_bytes(name, value);
        self.0[start..start + name.len()].make_ascii_lowercase();
    }

    /// Appends all fields of `other`.
    pub fn append(&mut self, other: &Headers) {
        self.0.push_str(&other.0);
    }

    fn push_line(&mut self, text: &str) {
        if text.contains(BREAK) {
            self.0.extend(text.chars().map(|c| if c == BREAK { ' ' } else { c }));
        } else {
            self.0.push_str(text);
        }
        self.0.push(BREAK);
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.0.split_terminator(BREAK);
        std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == BREAK as u8).count() / 2
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Headers {
        let mut headers = Headers::default();
        fields.into_iter().for_each(|(name, value)| headers.push(name.as_ref(), value.as_ref()));
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        struct StoredHeaders;
        impl<'de> Visitor<'de> for StoredHeaders {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and values, as one string or as a list of pairs")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Headers, E> {
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Headers, E> {
                let lines = text.bytes().filter(|byte| *byte == BREAK as u8).count();
                let is_whole = text.is_empty() || text.ends_with(BREAK);
                if is_whole && lines % 2 == 0 { Ok(Headers(text)) } else { Err(E::custom("a header has no value")) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some((name, value)) = list.next_element::<(String, String)>()? {
                    headers.push(&name, &value);
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_any(StoredHeaders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_their_order_empty_and_repeated_ones_too() {
        let given = [("via", "a"), ("x-empty", ""), ("via", "b"), ("last", "")];
        let headers: Headers = given.into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), given);
        assert_eq!((headers.len(), headers.is_empty()), (4, false));
        assert_eq!((Headers::default().len(), Headers::default().is_empty()), (0, true));
    }

    #[test]
    fn they_are_stored_as_one_string_and_the_list_of_earlier_versions_is_read() {
        let given = vec![("via".to_owned(), "a".to_owned()), ("x".to_owned(), String::new())];
        let headers: Headers = given.iter().map(|(n, v)| (n, v)).collect();
        let stored = rmp_serde::to_vec(&headers).unwrap();
        assert_eq!(stored, rmp_serde::to_vec("via\na\nx\n\n").unwrap());
        let listed = rmp_serde::to_vec(&given).unwrap();
        for bytes in [stored, listed] {
            assert_eq!(rmp_serde::from_slice::<Headers>(&bytes).unwrap(), headers);
        }
        for none in [rmp_serde::to_vec("").unwrap(), rmp_serde::to_vec::<[(); 0]>(&[]).unwrap()] {
            assert_eq!(rmp_serde::from_slice::<Headers>(&none).unwrap(), Headers::default());
        }
    }

    #[test]
    fn half_a_field_is_refused() {
        for text in ["via", "via\n", "via\na", "via\na\nx\n", "\n"] {
            assert!(rmp_serde::from_slice::<Headers>(&rmp_serde::to_vec(text).unwrap()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_line_break_cannot_make_two_fields_of_one() {
        let headers: Headers = [("a\nb", "c\n\nd")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a b", "c  d")]);
    }
}
