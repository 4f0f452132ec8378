//! Function lengths: every function of the program fits a screen, and every test fits two.

use super::source::{Source, all_rust, code_of, is_word_start, line_of};

/// Lines of a function, its signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 60;
/// Lines of a test: a scenario may be a long list of cases.
const TEST_LINES_MAX: usize = 80;

/// Functions longer than the limit.
fn against_long_functions(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let is_test = source.path.starts_with("tests/") || source.path.ends_with("tests.rs");
    let lines_max = if is_test { TEST_LINES_MAX } else { FUNCTION_LINES_MAX };
    let starts = code.match_indices("fn ").filter(|(at, _)| is_word_start(&code, *at));
    let long = starts.filter_map(|(at, _)| {
        let lines = code[at..body_end(&code, at)?].matches('\n').count() + 1;
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (lines > lines_max).then(|| format!("{}:{}: {name} has {lines} lines", source.path, line_of(&code, at)))
    });
    long.collect()
}

/// The end of the body of the function that begins at `at`. `None` if it has no body.
fn body_end(code: &str, at: usize) -> Option<usize> {
    let (mut braces, mut parentheses) = (0, 0);
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => parentheses += 1,
            ')' | ']' => parentheses -= 1,
            ';' if braces == 0 && parentheses == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return (braces == 0).then_some(at + offset);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn no_function_is_longer_than_a_screen() {
    super::expect_none(all_rust().iter().flat_map(against_long_functions).collect());
}

#[test]
fn long_functions_are_found() {
    let body =
        |lines: usize| format!("trait A {{ fn none(&self) -> [u8; 2]; }}\nfn f() {{\n{}}}\n", "g();\n".repeat(lines));
    let source = |lines| Source { path: "src/a.rs".to_owned(), text: body(lines) };
    assert!(against_long_functions(&source(FUNCTION_LINES_MAX - 2)).is_empty());
    let long = format!("src/a.rs:2: f has {} lines", FUNCTION_LINES_MAX + 1);
    assert_eq!(against_long_functions(&source(FUNCTION_LINES_MAX - 1)), [long]);
}
