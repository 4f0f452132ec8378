//! Values of flags that may be too long for a command line: given directly, in a file (`@file`), or on stdin (`-`).

use std::{fs, io::Read as _, path::Path};

use serde_json::{Map, Value, value::RawValue};

use super::Exit;

/// Maximum size of an input. The API accepts nothing larger, so a larger file is the wrong one.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// The text on stdin (`-`), the text of a file (`@file`), or the given text itself.
pub fn text(flag: &str, given: &str) -> Result<String, Exit> {
    match (given, given.strip_prefix('@')) {
        ("-", _) => read(flag, "stdin", std::io::stdin().lock()),
        (_, Some(path)) => file(flag, Path::new(path)),
        _ => Ok(given.to_owned()),
    }
}

/// The text of a file, or of stdin for `-`.
pub fn file(flag: &str, path: &Path) -> Result<String, Exit> {
    if path == Path::new("-") {
        return read(flag, "stdin", std::io::stdin().lock());
    }
    let shown = path.display().to_string();
    let file = fs::File::open(path).map_err(|error| Exit::usage(format!("{flag}: cannot read {shown}: {error}")))?;
    read(flag, &shown, file)
}

/// The JSON in [`text`], with its bytes unchanged.
pub fn json(flag: &str, given: &str) -> Result<Box<RawValue>, Exit> {
    raw(flag, text(flag, given)?)
}

/// Checks JSON text and keeps its bytes unchanged.
pub fn raw(flag: &str, text: String) -> Result<Box<RawValue>, Exit> {
    serde_json::from_str::<Box<RawValue>>(&text).map_err(|error| {
        Exit::usage(format!("{flag}: not JSON: {error}")).hint("a text needs its quotes, for instance '\"text\"'")
    })
}

/// An object of the fields that have a value.
pub fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn read(flag: &str, from: &str, source: impl std::io::Read) -> Result<String, Exit> {
    let mut text = String::new();
    let read = source.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Exit::usage(format!("{flag}: cannot read {from}: {error}")))?;
    match text.len() as u64 > INPUT_BYTES_MAX {
        true => Err(Exit::usage(format!("{flag}: {from} has more than {INPUT_BYTES_MAX} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_bytes_from_a_file_and_from_the_line() {
        let odd = "{\"n\": 1.000000000000000000001e2,\"a\":\"\\u0041\", \"a\" : 2}";
        assert_eq!(json("--data", odd).expect("it is JSON").get(), odd);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data.json");
        fs::write(&path, odd).expect("written");
        let given = format!("@{}", path.display());
        assert_eq!(json("--data", &given).expect("it is JSON").get(), odd);
    }

    #[test]
    fn an_unreadable_input_is_a_usage_error() {
        for wrong in ["{", "plain", "@/nowhere/at/all"] {
            let exit = json("--data", wrong).expect_err(wrong);
            assert_eq!(exit.code(), 2);
            assert!(exit.text().starts_with("error: --data: "), "{}", exit.text());
        }
    }
}
