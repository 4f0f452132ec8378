//! Words of comments and function names: their subject is a component, a client or a person with a role.

use super::expect_none;
use super::source::{Source, all_rust, code_of, comments_of, line_of};

/// Words that stand for a thing or a person without naming it.
const UNNAMED: [&str; 4] = ["what", "whoever", "somebody", "nobody"];

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
