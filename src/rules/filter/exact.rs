//! Compares JSON values with JSON text in place, with exact numbers.
//!
//! Invariant: comparing allocates nothing and copies nothing out of the text.

use super::decimal::Decimal;
use crate::rules::json::walk;

/// A JSON value from text that passed [`crate::rules::json::check`].
#[derive(Debug, Clone)]
pub enum ExactValue {
    Null,
    Bool(bool),
    /// The number's text.
    Number(String),
    Text(String),
    List(Vec<ExactValue>),
    /// Members in the order of the text, or by name after [`ExactValue::sorted`].
    Map(Vec<(String, ExactValue)>),
}

impl ExactValue {
    /// Reads the value at `at`. `None` if the text is not JSON there. It nests as deep as the text does.
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Self::read_to_end(bytes, at).map(|(value, _)| value)
    }

    fn read_to_end(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        Some(match bytes.get(at)? {
            b'{' => {
                let mut members = Vec::new();
                let end = walk::each_member(bytes, at, |name, at| {
                    let (value, end) = Self::read_to_end(bytes, at)?;
                    members.push((walk::unescaped(name).into_owned(), value));
                    Some(end)
                })?;
                (ExactValue::Map(members), end)
            }
            b'[' => {
                let mut items = Vec::new();
                let end = walk::each_element(bytes, at, |_, at| {
                    let (value, end) = Self::read_to_end(bytes, at)?;
                    items.push(value);
                    Some(end)
                })?;
                (ExactValue::List(items), end)
            }
            b'"' => {
                let raw = walk::string(bytes, at)?;
                (ExactValue::Text(walk::unescaped(raw).into_owned()), at + raw.len() + 2)
            }
            _ => {
                let end = walk::skip(bytes, at)?;
                let value = match bytes.get(at..end)? {
                    b"null" => ExactValue::Null,
                    b"true" => ExactValue::Bool(true),
                    b"false" => ExactValue::Bool(false),
                    text => {
                        Decimal::read(text)?;
                        ExactValue::Number(String::from_utf8_lossy(text).into_owned())
                    }
                };
                (value, end)
            }
        })
    }

    /// Sorts all members by name, as [`ExactValue::equals`] needs them. So a member of a large object is found without
    /// a scan.
    pub fn sorted(self) -> Self {
        match self {
            ExactValue::Map(members) => {
                let mut members: Vec<_> = members.into_iter().map(|(name, value)| (name, value.sorted())).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                ExactValue::Map(members)
            }
            ExactValue::List(items) => ExactValue::List(items.into_iter().map(ExactValue::sorted).collect()),
            scalar => scalar,
        }
    }

    /// Whether the JSON value at `at` equals this sorted value. Numbers are compared by value, and members in any
    /// order.
    pub fn equals(&self, bytes: &[u8], at: usize) -> bool {
        self.equal_to_end(bytes, at).is_some()
    }

    /// The end of the value at `at`, if it equals this one.
    fn equal_to_end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self {
            ExactValue::Map(members) => {
                let mut count = 0;
                let end = walk::each_member(bytes, at, |name, at| {
                    count += 1;
                    let place =
                        members.binary_search_by(|(own, _)| own.bytes().cmp(walk::Unescaped::new(name))).ok()?;
                    let value = &members[place].1;
                    value.equal_to_end(bytes, at)
                })?;
                // Neither side has duplicate names, so as many members are the same members.
                (count == members.len()).then_some(end)
            }
            ExactValue::List(items) => {
                let mut count = 0;
                let end = walk::each_element(bytes, at, |index, at| {
                    count += 1;
                    items.get(index)?.equal_to_end(bytes, at)
                })?;
                (count == items.len()).then_some(end)
            }
            ExactValue::Text(text) => {
                let raw = walk::string(bytes, at)?;
                walk::is_text(raw, text).then_some(at + raw.len() + 2)
            }
            ExactValue::Null => literal(bytes, at, b"null"),
            ExactValue::Bool(true) => literal(bytes, at, b"true"),
            ExactValue::Bool(false) => literal(bytes, at, b"false"),
            ExactValue::Number(text) => {
                let other = walk::raw(bytes, at)?;
                let equal = Decimal::read(text.as_bytes())?.order(&Decimal::read(other)?).is_eq();
                equal.then_some(at + other.len())
            }
        }
    }
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}
