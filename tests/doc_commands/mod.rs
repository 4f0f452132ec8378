//! The documentation's commands: those of the README and of `docs/` are run as written, in shells that stand for their
//! terminals. Those of the table of features are parsed by their command line, and links lead to existing places.
//!
//! The test supplies the place (an empty directory for each page), free ports, and `postrider` in the `PATH`. `steps`
//! describes how a page names its commands.

mod steps;
mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Parser as _;

use steps::{Step, steps};
use terminal::Terminal;

use crate::support::ports::ReservedPort;

const POSTRIDER: &str = env!("CARGO_BIN_EXE_postrider");
/// The ports in the pages, which are replaced by free ones. The first is the daemon's.
const PORTS: [&str; 3] = ["8080", "9000", "9001"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README, and every page of `docs/`.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("a directory");
    let mut all: Vec<PathBuf> = docs.map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    all.sort();
    all.push(root().join("README.md"));
    all
}

fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page after its steps: its directory, its terminals, and their ports.
struct Followed {
    directory: tempfile::TempDir,
    terminals: BTreeMap<u8, Terminal>,
    _reserved: [ReservedPort; PORTS.len()],
}

/// Takes the steps. If one fails, panics with the whole output.
fn follow(name: &str, text: &str) -> Followed {
    let directory = tempfile::tempdir().expect("a directory");
    let reserved = PORTS.map(|_| ReservedPort::new());
    let ports = reserved.each_ref().map(|port| port.address().port());
    let programs = Path::new(POSTRIDER).parent().expect("a directory").display().to_string();
    let environment = [
        ("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default())),
        ("POSTRIDER_LISTEN", format!("127.0.0.1:{}", ports[0])),
        ("POSTRIDER_URL", format!("http://127.0.0.1:{}", ports[0])),
        // Daemons of other tests are not found.
        ("XDG_RUNTIME_DIR", directory.path().display().to_string()),
        // The events of a page are accepted on a machine that is short of disk too.
        ("POSTRIDER_MIN_FREE_BYTES", "0".to_owned()),
        // The daemon reads the machine's file, if it has one. An empty file has no settings.
        ("POSTRIDER_CONFIG", directory.path().join("none.toml").display().to_string()),
    ];
    std::fs::write(directory.path().join("none.toml"), "").expect("written");
    let text = PORTS.iter().zip(ports).fold(text.to_owned(), |text, (old, new)| text.replace(old, &new.to_string()));
    let steps = steps(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
    let mut terminals = BTreeMap::new();
    for step in &steps {
        if let Err(why) = terminal::take(step, &mut terminals, directory.path(), &environment) {
            let shown = terminals.iter().map(|(number, t)| format!("--- terminal {number}\n{}\n", t.shown));
            panic!("{name}: {step:?}: {why}\n{}", shown.collect::<String>());
        }
    }
    Followed { directory, terminals, _reserved: reserved }
}

#[test]
fn the_first_steps_work_as_they_are_written() {
    let page = text_of(&root().join("docs/first-steps.md"));
    assert!(steps(&page).is_ok_and(|steps| steps.len() > 10), "most of it is missing");
    let followed = follow("docs/first-steps.md", &page);
    let store = followed.directory.path().join("postrider-data/state.redb");
    assert!(store.exists(), "the data is not where it is said to be");
    let arrivals = followed.terminals[&2].shown.lines().filter_map(|line| line.split_once("  invoice.overdue  "));
    let first = arrivals.map(|(_, rest)| rest.to_owned()).next().expect("shown before");
    assert!(first.contains("verified") && !first.contains(" #1 "), "a retry: {first}");
}

#[test]
fn the_first_screen_leads_to_an_event_that_is_retried_and_found_again() {
    let readme = text_of(&root().join("README.md"));
    assert!(steps(&readme).is_ok_and(|steps| steps.len() > 8), "most of it is missing");
    let followed = follow("README.md", &readme);
    let arrivals = followed.terminals[&2].shown.lines().filter(|line| line.contains("  invoice.paid  ")).count();
    assert_eq!(arrivals, 2, "{}", followed.terminals[&2].shown);
}

#[test]
fn a_checkout_needs_two_commands() {
    let readme = text_of(&root().join("README.md"));
    for command in ["cargo run --release -- demo", "cargo test"] {
        assert!(readme.contains(&format!("```sh\n{command}\n```")), "README.md lacks `{command}`");
    }
    assert!(root().join("tests/operation/demo.rs").is_file(), "the demo is run by no test");
}

#[test]
fn the_pages_work_as_they_are_written() {
    let mut followed = 0;
    let others = ["README.md", "docs/first-steps.md"].map(|name| root().join(name));
    for path in pages().iter().filter(|path| !others.contains(path)) {
        let (name, text) = (path.display().to_string(), text_of(path));
        let steps = steps(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        if steps.iter().any(|step| matches!(step, Step::Run { .. })) {
            follow(&name, &text);
            followed += 1;
        }
    }
    assert!(followed > 0, "no page has a command that is run");
}

#[test]
fn commands_of_the_table_parse() {
    let commands = table_commands(&text_of(&root().join("docs/features.md")));
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        if let Err(error) = postrider::cli::Cli::try_parse_from(words(&command)) {
            panic!("{command}: {error}");
        }
    }
}

/// The commands in the rows of tables.
fn table_commands(readme: &str) -> Vec<String> {
    let rows = readme.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted.filter(|text| text.starts_with("postrider ")).map(str::to_owned).collect()
}

/// Words as a shell splits them. Only single quotes are supported.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in command.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().expect("one at least").push(c),
        }
    }
    words
}

/// The anchor of a heading in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_lead_somewhere() {
    let others = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "llms.txt"].map(|name| root().join(name));
    for path in pages().into_iter().chain(others) {
        let (page, text) = (path.display(), text_of(&path));
        let here = path.parent().expect("a directory");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, place) = target.split_once('#').map_or((target, None), |(file, place)| (file, Some(place)));
            let there = if file.is_empty() { path.clone() } else { here.join(file) };
            assert!(there.exists(), "{page} links to {target}");
            if let Some(place) = place {
                assert!(anchors(&text_of(&there)).contains(place), "{page} links to {target}");
            }
        }
    }
}

#[test]
fn every_page_is_on_the_map() {
    let map = text_of(&root().join("docs/README.md"));
    for path in pages() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        assert!(name == "README.md" || map.contains(&format!("({name})")), "docs/README.md does not lead to {name}");
    }
}

#[test]
fn anchors_are_those_of_the_headings() {
    assert_eq!(
        anchor(" What it can do, and the command that shows it"),
        "what-it-can-do-and-the-command-that-shows-it"
    );
    assert_eq!(anchor("`GET /v1/events`"), "get-v1events");
}
