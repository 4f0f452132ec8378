//! The README kept true: its commands are run as they stand there, in shells that stand for its terminals, and those of
//! its table are parsed by the command line they are for.
//!
//! What the test supplies is the place (an empty directory), free ports, and `postrider` in the `PATH`. A comment before
//! a block says where it runs (`terminal 2`), and up to which output (`until "…"`; without it, until the commands are
//! done, each with success; `again until "…"` looks as often as it takes, as a person would); a comment without a block waits for output (`terminal 2 shows "…"`) or stops what runs
//! there (`ctrl-c in terminal 1`). A block without such a comment fails the test.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use clap::Parser as _;

const README: &str = include_str!("../README.md");
const POSTRIDER: &str = env!("CARGO_BIN_EXE_postrider");
/// How long output is waited for before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at that takes a moment to become true; each look takes a process's time at least.
const LOOKS_MAX: usize = 1_000;
/// The receiver's port in the README; a free one takes its place.
const README_PORT: &str = "9000";

/// What the README asks for, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Run in a terminal until it shows the text; none: until done.
    Run {
        terminal: u8,
        until: Option<String>,
        commands: String,
    },
    /// Run in a terminal as often as it takes until the text is shown.
    Repeat {
        terminal: u8,
        until: String,
        commands: String,
    },
    Shows {
        terminal: u8,
        text: String,
    },
    CtrlC {
        terminal: u8,
    },
}

/// The steps of a README; `Err` names what cannot be read.
fn steps(readme: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut run: Option<Block> = None;
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            if run.is_some() {
                return Err(format!("no block follows the comment before {line}"));
            }
            match step_of(comment)? {
                Comment::Block(block) => run = Some(block),
                Comment::Step(step) => steps.push(step),
            }
        } else if line.starts_with("```sh") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let commands = block.join("\n") + "\n";
            match run.take().ok_or_else(|| format!("nothing says where to run {block:?}"))? {
                Block::Nowhere => {}
                Block::Once(terminal, until) => steps.push(Step::Run { terminal, until, commands }),
                Block::Again(terminal, until) => steps.push(Step::Repeat { terminal, until, commands }),
            }
        }
    }
    match run {
        Some(_) => Err("no block follows the last comment".to_owned()),
        None => Ok(steps),
    }
}

enum Comment {
    /// How the block that follows runs.
    Block(Block),
    Step(Step),
}

enum Block {
    Nowhere,
    Once(u8, Option<String>),
    Again(u8, String),
}

fn step_of(comment: &str) -> Result<Comment, String> {
    let wrong = || format!("what is `{comment}`?");
    let number = |text: &str| text.parse::<u8>().map_err(|_| wrong());
    let quoted = |text: &str| {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inner.filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(wrong)
    };
    if comment.starts_with("not run: ") {
        return Ok(Comment::Block(Block::Nowhere));
    }
    if let Some(terminal) = comment.strip_prefix("ctrl-c in terminal ") {
        return Ok(Comment::Step(Step::CtrlC { terminal: number(terminal)? }));
    }
    let rest = comment.strip_prefix("terminal ").ok_or_else(wrong)?;
    if let Some((terminal, text)) = rest.split_once(" shows ") {
        return Ok(Comment::Step(Step::Shows { terminal: number(terminal)?, text: quoted(text)? }));
    }
    let block = if let Some((terminal, text)) = rest.split_once(", again until ") {
        Block::Again(number(terminal)?, quoted(text)?)
    } else if let Some((terminal, text)) = rest.split_once(", until ") {
        Block::Once(number(terminal)?, Some(quoted(text)?))
    } else {
        Block::Once(number(rest)?, None)
    };
    Ok(Comment::Block(block))
}

/// A shell that reads commands as they are typed.
struct Terminal {
    shell: Child,
    output: Receiver<Vec<u8>>,
    /// All that it has shown, and up to where that was waited for.
    shown: String,
    read: usize,
    /// Waited for, so that each can be told from those before.
    prompts: u32,
}

impl Terminal {
    fn open(directory: &Path, environment: &[(&str, String)]) -> Self {
        let mut command = Command::new("sh");
        command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        // A group of its own, so that Ctrl-C reaches what runs here and nothing else.
        let mut shell = command.process_group(0).spawn().expect("a shell");
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
        // The shell itself goes on when Ctrl-C stops what it runs, and ends at the first command that fails.
        terminal.type_in("trap : INT\nset -e\n");
        terminal
    }

    fn type_in(&mut self, text: &str) {
        let keyboard = self.shell.stdin.as_mut().expect("piped");
        // A shell that has ended is found out by whoever waits for its output.
        let _ = keyboard.write_all(text.as_bytes()).and_then(|()| keyboard.flush());
    }

    /// Waits until `text` is shown, after what was waited for before.
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

    /// Waits until all that was typed in is done.
    fn wait_for_prompt(&mut self) -> Result<(), String> {
        self.prompts += 1;
        let prompt = format!("[prompt {}]", self.prompts);
        self.type_in(&format!("echo '{prompt}'\n"));
        self.wait_for(&prompt)
    }

    /// As the key does it: to everything that runs in the terminal.
    fn interrupt(&mut self) {
        let sent = Command::new("sh").args(["-c", &format!("kill -INT -{}", self.shell.id())]).status();
        assert!(sent.expect("a shell").success());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &format!("kill -KILL -{}", self.shell.id())]).status();
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn take(step: &Step, terminals: &mut BTreeMap<u8, Terminal>, open: impl Fn() -> Terminal) -> Result<(), String> {
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
            // What the block showed can still be asked for.
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
    }
}

/// Two ports that are free now.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

#[test]
fn the_first_steps_work_as_they_are_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let [api, receiver] = free_ports();
    let programs = Path::new(POSTRIDER).parent().expect("a directory").display().to_string();
    let environment = [
        ("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap_or_default())),
        ("POSTRIDER_LISTEN", format!("127.0.0.1:{api}")),
        ("POSTRIDER_URL", format!("http://127.0.0.1:{api}")),
        // Read by the daemon where the machine has one; an empty file says nothing.
        ("POSTRIDER_CONFIG", directory.path().join("postrider.toml").display().to_string()),
    ];
    std::fs::write(directory.path().join("postrider.toml"), "").expect("written");
    let readme = README.replace(README_PORT, &receiver.to_string());
    let steps = steps(&readme).expect("a README that can be followed");
    assert!(steps.len() > 10, "most of it is missing: {steps:?}");
    let mut terminals = BTreeMap::new();
    for step in &steps {
        let taken = take(step, &mut terminals, || Terminal::open(directory.path(), &environment));
        if let Err(why) = taken {
            let shown = terminals.iter().map(|(number, t)| format!("--- terminal {number}\n{}\n", t.shown));
            panic!("{step:?}: {why}\n{}", shown.collect::<String>());
        }
    }
    assert!(directory.path().join("postrider-data/state.redb").exists(), "the data is not where it is said to be");
    let arrivals = terminals[&2].shown.lines().filter_map(|line| line.split_once("  invoice.overdue  "));
    let first = arrivals.map(|(_, rest)| rest.to_owned()).next().expect("shown before");
    assert!(first.contains("verified") && !first.contains(" #1 "), "a retry: {first}");
}

#[test]
fn commands_of_the_table_parse() {
    let commands = table_commands(README);
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        if let Err(error) = postrider::cli::Cli::try_parse_from(words(&command)) {
            panic!("{command}: {error}");
        }
    }
}

/// The commands in the rows of tables.
fn table_commands(readme: &str) -> Vec<String> {
    let rows = readme.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted.filter(|text| text.starts_with("postrider ")).map(str::to_owned).collect()
}

/// Words as a shell splits them, as far as single quotes go.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in command.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().expect("one at least").push(c),
        }
    }
    words
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/design.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect(page);
        let here = root.join(page).parent().expect("a directory").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            assert!(target.contains("://") || here.join(file).exists(), "{page} links to {target}");
        }
    }
}

#[test]
fn what_cannot_be_followed_is_noticed() {
    assert!(steps("```sh\nls\n```\n").expect_err("no place").contains("nothing says where to run"));
    assert!(steps("<!-- terminal 1 -->\n").is_err(), "a comment without its block");
    assert!(steps("<!-- terminal 1 -->\n<!-- ctrl-c in terminal 1 -->\n```sh\n```\n").is_err());
    assert!(steps("<!-- terminal one -->\n```sh\nls\n```\n").is_err());
    assert!(steps("<!-- a remark -->\n").is_err());
    let again = Step::Repeat { terminal: 2, until: "x".into(), commands: "a\n".into() };
    assert_eq!(steps("<!-- terminal 2, again until \"x\" -->\n```sh\na\n```\n"), Ok(vec![again]));
    let read = steps("<!-- terminal 1, until \"x\" -->\n```sh\na\nb\n```\n<!-- terminal 1 shows \"y\" -->\n");
    let run = Step::Run { terminal: 1, until: Some("x".into()), commands: "a\nb\n".into() };
    assert_eq!(read, Ok(vec![run, Step::Shows { terminal: 1, text: "y".into() }]));
}

#[test]
fn a_terminal_can_be_interrupted_and_ends_at_what_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut terminals = BTreeMap::new();
    let mut taken = |step: Step| take(&step, &mut terminals, || Terminal::open(directory.path(), &[]));
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
