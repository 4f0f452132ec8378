//! Pages name only files, modules and tests that exist.

use super::expect_none;
use super::source::{Source, all_rust, comments_of, files, read, root};

/// Segments of a path that name a module inside the file of its parent.
const INLINE: [&str; 2] = ["tests", "snippets"];

/// Files and folders of `src` and `tests` that a page names in backquotes although they do not exist.
fn against_missing_files(page: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let named = ["`src/", "`tests/"].into_iter().flat_map(|start| page.text.match_indices(start));
    let named = named.map(|(at, _)| page.text[at + 1..].split(['`', ' ', '\n']).next().unwrap_or_default());
    let missing = named.filter(|path| !exists(path.trim_end_matches('/')));
    missing.map(|path| format!("{}: names {path}, which does not exist", page.path)).collect()
}

/// Modules and tests (`security::tenants`, `api::kill::a_test`) that a page names in backquotes although no file of `tests`
/// or `src` has them. `text_of` reads a file. It is `None` if the file does not exist.
fn against_missing_modules(page: &Source, text_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let quoted = page.text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let missing = quoted.filter(|path| is_module_path(path)).filter(|path| {
        let segments: Vec<&str> = path.split("::").collect();
        !["tests", "src"].iter().any(|folder| has_module(folder, &segments, &text_of))
    });
    missing.map(|path| format!("{}: names {path}, which does not exist", page.path)).collect()
}

/// Two or more names in lower case, joined by `::`.
fn is_module_path(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    text.contains("::") && text.split("::").all(is_name)
}

/// Whether `segments` lead from `folder` to a file, to a module inside a file, or to a function of a file.
fn has_module(folder: &str, segments: &[&str], text_of: &impl Fn(&str) -> Option<String>) -> bool {
    let file_of = |segments: &[&str]| {
        let path = [&[folder], segments].concat().join("/");
        text_of(&format!("{path}.rs")).or_else(|| text_of(&format!("{path}/mod.rs")))
    };
    if file_of(segments).is_some() {
        return true;
    }
    let Some((last, parents)) = segments.split_last() else { return false };
    file_of(parents).is_some_and(|text| {
        let is_inline = INLINE.contains(last) && text.contains(&format!("mod {last} {{"));
        is_inline || text.contains(&format!("fn {last}("))
    })
}

/// Pages of `docs`, and headings of them, that comments name (`docs/dialects.md, "Dfns"`) although they do not exist.
fn against_missing_pages(source: &Source, page: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let comments = comments_of(&source.text).replace('`', "");
    let lines = comments.lines().map(|line| line.trim().trim_start_matches(['/', '!']).trim());
    let comments = lines.collect::<Vec<_>>().join(" ");
    let named = comments.match_indices("docs/").filter_map(|(at, _)| {
        let (path, rest) = comments[at..].split_once(".md")?;
        let heading = rest.strip_prefix(", \"").and_then(|rest| rest.split_once('"')).map(|(heading, _)| heading);
        path[5..].chars().all(|c| c.is_ascii_lowercase() || c == '-').then_some((format!("{path}.md"), heading))
    });
    let missing = named.filter(|(path, heading)| {
        let has = |text: &str, heading| text.lines().any(|line| line.trim_start_matches('#').trim() == heading);
        !page(path).is_some_and(|text| heading.is_none_or(|heading| has(&text, heading)))
    });
    missing.map(|(path, heading)| format!("{}: names {path} {heading:?}, which is not there", source.path)).collect()
}

/// The README and every page of `docs` and `tests`.
fn pages() -> Vec<Source> {
    let mut pages = files("docs", &[".md"]);
    pages.extend(["README.md", "CONTRIBUTING.md", "tests/README.md"].map(|page| read(&root().join(page))));
    pages
}

#[test]
fn pages_name_files_that_exist() {
    let pages = pages();
    let exists = |path: &str| root().join(path).exists();
    expect_none(pages.iter().flat_map(|page| against_missing_files(page, exists)).collect());
    let design = pages.iter().find(|page| page.path == "docs/design.md").expect("the design has its page");
    let named = against_missing_files(design, |_| false).len();
    assert!(named >= 30, "the design names {named} files only: is its map gone?");
}

#[test]
fn comments_name_pages_that_exist() {
    let page = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    expect_none(all_rust().iter().flat_map(|source| against_missing_pages(source, page)).collect());
    let wrong = |comment: &str| {
        let source = Source { path: "src/a.rs".to_owned(), text: format!("// {comment}\nfn f() {{}}\n") };
        against_missing_pages(&source, |path| (path == "docs/a.md").then(|| "# A\n## One\n".to_owned())).len()
    };
    let both = wrong("As in docs/a.md, \"Two\", and docs/b.md.");
    assert_eq!((wrong("As in `docs/a.md`, \"One\"."), both), (0, 2));
}

#[test]
fn pages_name_modules_that_exist() {
    let pages = pages();
    let text_of = |path: &str| std::fs::read_to_string(root().join(path)).ok();
    expect_none(pages.iter().flat_map(|page| against_missing_modules(page, text_of)).collect());
    let security = pages.iter().find(|page| page.path == "docs/security.md").expect("security has its page");
    let named = against_missing_modules(security, |_| None).len();
    assert!(named >= 20, "docs/security.md names {named} modules only: do its promises still name their tests?");
}

#[test]
fn missing_files_of_a_page_are_found() {
    let text = "`src/a.rs`, `src/b/` and `tests/gone.rs`, not src/c.rs; `tests/run.sh now` runs";
    let page = Source { path: "docs/a.md".to_owned(), text: text.to_owned() };
    let missing = against_missing_files(&page, |path| ["src/a.rs", "src/b", "tests/run.sh"].contains(&path));
    assert_eq!(missing, ["docs/a.md: names tests/gone.rs, which does not exist"]);
}

#[test]
fn missing_modules_of_a_page_are_found() {
    let text = "`api::kill`, `api::kill::a_test`, `server::tests`, not `Type::new` or api::none\n`api::gone` and\n\
                `api::kill::gone`, `server::snippets`";
    let page = Source { path: "docs/a.md".to_owned(), text: text.to_owned() };
    let text_of = |path: &str| match path {
        "tests/api/kill.rs" => Some("fn a_test() {}".to_owned()),
        "src/server/mod.rs" => Some("mod tests {}".to_owned()),
        _ => None,
    };
    let missing = against_missing_modules(&page, text_of);
    let expected = ["api::gone", "api::kill::gone", "server::snippets"];
    assert_eq!(missing, expected.map(|path| format!("docs/a.md: names {path}, which does not exist")));
}
