//! Errors of the settings: every problem, each with its place.

use std::fmt;

/// One problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingProblem {
    /// `file:line`, the variable's name, or the flag.
    pub place: String,
    /// The setting concerned in the file's spelling (`delivery.allow`). `None` if no setting is concerned.
    pub key: Option<String>,
    /// The problem, and the values that are allowed.
    pub text: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.text),
            None => write!(f, "{}: {}", self.place, self.text),
        }
    }
}

/// Unusable settings, with at least one problem, in the order of reading.
#[derive(Debug, thiserror::Error)]
#[error("{}", one_a_line(.problems))]
pub struct ConfigError {
    pub problems: Vec<SettingProblem>,
}

fn one_a_line(problems: &[SettingProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(SettingProblem::to_string).collect();
    lines.join("\n")
}
