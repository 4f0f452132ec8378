//! Bodies and headers of requests and answers: JSON indented and tinted, all else as text.

use maud::{Markup, html};
use serde::de::IgnoredAny;

use crate::model::Headers;

use super::format::foreign;

/// Maximum length of a body that is indented and tinted.
const TINTED_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of a body that a page shows. The rest is cut.
const SHOWN_BYTES_MAX: usize = 256 * 1024;
/// Maximum depth of indentation.
const INDENT_MAX: usize = 32;

/// A piece of a JSON text with its colour.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Key(String),
    Text(String),
    Plain(String),
}

impl Piece {
    fn text(&self) -> &str {
        match self {
            Piece::Key(text) | Piece::Text(text) | Piece::Plain(text) => text,
        }
    }
}

/// A body as a block. An indented one has its own text beside it.
pub fn block(body: &str) -> Markup {
    if body.is_empty() {
        return html! { p.muted { "empty" } };
    }
    if body.len() <= TINTED_BYTES_MAX && serde_json::from_str::<IgnoredAny>(body).is_ok() {
        let pieces = pieces(body);
        let is_altered = pieces.iter().map(Piece::text).collect::<String>() != body;
        return html! {
            pre {
                @for piece in &pieces {
                    @match piece {
                        Piece::Key(text) => span.k { (text) },
                        Piece::Text(text) => span.s { (text) },
                        Piece::Plain(text) => (text),
                    }
                }
            }
            @if is_altered { details { summary { "not indented" } pre { (foreign(body)) } } }
        };
    }
    let end = (0..=SHOWN_BYTES_MAX.min(body.len())).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    html! {
        pre { (foreign(&body[..end])) }
        @if end < body.len() { p.muted { "Cut here: the body is longer than this page shows." } }
    }
}

/// The pieces of a valid JSON text, indented by two spaces for each level.
fn pieces(json: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(c) = json[at..].chars().next() {
        match c {
            '"' => {
                let end = at + string_bytes(&json[at..]);
                let text = foreign(&json[at..end]);
                let is_key = json[end..].trim_start().starts_with(':');
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                pieces.push(if is_key { Piece::Key(text) } else { Piece::Text(text) });
                at = end;
                continue;
            }
            '{' | '[' => {
                plain.push(c);
                let closing = if c == '{' { '}' } else { ']' };
                let rest = json[at + 1..].trim_start();
                if rest.starts_with(closing) {
                    plain.push(closing);
                    at = json.len() - rest.len();
                } else {
                    depth += 1;
                    new_line(&mut plain, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut plain, depth);
                plain.push(c);
            }
            ',' => {
                plain.push(c);
                new_line(&mut plain, depth);
            }
            ':' => plain.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => plain.push(c),
        }
        at += c.len_utf8();
    }
    pieces.push(Piece::Plain(plain));
    pieces.retain(|piece| *piece != Piece::Plain(String::new()));
    pieces
}

fn new_line(plain: &mut String, depth: usize) {
    plain.push('\n');
    plain.push_str(&"  ".repeat(depth.min(INDENT_MAX)));
}

/// Bytes of the JSON string at the start of `text`, with its quotes.
fn string_bytes(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Header lines in their order.
pub fn headers(lines: &Headers) -> Markup {
    html! {
        dl.heads {
            @for (name, value) in lines.iter() {
                div { dt { (foreign(name)) } dd { (foreign(value)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        pieces(json).iter().map(Piece::text).collect()
    }

    #[test]
    fn json_is_indented_and_keeps_its_numbers() {
        assert_eq!(
            text(r#"{"a":[1e400,"x\"}",{}],"b":{"c":[ ]}}"#),
            "{\n  \"a\": [\n    1e400,\n    \"x\\\"}\",\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n  }\n}"
        );
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(text(&deep).chars().filter(|c| *c == '[').count(), 100);
    }

    #[test]
    fn an_indented_body_has_its_own_text_beside_it() {
        let shown = block("{\"a\":  1}").into_string();
        assert!(shown.ends_with("<pre>{&quot;a&quot;:  1}</pre></details>"), "{shown}");
        for same in ["17", "no JSON {"] {
            assert!(!block(same).into_string().contains("<details"), "{same}");
        }
    }

    #[test]
    fn markup_in_a_body_stays_text() {
        for body in [r#"{"<script>":"</pre><img src=x onerror=1>"}"#, "<script>alert(1)</script>", "\"<b>\""] {
            let shown = block(body).into_string();
            assert!(!shown.contains("<script") && !shown.contains("<img") && !shown.contains("<b>"), "{shown}");
        }
    }
}
