//! `postrider demo` as a user runs it: started, watched, joined from a second process, and removed without a trace.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::children;

const POSTRIDER: &str = env!("CARGO_BIN_EXE_postrider");
/// The wait for a line. On a busy machine it comes late, and if something is wrong it never comes.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str], temporary: &Path) -> Command {
    let mut command = Command::new(POSTRIDER);
    command.arg("demo").args(arguments).env("TMPDIR", temporary);
    command
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).expect("the directory").next().is_none()
}

/// A running demo, and its output so far.
struct Running {
    child: Child,
    lines: Receiver<String>,
    read: Vec<String>,
}

impl Running {
    fn start(temporary: &Path) -> Self {
        let mut child = children::spawn(demo(&["--keep"], temporary).stdout(Stdio::piped()));
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines, read: Vec::new() }
    }

    /// Reads until a line that has all of `words`.
    fn line(&mut self, words: &[&str]) -> String {
        loop {
            let line = self.lines.recv_timeout(LINE_TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("no line with {words:?} in\n{}", self.read.join("\n")));
            self.read.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        children::signal(&self.child, name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn variable<'a>(line: &'a str, name: &str) -> &'a str {
    let from = line.find(&format!("{name}=")).map(|at| at + name.len() + 1).expect("the variable");
    line[from..].split_whitespace().next().expect("its value")
}

#[test]
fn every_stage_is_told_and_a_second_process_can_join_in() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut running = Running::start(temporary.path());
    let export = running.line(&["export POSTRIDER_URL="]);
    running.line(&["accepted", "invoice.paid", "2 deliveries"]);
    // Both receive it, one of them after failures.
    running.line(&["failed", "invoice.paid", "flaky", "#1", "500", "again in"]);
    running.line(&["retried", "invoice.paid", "flaky", "#2"]);
    running.line(&["failed", "invoice.paid", "flaky", "#2", "500", "again in"]);
    running.line(&["retried", "invoice.paid", "flaky", "#3"]);
    running.line(&["delivered", "invoice.paid", "flaky", "#3", "200", "signature verified"]);
    let told = running.read.join("\n");
    let steady = told.lines().find(|line| line.contains("delivered") && line.contains("steady"));
    assert!(steady.is_some_and(|line| line.contains("invoice.paid") && line.contains("signature verified")), "{told}");
    let figures = running.line(&["flaky", "2", "50.0"]);
    assert_eq!(figures.split_whitespace().take(5).collect::<Vec<_>>(), ["flaky", "2", "2", "2", "0"], "{figures}");

    let mut send = Command::new(POSTRIDER);
    send.args(["send", "--type", "from.elsewhere", "--data", "{\"n\": 1}"])
        .env("POSTRIDER_URL", variable(&export, "POSTRIDER_URL"))
        .env("POSTRIDER_TOKEN", variable(&export, "POSTRIDER_TOKEN"));
    let sent = children::output(&mut send);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    running.line(&["accepted", "from.elsewhere"]);
    running.line(&["delivered", "from.elsewhere", "steady", "#1", "200", "signature verified"]);

    assert!(!is_empty(temporary.path()), "the demo keeps its data below TMPDIR");
    running.signal("INT");
    assert!(running.child.wait().expect("ended").success());
    assert!(is_empty(temporary.path()), "something is left behind");
}

#[test]
fn a_demo_ends_by_itself_and_leaves_nothing() {
    let temporary = tempfile::tempdir().expect("a directory");
    let Output { status, stdout, stderr } = children::output(&mut demo(&["--seconds", "1"], temporary.path()));
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && err.is_empty(), "{err}");
    assert!(out.contains("accepted   invoice.paid"), "{out}");
    assert!(out.contains("WEBHOOK  EVENTS"), "figures also where the story is cut short: {out}");
    assert!(!out.contains('\u{1b}'), "colours in a pipe: {out}");
    assert!(is_empty(temporary.path()), "something is left behind");
}

#[test]
fn sigterm_and_a_reader_that_leaves_leave_nothing_either() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut running = Running::start(temporary.path());
    running.line(&["accepted"]);
    running.signal("TERM");
    assert!(running.child.wait().expect("ended").success());
    assert!(is_empty(temporary.path()), "something is left behind after SIGTERM");

    let mut child = children::spawn(demo(&["--keep"], temporary.path()).stdout(Stdio::piped()));
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    assert!(child.wait().expect("ended").success(), "a reader that leaves is no failure");
    assert!(is_empty(temporary.path()), "something is left behind after the reader left");
}
