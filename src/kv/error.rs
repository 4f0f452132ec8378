//! The store's one error type.

/// Why the store could not answer. Never the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// redb or the disk under it.
    #[error("{file}: {source}")]
    Storage { file: String, source: redb::Error },
    #[error("{file}: {source}")]
    Io { file: String, source: std::io::Error },
    /// A row that does not read back as it was written: named, and never shown altered.
    #[error("{file}: damaged row in table {table} at {key}")]
    Damaged { file: String, table: &'static str, key: String },
    /// A sealed row that is whole and does not open: altered by somebody who could mend its checksum, or another row's.
    #[error("{file}: the row in table {table} at {key} does not open: it was altered, or sealed for another row")]
    Sealed { file: String, table: &'static str, key: String },
    /// Written by a newer version of Postrider; left untouched.
    #[error("{file}: schema {found} is newer than this program's {known}; use the newer program")]
    Newer { file: String, found: u32, known: u32 },
    /// Another daemon holds the directory.
    #[error("{0}: another postrider is running on this data directory")]
    InUse(String),
    /// The master key does not open what is sealed, or is missing.
    #[error("{0}")]
    MasterKey(String),
}

impl Error {
    /// Whether the file was not closed cleanly, so that a handle for reading only cannot open it.
    pub fn needs_repair(&self) -> bool {
        matches!(self, Error::Storage { source: redb::Error::RepairAborted, .. })
    }

    /// Whether there was no space left to write.
    pub fn is_disk_full(&self) -> bool {
        let io = match self {
            Error::Io { source, .. } => source,
            Error::Storage { source: redb::Error::Io(source), .. } => source,
            _ => return false,
        };
        matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

pub type Result<T> = std::result::Result<T, Error>;
