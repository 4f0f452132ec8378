//! Reads the steps of a page from its comments and blocks.
//!
//! A comment before a block of commands names its terminal (`terminal 2`) and perhaps its last output (`until "…"`).
//! Without `until` every command must end with success. `again until "…"` repeats the block. A comment without a block
//! waits for output (`terminal 2 shows "…"`) or stops a command (`ctrl-c in terminal 1`). It may also name the file
//! that the next block is (`file receiver.py`). A block in another language may also be run by a suite
//! (`run by tests/suites/receivers.sh as receiver.py`).
//!
//! Invariant: a block without a step is an error. A block that is not run is marked for the reader too, by the line
//! `*Not run by the tests: why.*` above it.

/// Languages of blocks that are neither commands nor programs.
const SHOWN_ONLY: [&str; 6] = ["", "text", "json", "toml", "http", "yaml"];
const NOT_RUN: &str = "*Not run by the tests: ";

/// A step of a page, in its order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Runs commands in a terminal until it shows the text. With `None` it waits until they are done.
    Run {
        terminal: u8,
        until: Option<String>,
        commands: String,
    },
    /// Runs commands in a terminal repeatedly until it shows the text.
    Repeat {
        terminal: u8,
        until: String,
        commands: String,
    },
    Shows {
        terminal: u8,
        text: String,
    },
    CtrlC {
        terminal: u8,
    },
    /// A file of the page's directory.
    Write {
        name: String,
        text: String,
    },
}

/// The steps of a page. `Err` names an unreadable one.
pub fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut place: Option<Place> = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            if place.is_some() {
                return Err(format!("no block follows the comment before {line}"));
            }
            match step_of(comment)? {
                Comment::Block(block) => place = Some(block),
                Comment::Step(step) => steps.push(step),
            }
        } else if line.starts_with(NOT_RUN) && line.ends_with(".*") {
            if place.replace(Place::Nowhere).is_some() {
                return Err(format!("no block follows the comment before {line}"));
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            match (place.take(), SHOWN_ONLY.contains(&language)) {
                (Some(place), _) => steps.extend(place.with(language, block.join("\n") + "\n")?),
                (None, true) => {}
                (None, false) => return Err(format!("nothing says where to run {block:?}")),
            }
        } else if place.is_some() && !line.is_empty() {
            return Err(format!("{line:?} stands between a comment and its block"));
        }
    }
    match place {
        Some(_) => Err("no block follows the last comment".to_owned()),
        None => Ok(steps),
    }
}

enum Comment {
    /// How the block that follows runs.
    Block(Place),
    Step(Step),
}

enum Place {
    Nowhere,
    Once(u8, Option<String>),
    Again(u8, String),
    File(String),
    /// A suite runs it.
    Suite(String),
}

impl Place {
    fn with(self, language: &str, text: String) -> Result<Option<Step>, String> {
        let is_shell = language == "sh";
        match self {
            Place::Nowhere => Ok(None),
            Place::Once(terminal, until) if is_shell => Ok(Some(Step::Run { terminal, until, commands: text })),
            Place::Again(terminal, until) if is_shell => Ok(Some(Step::Repeat { terminal, until, commands: text })),
            Place::File(name) => Ok(Some(Step::Write { name, text })),
            Place::Suite(path) => match std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists() {
                true => Ok(None),
                false => Err(format!("there is no suite {path}")),
            },
            Place::Once(..) | Place::Again(..) => Err(format!("a terminal runs sh, not {language}")),
        }
    }
}

fn step_of(comment: &str) -> Result<Comment, String> {
    let wrong = || format!("what is `{comment}`?");
    let number = |text: &str| text.parse::<u8>().map_err(|_| wrong());
    let quoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inner.filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(wrong)
    };
    if let Some(terminal) = comment.strip_prefix("ctrl-c in terminal ") {
        return Ok(Comment::Step(Step::CtrlC { terminal: number(terminal)? }));
    }
    if let Some(name) = comment.strip_prefix("file ") {
        return Ok(Comment::Block(Place::File(name.to_owned())));
    }
    if let Some((path, _)) = comment.strip_prefix("run by ").and_then(|rest| rest.split_once(" as ")) {
        return Ok(Comment::Block(Place::Suite(path.to_owned())));
    }
    let rest = comment.strip_prefix("terminal ").ok_or_else(wrong)?;
    if let Some((terminal, text)) = rest.split_once(" shows ") {
        return Ok(Comment::Step(Step::Shows { terminal: number(terminal)?, text: quoted(text)? }));
    }
    let block = if let Some((terminal, text)) = rest.split_once(", again until ") {
        Place::Again(number(terminal)?, quoted(text)?)
    } else if let Some((terminal, text)) = rest.split_once(", until ") {
        Place::Once(number(terminal)?, Some(quoted(text)?))
    } else {
        Place::Once(number(rest)?, None)
    };
    Ok(Comment::Block(block))
}

#[test]
fn unreadable_steps_are_found() {
    assert!(steps("```sh\nls\n```\n").expect_err("no place").contains("nothing says where to run"));
    assert!(steps("```python\n1\n```\n").is_err(), "a program without a word about it");
    assert!(steps("<!-- terminal 1 -->\n").is_err(), "a comment without its block");
    assert!(steps("<!-- terminal 1 -->\n<!-- ctrl-c in terminal 1 -->\n```sh\n```\n").is_err());
    assert!(steps("<!-- terminal 1 -->\nSo:\n```sh\n```\n").is_err(), "words in between");
    assert!(steps("<!-- terminal 1 -->\n```python\n```\n").is_err(), "no shell");
    assert!(steps("<!-- terminal one -->\n```sh\nls\n```\n").is_err());
    assert!(steps("<!-- not run: it is hidden -->\n```sh\nls\n```\n").is_err(), "the reader has to see it");
    assert!(steps("<!-- run by tests/suites/none.sh as a.py -->\n```python\n```\n").is_err());
    assert!(steps("<!-- a remark -->\n").is_err());
    assert_eq!(steps("*Not run by the tests: it is slow.*\n\n```sh\nls\n```\n```json\n{}\n```\n"), Ok(vec![]));
    let again = Step::Repeat { terminal: 2, until: "x".into(), commands: "a\n".into() };
    assert_eq!(steps("<!-- terminal 2, again until \"x\" -->\n```sh\na\n```\n"), Ok(vec![again]));
    let file = Step::Write { name: "a.toml".into(), text: "b\n".into() };
    assert_eq!(steps("<!-- file a.toml -->\n```toml\nb\n```\n"), Ok(vec![file]));
    let read = steps("<!-- terminal 1, until \"x\" -->\n```sh\na\nb\n```\n<!-- terminal 1 shows \"y\" -->\n");
    let run = Step::Run { terminal: 1, until: Some("x".into()), commands: "a\nb\n".into() };
    assert_eq!(read, Ok(vec![run, Step::Shows { terminal: 1, text: "y".into() }]));
}
