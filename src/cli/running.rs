//! The record of each running daemon, in the runtime directory of its user. It says where the daemon listens and keeps its
//! data, so that client verbs find it.
//!
//! Invariant: a record counts only while its daemon lives. The daemon holds a lock on the file, which a kill ends too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Exit;
use super::trusted_file::{self, OtherOwners};

const EXTENSION: &str = "json";
/// Maximum number of records that are read. A user has few daemons.
const RECORDS_MAX: usize = 100;

/// A daemon of this user that runs on this machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct RunningDaemon {
    /// The URL for clients of this machine.
    pub url: String,
    /// The absolute path of the data directory.
    pub data_dir: PathBuf,
}

/// The record of this process. Dropping it removes the file.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    _lock: File,
}

impl Drop for Record {
    fn drop(&mut self) {
        // The next daemon removes a record that stays.
        let _ = fs::remove_file(&self.path);
    }
}

impl Record {
    /// Writes the record of this process, and removes those of daemons that were killed.
    ///
    /// # Errors
    /// The directory cannot be made, or belongs to another user.
    pub fn write(directory: &Path, daemon: &RunningDaemon) -> io::Result<Record> {
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !trusted_file::is_own_directory(directory) {
            return Err(io::Error::other(format!("{} is not this user's alone", directory.display())));
        }
        for path in paths(directory) {
            // A shared lock, so that a client that looks at this moment does not take the record for one that lives.
            if File::open(&path).is_ok_and(|file| file.try_lock_shared().is_ok()) {
                let _ = fs::remove_file(path);
            }
        }
        // Written and locked under another name, so that another daemon's start never finds it without its lock.
        let path = directory.join(format!("{}.{EXTENSION}", std::process::id()));
        let new = path.with_extension("new");
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.lock()?;
        file.write_all(&serde_json::to_vec(daemon)?)?;
        fs::rename(&new, &path)?;
        Ok(Record { path, _lock: file })
    }
}

/// The daemons of this user that run, in no order.
///
/// # Errors
/// A record is not to be trusted.
pub fn all(directory: &Path) -> Result<Vec<RunningDaemon>, Exit> {
    if !trusted_file::is_own_directory(directory) {
        return Ok(Vec::new());
    }
    let mut running = Vec::new();
    for path in paths(directory) {
        let Some((file, text)) = trusted_file::read(&path, OtherOwners::Refused)? else { continue };
        let lives = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        running.extend(serde_json::from_str(&text).ok().filter(|_| lives));
    }
    Ok(running)
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let records = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == EXTENSION));
    records.take(RECORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(url: &str) -> RunningDaemon {
        RunningDaemon { url: url.into(), data_dir: "/srv/p".into() }
    }

    #[test]
    fn a_daemon_is_found_while_it_lives_and_its_leftover_is_removed() {
        let folder = tempfile::tempdir().expect("a directory");
        let place = folder.path().join("postrider");
        assert_eq!(all(&place).expect("no record"), []);
        let record = Record::write(&place, &daemon("http://127.0.0.1:1")).expect("written");
        assert_eq!(all(&place).expect("records"), [daemon("http://127.0.0.1:1")]);
        let (path, leftover) = (record.path.clone(), place.join("1.json"));
        fs::copy(&path, &leftover).expect("a record without a process");
        assert_eq!(all(&place).expect("records").len(), 1);
        drop(record);
        assert!(!path.exists());
        let _record = Record::write(&place, &daemon("http://127.0.0.1:2")).expect("written");
        assert!(!leftover.exists(), "the daemon was killed");
        assert_eq!(all(&place).expect("records"), [daemon("http://127.0.0.1:2")]);
    }

    #[test]
    fn nothing_is_written_into_a_directory_that_others_share() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("set");
        assert!(Record::write(folder.path(), &daemon("http://127.0.0.1:1")).is_err());
        assert!(all(folder.path()).is_ok_and(|found| found.is_empty()));
    }
}
