//! The unsuccessful end of a verb: the exit code, the message, and a hint. The codes are part of the contract: 1
//! failed, 2 usage, 69 daemon unreachable, 70 bug, 71 address in use, 74 storage, 75 stepped down, 76 overtaken, 78 bad
//! configuration.

use std::process::ExitCode;

use super::screen;
use crate::config;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// `EX_UNAVAILABLE` of sysexits(3).
const UNREACHABLE: u8 = 69;
/// `EX_SOFTWARE` of sysexits(3).
const SOFTWARE: u8 = 70;
/// `EX_OSERR` of sysexits(3).
const ADDRESS_IN_USE: u8 = 71;
/// `EX_IOERR` of sysexits(3).
const STORAGE: u8 = 74;
/// `EX_TEMPFAIL` of sysexits(3).
const STEPPED_DOWN: u8 = 75;
/// `EX_PROTOCOL` of sysexits(3).
const OVERTAKEN: u8 = 76;
/// `EX_CONFIG` of sysexits(3).
const CONFIGURATION: u8 = 78;

/// The unsuccessful end of a verb.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    /// The text without the leading `error:`. It may have several lines.
    message: String,
    hint: Option<String>,
    /// The HTTP status of the failing answer. `None` if there was no answer.
    pub status: Option<u16>,
}

impl Exit {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, status: None }
    }

    /// The request was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// The daemon gave no answer.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, message)
    }

    /// The disk does not store the writes.
    pub fn storage(message: impl Into<String>) -> Self {
        Self::new(STORAGE, message)
    }

    /// Another program listens on the address. The units in `packaging/systemd` do not restart after this code.
    pub fn address_in_use(message: impl Into<String>) -> Self {
        Self::new(ADDRESS_IN_USE, message)
    }

    /// The node owns the store of its cluster no more. The units in `packaging/systemd` start it again.
    pub fn stepped_down(message: impl Into<String>) -> Self {
        Self::new(STEPPED_DOWN, message)
    }

    /// Another machine owns the store under a higher term. The units in `packaging/systemd` do not restart after this code.
    pub fn overtaken(message: impl Into<String>) -> Self {
        Self::new(OVERTAKEN, message)
    }

    /// The program has a bug.
    pub fn software(message: impl Into<String>) -> Self {
        Self::new(SOFTWARE, message)
    }

    /// The settings cannot be used.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(CONFIGURATION, message)
    }

    /// The answer that was printed already describes the failure.
    pub fn silent_failure() -> Self {
        Self::new(FAILED, "")
    }

    /// The reader of the output closed the pipe (`… | head`). This is no failure.
    pub fn reader_left() -> Self {
        Self::new(0, "")
    }

    /// Adds a hint, which replaces an earlier one.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Adds the HTTP status of the failing answer.
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Without a hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later: the daemon is away, starts, or is busy.
    pub fn is_passing(&self) -> bool {
        self.code == UNREACHABLE || matches!(self.status, Some(429 | 502..=504))
    }

    pub fn code(&self) -> u8 {
        self.code
    }

    /// The text for stderr.
    pub fn text(&self) -> String {
        let message = match self.message.as_str() {
            "" => return String::new(),
            message => format!("error: {message}\n"),
        };
        match &self.hint {
            Some(hint) => format!("{message}hint: {hint}\n"),
            None => message,
        }
    }

    /// Writes the text to stderr and returns the exit code.
    pub fn report(self) -> ExitCode {
        screen::note(&self.text());
        ExitCode::from(self.code)
    }
}

impl From<config::ConfigError> for Exit {
    fn from(error: config::ConfigError) -> Self {
        Self::configuration(error.to_string().replace('\n', "\nerror: "))
            .hint("`postrider config check` reads the settings without starting anything")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingProblem;

    #[test]
    fn every_end_has_its_code() {
        let code = |exit: Exit| exit.code();
        assert_eq!(code(Exit::failed("")), 1);
        assert_eq!(code(Exit::usage("")), 2);
        assert_eq!(code(Exit::unreachable("")), 69);
        assert_eq!(code(Exit::software("")), 70);
        assert_eq!(code(Exit::address_in_use("")), 71);
        assert_eq!(code(Exit::storage("")), 74);
        assert_eq!(code(Exit::stepped_down("")), 75);
        assert_eq!(code(Exit::overtaken("")), 76);
        assert_eq!(code(Exit::configuration("")), 78);
        assert_eq!(code(Exit::reader_left()), 0);
    }

    #[test]
    fn each_problem_of_the_settings_is_an_error_line() {
        let problem = |place: &str| SettingProblem { place: place.into(), key: None, text: "wrong".into() };
        let exit = Exit::from(config::ConfigError { problems: vec![problem("a"), problem("b")] });
        assert_eq!(exit.code(), 78);
        assert!(exit.text().starts_with("error: a: wrong\nerror: b: wrong\nhint: "), "{}", exit.text());
        assert_eq!(Exit::reader_left().text(), "");
    }
}
