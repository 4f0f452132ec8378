//! The errors of the daemon and of the operations on a closed store, and the cures that more than one verb names.

use std::path::PathBuf;

use crate::store::{self, admin};

/// The cure of `DaemonError::StateMissing`.
pub const STATE_MISSING_CURE: &str = "put the file back, or restore a backup into an empty data directory";

/// The cure of `DaemonError::RestoreBrokeOff`.
pub const BROKEN_RESTORE_CURE: &str = "remove all of it but a master.key of your own, and run postrider restore again; \
                                       nothing was changed";

/// The cure of `DaemonError::Overtaken`.
pub const OVERTAKEN_CURE: &str =
    "move the data directory away, set standby.of to the owner, and start again: it copies the owner's store";

/// The cure of `DaemonError::TwoOwners`.
pub const TWO_OWNERS_CURE: &str = "keep one of the two: postrider promote there gives it a higher term; move the other's data \
                                   directory away, and start that machine as the standby (docs/standby.md)";

/// The cure of a damaged log of a standby or a node.
pub const STANDBY_LOG_CURE: &str = "move all but master.key out of the data directory and start again: it copies the owner's \
                                    store. If there is no owner any more, `postrider promote --accept-loss` makes the \
                                    stopped standby the owner with the commits before the damage";

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The settings cannot be applied.
    #[error("{0}")]
    Settings(String),
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    #[error("{0}")]
    Engine(String),
    #[error("{0}: there is no store here")]
    NoStore(String),
    /// Files of a store are there, and the file that lists them is missing.
    #[error("{0}: missing, and yet there are files of a store beside it")]
    StateMissing(String),
    /// A restore ended before the store was whole.
    #[error("{0}: a restore or a copy broke off here, and no store begins in what is left of it")]
    RestoreBrokeOff(String),
    /// A daemon has the store open and does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The store has an owner of a higher term elsewhere.
    #[error(
        "{dir}: this store is of term {own}, and it has an owner of term {term} elsewhere: this one takes nothing any more"
    )]
    Overtaken { dir: String, own: u64, term: u64 },
    /// Another owner of the same term has been met.
    #[error(
        "{dir}: two stores are the owner's of term {term}, and each may have events that the other lacks: this one takes \
             nothing any more"
    )]
    TwoOwners { dir: String, term: u64 },
    /// The disk of a standby is full.
    #[error("{}: no space is left on the disk: this standby ends, and the owner goes on", .0.display())]
    StandbyDiskFull(PathBuf),
}

impl From<admin::LogUnreachable> for DaemonError {
    fn from(error: admin::LogUnreachable) -> DaemonError {
        DaemonError::Unreachable(error.to_string())
    }
}
