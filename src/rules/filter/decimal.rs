//! Compares JSON numbers as exact decimals.
//!
//! Numbers are never rounded, so 9007199254740993 is not …992.
//!
//! Invariant: two spellings of one value are equal (`1`, `1.0`, `10e-1`; `-0` is `0`). Only exponents beyond ±10³⁶
//! saturate, and no number in use has one.

use std::cmp::Ordering;

/// Limit of exponents. It leaves room for the shift that the position of the first digit adds.
const EXPONENT_MAX: i128 = 10_i128.pow(36);

/// A number as its sign, the power of ten of its first significant digit, and its significant digits.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a> {
    negative: bool,
    /// Power of ten of the first significant digit.
    exponent: i128,
    /// The text from the first to the last digit that is not zero, perhaps with a decimal point between them. Empty for zero.
    digits: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Reads the text of a JSON number. `None` for text that does not begin like one.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !text.first()?.is_ascii_digit() {
            return None;
        }
        let mark = text.iter().position(|b| matches!(b, b'e' | b'E'));
        let (mantissa, written) = match mark {
            Some(mark) => (&text[..mark], read_exponent(&text[mark + 1..])),
            None => (text, 0),
        };
        let significant = |b: &u8| (b'1'..=b'9').contains(b);
        let Some(first) = mantissa.iter().position(significant) else {
            return Some(Decimal { negative: false, exponent: 0, digits: &[] });
        };
        let last = mantissa.iter().rposition(significant).unwrap_or(first);
        let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
        let shift = match first < point {
            true => (point - first) as i128 - 1,
            false => -((first - point) as i128),
        };
        Some(Decimal { negative, exponent: written + shift, digits: &mantissa[first..=last] })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + 'a {
        self.digits.iter().copied().filter(|&b| b != b'.')
    }

    /// -1, 0 or 1.
    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        }
    }

    /// The order of the values.
    pub fn order(&self, other: &Decimal<'_>) -> Ordering {
        let by_sign = self.sign().cmp(&other.sign());
        if by_sign.is_ne() {
            return by_sign;
        }
        // Digits end without zeros, so one that continues the other is larger.
        let size = self.exponent.cmp(&other.exponent).then_with(|| self.digits().cmp(other.digits()));
        match self.negative {
            true => size.reverse(),
            false => size,
        }
    }
}

fn read_exponent(text: &[u8]) -> i128 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let mut value: i128 = 0;
    for digit in digits {
        value = (value * 10 + i128::from(digit.wrapping_sub(b'0'))).min(EXPONENT_MAX);
    }
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(a: &str, b: &str) -> Ordering {
        let read = |text| Decimal::read(str::as_bytes(text)).unwrap();
        assert_eq!(read(a).order(&read(b)), read(b).order(&read(a)).reverse(), "{a} {b}");
        read(a).order(&read(b))
    }

    #[test]
    fn spellings_of_one_value_are_equal() {
        for (a, b) in [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("1", "0.1E+1"),
            ("100", "1e2"),
            ("0.00120", "12e-4"),
            ("0", "-0"),
            ("0", "0.000e9"),
            ("-0.0", "0e-9"),
            ("1e400", "10e399"),
            ("12.50", "1250e-2"),
            ("1e+0", "1e-0"),
            ("1.000000000000000000000000000001", "1000000000000000000000000000001e-30"),
            ("1e0000002", "100"),
        ] {
            assert_eq!(order(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn the_smaller_value_is_less() {
        for (a, b) in [
            ("9007199254740992", "9007199254740993"),
            ("1e400", "1e401"),
            ("-1e401", "-1e400"),
            ("-1", "0"),
            ("-1", "1"),
            ("0", "1e-400"),
            ("1e-401", "1e-400"),
            ("-1e-400", "0"),
            ("9", "10"),
            ("0.9", "0.91"),
            ("99.9", "100"),
            ("-10", "-9"),
            ("1.1", "1.2"),
            ("123", "1230"),
            ("0.05", "0.5"),
            ("1e99999999999999999999", "1e100000000000000000000"),
            ("1e-99999999999999999999", "1"),
        ] {
            assert_eq!(order(a, b), Ordering::Less, "{a} {b}");
        }
    }

    #[test]
    fn other_text_is_no_number() {
        for text in ["", "-", "true", "\"1\"", "[1]", ".5"] {
            assert!(Decimal::read(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_with_any_exponent_order_as_integers(a in -100_000_i64..100_000, b in -100_000_i64..100_000, shift in 0..6_u32) {
            let moved = format!("{}e-{shift}", i128::from(a) * 10_i128.pow(shift));
            prop_assert_eq!(order(&moved, &b.to_string()), a.cmp(&b));
        }

        #[test]
        fn fractions_order_as_fractions(a in 0_u32..100_000, b in 0_u32..100_000) {
            prop_assert_eq!(order(&format!("-7.{a:05}"), &format!("-7.{b:05}")), b.cmp(&a));
        }
    }
}
