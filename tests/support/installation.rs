//! The program as a child process with a folder of its own, and its command line.
//!
//! Invariant: a test waits for events and never for time. `PATIENCE` only ends a test that has failed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::children;

/// Maximum wait of a test that will fail.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval between two polls.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The result of `look`, as soon as it has one.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A folder with a settings file and a data directory, and the daemon that runs there.
pub struct Installation {
    pub folder: TempDir,
    pub variables: Vec<(String, String)>,
    pub daemon: Option<Child>,
    pub url: String,
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // The process may have ended already.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Installation {
    /// An installation with this settings file and no daemon yet.
    pub fn with(settings: &str) -> Installation {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("postrider.toml"), settings).expect("a settings file");
        Installation { folder, variables: Vec::new(), daemon: None, url: String::new() }
    }

    /// An installation with a running daemon on loopback. Receivers on loopback are allowed, and the log is JSON.
    pub fn start() -> Installation {
        let mut installation = Installation::with("min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n");
        installation.serve();
        installation
    }

    pub fn settings_file(&self) -> PathBuf {
        self.folder.path().join("postrider.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The program with this installation's variables only.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("POSTRIDER_CONFIG", self.settings_file()).env("POSTRIDER_DATA_DIR", self.data_dir());
        command.env("XDG_RUNTIME_DIR", self.folder.path());
        command.env("POSTRIDER_LISTEN", "127.0.0.1:0").env("POSTRIDER_LOG__FORMAT", "json");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if !self.url.is_empty() {
            let key = fs::read_to_string(self.data_dir().join("first-key")).unwrap_or_default();
            command.env("POSTRIDER_URL", &self.url).env("POSTRIDER_TOKEN", key.trim());
        }
        command.stdin(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it listens.
    pub fn serve(&mut self) {
        self.url.clear();
        let mut command = self.command();
        command.arg("serve");
        self.run(command);
    }

    /// Starts the command that becomes the daemon, and waits until it listens.
    pub fn run(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        let mut child = children::spawn(command.stdout(Stdio::piped()).stderr(log));
        let lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("postrider: listening on ") {
                self.url = url.to_owned();
                self.daemon = Some(child);
                return;
            }
        }
        panic!("the daemon ended: {:?} {}", child.wait(), self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The lines of the log with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let rows = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        rows.filter(|row| row["fields"]["message"] == message).collect()
    }

    /// Sends the daemon a signal, by name.
    pub fn signal(&self, name: &str) {
        children::signal(self.daemon.as_ref().expect("a daemon"), name);
    }

    /// Sends SIGTERM, and waits for a clean end.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let mut daemon = self.daemon.take().expect("a daemon");
        assert!(daemon.wait().expect("an end").success(), "{}", self.log());
    }

    /// The output of a command.
    pub fn output(&self, words: &[&str]) -> Output {
        children::output(self.command().args(words))
    }

    /// The output of a command that succeeds.
    pub fn says(&self, words: &[&str]) -> String {
        let output = self.output(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {:?}\n{out}\n{err}", output.status.code());
        out.into_owned()
    }

    /// The JSON that the command line prints.
    pub fn json(&self, words: &[&str]) -> Value {
        let said = self.says(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
    }

    /// The exit code and the text of stderr.
    pub fn fails(&self, words: &[&str]) -> (i32, String) {
        let output = self.output(words);
        (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
