//! Parses a filter from JSON and reports every mistake with its JSON Pointer.

use super::decimal::Decimal;
use super::exact::ExactValue;
use super::{Comparison, DEPTH_MAX, FilterLeaf, FilterNode, LEAVES_MAX, LeafTest, Mistake, PATH_BYTES_MAX, PathToken};
use crate::rules::json::escape_token;

/// The three members that combine filters.
const COMBINERS: [&str; 3] = ["all", "any", "not"];

/// Collects leaves and mistakes while the tree is read.
#[derive(Default)]
pub(super) struct FilterParser {
    pub leaves: Vec<FilterLeaf>,
    pub mistakes: Vec<Mistake>,
    counted: usize,
}

impl FilterParser {
    /// Reads one object of the filter. `depth` is 1 for the outermost. `None` if a mistake was noted.
    pub fn node(&mut self, value: ExactValue, pointer: &str, depth: usize) -> Option<FilterNode> {
        let ExactValue::Map(members) = value else {
            return self.mistake(pointer, "must be an object");
        };
        if depth > DEPTH_MAX {
            return self.mistake(pointer, format!("nested more than {DEPTH_MAX} deep"));
        }
        let is_combiner = |name: &str| COMBINERS.contains(&name);
        if !members.iter().any(|(name, _)| is_combiner(name)) {
            return self.leaf(members, pointer);
        }
        let mut found = None;
        let mut whole = true;
        for (name, value) in members {
            let place = below(pointer, &name);
            if !is_combiner(&name) || found.is_some() {
                let known = is_combiner(&name) || name == "path" || LeafTest::is_operator(&name);
                whole = false;
                self.note(
                    &place,
                    match known {
                        true => {
                            "cannot stand beside the other members: one of all, any, not, or a path with one operator"
                        }
                        false => "unknown member",
                    },
                );
                continue;
            }
            found = Some(self.combiner(&name, value, &place, depth));
        }
        found.flatten().filter(|_| whole)
    }

    fn combiner(&mut self, name: &str, value: ExactValue, place: &str, depth: usize) -> Option<FilterNode> {
        if name == "not" {
            return Some(FilterNode::Not(Box::new(self.node(value, place, depth + 1)?)));
        }
        let ExactValue::List(items) = value else {
            return self.mistake(place, "must be an array of filters");
        };
        // Every item is read, also after a bad one, so that all mistakes come at once.
        let nodes: Vec<_> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| self.node(item, &format!("{place}/{index}"), depth + 1))
            .collect();
        let nodes = nodes.into_iter().collect::<Option<Vec<_>>>()?;
        Some(match name {
            "all" => FilterNode::All(nodes),
            _ => FilterNode::Any(nodes),
        })
    }

    fn leaf(&mut self, members: Vec<(String, ExactValue)>, pointer: &str) -> Option<FilterNode> {
        self.counted += 1;
        if self.counted > LEAVES_MAX {
            // One mistake reports it, however many leaves follow.
            if self.counted == LEAVES_MAX + 1 {
                self.note(pointer, format!("more than {LEAVES_MAX} conditions"));
            }
            return None;
        }
        let before = self.mistakes.len();
        let (mut path, mut test, mut operators) = (None, None, 0);
        let mut has_path = false;
        for (name, value) in members {
            let place = below(pointer, &name);
            if name == "path" {
                has_path = true;
                path = self.path(value, &place);
            } else if !LeafTest::is_operator(&name) {
                self.note(&place, "unknown member");
            } else {
                operators += 1;
                match operators {
                    1 => test = self.test(&name, value, &place),
                    _ => self.note(&place, "a second operator: one per condition, combine with all or any"),
                }
            }
        }
        if self.mistakes.len() == before && (!has_path || operators == 0) {
            self.note(
                pointer,
                match has_path {
                    true => "needs one operator: eq, ne, in, exists, prefix, gt, gte, lt or lte",
                    false => "needs all, any, not, or a path with one operator",
                },
            );
        }
        if self.mistakes.len() > before {
            return None;
        }
        self.leaves.push(FilterLeaf { path: path?, test: test? });
        Some(FilterNode::Leaf(self.leaves.len() - 1))
    }

    fn path(&mut self, value: ExactValue, place: &str) -> Option<Vec<PathToken>> {
        let ExactValue::Text(text) = value else {
            return self.mistake(place, "must be a string: a JSON Pointer such as /a/b");
        };
        if text.len() > PATH_BYTES_MAX {
            return self.mistake(place, format!("longer than {PATH_BYTES_MAX} bytes"));
        }
        match read_pointer(&text) {
            Some(tokens) => Some(tokens),
            None => self.mistake(place, "not a JSON Pointer: empty, or /-separated with ~0 for ~ and ~1 for /"),
        }
    }

    fn test(&mut self, operator: &str, value: ExactValue, place: &str) -> Option<LeafTest> {
        Some(match (operator, value) {
            ("eq", value) => LeafTest::Eq(value.sorted()),
            ("ne", value) => LeafTest::Ne(value.sorted()),
            ("in", ExactValue::List(values)) => LeafTest::In(values.into_iter().map(ExactValue::sorted).collect()),
            ("in", _) => return self.mistake(place, "must be an array of values"),
            ("exists", ExactValue::Bool(wanted)) => LeafTest::Exists(wanted),
            ("exists", _) => return self.mistake(place, "must be true or false"),
            ("prefix", ExactValue::Text(text)) => LeafTest::Prefix(text),
            ("prefix", _) => return self.mistake(place, "must be a string"),
            (name, ExactValue::Number(text)) => match Comparison::named(name) {
                Some(comparison) if Decimal::read(text.as_bytes()).is_some() => LeafTest::Compare(comparison, text),
                _ => return self.mistake(place, "unknown operator"),
            },
            _ => return self.mistake(place, "must be a number"),
        })
    }

    fn note(&mut self, pointer: &str, detail: impl Into<String>) {
        self.mistakes.push((pointer.to_owned(), detail.into()));
    }

    fn mistake<T>(&mut self, pointer: &str, detail: impl Into<String>) -> Option<T> {
        self.note(pointer, detail);
        None
    }
}

fn below(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", escape_token(name))
}

/// The tokens of a JSON Pointer (RFC 6901). `None` if the text is not one.
fn read_pointer(text: &str) -> Option<Vec<PathToken>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.strip_prefix('/')?.split('/').map(read_token).collect()
}

fn read_token(token: &str) -> Option<PathToken> {
    let stray = token.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1']));
    // `~1` first, so that `~01` becomes `~1` and not `/` (RFC 6901 section 4).
    let text = token.replace("~1", "/").replace("~0", "~");
    let numeric = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit());
    let index = match numeric && (token == "0" || !token.starts_with('0')) {
        true => token.parse().ok(),
        false => None,
    };
    (!stray).then_some(PathToken { text, index })
}
