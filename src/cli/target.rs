//! The daemon that client verbs speak to, and the key they show, if the command line names neither.
//!
//! Invariant: a key that was found goes only to the daemon that it was found with, and only while that daemon runs. A given
//! key without a URL goes to a daemon of this user, to the service of this machine, or to the default address.

use std::path::Path;

use super::config::{data_dir_of, url_of};
use super::in_force::SettingsInForce;
use super::running::{self, RunningDaemon};
use super::trusted_file::{self, OtherOwners};
use super::{Exit, SettingsFlags};
use crate::config::Settings;
use crate::config::service::SERVICE_DATA_DIR;

/// Where a daemon with default settings is.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The file of the data directory that holds the key of the first start.
pub const FIRST_KEY_FILE: &str = "first-key";

/// The URL of the daemon, and the key to show.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub url: String,
    pub token: Option<String>,
    /// A sentence about the result, for stderr.
    pub note: Option<String>,
}

/// Finds the daemon and the key. A given key is shown to the daemon that is found, and no other key is read.
///
/// # Errors
/// Several daemons run and none is named, or a file with a key or an address is not to be trusted.
pub fn find(url: Option<&str>, token: Option<&str>) -> Result<Target, Exit> {
    find_in(&trusted_file::runtime_dir(), url, token)
}

/// [`find`] with the records of running daemons in `records`.
fn find_in(records: &Path, url: Option<&str>, token: Option<&str>) -> Result<Target, Exit> {
    if let Some(token) = token {
        let url = match url {
            Some(url) => url.to_owned(),
            None => match choose(None, running::all(records)?)? {
                Some(daemon) => daemon.url,
                None => service_url().unwrap_or_else(|| DEFAULT_URL.to_owned()),
            },
        };
        return Ok(Target { url, token: Some(token.to_owned()), note: None });
    }
    match choose(url, running::all(records)?)? {
        Some(daemon) => with_key(daemon, OtherOwners::Refused),
        None => of_settings(url),
    }
}

/// The daemon that is meant: the one with the URL, the only one, or the one with the default URL.
fn choose(url: Option<&str>, running: Vec<RunningDaemon>) -> Result<Option<RunningDaemon>, Exit> {
    if let Some(url) = url {
        return Ok(running.into_iter().find(|daemon| is_same(&daemon.url, url)));
    }
    if running.len() > 1 && !running.iter().any(|daemon| daemon.url == DEFAULT_URL) {
        let urls: Vec<&str> = running.iter().map(|daemon| daemon.url.as_str()).collect();
        return Err(Exit::usage("several daemons run here")
            .hint(format!("choose with --url or POSTRIDER_URL: {}", urls.join(", "))));
    }
    let default = running.iter().position(|daemon| daemon.url == DEFAULT_URL).unwrap_or(0);
    Ok(running.into_iter().nth(default))
}

/// Whether two URLs name the same daemon.
pub fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// The URL of the daemon of this machine's settings, if it runs and its data directory is this user's or the service's.
fn service_url() -> Option<String> {
    let loaded = SettingsFlags::default().load().ok()?;
    let data_dir = data_dir_of(&loaded);
    let is_trusted = data_dir.starts_with(SERVICE_DATA_DIR) || trusted_file::is_own_directory(data_dir);
    if is_trusted { url_in_force(data_dir, &loaded.settings) } else { None }
}

/// The daemon of this machine's settings, if it runs and its key can be read: the packaged service, for root.
fn of_settings(url: Option<&str>) -> Result<Target, Exit> {
    let default = || Target { url: url.unwrap_or(DEFAULT_URL).to_owned(), token: None, note: None };
    let Ok(loaded) = SettingsFlags::default().load() else { return Ok(default()) };
    let data_dir = data_dir_of(&loaded).to_owned();
    let Some(its_url) = url_in_force(&data_dir, &loaded.settings) else { return Ok(default()) };
    if url.is_some_and(|url| !is_same(url, &its_url)) {
        return Ok(default());
    }
    let others = match data_dir.starts_with(SERVICE_DATA_DIR) {
        true => OtherOwners::OfTheDirectoryForRoot,
        false => OtherOwners::Refused,
    };
    with_key(RunningDaemon { url: its_url, data_dir }, others)
}

fn with_key(daemon: RunningDaemon, others: OtherOwners) -> Result<Target, Exit> {
    let file = daemon.data_dir.join(FIRST_KEY_FILE);
    let key = trusted_file::read(&file, others)?.map(|(_, text)| text.trim().to_owned()).filter(|key| !key.is_empty());
    let note = key.as_ref().map(|_| format!("using {} with the key in {}", daemon.url, file.display()));
    Ok(Target { url: daemon.url, token: key, note })
}

/// The URL of the daemon that runs on the directory, by its settings in force. `None` if none answers at the control socket:
/// the file of the socket stays after a kill, and another program may listen at the address then.
fn url_in_force(data_dir: &Path, here: &Settings) -> Option<String> {
    SettingsInForce::of_daemon(data_dir).ok().map(|in_force| url_of(&in_force.onto(here)))
}

/// The URL alone, for requests that need no key.
///
/// # Errors
/// Several daemons run and none is named.
pub fn find_url(url: Option<&str>) -> Result<String, Exit> {
    if let Some(url) = url {
        return Ok(url.to_owned());
    }
    Ok(match choose(None, running::all(&trusted_file::runtime_dir())?)? {
        Some(daemon) => daemon.url,
        None => SettingsFlags::default().load().map_or(DEFAULT_URL.to_owned(), |loaded| url_of(&loaded.settings)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::CONTROL_FILE;

    fn running(urls: &[&str]) -> Vec<RunningDaemon> {
        urls.iter().map(|url| RunningDaemon { url: (*url).into(), data_dir: "/srv".into() }).collect()
    }

    fn chosen(url: Option<&str>, urls: &[&str]) -> Option<String> {
        choose(url, running(urls)).ok().flatten().map(|daemon| daemon.url)
    }

    #[test]
    fn the_named_the_only_or_the_default_daemon_is_meant() {
        let (one, two) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
        assert_eq!(chosen(Some("http://127.0.0.1:2/"), &[one, two]).as_deref(), Some(two));
        assert_eq!(chosen(Some("https://elsewhere.example"), &[one]), None, "its key goes nowhere else");
        assert_eq!(chosen(None, &[one]).as_deref(), Some(one));
        assert_eq!(chosen(None, &[one, DEFAULT_URL]).as_deref(), Some(DEFAULT_URL));
        assert_eq!(chosen(None, &[]), None);
        let exit = choose(None, running(&[one, two])).expect_err("two of them");
        assert!(exit.code() == 2 && exit.text().contains(two), "{}", exit.text());
    }

    #[test]
    fn a_given_key_is_shown_to_the_daemon_that_runs_here() {
        let folder = tempfile::tempdir().expect("a directory");
        let place = folder.path().join("postrider");
        let daemon = RunningDaemon { url: "http://127.0.0.1:8191".into(), data_dir: folder.path().into() };
        let _record = running::Record::write(&place, &daemon).expect("written");
        let target = |url: &str, token: &str| Target { url: url.into(), token: Some(token.into()), note: None };
        let found = find_in(&place, None, Some("pr_given")).expect("the only one");
        assert_eq!(found, target(&daemon.url, "pr_given"));
        let named = find_in(&place, Some("https://elsewhere.example"), Some("pr_given")).expect("named");
        assert_eq!(named, target("https://elsewhere.example", "pr_given"));
    }

    #[test]
    fn a_key_is_read_with_its_daemon_and_noted() {
        let folder = tempfile::tempdir().expect("a directory");
        let daemon = || RunningDaemon { url: DEFAULT_URL.into(), data_dir: folder.path().into() };
        let without = with_key(daemon(), OtherOwners::Refused).expect("no key");
        assert_eq!((without.token, without.note), (None, None));
        std::fs::write(folder.path().join(FIRST_KEY_FILE), "pr_x\n").expect("written");
        let found = with_key(daemon(), OtherOwners::Refused).expect("a key");
        assert_eq!(found.token.as_deref(), Some("pr_x"));
        assert!(found.note.is_some_and(|note| note.contains("first-key") && !note.contains("pr_x")));
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join(CONTROL_FILE)).expect("a socket");
        drop(socket);
        assert_eq!(url_in_force(folder.path(), &Settings::default()), None, "a killed daemon leaves the file");
    }
}
