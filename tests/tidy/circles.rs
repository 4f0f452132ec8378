//! Import circles between the units of a folder, which are its files and folders: no two folders of one folder may use
//! each other.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, code_of, files, is_word_start};

/// Circles that may stay, by the folder that contains them, and why.
const CIRCLES: [(&str, &str); 1] = [("store", "the units around the writer share its partition set and write path")];

/// Folders whose files use each other in one direction only.
const LAYERED: [&str; 1] = ["kv"];

/// A module path below the crate's root.
type Module = Vec<String>;

/// A folder's units, with the units that each one uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The code of a file without comments, strings and its inline tests.
fn product_code(source: &Source) -> String {
    let product = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code_of(product)
}

/// All paths of a `use` tree, each as its segments.
fn paths(prefix: &[String], tree: &str, found: &mut Vec<Module>) {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        let (mut depth, mut from) = (0_usize, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => return paths(prefix, &group[from..at], found),
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    paths(prefix, &group[from..at], found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return;
    }
    let path = [prefix, std::slice::from_ref(&name)].concat();
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) => paths(&path, rest, found),
        None => found.push(path),
    }
}

/// The paths in a module's code that begin at the crate or above the module.
fn paths_of(module: &Module, code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| is_word_start(code, *at)) {
        paths(&[], &code[at + "crate::".len()..], &mut found);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| is_word_start(code, *at)) {
        let mut rest = &code[at..];
        let mut base = module.clone();
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            base.pop();
        }
        paths(&base, rest, &mut found);
    }
    found
}

/// For every folder: which of its units use which others.
fn uses_of(sources: &[Source]) -> BTreeMap<String, Uses> {
    let product =
        sources.iter().filter(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"));
    let modules: BTreeMap<Module, &Source> = product.map(|source| (source.module(), source)).collect();
    let mut folders: BTreeMap<String, Uses> = BTreeMap::new();
    for (module, source) in &modules {
        for path in paths_of(module, &product_code(source)) {
            let target = (1..=path.len()).rev().map(|length| &path[..length]).find(|part| modules.contains_key(*part));
            let Some(target) = target else { continue };
            let shared = module.iter().zip(target).take_while(|(one, other)| one == other).count();
            // A module and the folder around it are one unit.
            if let (Some(from), Some(to)) = (module.get(shared), target.get(shared)) {
                let uses = folders.entry(module[..shared].join("/")).or_default();
                uses.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    folders
}

/// Everything that a unit uses, directly or not.
fn reach<'a>(unit: &'a str, uses: &'a Uses) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![unit]);
    while let Some(unit) = open.pop() {
        let next = uses.get(unit).into_iter().flatten().map(String::as_str);
        open.extend(next.filter(|unit| seen.insert(*unit)));
    }
    seen
}

/// Units that use themselves through another unit of their folder: folders, and files of a layered folder.
fn against_circles(sources: &[Source]) -> Vec<(String, String)> {
    let is_folder = |path: &str| sources.iter().any(|source| source.path.starts_with(&format!("src/{path}/")));
    let mut wrong = Vec::new();
    for (folder, uses) in uses_of(sources) {
        for unit in uses.keys().filter(|unit| reach(unit, &uses).contains(unit.as_str())) {
            let path = format!("{folder}/{unit}");
            if LAYERED.contains(&folder.as_str()) || is_folder(path.trim_start_matches('/')) {
                wrong.push((folder.clone(), unit.clone()));
            }
        }
    }
    wrong
}

#[test]
fn no_folder_imports_itself_through_another_module() {
    let found = against_circles(&files("src", &[".rs"]));
    let is_permitted = |folder: &str| CIRCLES.iter().any(|(permitted, _)| *permitted == folder);
    let wrong: Vec<_> = found.iter().filter(|(folder, _)| !is_permitted(folder)).collect();
    assert!(wrong.is_empty(), "import circles (folder, unit): {wrong:?}");
    for (folder, why) in CIRCLES {
        assert!(found.iter().any(|(circle, _)| circle == folder), "{folder} has no circle any more ({why})");
    }
}

#[test]
fn circles_between_folders_are_found() {
    let tree = |files: &[(&str, &str)]| {
        let source = |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
        against_circles(&files.iter().map(source).collect::<Vec<_>>()).len()
    };
    let upward = ("src/api/route.rs", "use super::native::mount;");
    let down = ("src/api/native/mod.rs", "use crate::api::{error::ApiError, route::{Api, Route}};");
    assert_eq!(tree(&[upward, down]), 1);
    assert_eq!(tree(&[("src/api/route.rs", "// super::native::mount"), down]), 0);
    assert_eq!(tree(&[("src/api/mod.rs", "use native::mount;"), ("src/api/native/mod.rs", "use super::Api;")]), 0);
    let through =
        [("src/a/b/x.rs", "use crate::c::D;"), ("src/a/b/mod.rs", ""), ("src/c.rs", "use crate::a::b::x::Y;")];
    assert_eq!(tree(&through), 1, "a and c at the root");
    let files = [("src/kv/a.rs", "use crate::kv::b::B;"), ("src/kv/b.rs", "use crate::kv::a::A;")];
    assert_eq!(tree(&files), 2, "files of a layered folder");
}
