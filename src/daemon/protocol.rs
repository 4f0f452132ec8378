//! The protocol of the control socket: its name and the greetings of clients.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;

use super::DaemonError;

/// Name of the socket in the data directory.
pub const CONTROL_FILE: &str = "control";
/// First bytes of a client that takes a backup. A stream is only for a program of the same version.
pub const GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " backup\n");
/// First bytes of a replica. It has the length of `GREETING`.
pub const FOLLOW_GREETING: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"), " follow\n");

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
