//! The source of a value, for `config show` and for messages that name a place.

use std::{fmt, path::PathBuf};

/// The source of one value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// The embedded `postrider.toml`.
    Default,
    /// A line (counted from 1) of the settings file.
    File { path: PathBuf, line: usize },
    /// An environment variable, by name.
    Env(String),
    /// A flag of the command line, with its dashes.
    Flag(&'static str),
    /// A systemd credential, by name.
    Credential(&'static str),
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}
