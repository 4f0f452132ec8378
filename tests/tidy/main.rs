//! The source keeps to its floors (docs/design.md, "The floors").
//!
//! Every rule is a function from a file's text to its violations. The tests apply it to the whole tree, and to snippets
//! that break it, which proves that every rule finds its fault.

mod circles;
mod compiler;
mod functions;
mod names;
mod pages;
mod prose;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Source, all_rust, code_of, files, first_segments, is_word_start, line_of, reaches, read, root};

/// Modules and their floors. All other modules are the roof, which may use everything.
const FLOORS: [(&str, u8); 10] = [
    ("mutants", 0),
    ("model", 1),
    ("rules", 2),
    ("http_client", 3),
    ("kv", 3),
    ("store", 4),
    ("engine", 5),
    ("api", 5),
    ("ui", 6),
    ("server", 7),
];
/// Crates that only these modules may name.
const OWNED_CRATES: [(&str, &[&str]); 2] =
    [("redb", &["kv"]), ("tokio", &["http_client", "engine", "server", "daemon", "cli", "main"])];
/// Names that read the machine's clock or randomness.
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
/// Files that may use one of them, and the reason.
const CLOCK_PERMITS: [(&str, &str, &str); 3] = [
    ("src/engine/clock.rs", "SystemTime", "it is the clock that is handed in"),
    ("src/engine/clock.rs", "SystemRandom", "it is the chance that is handed in"),
    ("src/cli/moment.rs", "SystemTime", "what a person writes as `90m` is read on the person's machine"),
];
/// Names that do not describe a module's job.
const NAMELESS: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "shared"];
const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "#[ignore", "TODO", "FIXME"];
const LINES_MAX: usize = 600;

/// Files of the pages that may write markup without escaping it: numbers of charts, and the icons.
const UNESCAPED: [&str; 2] = ["src/ui/chart.rs", "src/ui/assets.rs"];

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

/// redb and tokio are used in their own modules only.
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

/// The pages escape every text.
fn against_unescaped_markup(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let found = code.find("PreEscaped").filter(|_| !UNESCAPED.contains(&source.path.as_str()));
    found.map(|at| format!("{}:{}: markup without escaping", source.path, line_of(&code, at))).into_iter().collect()
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

/// A file begins with `//!`, has a descriptive name, is not too long, and contains nothing unfinished.
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

/// Paths of the machine on which it was written.
fn against_machine_paths(source: &Source, machine: &[String]) -> Vec<String> {
    let is_there = |path: &&String| source.text.contains(path.as_str());
    machine.iter().filter(is_there).map(|path| format!("{}: names {path}", source.path)).collect()
}

/// Home directories, and the directory of this build.
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
fn pages_escape_every_text() {
    expect_none(files("src", &[".rs"]).iter().flat_map(against_unescaped_markup).collect());
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
    assert!(postrider::mutants::FOUND_BY_ORACLE.iter().all(|name| listed.contains(name)));
    assert!(postrider::mutants::FOUND_BY_WALK.iter().all(|name| listed.contains(name)));
    expect_none(against_the_mutants(&listed, &files("src", &[".rs"])));
}

/// Tests of the rules on snippets that break them, and on similar ones that do not.
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
        assert_eq!(wrong("src/kv/a.rs", "use redb::Database; // tokio::"), 0);
        assert_eq!(wrong("src/main.rs", "use tokio::runtime;"), 0);
        assert_eq!(wrong("src/engine/a.rs", "use hyper_tokio::x; let s = \"redb::Error\";"), 0);
    }

    #[test]
    fn markup_without_escaping_is_found() {
        let wrong = |path: &str, text: &str| against_unescaped_markup(&source(path, text)).len();
        assert_eq!(wrong("src/ui/pages/a.rs", "html! { (maud::PreEscaped(name)) }"), 1);
        assert_eq!(wrong("src/ui/chart.rs", "use maud::PreEscaped;"), 0);
        assert_eq!(wrong("src/ui/a.rs", "// PreEscaped"), 0);
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
    fn files_without_form_are_found() {
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
