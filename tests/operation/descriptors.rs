//! The limit of open files, which a start raises.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::children;

#[test]
fn a_start_raises_its_limit_of_open_files() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    // The soft limit alone is lowered, as in a login shell.
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -n 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_postrider"), "serve"])
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log).expect("a file"))
        // Client verbs of other tests do not find it.
        .env("XDG_RUNTIME_DIR", folder.path())
        .envs([("POSTRIDER_CONFIG", "/dev/null"), ("POSTRIDER_MIN_FREE_BYTES", "0")]);
    let mut program = children::spawn(&mut command);
    let said = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let is_ready = said.map_while(Result::ok).any(|line| line.contains("listening on"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap_or_default();
    program.kill().expect("killed");
    program.wait().expect("ended");
    let log = fs::read_to_string(&log).expect("a log");
    assert!(is_ready, "{log}");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let limits: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(limits[0], limits[1], "the soft limit is the hard one");
    assert!(log.contains("connections_max="), "{log}");
}
