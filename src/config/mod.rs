//! The settings of the daemon. A flag overrides the environment, the file and the default. Each value has its source.
//!
//! Invariant: `packaging/postrider.toml` shows the defaults, because they are read from it.

mod environment;
mod error;
mod file;
mod keys;
mod load;
pub mod service;
mod value;
mod value_source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::model::OrganizationId;
use crate::rules::quotas::QuotaLimits;

pub use environment::Environment;
pub use error::{ConfigError, SettingProblem};
pub use load::{Flag, Flags, Loaded, SettingChange, SettingRow, master_key_of};
pub use value::{ListenSetting, RawSetting, SecretSetting, duration_ms_of};
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
    /// The address of the API.
    pub listen: ListenSetting,
    /// The file of the administrator's key. `admin_key` has its text.
    pub admin_key_file: Option<PathBuf>,
    /// The key with every right over the installation, from the environment, a credential or `admin_key_file`. It has
    /// visible ASCII only, at most 512 bytes.
    pub admin_key: Option<SecretSetting>,
    /// The file of the master key. `master_key` has its text.
    pub master_key_file: Option<PathBuf>,
    /// The text from which the key that seals secrets is derived, from the environment, a credential or
    /// `master_key_file`. It has 32 to 512 bytes.
    pub master_key: Option<SecretSetting>,
    pub delivery: DeliverySettings,
    /// Time that accepted events can be read.
    pub retention_ms: i64,
    /// Time that a repetition is recognised. At most `retention_ms`.
    pub idempotency_window_ms: i64,
    pub server: ServerSettings,
    pub quotas: QuotaLimits,
    /// Names of the enabled dialects, a subset of `DIALECTS`.
    pub dialects: BTreeSet<String>,
    /// Whether Svix's signature scheme sends its headers under the names of Standard Webhooks.
    pub svix_whitelabel: bool,
    pub foreign_tokens: ForeignTokenSettings,
    /// The lists of `DIALECT_LISTS` by name. A list that is not there is empty.
    pub dialect_lists: BTreeMap<&'static str, Vec<String>>,
    /// The size at which a partition is sealed.
    pub partition_max_bytes: u64,
    /// Free space on the data directory's disk below which publishes are refused.
    pub min_free_bytes: u64,
    /// Maximum time that a stopping daemon waits for current requests.
    pub shutdown_timeout_s: u64,
    /// Maximum size of the body of `POST /v1/events`.
    pub max_event_bytes: u64,
    pub log: LogSettings,
    pub metrics: MetricsSettings,
    pub ui: UiSettings,
    pub portal: PortalPages,
    pub traces: TraceSettings,
    pub standby: StandbySettings,
    pub cluster: ClusterSettings,
}

impl Settings {
    /// These settings with the values that a daemon has shown, by name. A secret stays as it is here if it is shown as a
    /// mask alone, or as the one here is shown. Any other masked value is taken with its mask: a URL names its host.
    pub fn with_shown<'a>(&self, shown: impl IntoIterator<Item = (&'a str, &'a RawSetting)>) -> Settings {
        let mut settings = self.clone();
        for (name, value) in shown {
            if let Some(key) = keys::find(name).filter(|key| !key.is_hidden_in(value, self)) {
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
    /// Networks, addresses and host names (`*.` for every name below) that are allowed although private. Each is
    /// well-formed.
    pub allow: Vec<String>,
    /// Targets that are never allowed, in the same form.
    pub deny: Vec<String>,
    /// Maximum requests in flight over all webhooks.
    pub max_in_flight: usize,
    /// Whether plain http is refused.
    pub https_only: bool,
    /// The URL of the proxy that deliveries go through, with its credentials. `ForwardProxy` parses it.
    pub proxy: Option<SecretSetting>,
    /// Hosts that are reached without the proxy. `NoProxy` parses them.
    pub no_proxy: Vec<String>,
}

/// The tokens of a Svix server that the Svix shape takes in place of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForeignTokenSettings {
    /// The file of the secret that signs them. `secret` has its text.
    pub secret_file: Option<PathBuf>,
    /// The secret. `None` if no such token is taken.
    pub secret: Option<SecretSetting>,
    /// The organization's id in the tokens.
    pub org: String,
    /// The organization here. `None` for the oldest one.
    pub organization: Option<OrganizationId>,
}

/// The API's listener, besides its address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerSettings {
    /// Hosts (`name[:port]`) and origins (`https://…`) answered on a loopback listener besides loopback names.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://…`) whose web pages may call the dialects that share themselves with pages.
    pub allowed_origins: Vec<String>,
    /// The URL that clients use, without a trailing slash.
    pub public_url: Option<String>,
    /// PEM certificate chain. Set if and only if `tls_key` is.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key. Set if and only if `tls_cert` is.
    pub tls_key: Option<PathBuf>,
    /// PEM authorities of clients. With them, only clients that show a certificate of one of them are accepted. Needs
    /// `tls_cert`.
    pub tls_client_ca: Option<PathBuf>,
    /// The permission bits of a unix socket's file, which decide who may connect.
    pub socket_mode: u32,
    /// Maximum connections of one peer address, or of one /64 network of IPv6. 0: a quarter of all.
    pub connections_per_address: usize,
}

/// The daemon's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// A directive list that `tracing_subscriber::EnvFilter` accepts.
    pub level: String,
    pub format: LogFormat,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// To journald with its fields if journald reads stderr, otherwise as text.
    #[default]
    Auto,
    Text,
    /// One JSON object per line.
    Json,
    /// To journald, even if stderr goes elsewhere.
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

/// Access to the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSettings {
    /// A separate listener for metrics.
    pub listen: Option<ListenSetting>,
    /// The bearer token that `/metrics` requires.
    pub key: Option<SecretSetting>,
}

/// The pages for browsers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UiSettings {
    /// Whether the pages are served.
    pub enabled: bool,
    /// The pages' own listener. `None` if the listener of the API serves them.
    pub listen: Option<ListenSetting>,
    /// The pages' address for browsers. `None` if it is `server.public_url`.
    pub public_url: Option<String>,
    /// Time from a login to the end of its session.
    pub session_ms: i64,
    /// Time without a request after which a session ends.
    pub idle_ms: i64,
    /// Whether a login over plain HTTP from another machine is refused.
    pub require_tls: bool,
}

/// The pages for tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortalPages {
    /// Whether they are served. They need the pages for browsers too.
    pub enabled: bool,
    /// The operator's name. Empty for none.
    pub name: String,
    /// Maximum number of webhooks of an app that a tenant makes.
    pub webhooks_max: usize,
}

/// The second machine that has every commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandbySettings {
    /// The URL of the other machine's API. A store that is a standby follows it. `None` if there is no other machine.
    pub of: Option<String>,
    /// The file of the API key with the scope `replicate`.
    pub key_file: Option<PathBuf>,
    /// PEM file of the authorities that the other machine's certificate must come from. `None` for those of this machine.
    pub ca_file: Option<PathBuf>,
    /// Whether an owner answers a change only once a standby has it.
    pub required: bool,
}

/// The cluster that this machine is a node of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The URL of the PostgreSQL database with the log, with its credentials. `None` if the store is by itself.
    pub log: Option<SecretSetting>,
    /// The URL of this node's API for the other nodes.
    pub url: Option<String>,
    /// The name of this node, which no other node has. `None` for its URL.
    pub node: Option<String>,
    /// The file of the API key with the scope `replicate`, for a node without a store.
    pub key_file: Option<PathBuf>,
    /// PEM file of the authorities that the other nodes' certificates must come from. `None` for those of this machine.
    pub ca_file: Option<PathBuf>,
}

/// Export of traces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// The OTLP/HTTP URL of a collector. `None` if no spans are exported.
    pub endpoint: Option<String>,
}
