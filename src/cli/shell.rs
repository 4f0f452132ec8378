//! `postrider completions` and `postrider man`: the command line described to shells and to man(1), from the same
//! definition that parses it.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use super::{Cli, Exit, screen::unwritten};

const NAME: &str = "postrider";

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
        write(&script)
    }
}

/// Print the manual page, or write the pages of all commands into a directory
#[derive(Args, Debug)]
pub struct Man {
    /// Write a page for every command here; the directory is made if it is missing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self) -> Result<(), Exit> {
        let Some(dir) = self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(unwritten)?;
            return write(&page);
        };
        std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
            .map_err(|error| Exit::failed(format!("cannot write to {}: {error}", dir.display())))
    }
}

fn write(bytes: &[u8]) -> Result<(), Exit> {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(bytes).map_err(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of all commands, each with those above it.
    fn names(command: &clap::Command, above: &str) -> Vec<String> {
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
