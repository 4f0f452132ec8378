//! Words of comments and names: their subject is a component, a client or a person with a role, and each thing has one word.

use super::expect_none;
use super::source::{Source, all_rust, code_of, comments_of, files, line_of};

/// Words that stand for a thing or a person without naming it.
const UNNAMED: [&str; 4] = ["what", "whoever", "somebody", "nobody"];

/// Words that the code once had for a thing beside the field's own term, and that term. Each thing has one word.
const RETIRED: [(&str, &str); 8] = [
    ("beat", "heartbeat"),
    ("concealed", "redacted"),
    ("courier", "deliverer"),
    ("desk", "dispatcher"),
    ("ledger", "write queue"),
    ("shelf", "partition set"),
    ("upkeep", "maintenance"),
    ("vitals", "health"),
];

/// Comments with one of `UNNAMED`. Text in backquotes is code and not prose.
fn against_unnamed_subjects(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, comment) in comments_of(&source.text).lines().enumerate() {
        let prose = comment.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
        let mut words = prose.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| UNNAMED.contains(word)) {
            wrong.push(format!("{}:{}: a comment with \"{word}\": name the subject", source.path, index + 1));
        }
    }
    wrong
}

/// Functions with one of `UNNAMED` in their names.
fn against_unnamed_functions(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let names = code.match_indices("fn ").filter_map(|(at, _)| {
        let name = code[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        name.split('_').any(|word| UNNAMED.contains(&word)).then_some((at, name))
    });
    let wrong = |(at, name)| format!("{}:{}: `fn {name}`: name the subject", source.path, line_of(&code, at));
    names.map(wrong).collect()
}

/// The words of a text in lower case. A name in snake case or camel case is several words.
fn words_of(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if !c.is_alphabetic() || c.is_uppercase() {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().expect("there is one").extend(c.to_lowercase());
        }
    }
    words
}

/// Lines of code or comments with one of `RETIRED`, and a path with one.
fn against_retired_words(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for text in [source.path.clone(), code_of(&source.text), comments_of(&source.text)] {
        for (index, line) in text.lines().enumerate() {
            let words = words_of(line);
            let retired = RETIRED.iter().filter(|(word, _)| words.iter().any(|of_line| of_line == word));
            wrong.extend(retired.map(|(word, term)| format!("{}:{}: \"{word}\": say {term}", source.path, index + 1)));
        }
    }
    wrong
}

#[test]
fn retired_words_do_not_come_back() {
    expect_none(files("src", &[".rs"]).iter().flat_map(against_retired_words).collect());
}

#[test]
fn retired_words_are_found() {
    let wrong =
        |path: &str, text: &str| against_retired_words(&Source { path: path.to_owned(), text: text.to_owned() }).len();
    assert_eq!(wrong("src/a.rs", "struct BeatState; // the ledger\nfn next_beat() {}"), 3);
    assert_eq!(wrong("src/engine/courier.rs", ""), 1);
    assert_eq!(wrong("src/a.rs", "fn heartbeat() {} // beats\nconst A: &str = \"shelf\";"), 0);
}

#[test]
fn comments_and_function_names_name_their_subject() {
    let sources = all_rust();
    expect_none(sources.iter().flat_map(against_unnamed_subjects).collect());
    expect_none(sources.iter().flat_map(against_unnamed_functions).collect());
}

#[test]
fn function_names_without_a_subject_are_found() {
    let wrong = |text: &str| {
        let source = Source { path: "src/a.rs".to_owned(), text: text.to_owned() };
        against_unnamed_functions(&source).len()
    };
    assert_eq!(wrong("fn what_comes_late() {}\nfn a_key_for_nobody() {}"), 2);
    assert_eq!(wrong("fn somewhat() {}\n// fn nobody()\nconst A: &str = \"fn nobody()\";"), 0);
}

#[test]
fn comments_without_a_subject_are_found() {
    let wrong = |text: &str| {
        let source = Source { path: "src/a.rs".to_owned(), text: text.to_owned() };
        against_unnamed_subjects(&source).len()
    };
    assert_eq!(wrong("//! What is kept.\n\nfn f() {} // whoever asks, and nobody else\n/* Somebody\nasks. */"), 3);
    assert_eq!(wrong("/// The text `what` describes the values. Somewhat later."), 0);
    assert_eq!(wrong("const A: &str = \"what // nobody\";\nfn what() {}"), 0);
}
