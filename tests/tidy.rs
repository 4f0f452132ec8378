//! The building held to its floors (docs/design.md, "The floors"), by reading the source.
//!
//! Every rule is a function from a file's text to what is wrong with it; the tests apply it to the whole tree, and to
//! snippets that break it, so that a rule that finds nothing is known to be able to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules and the floor they stand on. What is not here is the roof, which may use everything.
const FLOORS: [(&str, u8); 8] =
    [("mutants", 0), ("model", 1), ("rules", 2), ("kv", 3), ("store", 4), ("engine", 5), ("api", 5), ("server", 6)];
/// Crates that only some may name.
const OWNED_CRATES: [(&str, &[&str]); 2] =
    [("redb", &["kv"]), ("tokio", &["engine", "server", "daemon", "cli", "main"])];
/// What asks the machine for the time or for chance.
const CLOCK_WORDS: [&str; 8] = [
    "SystemTime",
    "std::time::Instant",
    "SystemRandom",
    "Timestamp::now",
    "Zoned::now",
    "Uuid::now_v7",
    "Uuid::new_v4",
    "RandomState",
];
/// Who may, and why.
const CLOCK_PERMITS: [(&str, &str, &str); 4] = [
    ("src/engine/clock.rs", "SystemTime", "it is the clock that is handed in"),
    ("src/engine/clock.rs", "std::time::Instant", "it is the clock that is handed in"),
    ("src/engine/clock.rs", "SystemRandom", "it is the chance that is handed in"),
    ("src/cli/moment.rs", "SystemTime", "what a person writes as `90m` is read on the person's machine"),
];
/// Names that say nothing of a module's job.
const NAMELESS: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "shared"];
const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "#[ignore", "TODO", "FIXME"];
const LINES_MAX: usize = 600;

/// A source file: its path below the root, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The module's way from the root of the crate: `src/store/apply/mod.rs` is `store`, `apply`.
    fn module(&self) -> Vec<String> {
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
    fn part(&self) -> String {
        self.module().first().cloned().unwrap_or_default()
    }
}

/// The text without comments and without what stands in strings; line ends stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
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
        match skipped {
            0 => code.push(c),
            _ => code.extend(rest[..step].chars().filter(|c| *c == '\n')),
        }
        rest = &rest[step..];
    }
    code
}

fn string_end(text: &str) -> usize {
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

/// Of `r"…"` and `r#"…"#`, where they are no end of a name.
fn raw_string_end(text: &str, before: &str) -> Option<usize> {
    let hashes = text.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    let is_name = before.chars().next_back().is_some_and(|c| c.is_alphanumeric() && c != 'b' || c == '_');
    if is_name || !text[1 + hashes..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let from = 2 + hashes;
    Some(text[from..].find(&close).map_or(text.len(), |at| from + at + close.len()))
}

/// Of a character's literal; 0 for a lifetime.
fn char_end(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), _) => text[3..].find('\'').map_or(0, |at| at + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Paths that begin at the crate or above the module: the module below the root that each leads to, with its line.
fn reaches(source: &Source) -> Vec<(usize, String)> {
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

fn is_word_start(code: &str, at: usize) -> bool {
    !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first name of a path, or of each path in a group.
fn first_segments(path: &str) -> Vec<String> {
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
fn inline_modules_at(code: &str, at: usize) -> usize {
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

fn floor_of(part: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == part).map(|(_, floor)| *floor)
}

/// A module uses itself and lower floors: never upward, never a neighbour.
fn against_floors(source: &Source) -> Vec<String> {
    let part = source.part();
    let Some(floor) = floor_of(&part) else { return Vec::new() };
    let is_wrong = |target: &String| *target != part && floor_of(target).is_none_or(|other| other >= floor);
    let wrong = reaches(source).into_iter().filter(|(_, target)| is_wrong(target));
    wrong.map(|(line, target)| format!("{}:{line}: {part} must not use {target}", source.path)).collect()
}

/// redb and tokio where they belong.
fn against_owners(source: &Source) -> Vec<String> {
    let (part, code) = (source.part(), code_of(&source.text));
    let mut wrong = Vec::new();
    for (name, owners) in OWNED_CRATES {
        let path = format!("{name}::");
        let named = code.match_indices(&path).find(|(at, _)| is_word_start(&code, *at));
        if let (Some((at, _)), false) = (named, owners.contains(&part.as_str())) {
            wrong.push(format!("{}:{}: {name} is for {owners:?}", source.path, line_of(&code, at)));
        }
    }
    wrong
}

/// The clock and chance are handed in.
fn against_the_clock(source: &Source) -> Vec<String> {
    let code = spelled_out(&code_of(&source.text));
    let mut wrong = Vec::new();
    for word in CLOCK_WORDS {
        let is_permitted = CLOCK_PERMITS.iter().any(|(path, what, _)| *path == source.path && *what == word);
        let ends = |at: usize| !code[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let starts = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = code.match_indices(word).find(|(at, _)| starts(*at) && ends(*at));
        if let (Some(_), false) = (found, is_permitted) {
            wrong.push(format!("{}: {word} is for engine/clock.rs", source.path));
        }
    }
    wrong
}

/// The code, and after it `std::time::X` for every name of a group `std::time::{…}`.
fn spelled_out(code: &str) -> String {
    let mut out = code.to_owned();
    for (at, found) in code.match_indices("std::time::{") {
        let names = first_segments(&code[at + found.len() - 1..]);
        out.extend(names.into_iter().map(|name| format!("\nstd::time::{name}")));
    }
    out
}

/// `//!` first, a name that says something, not too long, nothing unfinished.
fn against_the_form(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    if !source.text.starts_with("//! ") {
        wrong.push(format!("{}: does not open with `//!`", source.path));
    }
    let lines = source.text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{}: {lines} lines, {LINES_MAX} at most", source.path));
    }
    let names = source.path.split('/').map(|name| name.trim_end_matches(".rs"));
    wrong.extend(
        names.filter(|name| NAMELESS.contains(name)).map(|name| format!("{}: a module named {name}", source.path)),
    );
    let code = code_of(&source.text);
    for word in UNFINISHED {
        let is_there = if word.contains(['!', '#']) { code.contains(word) } else { comments_have(&source.text, word) };
        if is_there {
            wrong.push(format!("{}: {word}", source.path));
        }
    }
    wrong
}

fn comments_have(text: &str, word: &str) -> bool {
    text.lines().filter_map(|line| line.split_once("//")).any(|(_, comment)| comment.contains(word))
}

/// Paths of the machine that it was written on.
fn against_machine_paths(source: &Source, machine: &[String]) -> Vec<String> {
    let is_there = |path: &&String| source.text.contains(path.as_str());
    machine.iter().filter(is_there).map(|path| format!("{}: names {path}", source.path)).collect()
}

/// Where homes are, and where this was built.
fn machine_paths() -> Vec<String> {
    let mut paths: Vec<String> = [["/ho", "me/"], ["/ro", "ot/"], ["/Use", "rs/"]].map(|halves| halves.concat()).into();
    paths.push(env!("CARGO_MANIFEST_DIR").to_owned());
    paths
}

/// Mutants without a point in the source, and points that name no mutant.
fn against_the_mutants(listed: &[&str], sources: &[Source]) -> Vec<String> {
    let points: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.text.split("mutant!(\"").skip(1).filter_map(|rest| rest.split('"').next()))
        .collect();
    let unused = listed.iter().filter(|name| !points.contains(*name)).map(|name| format!("{name}: has no point"));
    let unknown = points.iter().filter(|name| !listed.contains(name)).map(|name| format!("{name}: is not listed"));
    unused.chain(unknown).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` with one of the endings.
fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
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

fn read(path: &Path) -> Source {
    let below = path.strip_prefix(root()).expect("below the root");
    let path_text = below.to_string_lossy().replace('\\', "/");
    Source { path: path_text, text: fs::read_to_string(path).expect("text") }
}

fn all_rust() -> Vec<Source> {
    let folders = ["src", "tests", "benches"].into_iter().filter(|folder| root().join(folder).exists());
    folders.flat_map(|folder| files(folder, &[".rs"])).collect()
}

fn expect_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} things are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn modules_use_lower_floors_only() {
    let sources = files("src", &[".rs"]);
    let parts: BTreeMap<String, usize> = sources.iter().fold(BTreeMap::new(), |mut parts, source| {
        *parts.entry(source.part()).or_default() += 1;
        parts
    });
    for (floor, _) in FLOORS {
        assert!(parts.contains_key(floor), "{floor} is gone: {parts:?}");
    }
    expect_none(sources.iter().flat_map(against_floors).collect());
}

#[test]
fn storage_and_runtime_stay_where_they_belong() {
    expect_none(files("src", &[".rs"]).iter().flat_map(against_owners).collect());
}

#[test]
fn clock_and_chance_are_handed_in() {
    let sources = files("src", &[".rs"]);
    expect_none(sources.iter().flat_map(against_the_clock).collect());
    for (path, word, why) in CLOCK_PERMITS {
        let source = sources.iter().find(|source| source.path == path);
        let needs = source.is_some_and(|source| spelled_out(&code_of(&source.text)).contains(word));
        assert!(needs, "{path} no longer needs {word} ({why}): take the permit away");
    }
}

#[test]
fn every_file_has_its_form() {
    expect_none(all_rust().iter().flat_map(against_the_form).collect());
}

#[test]
fn no_file_names_a_path_of_a_machine() {
    let mut sources = all_rust();
    for folder in ["docs", "packaging", ".ci"].into_iter().filter(|folder| root().join(folder).exists()) {
        sources.extend(files(folder, &[""]));
    }
    for page in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Cargo.toml"] {
        sources.push(read(&root().join(page)));
    }
    let machine = machine_paths();
    expect_none(sources.iter().flat_map(|source| against_machine_paths(source, &machine)).collect());
}

#[test]
fn every_mutant_has_a_point_in_the_source() {
    let listed = postrider::mutants::MUTANTS.map(|(name, _)| name);
    expect_none(against_the_mutants(&listed, &files("src", &[".rs"])));
}

/// The rules on snippets that break them, and on ones that only look so.
mod snippets {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn upward_and_sideways_uses_are_found() {
        let wrong = |path: &str, text: &str| against_floors(&source(path, text)).len();
        assert_eq!(wrong("src/rules/a.rs", "use crate::store::Store;"), 1);
        assert_eq!(wrong("src/engine/a.rs", "use crate::api::Api;"), 1);
        assert_eq!(wrong("src/api/a.rs", "fn f() { crate::engine::run(); }"), 1);
        assert_eq!(wrong("src/model/a.rs", "use crate::{rules::x, model::y, cli};"), 2);
        assert_eq!(wrong("src/store/mod.rs", "use super::engine::Engine;"), 1);
        assert_eq!(wrong("src/store/a/b.rs", "use super::super::super::server;"), 1);
        assert_eq!(wrong("src/model/a.rs", "use crate::config::Settings;"), 1);
    }

    #[test]
    fn uses_of_oneself_and_of_lower_floors_are_fine() {
        let wrong = |path: &str, text: &str| against_floors(&source(path, text));
        let none: Vec<String> = Vec::new();
        assert_eq!(wrong("src/engine/a.rs", "use crate::{store::Store, engine::b, model::{Time, Event}};"), none);
        assert_eq!(wrong("src/store/a/b.rs", "use super::super::engine;"), none, "a module of store named so");
        assert_eq!(wrong("src/store/mod.rs", "mod tests { use super::super::store; use super::engine; }"), none);
        assert_eq!(wrong("src/rules/body_tests.rs", "use super::super::api;"), none, "below rules::body");
        assert_eq!(wrong("src/rules/a.rs", "// crate::api\nconst A: &str = \"crate::api\"; /* crate::store */"), none);
        assert_eq!(wrong("src/cli/a.rs", "use crate::server::Server;"), none);
        assert_eq!(wrong("src/rules/a.rs", "use othercrate::api;"), none);
    }

    #[test]
    fn crates_outside_their_place_are_found() {
        let wrong = |path: &str, text: &str| against_owners(&source(path, text)).len();
        assert_eq!(wrong("src/engine/a.rs", "use redb::Database;"), 1);
        assert_eq!(wrong("src/api/a.rs", "async fn f() { tokio::time::sleep(d).await }"), 1);
        assert_eq!(wrong("src/config/mod.rs", "use tokio::fs;"), 1);
        assert_eq!(wrong("src/api/a.rs", "#[tokio::test]"), 1);
        assert_eq!(wrong("src/store/a.rs", "use redb::Database; // tokio::"), 0);
        assert_eq!(wrong("src/main.rs", "use tokio::runtime;"), 0);
        assert_eq!(wrong("src/engine/a.rs", "use hyper_tokio::x; let s = \"redb::Error\";"), 0);
    }

    #[test]
    fn looks_at_the_clock_are_found() {
        let wrong = |path: &str, text: &str| against_the_clock(&source(path, text)).len();
        assert_eq!(wrong("src/rules/a.rs", "let now = std::time::SystemTime::now();"), 1);
        assert_eq!(wrong("src/server/a.rs", "use std::time::{Duration, Instant};"), 1);
        assert_eq!(wrong("src/store/a.rs", "let id = Uuid::now_v7();"), 1);
        assert_eq!(wrong("src/api/a.rs", "ring::rand::SystemRandom::new()"), 1);
        assert_eq!(
            wrong("src/cli/moment.rs", "use std::time::{SystemTime, Instant};"),
            1,
            "one of the two is permitted"
        );
        assert_eq!(wrong("src/server/a.rs", "use std::time::Duration; use tokio::time::Instant;"), 0);
        assert_eq!(wrong("src/engine/a.rs", "struct SystemRandomness; // SystemTime"), 0);
    }

    #[test]
    fn what_lacks_form_is_found() {
        let wrong = |path: &str, text: &str| against_the_form(&source(path, text)).len();
        assert_eq!(wrong("src/a.rs", "use x;\n"), 1);
        assert_eq!(wrong("src/a.rs", &format!("//! A.\n{}", "\n".repeat(LINES_MAX))), 1);
        assert_eq!(wrong("src/cli/utils.rs", "//! A.\n"), 1);
        assert_eq!(wrong("src/common/mod.rs", "//! A.\n"), 1);
        assert_eq!(wrong("src/a.rs", &format!("//! A.\nfn f() {{ {}!() }}\n", "todo")), 1);
        assert_eq!(wrong("src/a.rs", &format!("//! A.\n// {}: later\n", "TO".to_owned() + "DO")), 1);
        assert_eq!(wrong("src/a.rs", "//! A.\nconst A: &str = \"todo!\";\n"), 0);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let machine = machine_paths();
        let wrong = |text: &str| against_machine_paths(&source("README.md", text), &machine).len();
        assert_eq!(wrong(&["see /ho", "me/anna/notes"].concat()), 1);
        assert_eq!(wrong(&format!("{}/src", env!("CARGO_MANIFEST_DIR"))), 1);
        assert_eq!(wrong("/etc/postrider/postrider.toml"), 0);
    }

    #[test]
    fn mutants_and_points_that_do_not_match_are_found() {
        let sources = [source("src/a.rs", "if mutant!(\"one\") {} if mutant!(\"two\") {}")];
        let none: Vec<String> = Vec::new();
        assert_eq!(against_the_mutants(&["one", "two"], &sources), none);
        assert_eq!(against_the_mutants(&["one"], &sources).len(), 1);
        assert_eq!(against_the_mutants(&["one", "two", "three"], &sources).len(), 1);
    }

    #[test]
    fn only_code_is_read() {
        assert_eq!(code_of("a // b\nc"), "a \nc");
        assert_eq!(code_of("a /* b\n*/ c"), "a \n c");
        assert_eq!(code_of(r#"f("x \" y") + g('"', '\'', 'a')"#), "f() + g(, , )");
        assert_eq!(code_of("r#\"a \" b\"# c r\"d\" br\"e\""), " c  b");
        assert_eq!(code_of("fn f<'a>(x: &'a str) -> &'a str { x }"), "fn f<'a>(x: &'a str) -> &'a str { x }");
        assert_eq!(code_of("str\"\" for\"x\""), "str for");
    }
}
