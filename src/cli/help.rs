//! The help of the whole program, its commands in groups, and the example below a usage error.

use clap::{Command, CommandFactory as _};

use super::wrap::wrapped;
use super::{Cli, screen};

/// Every command, in the order in which it is met.
const GROUPS: [(&str, &[&str]); 3] = [
    ("Try it", &["demo", "serve", "listen", "send"]),
    ("Every day", &["webhook", "event", "delivery", "attempt", "replay", "tail", "stats"]),
    (
        "Operate",
        &[
            "doctor",
            "ready",
            "system",
            "config",
            "key",
            "app",
            "event-type",
            "import",
            "org",
            "audit",
            "backup",
            "restore",
            "verify",
            "compact",
            "promote",
            "cluster",
            "openapi",
            "completions",
            "man",
            "help",
        ],
    ),
];
const HELP_ABOUT: &str = "Print this message or the help of a command";
/// Examples below a usage error.
const EXAMPLES_MAX: usize = 2;

/// The command line with its commands in groups.
pub fn grouped() -> Command {
    let command = Cli::command();
    let groups = groups(&command, screen::help_width());
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
    ))
}

/// The same command line, which reads no variable for a flag.
pub fn without_variables(command: Command) -> Command {
    command.mut_args(|argument| argument.env(None::<&'static str>)).mut_subcommands(without_variables)
}

fn groups(command: &Command, width: usize) -> String {
    let names = GROUPS.iter().flat_map(|(_, names)| names.iter());
    let indent = names.map(|name| name.len()).max().unwrap_or(0) + 4;
    let mut text = String::new();
    for (title, names) in GROUPS {
        text.push_str(&format!("{title}:\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_else(|| HELP_ABOUT.to_owned());
            let lines = wrapped(&about, width.saturating_sub(indent).max(20));
            let below = format!("\n{}", " ".repeat(indent));
            text.push_str(&format!("  {name:<0$}{1}\n", indent - 2, lines.join(&below)));
        }
        text.push('\n');
    }
    text
}

/// The first examples of the command that the words name. `None` if it has none.
pub fn examples(words: impl IntoIterator<Item = String>) -> Option<String> {
    let root = Cli::command();
    let mut command = &root;
    for word in words {
        command = command.find_subcommand(&word).unwrap_or(command);
    }
    let help = command.get_after_help()?.to_string();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| line.starts_with("  "));
    let shown: Vec<&str> = lines.take(EXAMPLES_MAX).collect();
    (!shown.is_empty()).then(|| format!("Examples:\n{}\n", shown.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        listed.sort_unstable();
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name);
        let mut all: Vec<&str> = visible.chain(["help"]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(listed, all);
        for width in [60, 80, 200] {
            let text = groups(&command, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.starts_with("Try it:\n  demo         See"), "{text}");
        }
    }

    #[test]
    fn a_usage_error_shows_how_it_is_done() {
        let of = |line: &str| examples(line.split(' ').map(str::to_owned));
        assert!(of("webhook create").is_some_and(|text| text.contains("  postrider webhook create https://")));
        assert!(of("send --data {}").is_some_and(|text| text.starts_with("Examples:\n  postrider send ")));
        assert_eq!(of("send").map(|text| text.lines().count()), Some(1 + EXAMPLES_MAX));
    }
}
