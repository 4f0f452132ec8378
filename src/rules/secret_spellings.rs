//! The spellings in which a program may repeat a secret: as it is, and in the usual encodings.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The usual spellings of `word`, without repetitions. The comparison with a text ignores case, so each stands for all
/// its cases.
///
/// JSON (RFC 8259, with the escapes that writers add), percent-encoding (RFC 3986) and forms, HTML, base64 in both
/// alphabets (RFC 4648) at each alignment, and hexadecimal digits.
pub fn secret_spellings(word: &str) -> Vec<String> {
    let mut spellings = vec![word.to_owned()];
    spellings.extend(json(word));
    spellings.extend(percent(word));
    spellings.extend(html(word));
    spellings.push(word.bytes().map(|byte| format!("{byte:02x}")).collect());
    spellings.extend(base64(word));
    let mut distinct: Vec<String> = Vec::with_capacity(spellings.len());
    for spelling in spellings {
        if !distinct.iter().any(|known| known.eq_ignore_ascii_case(&spelling)) {
            distinct.push(spelling);
        }
    }
    distinct
}

/// The spellings in a JSON string: with the escapes that must be, with `\/`, and with those for HTML and for ASCII alone.
fn json(word: &str) -> [String; 4] {
    let escaped = |also: fn(char) -> bool, slash: &str| -> String {
        let spell = |c: char| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '/' => slash.to_owned(),
            c if (c as u32) < 0x20 || also(c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
            c => c.to_string(),
        };
        word.chars().map(spell).collect()
    };
    [
        escaped(|_| false, "/"),
        escaped(|c| !c.is_ascii(), "\\/"),
        escaped(|c| matches!(c, '<' | '>' | '&') || !c.is_ascii(), "/"),
        escaped(|c| matches!(c, '<' | '>' | '&' | '\'' | '+' | '=') || !c.is_ascii(), "\\u002f"),
    ]
}

/// Percent-encoded: all but unreserved characters, as JavaScript does, as forms do, and all that may not stand in a
/// path or a query.
fn percent(word: &str) -> [String; 4] {
    let encoded = |kept: &[u8], space: &str| -> String {
        let spell = |byte: u8| match byte {
            b' ' => space.to_owned(),
            byte if byte.is_ascii_alphanumeric() || kept.contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        word.bytes().map(spell).collect()
    };
    [
        encoded(b"-._~", "%20"),
        encoded(b"-._~!*'()", "%20"),
        encoded(b"-._*", "+"),
        encoded(b"-._~!$&'()*+,;=:@/?", "%20"),
    ]
}

/// In HTML: by names, by decimal and by hexadecimal numbers.
fn html(word: &str) -> [String; 5] {
    let escaped = |apostrophe: &str, quote: &str, also: &[(char, &str)]| -> String {
        let spell = |c: char| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => quote.to_owned(),
            '\'' => apostrophe.to_owned(),
            c => also.iter().find(|(from, _)| *from == c).map_or(c.to_string(), |(_, to)| (*to).to_owned()),
        };
        word.chars().map(spell).collect()
    };
    [
        escaped("&#39;", "&quot;", &[]),
        escaped("&#039;", "&#34;", &[]),
        escaped("&#x27;", "&quot;", &[]),
        escaped("&apos;", "&quot;", &[]),
        escaped("&#x27;", "&quot;", &[('/', "&#x2F;"), ('=', "&#x3D;"), ('`', "&#x60;")]),
    ]
}

/// The part of a base64 text that depends on the word alone, for each place of the word in groups of three bytes.
fn base64(word: &str) -> Vec<String> {
    let mut spellings = Vec::new();
    for before in 0..3 {
        let bytes = [&[0; 2][..before], word.as_bytes()].concat();
        // The first digits depend on the bytes before, and the last on those after.
        let from = (before * 8).div_ceil(6);
        let to = bytes.len() * 8 / 6;
        for text in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            spellings.extend(text.get(from..to).map(str::to_owned));
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_encodings_are_among_the_spellings() {
        let word = r#"p/ä"s <w>&'=+1"#;
        let spellings = secret_spellings(word);
        for expected in [
            word,
            r#"p/ä\"s <w>&'=+1"#,
            r#"p\/\u00e4\"s <w>&'=+1"#,
            r#"p/\u00e4\"s \u003cw\u003e\u0026'=+1"#,
            "p%2F%C3%A4%22s%20%3Cw%3E%26%27%3D%2B1",
            "p%2F%C3%A4%22s+%3Cw%3E%26%27%3D%2B1",
            "p/ä&quot;s &lt;w&gt;&amp;&#39;=+1",
            "p/ä&quot;s &lt;w&gt;&amp;&#x27;=+1",
            "p/ä&quot;s &lt;w&gt;&amp;&apos;=+1",
            "702fc3a42273203c773e26273d2b31",
        ] {
            assert!(spellings.iter().any(|spelling| spelling.eq_ignore_ascii_case(expected)), "{expected}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment() {
        let word = "sesame-open>>>???";
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "x", "xy"] {
                let text = format!("{before}{word}{after}");
                for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert!(secret_spellings(word).iter().any(|spelling| encoded.contains(spelling)), "{text}");
                }
            }
        }
    }
}
