//! The daemon's log: to journald with its fields if journald reads stderr, otherwise to stderr as text or JSON.

mod journal;

use std::io;
use std::os::unix::fs::MetadataExt as _;

use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use self::journal::Journal;
use crate::config::{self, LogFormat};

/// The running log, whose level can be changed.
pub struct Log(Option<reload::Handle<EnvFilter, Registry>>);

impl Log {
    /// Starts the log. A second call in one process changes nothing.
    pub fn start(log: &config::LogSettings) -> Log {
        let (filter, handle) = reload::Layer::new(filter(&log.level));
        let filtered = tracing_subscriber::registry().with(filter);
        let (layer, failed) = layer(log.format);
        let started = filtered.with(layer).try_init().is_ok();
        if let Some(error) = failed {
            tracing::warn!(%error, "journald cannot be reached; the log goes to stderr");
        }
        Log(started.then_some(handle))
    }

    /// Sets the level of later lines.
    pub fn set_level(&self, level: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|handle| handle.reload(filter(level))) {
            tracing::error!(%error, "the log level could not be changed");
        }
    }
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Writing = Box<dyn Layer<Filtered> + Send + Sync>;

fn layer(format: LogFormat) -> (Writing, Option<io::Error>) {
    match format {
        LogFormat::Json => (json(), None),
        LogFormat::Text => (text(), None),
        LogFormat::Auto if !journal_reads_stderr() => (text(), None),
        LogFormat::Auto | LogFormat::Journald => match Journal::open() {
            Ok(journal) => (Box::new(journal), None),
            Err(error) => (text(), Some(error)),
        },
    }
}

/// Writes one JSON object per line.
///
/// A line that stderr does not take is lost. The crate would report that by `eprintln!`, which panics there.
fn json() -> Writing {
    Box::new(tracing_subscriber::fmt::layer().json().with_writer(io::stderr).log_internal_errors(false))
}

/// Writes text for people, as [`json`] writes objects.
fn text() -> Writing {
    use std::io::IsTerminal as _;
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    Box::new(layer.with_ansi(io::stderr().is_terminal()).with_target(false))
}

/// The level was checked with the settings. An unreadable one becomes `info`.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// `JOURNAL_STREAM` names the device and inode of the stream that journald reads (systemd.exec(5)). Both are compared,
/// because a child with another stderr inherits the variable.
fn journal_reads_stderr() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| is_stream(&named, stderr.dev(), stderr.ino()))
}

fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_stream_is_known_by_device_and_inode() {
        assert!(is_stream("9:27834", 9, 27834));
        for other in ["9:27835", "8:27834", "9", "", ":", "9:27834:1"] {
            assert!(!is_stream(other, 9, 27834), "{other}");
        }
    }
}
