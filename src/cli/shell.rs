//! `postrider completions` and `postrider man`: describe the command line to shells and to man(1), from the definition
//! that parses it.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};

use super::{Cli, Exit, screen};

const NAME: &str = "postrider";
/// The title of the manual, in the head of every page.
const MANUAL: &str = "Postrider Manual";
/// The date of the pages: the day of the last change of the command line.
const MANUAL_DATE: &str = "2026-11-29";

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider completions bash > /etc/bash_completion.d/postrider\n  \
    postrider completions fish > ~/.config/fish/completions/postrider.fish")]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<(), Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), NAME, &mut script);
        screen::write(script)
    }
}

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postrider man\n  postrider man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// Write a page for every command here; the directory is made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<(), Exit> {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let Some(dir) = self.dir else {
            return screen::write(page(command).map_err(screen::unwritten)?);
        };
        std::fs::create_dir_all(&dir)
            .and_then(|()| write_pages(&command, &dir))
            .map_err(|error| Exit::failed(format!("cannot write to {}: {error}", dir.display())))
    }
}

/// Writes the pages of a command and of those below it.
fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below, dir)?;
    }
    let name = command.get_display_name().unwrap_or(NAME);
    std::fs::write(dir.join(format!("{name}.1")), page(command.clone())?)
}

/// The manual page of one command.
///
/// The date must not be empty, because `.TH` would show the source instead. Line breaks beside empty lines are removed,
/// because formatters warn of them.
fn page(command: Command) -> io::Result<String> {
    let mut page = Vec::new();
    let source = concat!("postrider ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).date(MANUAL_DATE).source(source).manual(MANUAL).render(&mut page)?;
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    Ok(page.replace("\n.br\n\n.br\n", "\n.sp\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands, each with those above it.
    fn names(command: &Command, above: &str) -> Vec<String> {
        let below = command.get_subcommands().flat_map(|sub| names(sub, &format!("{above} {}", sub.get_name())));
        std::iter::once(above.to_owned()).chain(below).collect()
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = directory.path().join("man1");
        Man { dir: Some(dir.clone()) }.run().expect("written");
        let commands = names(&Cli::command(), NAME);
        assert!(commands.iter().any(|name| name == "postrider compact"), "{commands:?}");
        for name in commands {
            let page = format!("{}.1", name.replace(' ', "-"));
            let text = std::fs::read_to_string(dir.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.contains(".SH NAME"), "{page}");
            let head = concat!(" 1 2026-11-29 \"postrider ", env!("CARGO_PKG_VERSION"), "\" \"Postrider Manual\"\n");
            assert!(text.contains(head), "{page}: {}", text.lines().nth(2).unwrap_or_default());
            assert!(!text.contains(".br\n\n"), "{page}");
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).expect("text");
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }
}
