//! Streams that accept no writes: a full disk is an error with an exit code, and a reader that left is not. No verb
//! panics.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::children;

fn postrider(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command
        .args(words)
        .env_clear()
        .env("POSTRIDER_DATA_DIR", folder.join("data"))
        .env("POSTRIDER_LISTEN", "127.0.0.1:0");
    command.env("POSTRIDER_MIN_FREE_BYTES", "0").env("POSTRIDER_CONFIG", "/dev/null").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("a device")
}

/// The write end of a pipe whose reader is gone.
fn left() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// The exit code of a process, and its stderr if that is not redirected.
fn ended(command: &mut Command) -> (i32, String) {
    let output: Output = children::spawn(command).wait_with_output().expect("an end");
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

const VERBS: [&[&str]; 8] = [
    &["serve"],
    &["openapi"],
    &["completions", "bash"],
    &["man"],
    &["config", "show"],
    &["--help"],
    &["serve", "--help"],
    &["--version"],
];

#[test]
fn a_full_disk_behind_stdout_is_an_error_with_an_exit_code() {
    for words in VERBS {
        let folder = tempfile::tempdir().expect("a directory");
        let (code, said) = ended(postrider(words, folder.path()).stdout(full()));
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(said.contains("error: cannot write the answer: No space left"), "{words:?}: {said}");
    }
}

#[test]
fn a_reader_that_left_ends_a_verb_without_an_error() {
    for words in VERBS {
        let folder = tempfile::tempdir().expect("a directory");
        let (code, said) = ended(postrider(words, folder.path()).stdout(left()));
        assert_eq!(code, 0, "{words:?}: {said}");
        assert!(!said.contains("error:"), "{words:?}: {said}");
    }
}

#[test]
fn a_full_disk_behind_stderr_leaves_the_exit_code_as_it_is() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut refused = postrider(&["serve"], folder.path());
    assert_eq!(ended(refused.env("POSTRIDER_LISTEN", "nowhere").stderr(full())).0, 78);
    // The log is lost, and the daemon starts and stops without a reader of its greeting.
    assert_eq!(ended(postrider(&["serve"], folder.path()).stdout(left()).stderr(full())).0, 0);
    assert!(fs::metadata(folder.path().join("data/first-key")).is_ok());
}
