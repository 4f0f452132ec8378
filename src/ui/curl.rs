//! A request of the past as a command of curl, to be tried by hand.

use crate::api::native::attempt_request::AttemptRequestView;

/// A longer body is left to a file.
const BODY_BYTES_MAX: usize = 4_096;
/// Headers that curl makes itself.
const OWN_HEADERS: [&str; 3] = ["host", "content-length", "connection"];

/// The command. `None` if the request was not made. Credentials are masked in it, as everywhere. A body that was sent
/// encrypted is left to a file, because its signature does not fit the text before encryption.
pub fn command(sent: &AttemptRequestView) -> Option<String> {
    if sent.headers.is_empty() {
        return None;
    }
    let method = format!("{:?}", sent.method).to_uppercase();
    let mut text = format!("curl -X {method} {}", quoted(&sent.url));
    for (name, value) in sent.headers.iter().filter(|(name, _)| !OWN_HEADERS.contains(&name.as_str())) {
        let line = format!("{name}: {}", value.as_str().unwrap_or_default());
        text.push_str(&format!(" \\\n  -H {}", quoted(&line)));
    }
    match &sent.body {
        Some(body) if body.len() <= BODY_BYTES_MAX && !sent.was_encrypted() => {
            text.push_str(&format!(" \\\n  --data-binary {}", quoted(body)))
        }
        Some(_) => text.push_str(" \\\n  --data-binary @body"),
        None => {}
    }
    Some(text)
}

/// A text as one word of a shell (POSIX, 2.2.2 Single-Quotes).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $(x) `y` \\"), r"'it'\''s $(x) `y` \'");
    }
}
