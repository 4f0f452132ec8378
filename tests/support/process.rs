//! The program as a child process: its log in a file, its exit code, its first lines.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::children::{output, signal, spawn};

pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// All lines of stdout before it listened.
    pub said: Vec<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `postrider serve` over `data_dir` with these variables only, and its log in `log`.
fn command(data_dir: &Path, log: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.arg("serve").env_clear().env("POSTRIDER_DATA_DIR", data_dir).env("POSTRIDER_LISTEN", "127.0.0.1:0");
    // Client verbs of other tests do not find it.
    command.env("XDG_RUNTIME_DIR", log.parent().unwrap_or(Path::new("/nonexistent")));
    command.env("POSTRIDER_MIN_FREE_BYTES", "0").env("POSTRIDER_CONFIG", "/dev/null");
    command.envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(log).expect("a log"));
    command
}

/// Starts it with flags and waits until it listens.
pub fn start_with(flags: &[&str], data_dir: &Path, log: &Path) -> Program {
    let mut command = command(data_dir, log, &[]);
    let (child, said) = listening_of(command.args(flags), log);
    Program { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), said }
}

/// Starts it and waits until it listens on TCP.
pub fn start(data_dir: &Path, log: &Path, variables: &[(&str, &str)]) -> Program {
    let (child, said) = listening(data_dir, log, variables);
    let at = said.last().and_then(|line| line.rsplit_once("://")).expect("an address").1;
    Program { child, address: at.parse().expect("an address"), said }
}

/// The same for a program that may listen on a unix socket.
pub fn start_anywhere(data_dir: &Path, log: &Path, variables: &[(&str, &str)]) -> Program {
    let (child, said) = listening(data_dir, log, variables);
    Program { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), said }
}

fn listening(data_dir: &Path, log: &Path, variables: &[(&str, &str)]) -> (Child, Vec<String>) {
    listening_of(&mut command(data_dir, log, variables), log)
}

fn listening_of(command: &mut Command, log: &Path) -> (Child, Vec<String>) {
    let mut child = spawn(command);
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("a piped stdout")).lines() {
        said.push(line.expect("text"));
        if said.last().is_some_and(|line| line.contains("listening on")) {
            return (child, said);
        }
    }
    panic!("the daemon ended: {:?} {}", child.wait(), fs::read_to_string(log).unwrap_or_default());
}

/// Starts the program so that it cannot run. Returns its exit code and its stderr.
pub fn refused(data_dir: &Path, log: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let output = spawn(&mut command(data_dir, log, variables)).wait_with_output().expect("an end");
    (output.status.code().expect("an exit code"), fs::read_to_string(log).expect("a log"))
}

/// The exit code and the output of a verb that works on files.
pub fn said_by(data_dir: &Path, words: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args(words).env_clear().env("POSTRIDER_DATA_DIR", data_dir).env("POSTRIDER_CONFIG", "/dev/null");
    let output = output(command.envs(variables.iter().copied()));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8(said).expect("text"))
}

impl Program {
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Maximum memory that it had so far, in KiB (proc(5), VmHWM).
    pub fn resident_kib_max(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends SIGTERM, and waits for the end.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert!(self.child.wait().expect("an end").success());
    }
}

/// Every file below `folder` with its bytes.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).expect("bytes")));
        }
    }
    files.sort();
    files
}
