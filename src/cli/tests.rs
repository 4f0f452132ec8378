//! Tests of the command line as a whole: accepted and refused arguments, and help for every verb and flag.

use clap::{CommandFactory, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_every_flag_is_described() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path}: {} has no help", argument.get_id());
        }
        command.get_subcommands().for_each(|sub| check(sub, &path));
    }
    check(&Cli::command(), "");
}

#[test]
fn every_command_without_further_ones_shows_examples_that_parse() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path}{}", command.get_name());
        if command.has_subcommands() {
            return command.get_subcommands().for_each(|sub| check(sub, &format!("{path} ")));
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        let examples: Vec<&str> = examples.filter_map(|line| line.strip_prefix("  ")).collect();
        assert!(examples.iter().any(|line| line.contains(&path)), "{path} has no example");
        // Lines for a shell, and lines with a remark, are more than words.
        let is_plain = |line: &&&str| line.starts_with("postrider ") && !line.contains("  ") && !line.contains(SHELL);
        for line in examples.iter().filter(is_plain) {
            assert!(parse(line).is_ok(), "{path}: {line}: {:?}", parse(line).err());
        }
    }
    const SHELL: &[char] = &['\'', '"', '|', '<', '>', '$', '…', '&', ';'];
    check(&Cli::command(), "");
}

#[test]
fn closed_sets_are_completed() {
    let command = Cli::command();
    let values = |words: &[&str], flag: &str| {
        let command = words.iter().fold(&command, |command, word| command.find_subcommand(word).expect("a command"));
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag)).expect("a flag");
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>()
    };
    for words in [&["delivery", "list"][..], &["attempt", "list"], &["webhook", "attempts"], &["replay"]] {
        assert!(values(words, "outcome").contains(&"tls_error".to_owned()), "{words:?}");
    }
    assert_eq!(values(&["stats", "series"], "step"), ["5m", "1h", "1d"]);
}

#[test]
fn lines_of_the_documentation_parse() {
    for line in [
        "postrider listen --create --event-type order.* --fail 2",
        "postrider listen --port 9000 --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw -o json",
        "postrider send --type a --data {} --count 10 --idempotency-key k",
        "postrider send a {} --count 10",
        "postrider send a",
        "postrider send a --data {}",
        "postrider serve --dev",
        "postrider listen --create --type order.* --accept-bad-signatures",
        "postrider webhook create https://h.example/in --type invoice.* --timeout 30s --disable-after 5d",
        "postrider webhook rotate-secret 1 --overlap 2h",
        "postrider webhook feed 1 --wait 5s",
        "postrider replay --webhook 1 --type a,b --types c",
        "postrider tail --interval 2s --status failed -o wide --full",
        "postrider webhook create https://h.example/in --event-type invoice.* --handshake",
        "postrider webhook create --json -",
        "postrider openapi -o json",
        "postrider webhook update 1 --target https://h.example/ --unset auth,filter --url http://127.0.0.1:1",
        "postrider webhook rotate-secret 1 --overlap-s 60",
        "postrider webhook feed 1 --follow -o json",
        "postrider webhook attempts 1 --status-code 503 --from 24h",
        "postrider event list --type a --from 24h --all",
        "postrider event erase 1",
        "postrider delivery attempts 1 --limit 250",
        "postrider attempt get 1 --token t",
        "postrider replay --webhook 1 --missing --dry-run",
        "postrider replay create --app 1 --rate 5 --wait",
        "postrider replay list --url unix:/run/p.sock",
        "postrider replay cancel 1",
        "postrider tail --webhook 1 -n 0",
        "postrider delivery list --outcome timeout,tls_error --outcome expired",
        "postrider stats series --step 15m",
        "postrider stats",
        "postrider key create billing --scope events:write,events:read",
        "postrider org create acme",
        "postrider app update acme --name x",
        "postrider config check --config p.toml -o json",
        "postrider config --listen 127.0.0.1:0 show",
        "postrider verify",
        "postrider verify /backups/monday -o json --config p.toml",
        "postrider backup /b/today --data-dir d --without-key",
        "postrider restore /b/today --data-dir d -o json",
        "postrider backup --follow /b/live --new-base-every 7d --keep 3 --without-key",
        "postrider restore /b/live --at 2026-11-22T03:29:00Z",
        "postrider restore --list /b/live -o json",
        "postrider compact --data-dir d -o json",
        "postrider completions zsh",
        "postrider man --dir out",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn lines_that_make_no_sense_do_not() {
    let cases = [
        ("postrider webhook create", ErrorKind::MissingRequiredArgument),
        ("postrider replay", ErrorKind::MissingRequiredArgument),
        ("postrider replay --webhook 1 --app 2", ErrorKind::ArgumentConflict),
        ("postrider replay --webhook 1 list", ErrorKind::ArgumentConflict),
        ("postrider webhook create u --auth-bearer a --auth-basic b:c", ErrorKind::ArgumentConflict),
        ("postrider webhook create u --tls-cert c.pem", ErrorKind::MissingRequiredArgument),
        ("postrider event list --limit 251", ErrorKind::ValueValidation),
        ("postrider listen --secret nope", ErrorKind::ValueValidation),
        ("postrider listen --status 200 --forward http://h", ErrorKind::ArgumentConflict),
        ("postrider listen --app a", ErrorKind::MissingRequiredArgument),
        ("postrider send --data {}", ErrorKind::MissingRequiredArgument),
        ("postrider send a --type b", ErrorKind::ArgumentConflict),
        ("postrider send a {} --data {}", ErrorKind::ArgumentConflict),
        ("postrider tail --interval 10ms", ErrorKind::ValueValidation),
        ("postrider tail --status lost", ErrorKind::InvalidValue),
        ("postrider attempt list --outcome lost", ErrorKind::InvalidValue),
        ("postrider key create k --scope all", ErrorKind::InvalidValue),
        ("postrider webhook create u --method head", ErrorKind::InvalidValue),
        ("postrider webhook list --status gone", ErrorKind::InvalidValue),
        ("postrider backup /b --keep 3", ErrorKind::MissingRequiredArgument),
        ("postrider backup --follow /b --keep 0", ErrorKind::ValueValidation),
        ("postrider restore --list /b --at 3", ErrorKind::ArgumentConflict),
        ("postrider wehbook list", ErrorKind::InvalidSubcommand),
    ];
    for (line, kind) in cases {
        assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
    }
}
