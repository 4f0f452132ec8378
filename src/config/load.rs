//! Loading: default, file, environment and flags become one `Settings`. Each layer overrides the one before.
//!
//! Problems of all layers are collected. A wrong value is a problem even if a higher layer covers it.

mod installation_keys;

pub use installation_keys::master_key_of;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::api::dialects::DIALECTS;
use crate::rules::durations;
use crate::rules::quotas::QuotaLimits;

use super::{
    ClusterSettings, ConfigError, DeliverySettings, Environment, ForeignTokenSettings, ListenSetting, LogSettings,
    MetricsSettings, PortalPages, SETTINGS_FILE, SETTINGS_FILE_PATH, ServerSettings, SettingProblem, Settings,
    StandbySettings, TraceSettings, UiSettings, ValueSource,
    file::{self, uncommented},
    keys::{self, SettingKey},
    value::RawSetting,
};

/// Settings given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`. This file must exist.
    pub config: Option<PathBuf>,
    pub values: Vec<Flag>,
}

/// One setting given as a flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag with its dashes, for messages: `--listen`.
    pub flag: &'static str,
    /// The setting that it sets: `listen`.
    pub key: &'static str,
    pub value: String,
}

/// The settings, and the source of each.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// The file that was read. `None` if there is none.
    pub file: Option<PathBuf>,
    origins: BTreeMap<&'static str, ValueSource>,
}

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingRow {
    pub key: &'static str,
    /// The value, masked if it is a secret.
    pub value: RawSetting,
    pub origin: ValueSource,
}

/// A setting that differs from the running daemon's.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingChange {
    pub key: &'static str,
    /// The new value, masked if it is a secret.
    pub value: RawSetting,
    pub origin: ValueSource,
    /// Whether the running daemon can apply it.
    pub live: bool,
}

impl Settings {
    /// Reads all layers. `Err` has the problems of all of them.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Loaded, ConfigError> {
        let mut loading = Loader::with_defaults();
        let file = loading.file(flags, environment);
        loading.state_directory(environment);
        loading.environment(environment);
        loading.flags(flags);
        loading.between_settings();
        loading.admin_key(environment);
        loading.master_key(environment);
        loading.foreign_token_secret(environment);
        match loading.problems.is_empty() {
            true => Ok(Loaded { settings: loading.settings, file, origins: loading.origins }),
            false => Err(ConfigError { problems: loading.problems }),
        }
    }

    /// Every field at its zero. The defaults replace them.
    fn blank() -> Self {
        Self {
            data_dir: PathBuf::new(),
            listen: ListenSetting::Unix(PathBuf::new()),
            admin_key_file: None,
            admin_key: None,
            master_key_file: None,
            master_key: None,
            delivery: DeliverySettings::default(),
            retention_ms: 0,
            idempotency_window_ms: 0,
            server: ServerSettings::default(),
            dialects: DIALECTS.iter().map(|dialect| dialect.name.to_owned()).collect(),
            svix_whitelabel: false,
            foreign_tokens: ForeignTokenSettings::default(),
            dialect_lists: BTreeMap::new(),
            partition_max_bytes: 0,
            min_free_bytes: 0,
            shutdown_timeout_s: 0,
            max_event_bytes: 0,
            log: LogSettings::default(),
            metrics: MetricsSettings::default(),
            quotas: QuotaLimits::default(),
            ui: UiSettings::default(),
            portal: PortalPages::default(),
            traces: TraceSettings::default(),
            standby: StandbySettings::default(),
            cluster: ClusterSettings::default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Loader::with_defaults().settings
    }
}

impl Loaded {
    /// Every setting with its value and source in the file's order, then the two keys if they are set.
    pub fn rows(&self) -> Vec<SettingRow> {
        let mask = || RawSetting::Text(keys::MASK.to_owned());
        let settings = keys::KEYS.iter().map(|key| {
            let value = key.show_masked(&self.settings);
            SettingRow { key: key.name, value, origin: self.origin(key.name).clone() }
        });
        let secrets = ["admin_key", "master_key"]
            .into_iter()
            .filter_map(|key| Some(SettingRow { key, value: mask(), origin: self.origins.get(key)?.clone() }));
        settings.chain(secrets).collect()
    }

    /// The differences of `newer`, in the file's order.
    pub fn changes(&self, newer: &Loaded) -> Vec<SettingChange> {
        let (old, new) = (&self.settings, &newer.settings);
        let differs = |key: &SettingKey| key.show(old) != key.show(new);
        let row = |name: &str| newer.rows().into_iter().find(|row| row.key == name);
        let settings = keys::KEYS.iter().filter(|key| differs(key)).filter_map(|key| Some((row(key.name)?, key.live)));
        let keys = [("admin_key", old.admin_key != new.admin_key), ("master_key", old.master_key != new.master_key)];
        let keys = keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| {
            let gone = || SettingRow { key, value: RawSetting::Text(String::new()), origin: ValueSource::Default };
            (row(key).unwrap_or_else(gone), false)
        });
        let change = |(row, live): (SettingRow, bool)| SettingChange {
            key: row.key,
            value: row.value,
            origin: row.origin,
            live,
        };
        settings.chain(keys).map(change).collect()
    }

    /// These settings, with the live settings of `newer`.
    pub fn with_live_of(&self, newer: &Loaded) -> Loaded {
        let mut next = self.clone();
        for key in keys::KEYS.iter().filter(|key| key.live) {
            // The shown text is the file's syntax, so it can be read back.
            if key.read(&mut next.settings, &key.show(&newer.settings)).is_ok() {
                next.origins.insert(key.name, newer.origin(key.name).clone());
            }
        }
        next
    }

    /// The source of the value of `key`, which may also be `admin_key` or `master_key`.
    pub fn origin(&self, key: &str) -> &ValueSource {
        self.origins.get(key).unwrap_or(&ValueSource::Default)
    }
}

struct Loader {
    settings: Settings,
    origins: BTreeMap<&'static str, ValueSource>,
    problems: Vec<SettingProblem>,
}

impl Loader {
    fn with_defaults() -> Self {
        let mut loading = Self { settings: Settings::blank(), origins: BTreeMap::new(), problems: Vec::new() };
        let (entries, problems) = file::read(&uncommented(SETTINGS_FILE), Path::new("(default)"));
        loading.problems.extend(problems);
        for entry in entries {
            loading.take(entry.key, &entry.raw, ValueSource::Default);
        }
        loading
    }

    fn take(&mut self, key: &'static SettingKey, raw: &RawSetting, origin: ValueSource) {
        match key.read(&mut self.settings, raw) {
            Ok(()) => {
                self.origins.insert(key.name, origin);
            }
            Err(text) => self.problem(&origin, key.name, text),
        }
    }

    fn problem(&mut self, origin: &ValueSource, key: &str, text: String) {
        self.problems.push(SettingProblem { place: origin.to_string(), key: Some(key.to_owned()), text });
    }

    fn origin(&self, key: &str) -> ValueSource {
        self.origins.get(key).cloned().unwrap_or(ValueSource::Default)
    }

    fn file(&mut self, flags: &Flags, environment: &Environment) -> Option<PathBuf> {
        let named = flags.config.clone().map(|path| ("--config", path));
        let named =
            named.or_else(|| Some(("POSTRIDER_CONFIG", PathBuf::from(environment.filled("POSTRIDER_CONFIG")?))));
        let must_exist = named.is_some();
        let (by, path) = named.unwrap_or((SETTINGS_FILE_PATH, SETTINGS_FILE_PATH.into()));
        match environment.read(&path) {
            Ok(text) => {
                let (entries, problems) = file::read(&text, &path);
                self.problems.extend(problems);
                for entry in entries {
                    self.take(entry.key, &entry.raw, ValueSource::File { path: path.clone(), line: entry.line });
                }
                Some(path)
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => None,
            Err(error) => {
                let text = format!("cannot read the settings file {}: {error}", path.display());
                self.problems.push(SettingProblem { place: by.to_owned(), key: None, text });
                None
            }
        }
    }

    /// systemd names the unit's StateDirectory= here, several separated by colons (systemd.exec(5)). It only replaces
    /// the default: a file, a variable or a flag that sets `data_dir` wins.
    fn state_directory(&mut self, environment: &Environment) {
        let first = environment.filled("STATE_DIRECTORY").and_then(|all| all.split(':').next());
        if let Some(path) = first.filter(|path| !path.is_empty())
            && self.origin("data_dir") == ValueSource::Default
        {
            self.settings.data_dir = path.into();
            self.origins.insert("data_dir", ValueSource::Env("STATE_DIRECTORY".to_owned()));
        }
    }

    fn environment(&mut self, environment: &Environment) {
        self.problems.extend(environment.strangers());
        for (key, name, value) in environment.settings() {
            self.take(key, &RawSetting::Text(value.to_owned()), ValueSource::Env(name.to_owned()));
        }
    }

    fn flags(&mut self, flags: &Flags) {
        for given in &flags.values {
            match keys::find(given.key) {
                Some(key) => self.take(key, &RawSetting::Text(given.value.clone()), ValueSource::Flag(given.flag)),
                None => self.problem(&ValueSource::Flag(given.flag), given.key, "no such setting".to_owned()),
            }
        }
    }

    /// Checks relations between settings.
    fn between_settings(&mut self) {
        let Settings { retention_ms, idempotency_window_ms, .. } = self.settings;
        let origin = self.origin("idempotency_window");
        match &origin {
            ValueSource::Default => self.settings.idempotency_window_ms = idempotency_window_ms.min(retention_ms),
            _ if idempotency_window_ms > retention_ms => {
                let text = format!(
                    "is longer than the retention, {} (from {})",
                    durations::exact(retention_ms),
                    self.origin("retention")
                );
                self.problem(&origin, "idempotency_window", text);
            }
            _ => {}
        }
        let second = self.settings.metrics.listen.as_ref();
        if second.is_some_and(|second| second.overlaps(&self.settings.listen)) {
            let text = format!(
                "is the address of listen too, {} (from {}): give the metrics another port, or leave metrics.listen out, \
                 because the API serves /metrics too",
                self.settings.listen,
                self.origin("listen")
            );
            self.problem(&self.origin("metrics.listen"), "metrics.listen", text);
        }
        let pages = self.settings.ui.listen.clone();
        let others =
            [("listen", Some(&self.settings.listen)), ("metrics.listen", self.settings.metrics.listen.as_ref())];
        let taken = others.into_iter().find(|(_, other)| other.zip(pages.as_ref()).is_some_and(|(a, b)| a.overlaps(b)));
        if let Some((name, _)) = taken {
            let text =
                format!("is the address of {name} too (from {}): give the pages another port", self.origin(name));
            self.problem(&self.origin("ui.listen"), "ui.listen", text);
        }
        self.settings_that_need_others();
    }

    /// Checks settings that need another one, or exclude it.
    fn settings_that_need_others(&mut self) {
        let Settings { server, standby, cluster, .. } = &self.settings;
        let (cert, key) = (server.tls_cert.is_some(), server.tls_key.is_some());
        let (standby_of, cluster_log) = (standby.of.is_some(), cluster.log.is_some());
        let both = |missing| format!("is set without {missing}; set both, or none");
        let rules = [
            (
                server.tls_client_ca.is_some() && !cert,
                "server.tls_client_ca",
                "is set without server.tls_cert: there is no TLS".to_owned(),
            ),
            (cert && !key, "server.tls_cert", both("server.tls_key")),
            (key && !cert, "server.tls_key", both("server.tls_cert")),
            (standby_of && standby.key_file.is_none(), "standby.of", both("standby.key_file")),
            (
                cluster_log && cluster.url.is_none(),
                "cluster.log",
                "is set without cluster.url, the URL of this node's API for the other nodes".to_owned(),
            ),
            (
                cluster_log && standby_of,
                "cluster.log",
                "is set beside standby.of: a node of a cluster has no standby of its own".to_owned(),
            ),
        ];
        for (_, key, text) in rules.into_iter().filter(|(is_broken, ..)| *is_broken) {
            self.problem(&self.origin(key), key, text);
        }
    }
}

#[cfg(test)]
mod tests;
