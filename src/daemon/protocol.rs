//! The protocol of the control socket: its name and the greetings of clients.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use super::DaemonError;
use crate::config::Settings;
use crate::store::admin::CommitMark;

/// Name of the socket in the data directory.
pub const CONTROL_FILE: &str = "control";
/// First bytes of a client that takes a backup. A stream is only for a program of the same version.
pub const GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " backup\n");
/// First bytes of a replica. It has the length of `GREETING`.
pub const FOLLOW_GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " follow\n");
/// First bytes of a replica that continues after its last commit. It has the length of `GREETING`. Number and run of
/// that commit follow.
pub const RESUME_GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " resume\n");

/// First bytes of a client that asks for the settings in force. It has the length of `GREETING`.
pub const CONFIG_GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " config\n");
/// First bytes of a client that makes a standby the owner. It has the length of `GREETING`.
pub const PROMOTE_GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " assume\n");
/// First word of the answer to `PROMOTE_GREETING`, before term and commit.
pub(super) const PROMOTED: &str = "promoted";
/// First word of a refusal, before the reason.
pub(super) const REFUSED: &str = "refused";
/// Bytes of a commit's mark.
pub(super) const MARK_BYTES: usize = 16;
/// Maximum length of the settings in JSON.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings in force of the daemon of a data directory, as JSON text without secrets.
///
/// # Errors
/// No daemon of this version answers.
pub fn settings_in_force(data_dir: &Path) -> Result<String, DaemonError> {
    let stream = greet(data_dir, CONFIG_GREETING)?;
    let mut text = String::new();
    let read = stream
        .set_read_timeout(Some(SETTINGS_TIMEOUT))
        .and_then(|()| (&stream).take(SETTINGS_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(DaemonError::Unreachable(format!("the daemon did not tell its settings: {error}"))),
    }
}

/// The bytes of a commit's mark, as they follow `RESUME_GREETING`.
pub(super) fn mark_bytes(mark: CommitMark) -> [u8; MARK_BYTES] {
    let (number, run) = (mark.number.to_le_bytes(), mark.run.to_le_bytes());
    std::array::from_fn(|n| if n < number.len() { number[n] } else { run[n - number.len()] })
}

/// The commit's mark of these bytes.
pub(super) fn read_mark(bytes: [u8; MARK_BYTES]) -> CommitMark {
    let half = |from: usize| std::array::from_fn(|n| bytes[from + n]);
    CommitMark { number: u64::from_le_bytes(half(0)), run: i64::from_le_bytes(half(8)) }
}

/// The error without an answer at the control socket. In a cluster it says that a node that stands by has none.
pub(super) fn without_answer(settings: &Settings, error: DaemonError) -> DaemonError {
    match error {
        DaemonError::Unreachable(words) if settings.cluster.log.is_some() => DaemonError::Unreachable(format!(
            "{words}; a node of a cluster that stands by is neither backed up nor promoted: the nodes take over by \
             themselves, and `postrider cluster status` names the owner, where backups are taken"
        )),
        error => error,
    }
}

/// Connects to the daemon of a data directory and sends a greeting.
///
/// # Errors
/// No daemon accepts the connection.
pub fn greet(data_dir: &Path, greeting: &str) -> Result<BlockingStream, DaemonError> {
    let socket = data_dir.join(CONTROL_FILE);
    let unreachable =
        |error: io::Error| DaemonError::Unreachable(format!("no daemon answers at {}: {error}", socket.display()));
    let mut stream = BlockingStream::connect(&socket).map_err(unreachable)?;
    stream.write_all(greeting.as_bytes()).map_err(unreachable)?;
    Ok(stream)
}
