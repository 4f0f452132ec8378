//! The table of settings: name, how it is read into `Settings`, how it is shown. One row a setting, and the only list of
//! them: file, environment and `config show` all go through here.

use tracing_subscriber::filter::LevelFilter;

use super::{
    LogFormat, Settings,
    value::{ListenSetting, RawSetting, SecretSetting, bytes_text, duration_text, is_destination, is_host_or_origin},
};

const SECOND_MS: i64 = 1_000;
const TEN_YEARS_MS: i64 = 3_653 * 86_400_000;
const IN_FLIGHT_MAX: i64 = 100_000;
const SHUTDOWN_S_MAX: i64 = 3_600;
/// Room for the smallest useful partition; tests seal partitions early with it.
const PARTITION_BYTES_MIN: u64 = 64 << 10;
const PARTITION_BYTES_MAX: u64 = 64 << 30;
const EVENT_BYTES_MIN: u64 = 1 << 10;
/// A batch's own limit (api.md, section 3); one event cannot be larger than all of a batch.
const EVENT_BYTES_MAX: u64 = 16 << 20;
const DESTINATIONS: &str =
    "networks (10.0.0.0/8), addresses, host names (erp) or everything below one (*.corp.internal)";
const HOSTS: &str = "host names with or without a port, or origins such as https://console.example.com";

/// One setting.
pub struct SettingKey {
    /// As the file spells it: `delivery.allow`.
    pub name: &'static str,
    /// Whether its value must not be shown.
    pub secret: bool,
    /// Whether a running daemon takes a new value over (SIGHUP); else it needs a restart.
    pub live: bool,
    /// Puts what is written into the settings, or says what is allowed.
    pub read: fn(&mut Settings, &RawSetting) -> Result<(), String>,
    /// The value in force, as the file would write it.
    pub show: fn(&Settings) -> RawSetting,
}

impl SettingKey {
    /// `delivery.allow` is `POSTRIDER_DELIVERY__ALLOW`.
    pub fn variable(&self) -> String {
        format!("POSTRIDER_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }
}

/// The setting called `name`.
pub fn find(name: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The names of a section's settings without the section, or of the settings outside any (`""`).
pub fn names_in(section: &str) -> Vec<&'static str> {
    let split = |key: &SettingKey| key.name.rsplit_once('.').unwrap_or(("", key.name));
    KEYS.iter().map(split).filter(|(of, _)| *of == section).map(|(_, name)| name).collect()
}

/// The sections, each once, in the file's order.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().filter_map(|key| Some(key.name.rsplit_once('.')?.0)).collect();
    sections.dedup();
    sections
}

/// The candidate that `wrong` was most likely meant to be, if any is near enough.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = wrong.len() / 3 + 1;
    let ranked = candidates.into_iter().map(|candidate| (distance(wrong, candidate), candidate));
    ranked.filter(|(steps, _)| *steps <= far).min().map(|(_, candidate)| candidate)
}

/// Single-byte insertions, removals and replacements from one to the other (Levenshtein), one row at a time.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

fn path_or_empty(path: Option<&std::path::PathBuf>) -> RawSetting {
    RawSetting::Text(path.map(|path| path.display().to_string()).unwrap_or_default())
}

fn text(value: impl ToString) -> RawSetting {
    RawSetting::Text(value.to_string())
}

fn number(value: u64) -> RawSetting {
    RawSetting::Whole(i64::try_from(value).unwrap_or(i64::MAX))
}

fn level(raw: &RawSetting) -> Result<String, String> {
    const LEVELS: &str = "error, warn, info, debug, trace, off, or a filter such as info,postrider::engine=debug";
    let level = raw.text(LEVELS)?;
    // EnvFilter takes any lone word for a module, so that a misspelt level would silence everything else.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let named = level.split(',').all(|part| is_level(part.rsplit('=').next().unwrap_or(part)));
    match tracing_subscriber::EnvFilter::builder().parse(&level) {
        Ok(_) if named => Ok(level),
        _ => Err(format!("{raw} is not {LEVELS}")),
    }
}

fn public_url(raw: &RawSetting) -> Result<Option<String>, String> {
    const WHAT: &str = "an http or https URL without user, query and fragment";
    let Some(written) = raw.text_or_none(WHAT)? else {
        return Ok(None);
    };
    let right = |url: &url::Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match url::Url::parse(&written).ok().filter(right) {
        Some(url) => Ok(Some(url.as_str().trim_end_matches('/').to_owned())),
        None => Err(format!("{raw} is not {WHAT}")),
    }
}

fn socket_mode(raw: &RawSetting) -> Result<u32, String> {
    const WHAT: &str = "permission bits in octal with read and write for the owner, such as \"0660\"";
    let written = raw.text(WHAT)?;
    let mode = u32::from_str_radix(&written, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| format!("{raw} is not {WHAT}"))
}

fn format(raw: &RawSetting) -> Result<LogFormat, String> {
    const FORMATS: &str = "auto, text, json or journald";
    let written = raw.text(FORMATS)?;
    let known = LogFormat::ALL.into_iter().find(|format| format.as_str() == written);
    known.ok_or_else(|| format!("{raw} is not {FORMATS}"))
}

/// Every setting, in the order of `packaging/postrider.toml`.
pub const KEYS: &[SettingKey] = &[
    SettingKey {
        name: "data_dir",
        secret: false,
        live: false,
        read: |s, raw| raw.path().map(|path| s.data_dir = path),
        show: |s| text(s.data_dir.display()),
    },
    SettingKey {
        name: "listen",
        secret: false,
        live: false,
        read: |s, raw| {
            s.listen = raw.text("an address with a port, or unix:/path")?.parse()?;
            Ok(())
        },
        show: |s| text(&s.listen),
    },
    SettingKey {
        name: "admin_key_file",
        secret: false,
        live: false,
        read: |s, raw| raw.path_or_none().map(|path| s.admin_key_file = path),
        show: |s| path_or_empty(s.admin_key_file.as_ref()),
    },
    SettingKey {
        name: "master_key_file",
        secret: false,
        live: false,
        read: |s, raw| raw.path_or_none().map(|path| s.master_key_file = path),
        show: |s| path_or_empty(s.master_key_file.as_ref()),
    },
    SettingKey {
        name: "retention",
        secret: false,
        live: false,
        read: |s, raw| raw.duration_ms(SECOND_MS, TEN_YEARS_MS).map(|ms| s.retention_ms = ms),
        show: |s| text(duration_text(s.retention_ms)),
    },
    SettingKey {
        name: "idempotency_window",
        secret: false,
        live: false,
        read: |s, raw| raw.duration_ms(SECOND_MS, TEN_YEARS_MS).map(|ms| s.idempotency_window_ms = ms),
        show: |s| text(duration_text(s.idempotency_window_ms)),
    },
    SettingKey {
        name: "max_event_bytes",
        secret: false,
        live: true,
        read: |s, raw| raw.bytes(EVENT_BYTES_MIN, EVENT_BYTES_MAX).map(|size| s.max_event_bytes = size),
        show: |s| text(bytes_text(s.max_event_bytes)),
    },
    SettingKey {
        name: "partition_max_bytes",
        secret: false,
        live: false,
        read: |s, raw| raw.bytes(PARTITION_BYTES_MIN, PARTITION_BYTES_MAX).map(|size| s.partition_max_bytes = size),
        show: |s| text(bytes_text(s.partition_max_bytes)),
    },
    SettingKey {
        name: "min_free_bytes",
        secret: false,
        live: false,
        read: |s, raw| raw.bytes(0, i64::MAX as u64).map(|size| s.min_free_bytes = size),
        show: |s| text(bytes_text(s.min_free_bytes)),
    },
    SettingKey {
        name: "shutdown_timeout_s",
        secret: false,
        live: true,
        read: |s, raw| raw.whole(0, SHUTDOWN_S_MAX).map(|n| s.shutdown_timeout_s = n as u64),
        show: |s| number(s.shutdown_timeout_s),
    },
    SettingKey {
        name: "delivery.allow",
        secret: false,
        live: true,
        read: |s, raw| raw.list(DESTINATIONS, is_destination).map(|list| s.delivery.allow = list),
        show: |s| RawSetting::List(s.delivery.allow.clone()),
    },
    SettingKey {
        name: "delivery.deny",
        secret: false,
        live: true,
        read: |s, raw| raw.list(DESTINATIONS, is_destination).map(|list| s.delivery.deny = list),
        show: |s| RawSetting::List(s.delivery.deny.clone()),
    },
    SettingKey {
        name: "delivery.max_in_flight",
        secret: false,
        live: false,
        read: |s, raw| raw.whole(1, IN_FLIGHT_MAX).map(|n| s.delivery.max_in_flight = n as usize),
        show: |s| number(s.delivery.max_in_flight as u64),
    },
    SettingKey {
        name: "delivery.https_only",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.delivery.https_only = on),
        show: |s| RawSetting::Switch(s.delivery.https_only),
    },
    SettingKey {
        name: "server.allowed_hosts",
        secret: false,
        live: true,
        read: |s, raw| raw.list(HOSTS, is_host_or_origin).map(|list| s.server.allowed_hosts = list),
        show: |s| RawSetting::List(s.server.allowed_hosts.clone()),
    },
    SettingKey {
        name: "server.public_url",
        secret: false,
        live: false,
        read: |s, raw| public_url(raw).map(|url| s.server.public_url = url),
        show: |s| text(s.server.public_url.clone().unwrap_or_default()),
    },
    SettingKey {
        name: "server.tls_cert",
        secret: false,
        live: false,
        read: |s, raw| raw.path_or_none().map(|path| s.server.tls_cert = path),
        show: |s| path_or_empty(s.server.tls_cert.as_ref()),
    },
    SettingKey {
        name: "server.tls_key",
        secret: false,
        live: false,
        read: |s, raw| raw.path_or_none().map(|path| s.server.tls_key = path),
        show: |s| path_or_empty(s.server.tls_key.as_ref()),
    },
    SettingKey {
        name: "server.tls_client_ca",
        secret: false,
        live: false,
        read: |s, raw| raw.path_or_none().map(|path| s.server.tls_client_ca = path),
        show: |s| path_or_empty(s.server.tls_client_ca.as_ref()),
    },
    SettingKey {
        name: "server.socket_mode",
        secret: false,
        live: false,
        read: |s, raw| socket_mode(raw).map(|mode| s.server.socket_mode = mode),
        show: |s| text(format!("{:04o}", s.server.socket_mode)),
    },
    SettingKey {
        name: "dialects.instantly",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.dialects.instantly = on),
        show: |s| RawSetting::Switch(s.dialects.instantly),
    },
    SettingKey {
        name: "dialects.dfns",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.dialects.dfns = on),
        show: |s| RawSetting::Switch(s.dialects.dfns),
    },
    SettingKey {
        name: "dialects.everlytic",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.dialects.everlytic = on),
        show: |s| RawSetting::Switch(s.dialects.everlytic),
    },
    SettingKey {
        name: "dialects.sentdm",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.dialects.sentdm = on),
        show: |s| RawSetting::Switch(s.dialects.sentdm),
    },
    SettingKey {
        name: "dialects.devdraft",
        secret: false,
        live: true,
        read: |s, raw| raw.switch().map(|on| s.dialects.devdraft = on),
        show: |s| RawSetting::Switch(s.dialects.devdraft),
    },
    SettingKey {
        name: "log.level",
        secret: false,
        live: true,
        read: |s, raw| level(raw).map(|level| s.log.level = level),
        show: |s| text(&s.log.level),
    },
    SettingKey {
        name: "log.format",
        secret: false,
        live: false,
        read: |s, raw| format(raw).map(|format| s.log.format = format),
        show: |s| text(s.log.format.as_str()),
    },
    SettingKey {
        name: "metrics.listen",
        secret: false,
        live: false,
        read: |s, raw| {
            let written = raw.text_or_none("an address with a port, or unix:/path")?;
            s.metrics.listen = written.map(|text| text.parse::<ListenSetting>()).transpose()?;
            Ok(())
        },
        show: |s| text(s.metrics.listen.as_ref().map(ListenSetting::to_string).unwrap_or_default()),
    },
    SettingKey {
        name: "metrics.key",
        secret: true,
        live: true,
        read: |s, raw| {
            s.metrics.key = raw.text_or_none("a bearer token")?.map(SecretSetting::new);
            Ok(())
        },
        show: |s| text(s.metrics.key.as_ref().map(SecretSetting::expose).unwrap_or_default()),
    },
    SettingKey {
        name: "traces.endpoint",
        secret: false,
        live: false,
        read: |s, raw| public_url(raw).map(|url| s.traces.endpoint = url),
        show: |s| text(s.traces.endpoint.clone().unwrap_or_default()),
    },
];
