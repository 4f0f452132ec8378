//! The table of settings: the name, reader and writer of each one.
//!
//! It is the only list of settings. File, environment, flags and `config show` use it.

use std::sync::LazyLock;

use tracing_subscriber::filter::LevelFilter;

use crate::api::dialects::{DIALECT_LISTS, DIALECTS, DialectList};
use crate::model::OrganizationId;
use crate::rules::descriptors::CLIENT_CONNECTIONS_MAX;
use crate::rules::durations;
use crate::rules::forward_proxy::{self, ForwardProxy};
use crate::rules::no_proxy::{NO_PROXY_FORMS, is_no_proxy_entry};
use crate::rules::postgres_url;

use super::{
    LogFormat, Settings,
    value::{ListenSetting, RawSetting, SecretSetting, bytes_text, is_destination, is_host_or_origin, is_origin},
};

/// Stands for a secret in the output.
pub const MASK: &str = "********";

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const TEN_YEARS_MS: i64 = 3_653 * 86_400_000;
const IN_FLIGHT_MAX: i64 = 100_000;
/// Maximum quota of a count.
const QUOTA_MAX: i64 = 1_000_000_000_000;
const SHUTDOWN_S_MAX: i64 = 3_600;
const PORTAL_WEBHOOKS_MAX: i64 = 100_000;
/// The smallest partition. A new file takes a few MiB, so a smaller limit begins one with each commit, and in the end
/// no start has descriptors for all of them.
const PARTITION_BYTES_MIN: u64 = 16 << 20;
const PARTITION_BYTES_MAX: u64 = 64 << 30;
const EVENT_BYTES_MIN: u64 = 1 << 10;
/// Maximum size of an event. It is that of a batch (api.md, section 3).
const EVENT_BYTES_MAX: u64 = 16 << 20;
const DESTINATIONS: &str =
    "networks (10.0.0.0/8), addresses, host names (erp) or everything below one (*.corp.internal)";
const ORIGINS: &str = "origins such as https://portal.example.com";
const HOSTS: &str = "host names with or without a port, or origins such as https://console.example.com";

/// One setting.
#[derive(Clone, Copy)]
pub struct SettingKey {
    /// The name as the file spells it: `delivery.allow`.
    pub name: &'static str,
    /// The form in which the value may be shown. `None` if it may be shown as it is.
    mask: Option<MaskSetting>,
    /// Whether SIGHUP applies a new value. Otherwise it needs a restart.
    pub live: bool,
    access: Access,
}

/// The position of a setting in `Settings`.
#[derive(Clone, Copy)]
enum Access {
    Field {
        read: ReadSetting,
        show: ShowSetting,
    },
    /// The switch of the dialect with this name.
    Dialect(&'static str),
    /// A list setting of a dialect.
    DialectList(&'static DialectList),
}

type ReadSetting = fn(&mut Settings, &RawSetting) -> Result<(), String>;
type ShowSetting = fn(&Settings) -> RawSetting;
type MaskSetting = fn(&str) -> String;

/// A setting that is not secret and needs a restart.
const fn key(name: &'static str, read: ReadSetting, show: ShowSetting) -> SettingKey {
    SettingKey { name, mask: None, live: false, access: Access::Field { read, show } }
}

impl SettingKey {
    /// The same setting, which SIGHUP applies.
    const fn live(self) -> SettingKey {
        SettingKey { live: true, ..self }
    }

    /// The same setting, whose text is shown only in the form of `mask`.
    const fn masked_by(self, mask: MaskSetting) -> SettingKey {
        SettingKey { mask: Some(mask), ..self }
    }

    /// The switch `dialects.<name>`.
    fn dialect(name: &'static str) -> SettingKey {
        let access = Access::Dialect(name);
        SettingKey { name: format!("dialects.{name}").leak(), mask: None, live: true, access }
    }

    /// The list `dialects.<name of the list>`.
    fn dialect_list(list: &'static DialectList) -> SettingKey {
        let name = format!("dialects.{}", list.name).leak();
        SettingKey { name, mask: None, live: true, access: Access::DialectList(list) }
    }

    /// The name of the variable: `POSTRIDER_DELIVERY__ALLOW` for `delivery.allow`.
    pub fn variable(&self) -> String {
        format!("POSTRIDER_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Reads a raw value into the settings. The error says which values are allowed.
    pub fn read(&self, settings: &mut Settings, raw: &RawSetting) -> Result<(), String> {
        match self.access {
            Access::Field { read, .. } => read(settings, raw),
            Access::Dialect(name) => raw.switch().map(|on| match on {
                true => drop(settings.dialects.insert(name.to_owned())),
                false => drop(settings.dialects.remove(name)),
            }),
            Access::DialectList(list) => raw
                .list(list.form, list.is_entry)
                .map(|entries| drop(settings.dialect_lists.insert(list.name, entries))),
        }
    }

    /// The value in force without secrets.
    pub fn show_masked(&self, settings: &Settings) -> RawSetting {
        match (self.show(settings), self.mask) {
            (RawSetting::Text(text), Some(mask)) if !text.is_empty() => RawSetting::Text(mask(&text)),
            (value, _) => value,
        }
    }

    /// Whether `shown`, by `show_masked` of other settings, tells nothing of a secret that `here` does not have.
    pub fn is_hidden_in(&self, shown: &RawSetting, here: &Settings) -> bool {
        let is_mask = matches!(shown, RawSetting::Text(text) if text == MASK);
        self.mask.is_some() && (is_mask || *shown == self.show_masked(here))
    }

    /// The value in force, as the file would write it. It may be a secret.
    pub fn show(&self, settings: &Settings) -> RawSetting {
        match self.access {
            Access::Field { show, .. } => show(settings),
            Access::Dialect(name) => RawSetting::Switch(settings.dialects.contains(name)),
            Access::DialectList(list) => {
                RawSetting::List(settings.dialect_lists.get(list.name).cloned().unwrap_or_default())
            }
        }
    }
}

/// The setting called `name`.
pub fn find(name: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The names of a section's settings without the section's name. `""` stands for the settings outside any section.
pub fn names_in(section: &str) -> Vec<&'static str> {
    let split = |key: &SettingKey| key.name.rsplit_once('.').unwrap_or(("", key.name));
    KEYS.iter().map(split).filter(|(in_section, _)| *in_section == section).map(|(_, name)| name).collect()
}

/// The sections, each once, in the file's order.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().filter_map(|key| Some(key.name.rsplit_once('.')?.0)).collect();
    sections.dedup();
    sections
}

/// The candidate with the smallest edit distance to `wrong`. `None` if all are too far.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = wrong.len() / 3 + 1;
    let ranked = candidates.into_iter().map(|candidate| (distance(wrong, candidate), candidate));
    ranked.filter(|(steps, _)| *steps <= far).min().map(|(_, candidate)| candidate)
}

/// The number of single-byte insertions, removals and replacements between two texts (Levenshtein), one row at a time.
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
    // EnvFilter reads any single word as a module, so a misspelt level would silence all other modules.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let named = level.split(',').all(|part| is_level(part.rsplit('=').next().unwrap_or(part)));
    match tracing_subscriber::EnvFilter::builder().parse(&level) {
        Ok(_) if named => Ok(level),
        _ => Err(format!("{raw} is not {LEVELS}")),
    }
}

/// The address of a listener besides the API's.
fn listen_or_none(raw: &RawSetting) -> Result<Option<ListenSetting>, String> {
    raw.text_or_none("an address with a port, or unix:/path")?.map(|text| text.parse::<ListenSetting>()).transpose()
}

fn organization(raw: &RawSetting) -> Result<Option<OrganizationId>, String> {
    const EXPECTED: &str = "an organization's id";
    raw.text_or_none(EXPECTED)?.map(|text| text.trim().parse().map_err(|_| raw.is_not(EXPECTED))).transpose()
}

fn public_url(raw: &RawSetting) -> Result<Option<String>, String> {
    const EXPECTED: &str = "an http or https URL without user, query and fragment";
    let Some(written) = raw.text_or_none(EXPECTED)? else {
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
        None => Err(format!("{raw} is not {EXPECTED}")),
    }
}

/// The error does not repeat the value, which may contain a password.
fn proxy(raw: &RawSetting) -> Result<Option<SecretSetting>, String> {
    match raw {
        RawSetting::Text(text) if text.trim().is_empty() => Ok(None),
        RawSetting::Text(text) => ForwardProxy::parse(text.trim()).map(|_| Some(SecretSetting::new(text.trim()))),
        _ => Err("is not a text".to_owned()),
    }
}

/// The error does not repeat the value, which may contain a password.
fn postgres_url(raw: &RawSetting) -> Result<Option<SecretSetting>, String> {
    match raw {
        RawSetting::Text(text) if text.trim().is_empty() => Ok(None),
        RawSetting::Text(text) => postgres_url::check(text.trim()).map(|()| Some(SecretSetting::new(text.trim()))),
        _ => Err("is not a text".to_owned()),
    }
}

fn socket_mode(raw: &RawSetting) -> Result<u32, String> {
    const EXPECTED: &str = "permission bits in octal with read and write for the owner, such as \"0660\"";
    let written = raw.text(EXPECTED)?;
    let mode = u32::from_str_radix(&written, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| format!("{raw} is not {EXPECTED}"))
}

fn format(raw: &RawSetting) -> Result<LogFormat, String> {
    const FORMATS: &str = "auto, text, json or journald";
    let written = raw.text(FORMATS)?;
    let known = LogFormat::ALL.into_iter().find(|format| format.as_str() == written);
    known.ok_or_else(|| format!("{raw} is not {FORMATS}"))
}

/// The settings before the dialects, in the order of `packaging/postrider.toml`.
const SERVICE_KEYS: &[SettingKey] = &[
    key("data_dir", |s, raw| raw.path().map(|path| s.data_dir = path), |s| text(s.data_dir.display())),
    key(
        "listen",
        |s, raw| {
            s.listen = raw.text("an address with a port, or unix:/path")?.parse()?;
            Ok(())
        },
        |s| text(&s.listen),
    ),
    key(
        "admin_key_file",
        |s, raw| raw.path_or_none().map(|path| s.admin_key_file = path),
        |s| path_or_empty(s.admin_key_file.as_ref()),
    ),
    key(
        "master_key_file",
        |s, raw| raw.path_or_none().map(|path| s.master_key_file = path),
        |s| path_or_empty(s.master_key_file.as_ref()),
    ),
    key(
        "retention",
        |s, raw| raw.duration_ms(SECOND_MS, TEN_YEARS_MS).map(|ms| s.retention_ms = ms),
        |s| text(durations::exact(s.retention_ms)),
    ),
    key(
        "idempotency_window",
        |s, raw| raw.duration_ms(SECOND_MS, TEN_YEARS_MS).map(|ms| s.idempotency_window_ms = ms),
        |s| text(durations::exact(s.idempotency_window_ms)),
    ),
    key(
        "max_event_bytes",
        |s, raw| raw.bytes(EVENT_BYTES_MIN, EVENT_BYTES_MAX).map(|size| s.max_event_bytes = size),
        |s| text(bytes_text(s.max_event_bytes)),
    )
    .live(),
    key(
        "partition_max_bytes",
        |s, raw| raw.bytes(PARTITION_BYTES_MIN, PARTITION_BYTES_MAX).map(|size| s.partition_max_bytes = size),
        |s| text(bytes_text(s.partition_max_bytes)),
    ),
    key(
        "min_free_bytes",
        |s, raw| raw.bytes(0, i64::MAX as u64).map(|size| s.min_free_bytes = size),
        |s| text(bytes_text(s.min_free_bytes)),
    ),
    key(
        "shutdown_timeout_s",
        |s, raw| raw.whole(0, SHUTDOWN_S_MAX).map(|n| s.shutdown_timeout_s = n as u64),
        |s| number(s.shutdown_timeout_s),
    )
    .live(),
    key(
        "delivery.allow",
        |s, raw| raw.list(DESTINATIONS, is_destination).map(|list| s.delivery.allow = list),
        |s| RawSetting::List(s.delivery.allow.clone()),
    )
    .live(),
    key(
        "delivery.deny",
        |s, raw| raw.list(DESTINATIONS, is_destination).map(|list| s.delivery.deny = list),
        |s| RawSetting::List(s.delivery.deny.clone()),
    )
    .live(),
    key(
        "delivery.max_in_flight",
        |s, raw| raw.whole(1, IN_FLIGHT_MAX).map(|n| s.delivery.max_in_flight = n as usize),
        |s| number(s.delivery.max_in_flight as u64),
    ),
    key(
        "delivery.https_only",
        |s, raw| raw.switch().map(|on| s.delivery.https_only = on),
        |s| RawSetting::Switch(s.delivery.https_only),
    )
    .live(),
    key(
        "delivery.proxy",
        |s, raw| proxy(raw).map(|proxy| s.delivery.proxy = proxy),
        |s| text(s.delivery.proxy.as_ref().map(SecretSetting::expose).unwrap_or_default()),
    )
    .live()
    .masked_by(forward_proxy::masked),
    key(
        "delivery.no_proxy",
        |s, raw| raw.list(NO_PROXY_FORMS, is_no_proxy_entry).map(|list| s.delivery.no_proxy = list),
        |s| RawSetting::List(s.delivery.no_proxy.clone()),
    )
    .live(),
    key(
        "server.allowed_hosts",
        |s, raw| raw.list(HOSTS, is_host_or_origin).map(|list| s.server.allowed_hosts = list),
        |s| RawSetting::List(s.server.allowed_hosts.clone()),
    )
    .live(),
    key(
        "server.allowed_origins",
        |s, raw| raw.list(ORIGINS, is_origin).map(|list| s.server.allowed_origins = list),
        |s| RawSetting::List(s.server.allowed_origins.clone()),
    )
    .live(),
    key(
        "server.public_url",
        |s, raw| public_url(raw).map(|url| s.server.public_url = url),
        |s| text(s.server.public_url.clone().unwrap_or_default()),
    ),
    key(
        "server.tls_cert",
        |s, raw| raw.path_or_none().map(|path| s.server.tls_cert = path),
        |s| path_or_empty(s.server.tls_cert.as_ref()),
    ),
    key(
        "server.tls_key",
        |s, raw| raw.path_or_none().map(|path| s.server.tls_key = path),
        |s| path_or_empty(s.server.tls_key.as_ref()),
    ),
    key(
        "server.tls_client_ca",
        |s, raw| raw.path_or_none().map(|path| s.server.tls_client_ca = path),
        |s| path_or_empty(s.server.tls_client_ca.as_ref()),
    ),
    key(
        "server.socket_mode",
        |s, raw| socket_mode(raw).map(|mode| s.server.socket_mode = mode),
        |s| text(format!("{:04o}", s.server.socket_mode)),
    ),
    key(
        "server.connections_per_address",
        |s, raw| raw.whole(0, CLIENT_CONNECTIONS_MAX as i64).map(|n| s.server.connections_per_address = n as usize),
        |s| number(s.server.connections_per_address as u64),
    ),
    key(
        "quotas.events_per_second",
        |s, raw| raw.whole(0, QUOTA_MAX).map(|n| s.quotas.events_per_second = n as u64),
        |s| number(s.quotas.events_per_second),
    )
    .live(),
    key(
        "quotas.bytes_per_day",
        |s, raw| raw.bytes(0, i64::MAX as u64).map(|size| s.quotas.bytes_per_day = size),
        |s| text(bytes_text(s.quotas.bytes_per_day)),
    )
    .live(),
    key(
        "quotas.webhooks_per_app",
        |s, raw| raw.whole(0, QUOTA_MAX).map(|n| s.quotas.webhooks_per_app = n as u64),
        |s| number(s.quotas.webhooks_per_app),
    )
    .live(),
    key(
        "quotas.webhooks_per_organization",
        |s, raw| raw.whole(0, QUOTA_MAX).map(|n| s.quotas.webhooks_per_organization = n as u64),
        |s| number(s.quotas.webhooks_per_organization),
    )
    .live(),
    key(
        "quotas.waiting_deliveries",
        |s, raw| raw.whole(0, QUOTA_MAX).map(|n| s.quotas.waiting_deliveries = n as u64),
        |s| number(s.quotas.waiting_deliveries),
    )
    .live(),
];

/// The setting with the file of the secret of foreign tokens.
pub const FOREIGN_SECRET_FILE: &str = "dialects.svix_jwt_secret_file";

/// The settings after the dialects, in the order of `packaging/postrider.toml`.
const OBSERVATION_KEYS: &[SettingKey] = &[
    key(
        "dialects.svix_whitelabel",
        |s, raw| raw.switch().map(|on| s.svix_whitelabel = on),
        |s| RawSetting::Switch(s.svix_whitelabel),
    ),
    key(
        FOREIGN_SECRET_FILE,
        |s, raw| raw.path_or_none().map(|path| s.foreign_tokens.secret_file = path),
        |s| path_or_empty(s.foreign_tokens.secret_file.as_ref()),
    ),
    key(
        "dialects.svix_jwt_org",
        |s, raw| raw.text("an organization's id at Svix").map(|id| s.foreign_tokens.org = id),
        |s| text(&s.foreign_tokens.org),
    ),
    key(
        "dialects.svix_jwt_organization",
        |s, raw| organization(raw).map(|id| s.foreign_tokens.organization = id),
        |s| text(s.foreign_tokens.organization.map(|id| id.to_string()).unwrap_or_default()),
    ),
    key("log.level", |s, raw| level(raw).map(|level| s.log.level = level), |s| text(&s.log.level)).live(),
    key("log.format", |s, raw| format(raw).map(|format| s.log.format = format), |s| text(s.log.format.as_str())),
    key(
        "metrics.listen",
        |s, raw| listen_or_none(raw).map(|at| s.metrics.listen = at),
        |s| text(s.metrics.listen.as_ref().map(ListenSetting::to_string).unwrap_or_default()),
    ),
    key(
        "metrics.key",
        |s, raw| {
            s.metrics.key = raw.text_or_none("a bearer token")?.map(SecretSetting::new);
            Ok(())
        },
        |s| text(s.metrics.key.as_ref().map(SecretSetting::expose).unwrap_or_default()),
    )
    .live()
    .masked_by(|_| MASK.to_owned()),
    key("ui.enabled", |s, raw| raw.switch().map(|on| s.ui.enabled = on), |s| RawSetting::Switch(s.ui.enabled)).live(),
    key(
        "ui.listen",
        |s, raw| listen_or_none(raw).map(|at| s.ui.listen = at),
        |s| text(s.ui.listen.as_ref().map(ListenSetting::to_string).unwrap_or_default()),
    ),
    key(
        "ui.public_url",
        |s, raw| public_url(raw).map(|url| s.ui.public_url = url),
        |s| text(s.ui.public_url.clone().unwrap_or_default()),
    ),
    key(
        "ui.session",
        |s, raw| raw.duration_ms(MINUTE_MS, DAY_MS).map(|ms| s.ui.session_ms = ms),
        |s| text(durations::exact(s.ui.session_ms)),
    )
    .live(),
    key(
        "ui.idle",
        |s, raw| raw.duration_ms(MINUTE_MS, DAY_MS).map(|ms| s.ui.idle_ms = ms),
        |s| text(durations::exact(s.ui.idle_ms)),
    )
    .live(),
    key(
        "ui.require_tls",
        |s, raw| raw.switch().map(|on| s.ui.require_tls = on),
        |s| RawSetting::Switch(s.ui.require_tls),
    )
    .live(),
    key(
        "portal.enabled",
        |s, raw| raw.switch().map(|on| s.portal.enabled = on),
        |s| RawSetting::Switch(s.portal.enabled),
    )
    .live(),
    key(
        "portal.name",
        |s, raw| raw.text_or_none("a name").map(|name| s.portal.name = name.unwrap_or_default().to_owned()),
        |s| text(&s.portal.name),
    )
    .live(),
    key(
        "portal.webhooks_max",
        |s, raw| raw.whole(1, PORTAL_WEBHOOKS_MAX).map(|n| s.portal.webhooks_max = n as usize),
        |s| number(s.portal.webhooks_max as u64),
    )
    .live(),
    key(
        "traces.endpoint",
        |s, raw| public_url(raw).map(|url| s.traces.endpoint = url),
        |s| text(s.traces.endpoint.clone().unwrap_or_default()),
    ),
    key(
        "standby.of",
        |s, raw| public_url(raw).map(|url| s.standby.of = url),
        |s| text(s.standby.of.clone().unwrap_or_default()),
    ),
    key(
        "standby.key_file",
        |s, raw| raw.path_or_none().map(|path| s.standby.key_file = path),
        |s| path_or_empty(s.standby.key_file.as_ref()),
    ),
    key(
        "standby.ca_file",
        |s, raw| raw.path_or_none().map(|path| s.standby.ca_file = path),
        |s| path_or_empty(s.standby.ca_file.as_ref()),
    ),
    key(
        "standby.required",
        |s, raw| raw.switch().map(|on| s.standby.required = on),
        |s| RawSetting::Switch(s.standby.required),
    )
    .live(),
    key(
        "cluster.log",
        |s, raw| postgres_url(raw).map(|url| s.cluster.log = url),
        |s| text(s.cluster.log.as_ref().map(SecretSetting::expose).unwrap_or_default()),
    )
    .masked_by(forward_proxy::masked),
    key(
        "cluster.url",
        |s, raw| public_url(raw).map(|url| s.cluster.url = url),
        |s| text(s.cluster.url.clone().unwrap_or_default()),
    ),
    key(
        "cluster.node",
        |s, raw| raw.text_or_none("a name").map(|name| s.cluster.node = name),
        |s| text(s.cluster.node.clone().unwrap_or_default()),
    ),
    key(
        "cluster.key_file",
        |s, raw| raw.path_or_none().map(|path| s.cluster.key_file = path),
        |s| path_or_empty(s.cluster.key_file.as_ref()),
    ),
    key(
        "cluster.ca_file",
        |s, raw| raw.path_or_none().map(|path| s.cluster.ca_file = path),
        |s| path_or_empty(s.cluster.ca_file.as_ref()),
    ),
];

/// All settings, in the order of `packaging/postrider.toml`. Every dialect of `DIALECTS` has one.
pub static KEYS: LazyLock<Vec<SettingKey>> = LazyLock::new(|| {
    let dialects: Vec<SettingKey> = DIALECTS.iter().map(|dialect| SettingKey::dialect(dialect.name)).collect();
    let lists: Vec<SettingKey> = DIALECT_LISTS.iter().map(SettingKey::dialect_list).collect();
    [SERVICE_KEYS, &dialects, &lists, OBSERVATION_KEYS].concat()
});
