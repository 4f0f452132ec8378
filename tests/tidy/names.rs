//! Type names: no two types of `src` share one.

use std::collections::BTreeMap;

use super::source::{Source, code_of, files, is_word_start, line_of};

/// Names that several types may have, and why.
const SHARED_NAMES: [(&str, &str); 0] = [];
const KEYWORDS: [&str; 4] = ["struct ", "enum ", "trait ", "union "];

/// Types declared in a file, with their lines. Aliases and associated types are not types of their own.
fn types(source: &Source) -> Vec<(String, usize)> {
    let code = code_of(&source.text);
    let mut found = Vec::new();
    for keyword in KEYWORDS {
        for (at, _) in code.match_indices(keyword) {
            let name: String =
                code[at + keyword.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if is_word_start(&code, at) && name.starts_with(|c: char| c.is_ascii_uppercase()) {
                found.push((name, line_of(&code, at)));
            }
        }
    }
    found
}

/// Names that more than one of the files' types have.
fn against_shared_names(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources {
        for (name, line) in types(source) {
            places.entry(name).or_default().push(format!("{}:{line}", source.path));
        }
    }
    let is_permitted = |name: &str| SHARED_NAMES.iter().any(|(permitted, _)| *permitted == name);
    places.retain(|name, places| places.len() > 1 && !is_permitted(name));
    places.into_iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

#[test]
fn no_two_types_share_a_name() {
    let mut sources = files("src", &[".rs"]);
    sources.retain(|source| source.part() != "cli");
    super::expect_none(against_shared_names(&sources));
}

#[test]
fn shared_type_names_are_found() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let one = source("src/a.rs", "pub struct One;\n// struct Two\nstruct Two { struct_name: u8 }\ntype Three = One;");
    let other = source("src/b.rs", "enum Three {}\nlet a = \"struct One\";\npub(crate) trait Two {}");
    assert_eq!(against_shared_names(&[one, other]), ["Two: src/a.rs:3, src/b.rs:3"]);
}
