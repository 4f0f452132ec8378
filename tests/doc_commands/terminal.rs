//! Terminals that a page's commands are typed into.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::steps::Step;
use crate::support::children;

/// Maximum wait for output before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Maximum polls of a condition. Each poll takes at least the time of a process.
const LOOKS_MAX: usize = 1_000;

/// A shell that reads commands as they are typed.
pub struct Terminal {
    shell: Child,
    output: Receiver<Vec<u8>>,
    /// All of its output, and the part of it that was waited for.
    pub shown: String,
    read: usize,
    /// Number of prompts that were waited for, which distinguishes each from earlier ones.
    prompts: u32,
}

impl Terminal {
    fn open(directory: &Path, environment: &[(&str, String)]) -> Self {
        // The tests may have been started with Ctrl-C ignored, which a shell cannot undo by itself.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "sh"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        // A process group of its own, so that Ctrl-C reaches only its commands.
        let mut shell = children::spawn(command.process_group(0));
        let (tell, output) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(shell.stdout.take().expect("piped")), Box::new(shell.stderr.take().expect("piped"))];
        for mut stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let _ = tell.send(bytes[..count].to_vec());
                }
            });
        }
        let mut terminal = Self { shell, output, shown: String::new(), read: 0, prompts: 0 };
        // The shell survives Ctrl-C on its command, and ends at the first command that fails.
        terminal.type_in("trap : INT\nset -e\n");
        terminal
    }

    fn type_in(&mut self, text: &str) {
        let keyboard = self.shell.stdin.as_mut().expect("piped");
        // A shell that has ended is detected by the wait for its output.
        let _ = keyboard.write_all(text.as_bytes()).and_then(|()| keyboard.flush());
    }

    /// Waits until `text` is shown, after the output that was waited for before.
    fn wait_for(&mut self, text: &str) -> Result<(), String> {
        loop {
            if let Some(at) = self.shown[self.read..].find(text) {
                self.read += at + text.len();
                return Ok(());
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => return Err(format!("{text:?} is not shown")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("ended, and {text:?} is not shown")),
            }
        }
    }

    /// Waits until all typed commands are done.
    fn wait_for_prompt(&mut self) -> Result<(), String> {
        self.prompts += 1;
        let prompt = format!("[prompt {}]", self.prompts);
        self.type_in(&format!("echo '{prompt}'\n"));
        self.wait_for(&prompt)
    }

    /// Sends Ctrl-C to every process of the terminal.
    fn interrupt(&mut self) {
        assert!(children::signal_group(&self.shell, "INT"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        children::signal_group(&self.shell, "KILL");
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Takes one step in `directory`.
pub fn take(
    step: &Step,
    terminals: &mut BTreeMap<u8, Terminal>,
    directory: &Path,
    environment: &[(&str, String)],
) -> Result<(), String> {
    let open = || Terminal::open(directory, environment);
    match step {
        Step::Run { terminal, until: Some(text), commands } => {
            let terminal = terminals.entry(*terminal).or_insert_with(open);
            terminal.type_in(commands);
            terminal.wait_for(text)
        }
        Step::Run { terminal, until: None, commands } => {
            let terminal = terminals.entry(*terminal).or_insert_with(open);
            let from = terminal.read;
            terminal.type_in(commands);
            terminal.wait_for_prompt()?;
            // The output of the block can be read again.
            terminal.read = from;
            Ok(())
        }
        Step::Repeat { terminal, until, commands } => {
            let terminal = terminals.entry(*terminal).or_insert_with(open);
            for _ in 0..LOOKS_MAX {
                let from = terminal.read;
                terminal.type_in(commands);
                terminal.wait_for_prompt()?;
                if terminal.shown[from..terminal.read].contains(until) {
                    terminal.read = from;
                    return Ok(());
                }
            }
            Err(format!("{until:?} is never shown"))
        }
        Step::Shows { terminal, text } => match terminals.get_mut(terminal) {
            Some(terminal) => terminal.wait_for(text),
            None => Err("nothing was run there".to_owned()),
        },
        Step::CtrlC { terminal } => match terminals.get_mut(terminal) {
            Some(terminal) => {
                terminal.interrupt();
                terminal.wait_for_prompt()
            }
            None => Err("nothing was run there".to_owned()),
        },
        Step::Write { name, text } => {
            std::fs::write(directory.join(name), text).map_err(|error| format!("{name}: {error}"))
        }
    }
}

#[test]
fn a_terminal_can_be_interrupted_and_ends_at_a_failing_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut terminals = BTreeMap::new();
    let mut taken = |step: Step| take(&step, &mut terminals, directory.path(), &[]);
    let run = |commands: &str, until: Option<&str>| Step::Run {
        terminal: 1,
        until: until.map(str::to_owned),
        commands: commands.to_owned(),
    };
    assert_eq!(taken(run("sh -c 'echo one; exec sleep 600' || echo two\n", Some("one"))), Ok(()));
    assert_eq!(taken(Step::CtrlC { terminal: 1 }), Ok(()));
    assert_eq!(taken(run("echo three\n", None)), Ok(()));
    assert_eq!(taken(Step::Shows { terminal: 1, text: "three".into() }), Ok(()));
    assert!(taken(run("false\n", None)).is_err_and(|why| why.contains("ended")));
}
