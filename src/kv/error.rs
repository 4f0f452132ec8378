//! The one error type of storage.

/// Why storage could not answer. It is never the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of redb or of the disk under it.
    #[error("{file}: {source}")]
    Storage { file: String, source: redb::Error },
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    /// A row whose check failed. It is named, and no altered data is shown.
    #[error("{file}: damaged row in table {table} at {key}")]
    Damaged { file: String, table: &'static str, key: String },
    /// A write-ahead log that lacks acknowledged records, or is missing.
    #[error(
        "{file}: the write-ahead log is damaged: {damage}; restore a backup, or give up what is lost by one \
         `postrider serve --accept-loss`"
    )]
    WalDamaged { file: String, damage: String },
    /// A file of large payloads that lacks acknowledged ones, or is missing.
    #[error(
        "{file}: the file of large payloads is damaged: {damage}; put it back, restore a backup, or give up what is \
         lost by one `postrider serve --accept-loss`"
    )]
    BlobsDamaged {
        file: String,
        damage: String,
        /// Offset behind the last payload that a row names.
        end: u64,
    },
    /// A standby's log that lacks confirmed commits.
    #[error("{file}: the log of the standby {damage}")]
    ReplicaLogDamaged { file: String, damage: String },
    /// A sealed row that is whole and does not open: its checksum was adapted after an alteration, or it belongs to
    /// another key.
    #[error("{file}: the row in table {table} at {key} does not open: it was altered, or sealed for another row")]
    Sealed { file: String, table: &'static str, key: String },
    /// A file of a newer version of Postrider. It is left untouched.
    #[error("{file}: schema {found} is newer than this program's {known}; use the newer program")]
    Newer { file: String, found: u32, known: u32 },
    /// Another daemon holds the lock of the directory.
    #[error("{0}: another postrider is running on this data directory")]
    InUse(String),
    /// The master key is missing, or does not open the sealed rows.
    #[error("{0}")]
    MasterKey(String),
}

impl Error {
    /// Whether the file was not closed cleanly, so that it cannot be opened for reading only.
    pub fn needs_repair(&self) -> bool {
        matches!(self, Error::Storage { source: redb::Error::RepairAborted, .. })
    }

    /// Whether the disk had no space left.
    pub fn is_disk_full(&self) -> bool {
        self.file_without_space().is_some()
    }

    /// The file whose disk had no space left.
    pub fn file_without_space(&self) -> Option<&str> {
        let (file, io) = match self {
            Error::Io { file, source } => (file, source),
            Error::Storage { file, source: redb::Error::Io(source) } => (file, source),
            _ => return None,
        };
        lacks_space(io).then_some(file)
    }
}

/// Whether an operation failed because the disk had no space left.
pub fn lacks_space(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The error of an operation on the file or directory `file`.
pub(crate) fn io(file: &str, source: std::io::Error) -> Error {
    Error::Io { file: file.to_owned(), source }
}

/// The result of an operation of storage.
pub type Result<T> = std::result::Result<T, Error>;
