//! Reads source files as text, and finds code, comments, paths and items in them without a parser.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path below the root, with `/`, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// The module's way from the root of the crate: `src/store/apply/mod.rs` is `store`, `apply`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut segments: Vec<String> = inner.split('/').map(str::to_owned).collect();
        let last = segments.pop().unwrap_or_default();
        match (last.as_str(), last.strip_suffix("_tests")) {
            ("mod", _) => {}
            // `#[path]` puts these below the module that they test.
            (_, Some(tested)) => segments.extend([tested.to_owned(), "tests".to_owned()]),
            _ => segments.push(last),
        }
        segments
    }

    /// The module below the root that it belongs to.
    pub fn part(&self) -> String {
        self.module().first().cloned().unwrap_or_default()
    }
}

/// The text without comments and strings. Line ends stay where they are.
pub fn code_of(text: &str) -> String {
    parts_of(text).0
}

/// The comments of the text, without code and strings. Line ends stay where they are.
pub fn comments_of(text: &str) -> String {
    parts_of(text).1
}

/// The code and the comments of the text.
fn parts_of(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_comment = rest.starts_with("//") || rest.starts_with("/*");
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string_end(rest)
        } else if let Some(end) = raw_string_end(rest, &code) {
            end
        } else if c == '\'' {
            char_end(rest)
        } else {
            0
        };
        let step = if skipped > 0 { skipped } else { c.len_utf8() };
        let ends = rest[..step].chars().filter(|c| *c == '\n');
        match skipped {
            0 => code.push(c),
            _ => code.extend(ends.clone()),
        }
        match is_comment {
            true => comments.push_str(&rest[..step]),
            false => comments.extend(ends),
        }
        rest = &rest[step..];
    }
    (code, comments)
}

/// The end of a string literal at the start of the text.
pub fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The end of a raw string, `r"…"` or `r#"…"#`. `None` if the `r` ends a name.
pub fn raw_string_end(text: &str, before: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    let is_name = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_');
    if is_name || !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let from = 2 + hashes;
    Some(text[from..].find(&close).map_or(text.len(), |at| from + at + close.len()))
}

/// The end of a character's literal. 0 for a lifetime.
pub fn char_end(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[3..].find('\'').map_or(0, |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Paths that begin at the crate or above the module: the module below the root that each leads to, with its line.
pub fn reaches(source: &Source) -> Vec<(usize, String)> {
    let code = code_of(&source.text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if is_word_start(&code, at) {
            let line = line_of(&code, at);
            found.extend(first_segments(&code[at + "crate::".len()..]).into_iter().map(|name| (line, name)));
        }
    }
    let mut at = 0;
    while let Some(next) = code[at..].find("super::").map(|next| at + next) {
        let mut end = next;
        while code[end..].starts_with("super::") {
            end += "super::".len();
        }
        at = end;
        let supers = (end - next) / "super::".len();
        let depth = source.module().len() + inline_modules_at(&code, next);
        if is_word_start(&code, next) && supers >= depth {
            let line = line_of(&code, next);
            found.extend(first_segments(&code[end..]).into_iter().map(|name| (line, name)));
        }
    }
    found
}

pub fn is_word_start(code: &str, at: usize) -> bool {
    !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
}

pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first name of a path, or of each path in a group.
pub fn first_segments(path: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut from) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[from..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// How many `mod name { … }` of this file the place stands in.
pub fn inline_modules_at(code: &str, at: usize) -> usize {
    let mut open: Vec<bool> = Vec::new();
    let mut since = 0;
    for (place, c) in code[..at].char_indices() {
        match c {
            '{' => {
                let head = code[since..place].trim();
                let words: Vec<&str> = head.split_whitespace().collect();
                open.push(words.len() >= 2 && words[words.len() - 2] == "mod");
                since = place + 1;
            }
            '}' => {
                open.pop();
                since = place + 1;
            }
            ';' => since = place + 1,
            _ => {}
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` with one of the endings.
pub fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                found.push(read(&path));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

pub fn read(path: &Path) -> Source {
    let below = path.strip_prefix(root()).expect("below the root");
    let path_text = below.to_string_lossy().replace('\\', "/");
    // A picture may name a path too.
    let text = String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned();
    Source { path: path_text, text }
}

pub fn all_rust() -> Vec<Source> {
    let folders = ["src", "tests", "benches"].into_iter().filter(|folder| root().join(folder).exists());
    folders.flat_map(|folder| files(folder, &[".rs"])).collect()
}
