//! JSON as ECMAScript writes it: the result of `JSON.stringify(JSON.parse(text))`.
//!
//! Dfns's receivers check the signature over a body that they have parsed and written again (seeds/shapes.md section
//! 2), so its body must not change by that. Invariant: rewriting a rewritten text changes nothing. The rules are
//! ECMA-262's: `SerializeJSONProperty`, `QuoteJSONString`, `Number::toString` (section 6.1.6.1.20), and
//! `OrdinaryOwnPropertyKeys` (section 10.1.11.1), which puts array indexes before all other names, in ascending order.

use std::io::Write as _;

/// Objects deeper than this keep the order of their members, so that hostile nesting cannot make this slow.
const NESTING_MAX: usize = 128;

/// Information that a JSON text loses when ECMAScript parses and rewrites it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonLoss {
    #[error("a number that a 64-bit float does not hold")]
    Number,
    #[error("members with integer-like names that are not first in their object and in ascending order")]
    Order,
}

/// Appends the valid JSON text `json` to `to` as ECMAScript would write it. Returns the loss of information, that of
/// a number before that of an order. Text that is not valid JSON gives an unspecified result and no panic.
pub fn rewrite(json: &[u8], to: &mut Vec<u8>) -> Option<JsonLoss> {
    to.reserve(json.len());
    let mut rewriter = Rewriter { json, at: 0, to, open: Vec::new(), members: Vec::new(), loss: None };
    rewriter.run();
    rewriter.loss
}

struct Rewriter<'a> {
    json: &'a [u8],
    at: usize,
    to: &'a mut Vec<u8>,
    open: Vec<OpenContainer>,
    /// The members of all open objects, those of the innermost last.
    members: Vec<JsMember>,
    loss: Option<JsonLoss>,
}

/// An object or array that is not closed yet.
struct OpenContainer {
    object: bool,
    /// Index of its first member in `members`.
    first: usize,
}

struct JsMember {
    /// The array index that its name stands for. `None` for any other name.
    index: Option<u32>,
    /// Offset of its name in the output.
    start: usize,
}

impl Rewriter<'_> {
    fn run(&mut self) {
        let mut name_next = false;
        while let Some(&byte) = self.json.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'"' => self.string(name_next),
                b'-' | b'0'..=b'9' => self.number(),
                b'{' | b'[' => {
                    name_next = byte == b'{';
                    self.open.push(OpenContainer { object: name_next, first: self.members.len() });
                    self.copy(byte);
                }
                b'}' | b']' => {
                    self.close();
                    self.copy(byte);
                }
                _ => {
                    name_next = byte == b',' && self.open.last().is_some_and(|open| open.object);
                    self.copy(byte);
                }
            }
        }
    }

    fn copy(&mut self, byte: u8) {
        self.to.push(byte);
        self.at += 1;
    }

    fn string(&mut self, is_name: bool) {
        let json = self.json;
        let mut end = self.at + 1;
        let mut escaped = false;
        while let Some(&byte) = json.get(end).filter(|byte| **byte != b'"') {
            escaped |= byte == b'\\';
            end += if byte == b'\\' { 2 } else { 1 };
        }
        let end = json.len().min(end + 1);
        let token = &json[self.at..end];
        self.at = end;
        let start = self.to.len();
        let plain = if escaped { serde_json::from_slice::<String>(token).ok() } else { None };
        match &plain {
            // serde_json and QuoteJSONString escape the same characters in the same way.
            Some(text) => serde_json::to_writer(&mut *self.to, text).expect("a Vec takes all"),
            None => self.to.extend_from_slice(token),
        }
        if is_name {
            let name = plain.as_ref().map_or(token.get(1..token.len() - 1).unwrap_or(b""), |text| text.as_bytes());
            self.members.push(JsMember { index: array_index(name), start });
        }
    }

    fn number(&mut self) {
        let rest = &self.json[self.at..];
        let len = rest.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        let token = &rest[..len];
        self.at += len;
        let integer = !token.iter().any(|b| matches!(b, b'.' | b'e' | b'E'));
        let parsed = std::str::from_utf8(token).ok().and_then(|text| text.parse::<f64>().ok());
        // Integers of up to 15 digits are exact and shortest already, except -0, which is written as 0.
        if let (true, 0..=15, _) | (_, _, None) = (integer && token != b"-0", len, parsed) {
            self.to.extend_from_slice(token);
            return;
        }
        let start = self.to.len();
        let number = parsed.unwrap_or_default();
        write_number(number, self.to);
        if !number.is_finite() || (integer && token != b"-0" && &self.to[start..] != token) {
            self.loss = Some(JsonLoss::Number);
        }
    }

    /// Puts the members of the object that ends here into ECMAScript's order.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let members = &self.members[open.first..];
        let rank = |member: &JsMember| member.index.map_or(u64::MAX, u64::from);
        if open.object && !members.is_sorted_by_key(rank) {
            self.loss.get_or_insert(JsonLoss::Order);
            if self.open.len() < NESTING_MAX {
                let base = members[0].start;
                let written = self.to.split_off(base);
                // A member ends where the comma before the next one stands.
                let ends = members[1..].iter().map(|next| next.start - 1).chain([base + written.len()]);
                let mut spans: Vec<_> = members.iter().zip(ends).map(|(m, end)| (rank(m), m.start..end)).collect();
                spans.sort_by_key(|(rank, _)| *rank);
                for (nth, (_, span)) in spans.into_iter().enumerate() {
                    if nth > 0 {
                        self.to.push(b',');
                    }
                    self.to.extend_from_slice(&written[span.start - base..span.end - base]);
                }
            }
        }
        self.members.truncate(open.first);
    }
}

/// ECMA-262 section 6.1.7: an array index is an integer of 0 to 2^32 - 2 in its shortest decimal form.
fn array_index(name: &[u8]) -> Option<u32> {
    let shortest = matches!(name, [b'0'] | [b'1'..=b'9', ..]) && name.iter().all(u8::is_ascii_digit);
    if !shortest {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok().filter(|index| *index != u32::MAX)
}

/// `Number::toString` in base 10. As in `JSON.stringify`, a number that is not finite becomes `null`.
fn write_number(number: f64, to: &mut Vec<u8>) {
    if !number.is_finite() {
        to.extend_from_slice(b"null");
        return;
    }
    if number == 0.0 {
        to.push(b'0');
        return;
    }
    if number < 0.0 {
        to.push(b'-');
    }
    // serde_json finds the digits that ECMA-262 asks for: the shortest that read back, of those the closest, and of two
    // equally close ones the even one. Rust's own formatting breaks the last rule. Only the layout differs.
    let mut buffer = [0u8; 32];
    let mut rest = &mut buffer[..];
    serde_json::to_writer(&mut rest, &number.abs()).expect("32 bytes suffice");
    let used = 32 - rest.len();
    let mark = buffer[..used].iter().position(|byte| *byte == b'e').unwrap_or(used);
    let exponent =
        std::str::from_utf8(&buffer[used.min(mark + 1)..used]).ok().and_then(|text| text.parse::<i32>().ok());
    let whole = buffer[..mark].iter().position(|byte| *byte == b'.').unwrap_or(mark);
    if whole < mark {
        buffer.copy_within(whole + 1..mark, whole);
    }
    let digits = &buffer[..if whole < mark { mark - 1 } else { mark }];
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let end = digits.iter().rposition(|digit| *digit != b'0').map_or(zeros, |last| last + 1);
    let point = whole as i32 - zeros as i32 + exponent.unwrap_or_default();
    place_point(&digits[zeros..end], point, to);
}

/// Writes 0.`digits` × 10^`point` in the layout that ECMA-262 prescribes for its size.
fn place_point(digits: &[u8], point: i32, to: &mut Vec<u8>) {
    let count = digits.len() as i32;
    match point {
        1..=21 if count <= point => {
            to.extend_from_slice(digits);
            to.resize(to.len() + (point - count) as usize, b'0');
        }
        1..=21 => {
            let (whole, fraction) = digits.split_at(point as usize);
            to.extend_from_slice(whole);
            to.push(b'.');
            to.extend_from_slice(fraction);
        }
        -5..=0 => {
            to.extend_from_slice(b"0.");
            to.resize(to.len() + (-point) as usize, b'0');
            to.extend_from_slice(digits);
        }
        _ => {
            to.push(digits[0]);
            if count > 1 {
                to.push(b'.');
                to.extend_from_slice(&digits[1..]);
            }
            let exponent = point - 1;
            write!(to, "e{exponent:+}").expect("a Vec takes all");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn rewritten(json: &str) -> (String, Option<JsonLoss>) {
        let mut to = Vec::new();
        let loss = rewrite(json.as_bytes(), &mut to);
        (String::from_utf8(to).unwrap(), loss)
    }

    /// Left as written, right as node 20 gives it for `JSON.stringify(JSON.parse(left))`.
    const NUMBERS: [(&str, &str); 28] = [
        ("0", "0"),
        ("1.0", "1"),
        ("-0", "0"),
        ("0.1", "0.1"),
        ("1e2", "100"),
        ("1e21", "1e+21"),
        ("1e20", "100000000000000000000"),
        ("123456789012345680000", "123456789012345680000"),
        ("1e-6", "0.000001"),
        ("1e-7", "1e-7"),
        ("1.5e-9", "1.5e-9"),
        ("12345678901234567890", "12345678901234567000"),
        ("9007199254740993", "9007199254740992"),
        ("9007199254740991", "9007199254740991"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("1e400", "null"),
        ("-1.50", "-1.5"),
        ("100", "100"),
        ("0.000123", "0.000123"),
        ("5.1924", "5.1924"),
        ("-1e-7", "-1e-7"),
        ("1234.5e300", "1.2345e+303"),
        ("4.35", "4.35"),
        ("2.5E+3", "2500"),
        ("0.1234567890123456789", "0.12345678901234568"),
        ("1339158083566163.25", "1339158083566163.2"),
        ("1339158083566163.75", "1339158083566163.8"),
    ];

    #[test]
    fn numbers_are_written_as_node_writes_them() {
        for (given, expected) in NUMBERS {
            assert_eq!(rewritten(given).0, expected, "{given}");
        }
    }

    #[test]
    fn only_a_change_of_value_is_a_loss() {
        for json in ["-0", "1.0", "9007199254740991", "0.5", r#"{"a":1,"b":[1e3]}"#, r#"{"0":1,"7":2,"a":3}"#] {
            assert_eq!(rewritten(json).1, None, "{json}");
        }
        for json in ["9007199254740993", "[-12345678901234567890]", "1e400"] {
            assert_eq!(rewritten(json).1, Some(JsonLoss::Number), "{json}");
        }
        assert_eq!(rewritten(r#"{"a":1,"0":2}"#).1, Some(JsonLoss::Order));
        assert_eq!(rewritten(r#"{"10":1,"9":2}"#).1, Some(JsonLoss::Order));
    }

    #[test]
    fn white_space_goes_and_strings_are_quoted_anew() {
        assert_eq!(rewritten(" { \"a b\" : [ 1 ,\n\ttrue , null ] } ").0, r#"{"a b":[1,true,null]}"#);
        assert_eq!(rewritten(r#""\u00e9\/\u0001\u2028\ud83d\ude00\"\\""#).0, "\"é/\\u0001\u{2028}😀\\\"\\\\\"");
        assert_eq!(rewritten("\"\u{7f} : , \"").0, "\"\u{7f} : , \"");
    }

    #[test]
    fn integer_like_names_go_first_and_ascend() {
        let given = r#"{"b":{"x":1,"2":[{"z":0,"1":1}],"10":3,"9":4},"01":5,"4294967295":6,"4294967294":7,"\u0030":8}"#;
        let node = r#"{"0":8,"4294967294":7,"b":{"2":[{"1":1,"z":0}],"9":4,"10":3,"x":1},"01":5,"4294967295":6}"#;
        assert_eq!(rewritten(given), (node.to_owned(), Some(JsonLoss::Order)));
        assert_eq!(rewritten(node), (node.to_owned(), None));
    }

    #[test]
    fn deep_nesting_is_walked_without_recursion() {
        let json = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(rewritten(&json), (json, None));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Floats that serde_json reads exactly; `every_float_reads_back` has the others.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let name = prop_oneof!["[0-9]{1,3}", any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn rewriting_twice_is_rewriting_once(json in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
            let (once, _) = rewritten(&text);
            prop_assert_eq!(rewritten(&once), (once.clone(), None));
            if pretty {
                prop_assert_eq!(&rewritten(&serde_json::to_string(&json).unwrap()).0, &once);
            }
        }

        #[test]
        fn a_text_without_loss_keeps_its_value(json in any_json()) {
            let text = serde_json::to_string(&json).unwrap();
            if let (once, None) = rewritten(&text) {
                let as_floats = |text: &str| -> Value {
                    fn float(value: Value) -> Value {
                        match value {
                            Value::Number(n) => Value::from(n.as_f64()),
                            Value::Array(items) => items.into_iter().map(float).collect(),
                            Value::Object(map) => map.into_iter().map(|(k, v)| (k, float(v))).collect(),
                            other => other,
                        }
                    }
                    float(serde_json::from_str(text).unwrap())
                };
                prop_assert_eq!(as_floats(&once), as_floats(&text));
            }
        }

        #[test]
        fn every_float_reads_back(number in any::<f64>()) {
            let mut to = Vec::new();
            write_number(number, &mut to);
            let text = String::from_utf8(to).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), number);
            prop_assert_eq!(rewritten(&text), (text.clone(), None));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), tokens in r#"[{}\[\],:"\\01e.\- ]{0,40}"#) {
            rewrite(&bytes, &mut Vec::new());
            rewrite(tokens.as_bytes(), &mut Vec::new());
        }
    }
}
