//! The settings of the daemon. Flag > environment > file > default, each value with its source.
//!
//! Invariant: the defaults are those that `packaging/postrider.toml` shows, because they are read from it.

mod environment;
mod error;
mod file;
mod keys;
mod load;
mod value;
mod value_source;

use std::collections::BTreeSet;
use std::path::PathBuf;

pub use environment::Environment;
pub use error::{ConfigError, SettingProblem};
pub use load::{Flag, Flags, Loaded, SettingChange, SettingRow, master_key_of};
pub use value::{ListenSetting, RawSetting, SecretSetting, duration_ms_of, duration_text};
pub use value_source::ValueSource;

/// The commented settings file of the packages. Its commented-out settings are the defaults.
pub const SETTINGS_FILE: &str = include_str!("../../packaging/postrider.toml");

/// The settings file that is read if none is named.
pub const SETTINGS_FILE_PATH: &str = "/etc/postrider/postrider.toml";

/// Every setting, checked and typed. `Settings::default()` results from an empty file, an empty environment and no
/// flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The directory that holds the whole store.
    pub data_dir: PathBuf,
    /// Where the API is served.
    pub listen: ListenSetting,
    /// The file of the administrator's key. `admin_key` has its text.
    pub admin_key_file: Option<PathBuf>,
    /// The key with every right over the installation, from the environment, a credential or `admin_key_file`:
    /// visible ASCII, at most 512 bytes.
    pub admin_key: Option<SecretSetting>,
    /// The file of the master key. `master_key` has its text.
    pub master_key_file: Option<PathBuf>,
    /// The text from which the key that seals secrets is derived, from the environment, a credential or
    /// `master_key_file`: 32 to 512 bytes.
    pub master_key: Option<SecretSetting>,
    pub delivery: DeliverySettings,
    /// How long accepted events can be read.
    pub retention_ms: i64,
    /// How long a repetition is recognised. At most `retention_ms`.
    pub idempotency_window_ms: i64,
    pub server: ServerSettings,
    /// Names of the enabled dialects, of those in `DIALECTS`.
    pub dialects: BTreeSet<String>,
    /// The size at which a partition is sealed.
    pub partition_max_bytes: u64,
    /// Free space on the data directory's disk below which publishes are refused.
    pub min_free_bytes: u64,
    /// How long a stopping daemon waits for requests under way.
    pub shutdown_timeout_s: u64,
    /// The largest body of `POST /v1/events`.
    pub max_event_bytes: u64,
    pub log: LogSettings,
    pub metrics: MetricsSettings,
    pub traces: TraceSettings,
}

impl Settings {
    /// These settings with the values that a daemon has shown, by name. A secret is masked there and stays as it is here.
    pub fn with_shown<'a>(&self, shown: impl IntoIterator<Item = (&'a str, &'a RawSetting)>) -> Settings {
        let mut settings = self.clone();
        for (name, value) in shown {
            if let Some(key) = keys::find(name).filter(|key| !key.is_secret()) {
                // A value that this version does not take stays as it is here.
                let _ = key.read(&mut settings, value);
            }
        }
        settings
    }
}

/// Targets of deliveries, and limits of sending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliverySettings {
    /// Networks, addresses and host names (`*.` for everything below) reached although private. Well-formed.
    pub allow: Vec<String>,
    /// The same form, never reached.
    pub deny: Vec<String>,
    /// Requests under way at once over all webhooks.
    pub max_in_flight: usize,
    /// Refuse plain http.
    pub https_only: bool,
    /// The URL of the proxy that deliveries go through, with its credentials. `ForwardProxy` parses it.
    pub proxy: Option<SecretSetting>,
    /// Hosts that are reached without the proxy. `NoProxy` parses them.
    pub no_proxy: Vec<String>,
}

/// The API's listener, besides its address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerSettings {
    /// Hosts (`name[:port]`) and origins (`https://…`) answered on a loopback listener besides loopback names.
    pub allowed_hosts: Vec<String>,
    /// The URL clients use, without a trailing slash.
    pub public_url: Option<String>,
    /// PEM certificate chain. Set if and only if `tls_key` is.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key. Set if and only if `tls_cert` is.
    pub tls_key: Option<PathBuf>,
    /// PEM authorities of clients: with it, only who shows a certificate of theirs gets in. Needs `tls_cert`.
    pub tls_client_ca: Option<PathBuf>,
    /// Who may connect to a unix socket: the permission bits of its file.
    pub socket_mode: u32,
}

/// The daemon's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// A directive list that `tracing_subscriber::EnvFilter` accepts.
    pub level: String,
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// To journald with its fields if journald reads stderr, otherwise as text.
    #[default]
    Auto,
    Text,
    /// One JSON object a line.
    Json,
    /// To journald, wherever stderr goes.
    Journald,
}

impl LogFormat {
    pub const ALL: [LogFormat; 4] = [LogFormat::Auto, LogFormat::Text, LogFormat::Json, LogFormat::Journald];

    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
            LogFormat::Journald => "journald",
        }
    }
}

/// Where Prometheus reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSettings {
    /// A listener of its own.
    pub listen: Option<ListenSetting>,
    /// The bearer token `/metrics` asks for.
    pub key: Option<SecretSetting>,
}

/// Where traces go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// The OTLP/HTTP URL of a collector. `None` if no spans are exported.
    pub endpoint: Option<String>,
}
