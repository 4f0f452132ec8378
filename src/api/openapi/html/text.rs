//! Text of the description as HTML.

use std::borrow::Cow;

use serde_json::Value;

/// The same text with HTML's special characters as references.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out.into()
}

/// Markdown's `code` as HTML. Every second part between backticks is code.
pub fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let shown = parts.map(|(index, part)| match index % 2 {
        0 => escape(part).into_owned(),
        _ => format!("<code>{}</code>", escape(part)),
    });
    shown.collect()
}

/// Paragraphs, which an empty line separates.
pub fn paragraphs(text: &str) -> String {
    text.split("\n\n").filter(|part| !part.is_empty()).map(|part| format!("<p>{}</p>\n", code(part))).collect()
}

/// A value as a block of JSON with a caption.
pub fn example(out: &mut String, caption: &str, value: &Value) {
    let shown = match value {
        Value::String(text) => text.trim_end().to_owned(),
        other => serde_json::to_string_pretty(other).expect("a JSON value serialises"),
    };
    block(out, caption, &shown);
}

/// A block of text with a caption. The keyboard reaches it, because it scrolls on a narrow screen.
pub fn block(out: &mut String, caption: &str, shown: &str) {
    out.push_str(&format!(
        "<figure>\n<figcaption>{}</figcaption>\n<pre tabindex=\"0\"><code>{}</code></pre>\n</figure>\n",
        code(caption),
        escape(shown)
    ));
}
