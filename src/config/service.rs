//! The settings that systemd hands to the packaged service, read by a verb that is started by hand beside it.
//!
//! Invariant: a variable of the process wins over the same variable of the service.

use std::io;
use std::path::{Path, PathBuf};

use super::environment::{Environment, Reader};

/// Data directory of the packaged service, its `StateDirectory=`.
pub const SERVICE_DATA_DIR: &str = "/var/lib/postrider";
/// `EnvironmentFile=` of the packaged unit.
pub const SERVICE_VARIABLES_FILE: &str = "/etc/default/postrider";
/// Folders of credentials, in the order of systemd.exec(5), `LoadCredential=`.
const CREDENTIAL_FOLDERS: [&str; 3] = ["/etc/credstore", "/run/credstore", "/usr/lib/credstore"];
/// Stands for the folder of a running service's credentials.
const CREDENTIALS_DIRECTORY: &str = "/postrider-credentials";

/// The environment of the packaged service around the variables of this process. A file that this user cannot read is
/// taken as missing, except that of the variables.
///
/// # Errors
/// The file of the variables exists and cannot be read.
pub fn environment(
    process: impl IntoIterator<Item = (String, String)>,
    read: impl Fn(&Path) -> io::Result<String> + 'static,
) -> io::Result<Environment> {
    let text = match read(Path::new(SERVICE_VARIABLES_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let fixed = [("STATE_DIRECTORY", SERVICE_DATA_DIR), ("CREDENTIALS_DIRECTORY", CREDENTIALS_DIRECTORY)];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // A later pair replaces an earlier one.
    let all: Vec<_> = fixed.into_iter().chain(variables(&text)).chain(process).collect();
    Ok(Environment::new(all, credentials(read)))
}

/// A reader that finds the credentials of the unit where the administrator has put them.
fn credentials(read: impl Fn(&Path) -> io::Result<String> + 'static) -> Box<Reader> {
    Box::new(move |path| {
        let Ok(name) = path.strip_prefix(CREDENTIALS_DIRECTORY) else { return read(path) };
        let file = |folder: &str| PathBuf::from(folder).join(format!("postrider.{}", name.display()));
        let found = CREDENTIAL_FOLDERS.iter().find_map(|folder| match read(&file(folder)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => None,
            read => Some(read),
        });
        found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
    })
}

/// The variables of an environment file (systemd.exec(5), `EnvironmentFile=`): one on each line. Empty lines and lines
/// that begin with `#` or `;` are ignored. A backslash at the end joins the next line, and quotes around a value are
/// removed.
fn variables(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", "");
    let lines = joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim()))).collect()
}

/// The value without its quotes. In double quotes, and without quotes, a backslash takes the next character as it is.
fn unquoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\'' | '"', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            ('\\', None | Some('"')) => out.extend(characters.next()),
            (character, _) => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Flags, Settings};

    fn read_from(files: &[(&str, &str)]) -> impl Fn(&Path) -> io::Result<String> + 'static {
        let files: BTreeMap<PathBuf, String> =
            files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        move |path| match files.get(path).map(String::as_str) {
            Some("(closed)") => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok(text.to_owned()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn the_settings_of_the_service_come_from_its_file_its_variables_and_its_credentials() {
        let files = [
            ("/etc/postrider/postrider.toml", "retention = \"3d\"\nlisten = \"127.0.0.1:1\"\n"),
            (SERVICE_VARIABLES_FILE, "# a remark\nPOSTRIDER_LISTEN=\"127.0.0.1:2\"\nFOLLOW_DIR=/mnt\n"),
            ("/etc/credstore/postrider.admin-key", "pr_service\n"),
        ];
        let loaded = Settings::load(&Flags::default(), &environment([], read_from(&files)).expect("readable"));
        let settings = loaded.expect("right").settings;
        assert_eq!(settings.listen.to_string(), "127.0.0.1:2");
        assert_eq!((settings.data_dir, settings.retention_ms), (PathBuf::from(SERVICE_DATA_DIR), 3 * 86_400_000));
        assert_eq!(settings.admin_key.expect("a credential").expose(), "pr_service");

        let own = [("POSTRIDER_LISTEN".to_owned(), "127.0.0.1:3".to_owned())];
        let loaded = Settings::load(&Flags::default(), &environment(own, read_from(&files)).expect("readable"));
        assert_eq!(loaded.expect("right").settings.listen.to_string(), "127.0.0.1:3");
    }

    #[test]
    fn credentials_that_only_root_can_read_are_missing_for_others_and_closed_variables_are_an_error() {
        let files = [("/etc/credstore/postrider.admin-key", "(closed)")];
        let loaded = Settings::load(&Flags::default(), &environment([], read_from(&files)).expect("readable"));
        assert!(loaded.expect("right").settings.admin_key.is_none());
        assert!(environment([], read_from(&[(SERVICE_VARIABLES_FILE, "(closed)")])).is_err());
    }

    #[test]
    fn an_environment_file_is_read_as_systemd_reads_it() {
        let text = "A=1\n; no\n\n  B = two words \nC=\"x # y\"\nD='it\\s'\nE=a\\\nb\nF=\"q\\\"q\"\nnonsense\nG=\n";
        let read = variables(text);
        let pairs: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("A", "1"), ("B", "two words"), ("C", "x # y"), ("D", "it\\s"), ("E", "ab"), ("F", "q\"q"), ("G", "")];
        assert_eq!(pairs, expected);
    }
}
