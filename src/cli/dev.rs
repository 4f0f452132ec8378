//! `postrider serve --dev`: the settings that let three commands in three terminals work without a flag or a variable.
//!
//! Invariant: a value that the command line, a variable or a file gives stays. Development adds to the networks allowed,
//! and replaces defaults.

use std::net::TcpListener;
use std::path::Path;

use super::{Exit, SettingsFlags};
use crate::config::{Flag, Flags, ListenSetting, Loaded, ValueSource};

/// The source of these values in messages.
pub const FLAG: &str = "--dev";
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// Free space below which publishing is refused: little is written during development.
const MIN_FREE_BYTES: &str = "16MiB";

/// Whether the command line or a variable names the data directory. A settings file is not meant for development.
pub fn names_data_dir(settings: &SettingsFlags) -> Result<bool, Exit> {
    Ok(is_named(settings.load()?.origin("data_dir")))
}

fn is_named(origin: &ValueSource) -> bool {
    match origin {
        ValueSource::Flag(_) => true,
        ValueSource::Env(name) => name != "STATE_DIRECTORY",
        _ => false,
    }
}

/// The flags of the command line, with those of development added.
pub fn flags(settings: &SettingsFlags, fresh: Option<&Path>) -> Result<Flags, Exit> {
    let loaded = settings.load()?;
    let mut flags = settings.flags();
    let mut set = |key, value: String| flags.values.push(Flag { flag: FLAG, key, value });
    let mut allow = loaded.settings.delivery.allow.clone();
    allow.extend(LOOPBACK.map(str::to_owned));
    set("delivery.allow", allow.join(","));
    if let Some(fresh) = fresh {
        set("data_dir", fresh.join("data").display().to_string());
    }
    if *loaded.origin("min_free_bytes") == ValueSource::Default {
        set("min_free_bytes", MIN_FREE_BYTES.to_owned());
    }
    if let Some(listen) = free_port(&loaded) {
        set("listen", listen);
    }
    Ok(flags)
}

/// Any free port, if another program has the default one.
fn free_port(loaded: &Loaded) -> Option<String> {
    let ListenSetting::Tcp(addr) = loaded.settings.listen else { return None };
    let is_default = *loaded.origin("listen") == ValueSource::Default;
    let is_taken = || TcpListener::bind(addr).is_err();
    (is_default && is_taken()).then(|| format!("{}:0", addr.ip()))
}

/// The next commands, and where the data is.
pub fn next(program: &str, data_dir: &Path, is_fresh: bool) -> String {
    let fate = if is_fresh { "; it goes when this ends (--data-dir keeps it)" } else { "" };
    format!(
        "\nNext, in two other terminals:
  {program} listen --create
  {program} send a.b '{{}}'
Data: {}{fate}\n",
        data_dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flag_or_a_variable_of_ours_names_the_directory() {
        assert!(is_named(&ValueSource::Flag("--data-dir")) && is_named(&ValueSource::Env("POSTRIDER_DATA_DIR".into())));
        let file = ValueSource::File { path: "/etc/p.toml".into(), line: 1 };
        assert!(!is_named(&ValueSource::Env("STATE_DIRECTORY".into())) && !is_named(&file));
        assert!(!is_named(&ValueSource::Default));
    }

    #[test]
    fn the_next_commands_are_whole_lines() {
        let shown = next("postrider", Path::new("/tmp/p"), true);
        assert!(shown.contains("\n  postrider listen --create\n  postrider send a.b '{}'\n"), "{shown}");
        assert!(shown.ends_with("Data: /tmp/p; it goes when this ends (--data-dir keeps it)\n"), "{shown}");
        assert!(next("postrider", Path::new("/tmp/p"), false).ends_with("Data: /tmp/p\n"));
    }
}
