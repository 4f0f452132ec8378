//! Flags of the verbs that stand before the verb: `postrider --url URL tail` is `postrider tail --url URL`.

use std::ffi::OsString;

use clap::{Arg, Command};

/// The same words with the leading flags behind the verb, which parses them. `words` begins with the program's name.
pub fn behind_verb(command: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let mut verb = 1;
    while let Some(flag_words) = words.get(verb).and_then(|word| words_of(command, word.to_str()?)) {
        verb += flag_words;
    }
    if verb > 1 && verb < words.len() {
        words[1..=verb].rotate_right(1);
    }
    words
}

/// The number of words of a flag that a verb has for all its actions. `None` for any other word.
fn words_of(command: &Command, word: &str) -> Option<usize> {
    let (name, has_value) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
    let is_named = |flag: &&Arg| match name.strip_prefix("--") {
        Some(long) => flag.get_long() == Some(long),
        None => name.strip_prefix('-').is_some_and(|short| flag.get_short() == short.chars().next()),
    };
    let mut flags = command.get_subcommands().flat_map(Command::get_arguments).filter(|flag| flag.is_global_set());
    let flag = flags.find(is_named)?;
    let is_joined = has_value || (!name.starts_with("--") && name.len() > 2);
    Some(if flag.get_action().takes_values() && !is_joined { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn moved(line: &str) -> String {
        let words = behind_verb(&Cli::command(), line.split(' ').map(OsString::from).collect());
        words.into_iter().map(|word| word.into_string().expect("text")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn leading_flags_of_a_verb_go_behind_it() {
        for (line, expected) in [
            ("p --url http://a webhook list", "p webhook --url http://a list"),
            ("p --url=http://a -o json --full tail --type x", "p tail --url=http://a -o json --full --type x"),
            ("p -ojson --token k stats", "p stats -ojson --token k"),
            ("p --data-dir /srv/p serve --dev", "p serve --data-dir /srv/p --dev"),
            ("p webhook --url http://a list", "p webhook --url http://a list"),
            ("p --version", "p --version"),
            ("p --unknown tail", "p --unknown tail"),
            ("p --url", "p --url"),
            ("p --url http://a", "p --url http://a"),
            ("p", "p"),
        ] {
            assert_eq!(moved(line), expected, "{line}");
        }
    }

    #[test]
    fn every_verb_takes_its_flags_at_either_place() {
        for line in ["p --url http://a -o json webhook list", "p --url http://a send a.b {}", "p --url http://a ready"]
        {
            let words = behind_verb(&Cli::command(), line.split(' ').map(OsString::from).collect());
            assert!(Cli::command().try_get_matches_from(words).is_ok(), "{line}");
        }
        let words = behind_verb(&Cli::command(), ["p", "--url", "http://a", "man"].map(OsString::from).to_vec());
        assert!(Cli::command().try_get_matches_from(words).is_err(), "a verb without the flag refuses it");
    }
}
