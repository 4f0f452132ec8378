//! Makes a standby the owner: the running one through its control socket, or the closed one in its directory. A closed
//! restored copy is promoted in its directory too.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use super::offline::{hand_over, has_store};
use super::protocol::{CONTROL_FILE, PROMOTE_GREETING, PROMOTED, REFUSED, greet, without_answer};
use super::standby::PromotedStore;
use super::{DaemonError, lock_folder, standby};
use crate::config::Settings;
use crate::store;

/// Time for the last commits to be written.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// A standby or a restored copy that has become the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    pub term: u64,
    /// Number of a standby's last commit.
    pub commit: Option<u64>,
    /// Whether the new owner runs.
    pub is_running: bool,
    /// The folder of a damaged log that was given up.
    pub kept: Option<PathBuf>,
}

/// Makes the standby or the restored copy of the data directory the owner. A closed standby's damaged log is given up from the
/// damage on if `accepts_loss`.
///
/// # Errors
/// There is no standby, its copy is not whole, or the daemon does not answer.
pub fn promote(settings: &Settings, accepts_loss: bool) -> Result<Promotion, DaemonError> {
    let data_dir = &settings.data_dir;
    // A directory without a store is not made one by its lock. A standby that runs may have no copy yet.
    if !data_dir.join(CONTROL_FILE).exists() {
        has_store(data_dir)?;
    }
    match lock_folder(data_dir) {
        Ok(disk) => {
            has_store(data_dir)?;
            let promoted = standby::promote(settings, disk, accepts_loss);
            hand_over(data_dir)?;
            promoted.map(|PromotedStore { term, last, kept }| Promotion {
                term,
                commit: last.map(|last| last.number),
                is_running: false,
                kept,
            })
        }
        Err(DaemonError::Store(store::Error::InUse(_))) => ask(settings),
        Err(error) => Err(error),
    }
}

fn ask(settings: &Settings) -> Result<Promotion, DaemonError> {
    let greeted = greet(&settings.data_dir, PROMOTE_GREETING);
    let mut stream = greeted.map_err(|error| without_answer(settings, error))?;
    let mut text = String::new();
    let read = stream.set_read_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| stream.read_to_string(&mut text));
    read.map_err(|error| DaemonError::Unreachable(format!("the daemon did not answer: {error}")))?;
    let mut words = text.trim().splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some(PROMOTED), Some(term), Some(commit)) => {
            let number = |text: &str| text.parse().unwrap_or_default();
            Ok(Promotion { term: number(term), commit: Some(number(commit)), is_running: true, kept: None })
        }
        (Some(REFUSED), ..) => Err(DaemonError::Engine(text.trim()[REFUSED.len()..].trim().to_owned())),
        _ => {
            let words = "the daemon is of another version, or ended before it answered: its log says more";
            Err(DaemonError::Engine(words.to_owned()))
        }
    }
}
