//! Evaluates a webhook's filter on the received bytes of an event's `data`.
//!
//! Invariants: a stored filter reads back as the JSON it was created from. Numbers are compared as decimals, never as
//! floats. One walk over the data finds every path of the filter.

mod decimal;
mod exact;
mod parse;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use self::decimal::Decimal;
use self::exact::ExactValue;
use self::parse::FilterParser;
use crate::rules::json::{self, walk};

/// Maximum nesting of the objects of a filter. A single condition has depth 1.
pub const DEPTH_MAX: usize = 8;

/// Maximum number of conditions of a filter.
pub const LEAVES_MAX: usize = 64;

/// Longest `path`.
pub const PATH_BYTES_MAX: usize = 1024;

/// Longest filter, without white space.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// An error in a filter: a JSON Pointer into the filter and a message.
pub type Mistake = (String, String);

/// A parsed and valid filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The JSON that the filter was read from, without white space.
    text: String,
    root: FilterNode,
    leaves: Vec<FilterLeaf>,
    /// The numbers of the leaves, ordered by path, so that paths with a common beginning are adjacent.
    by_path: Vec<usize>,
}

#[derive(Debug, Clone)]
enum FilterNode {
    All(Vec<FilterNode>),
    Any(Vec<FilterNode>),
    Not(Box<FilterNode>),
    /// A number in `Filter::leaves`.
    Leaf(usize),
}

#[derive(Debug, Clone)]
struct FilterLeaf {
    path: Vec<PathToken>,
    test: LeafTest,
}

/// One step of a path: a member name, or an index where the data has an array.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PathToken {
    text: String,
    index: Option<usize>,
}

#[derive(Debug, Clone)]
enum LeafTest {
    Eq(ExactValue),
    Ne(ExactValue),
    In(Vec<ExactValue>),
    Exists(bool),
    Prefix(String),
    /// The number's text on the right.
    Compare(Comparison, String),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Comparison {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "gt" => Comparison::Gt,
            "gte" => Comparison::Gte,
            "lt" => Comparison::Lt,
            "lte" => Comparison::Lte,
            _ => return None,
        })
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Gt => order.is_gt(),
            Comparison::Gte => order.is_ge(),
            Comparison::Lt => order.is_lt(),
            Comparison::Lte => order.is_le(),
        }
    }
}

impl LeafTest {
    fn is_operator(name: &str) -> bool {
        matches!(name, "eq" | "ne" | "in" | "exists" | "prefix") || Comparison::named(name).is_some()
    }

    /// Whether the condition holds. `at` is the position that its path led to, or `None` if the data has no such value.
    fn holds(&self, data: &[u8], at: Option<usize>) -> bool {
        let Some(at) = at else {
            return matches!(self, LeafTest::Ne(_) | LeafTest::Exists(false));
        };
        match self {
            LeafTest::Exists(wanted) => *wanted,
            LeafTest::Eq(value) => value.equals(data, at),
            LeafTest::Ne(value) => !value.equals(data, at),
            LeafTest::In(values) => values.iter().any(|value| value.equals(data, at)),
            LeafTest::Prefix(prefix) => walk::string(data, at).is_some_and(|raw| {
                let mut bytes = walk::Unescaped::new(raw);
                prefix.bytes().all(|b| bytes.next() == Some(b))
            }),
            LeafTest::Compare(comparison, text) => {
                let there = walk::raw(data, at).and_then(Decimal::read);
                match (there, Decimal::read(text.as_bytes())) {
                    (Some(there), Some(limit)) => comparison.holds(there.order(&limit)),
                    _ => false,
                }
            }
        }
    }
}

impl Filter {
    /// Reads a filter from JSON text. Numbers keep every digit.
    pub fn parse_text(bytes: &[u8]) -> Result<Filter, Vec<Mistake>> {
        json::check(bytes, json::JsonLimits::default())
            .map_err(|error| vec![(error.pointer.clone(), error.kind.to_string())])?;
        let text = walk::compact(bytes);
        if text.len() > TEXT_BYTES_MAX {
            let detail = format!("longer than {TEXT_BYTES_MAX} bytes");
            return Err(vec![(String::new(), detail)]);
        }
        let unreadable = || vec![(String::new(), json::JsonErrorKind::Unexpected.to_string())];
        let value = ExactValue::read(&text, 0).ok_or_else(unreadable)?;
        let mut parser = FilterParser::default();
        match parser.node(value, "", 1) {
            Some(root) if parser.mistakes.is_empty() => {
                let leaves = parser.leaves;
                let mut by_path: Vec<_> = (0..leaves.len()).collect();
                by_path.sort_by(|&a, &b| leaves[a].path.cmp(&leaves[b].path));
                let text = String::from_utf8(text).map_err(|_| unreadable())?;
                Ok(Filter { text, root, leaves, by_path })
            }
            _ => Err(parser.mistakes),
        }
    }

    /// Reads a filter from a value. Numbers are as exact as in the value. [`Filter::parse_text`] keeps all digits of
    /// the text.
    pub fn parse(value: &serde_json::Value) -> Result<Filter, Vec<Mistake>> {
        Self::parse_text(value.to_string().as_bytes())
    }

    /// The filter as JSON without white space.
    pub fn as_json(&self) -> &str {
        &self.text
    }

    /// Whether `data` passes the filter. The bytes passed [`json::check`] when the event was accepted. In other bytes
    /// no path is found.
    pub fn matches(&self, data: &[u8]) -> bool {
        let mut found = [None; LEAVES_MAX];
        self.locate(data, walk::start(data, 0), 0, 0..self.by_path.len(), &mut found);
        self.holds(&self.root, data, &found)
    }

    fn holds(&self, node: &FilterNode, data: &[u8], found: &[Option<usize>; LEAVES_MAX]) -> bool {
        match node {
            FilterNode::All(nodes) => nodes.iter().all(|node| self.holds(node, data, found)),
            FilterNode::Any(nodes) => nodes.iter().any(|node| self.holds(node, data, found)),
            FilterNode::Not(node) => !self.holds(node, data, found),
            FilterNode::Leaf(number) => self.leaves[*number].test.holds(data, found[*number]),
        }
    }

    /// Locates the paths of one group, which share their first `depth` steps and led to the value at `at`. `group` is a
    /// range of `by_path`. Returns the end of the value.
    fn locate(
        &self,
        data: &[u8],
        at: usize,
        depth: usize,
        group: Range<usize>,
        found: &mut [Option<usize>; LEAVES_MAX],
    ) -> Option<usize> {
        data.get(at)?;
        // Shorter paths sort first.
        let mut rest = group;
        while rest.start < rest.end && self.path(rest.start).len() == depth {
            found[self.by_path[rest.start]] = Some(at);
            rest.start += 1;
        }
        if rest.is_empty() {
            return walk::skip(data, at);
        }
        match data[at] {
            b'{' => walk::each_member(data, at, |name, at| {
                let group = self.group(rest.clone(), |path| walk::is_text(name, &path[depth].text));
                self.follow(data, at, depth, group, found)
            }),
            b'[' => walk::each_element(data, at, |index, at| {
                let group = self.group(rest.clone(), |path| path[depth].index == Some(index));
                self.follow(data, at, depth, group, found)
            }),
            _ => walk::skip(data, at),
        }
    }

    fn follow(
        &self,
        data: &[u8],
        at: usize,
        depth: usize,
        group: Range<usize>,
        found: &mut [Option<usize>; LEAVES_MAX],
    ) -> Option<usize> {
        match group.is_empty() {
            true => walk::skip(data, at),
            false => self.locate(data, at, depth + 1, group, found),
        }
    }

    /// The run of paths for which `goes_on` is true.
    fn group(&self, range: Range<usize>, goes_on: impl Fn(&[PathToken]) -> bool) -> Range<usize> {
        let mut range = range;
        range.start = range.clone().find(|&i| goes_on(self.path(i))).unwrap_or(range.end);
        let run = range.clone().take_while(|&i| goes_on(self.path(i))).count();
        range.start..range.start + run
    }

    fn path(&self, place: usize) -> &[PathToken] {
        &self.leaves[self.by_path[place]].path
    }
}

/// Two filters are equal if their JSON texts are.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

/// In JSON the filter is the object itself. In binary formats, which cannot hold numbers of any size, it is that JSON
/// in a string.
impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_str(&self.text);
        }
        let raw: &RawValue = serde_json::from_str(&self.text).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match deserializer.is_human_readable() {
            true => Box::<RawValue>::deserialize(deserializer)?.get().to_owned(),
            false => String::deserialize(deserializer)?,
        };
        Filter::parse_text(text.as_bytes()).map_err(|mistakes| {
            let words: Vec<_> = mistakes.iter().map(|(at, what)| format!("filter{at}: {what}")).collect();
            D::Error::custom(words.join("; "))
        })
    }
}
