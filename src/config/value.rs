//! Values of settings: one reader for each kind of value, shared by file, environment and flags.
//!
//! A reader's error is the second half of a sentence, `… is not a size such as …`, and says which values are allowed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::{Span, SpanRelativeTo};

use crate::rules::durations;

/// Maximum length of a unix socket's path on Linux (`sun_path` has 108 bytes with its zero, unix(7)).
const UNIX_SOCKET_PATH_BYTES_MAX: usize = 107;

/// A value as written, before it is read. Environment and flags have `Text` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawSetting {
    Text(String),
    Whole(i64),
    Switch(bool),
    List(Vec<String>),
    /// A kind that no setting accepts, with its name.
    Other(&'static str),
}

/// Writes TOML, so that the output of `config show` can be put into the file.
impl fmt::Display for RawSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Switch(on) => write!(f, "{on}"),
            Self::List(entries) => {
                let entries: Vec<String> = entries.iter().map(|entry| quoted(entry)).collect();
                write!(f, "[{}]", entries.join(", "))
            }
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A TOML basic string: quotes, backslashes and control characters are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl RawSetting {
    pub fn is_not(&self, expected: &str) -> String {
        match self {
            Self::Text(text) if text.is_empty() => format!("is empty, and should be {expected}"),
            _ => format!("{self} is not {expected}"),
        }
    }

    /// Text that is not empty.
    pub fn text(&self, expected: &str) -> Result<String, String> {
        match self {
            Self::Text(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            _ => Err(self.is_not(expected)),
        }
    }

    /// Text. `None` if it is empty.
    pub fn text_or_none(&self, expected: &str) -> Result<Option<String>, String> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Ok(None),
            _ => self.text(expected).map(Some),
        }
    }

    pub fn path(&self) -> Result<PathBuf, String> {
        self.text("a path").map(PathBuf::from)
    }

    pub fn path_or_none(&self) -> Result<Option<PathBuf>, String> {
        Ok(self.text_or_none("a path")?.map(PathBuf::from))
    }

    pub fn switch(&self) -> Result<bool, String> {
        match self {
            Self::Switch(on) => Ok(*on),
            Self::Text(text) => match text.trim() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(self.is_not("true or false")),
            },
            _ => Err(self.is_not("true or false")),
        }
    }

    /// A whole number between `min` and `max`, both included.
    pub fn whole(&self, min: i64, max: i64) -> Result<i64, String> {
        let number = match self {
            Self::Whole(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.is_not(&format!("a whole number from {min} to {max}")))
    }

    /// A size in bytes between `min` and `max`, both included: a number, perhaps with `KiB`, `MiB` or `GiB`.
    pub fn bytes(&self, min: u64, max: u64) -> Result<u64, String> {
        let size = match self {
            Self::Whole(number) => u64::try_from(*number).ok(),
            Self::Text(text) => bytes_of(text.trim()),
            _ => None,
        };
        size.filter(|size| (min..=max).contains(size)).ok_or_else(|| {
            self.is_not(&format!(
                "a size from {} to {}, in bytes or such as 64KiB, 256MiB, 1GiB",
                bytes_text(min),
                bytes_text(max)
            ))
        })
    }

    /// A duration in milliseconds between `min` and `max`, both included. A day is 24 hours.
    pub fn duration_ms(&self, min: i64, max: i64) -> Result<i64, String> {
        let ms = match self {
            Self::Text(text) => duration_ms_of(text.trim()),
            _ => None,
        };
        ms.filter(|ms| (min..=max).contains(ms)).ok_or_else(|| {
            self.is_not(&format!(
                "a duration from {} to {}, such as 30s, 90m, 24h, 31d",
                durations::exact(min),
                durations::exact(max)
            ))
        })
    }

    /// A list whose entries `entry` accepts. Text is split at commas.
    pub fn list(&self, expected: &str, entry: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
        let entries: Vec<String> = match self {
            Self::List(entries) => entries.iter().map(|entry| entry.trim().to_owned()).collect(),
            Self::Text(text) if text.trim().is_empty() => Vec::new(),
            Self::Text(text) => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
            _ => return Err(self.is_not(&format!("a list of {expected}"))),
        };
        match entries.iter().find(|text| !entry(text)) {
            None => Ok(entries),
            Some(wrong) => Err(format!("{} is not one of {expected}", quoted(wrong))),
        }
    }
}

/// Bytes of `4096`, `64KiB`, `256 MiB`, `1GiB`. Fractions are rejected. The unit ignores case.
fn bytes_of(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The shortest exact way to write a size: `1GiB`, `1536KiB`, `1000`.
pub fn bytes_text(size: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| size > 0 && size.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", size >> shift),
        None => size.to_string(),
    }
}

/// Milliseconds of `31d`, `1h 30m`, `PT5S`. Years and months have no fixed length and are rejected.
pub fn duration_ms_of(text: &str) -> Option<i64> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    i64::try_from(duration.as_millis()).ok()
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenSetting {
    /// A TCP address. With port 0 the system picks a free one.
    Tcp(SocketAddr),
    /// The path of a unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl ListenSetting {
    /// Whether only this machine can reach it by TCP. A unix socket has permissions instead and is not one.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.ip().to_canonical().is_loopback())
    }

    /// Whether other machines may reach it.
    pub fn is_open_to_others(&self) -> bool {
        matches!(self, Self::Tcp(_)) && !self.is_loopback()
    }

    /// Whether both need the same socket, so that the second listener could not be opened. An unspecified address takes
    /// the port of all addresses of its family, and `[::]` those of IPv4 too (`bindv6only` of Linux is off by default).
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => return one == other,
            (Self::Tcp(one), Self::Tcp(other)) if one.port() == other.port() && one.port() != 0 => {
                (one.ip(), other.ip())
            }
            _ => return false,
        };
        let takes_all = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
        one.to_canonical() == other.to_canonical() || takes_all(one, other) || takes_all(other, one)
    }
}

impl fmt::Display for ListenSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err("names no path after unix:".to_owned()),
                1..=UNIX_SOCKET_PATH_BYTES_MAX => Ok(Self::Unix(Path::new(path).to_owned())),
                _ => Err(format!("the path of a unix socket has at most {UNIX_SOCKET_PATH_BYTES_MAX} bytes")),
            };
        }
        let address = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        address.parse().map(Self::Tcp).map_err(|_| {
            format!("{} is not an address with a port such as 127.0.0.1:8080 or [::1]:0, nor unix:/path", quoted(text))
        })
    }
}

/// A key. `Debug` masks it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretSetting(String);

impl SecretSetting {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text of the key.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whether `entry` is valid in `delivery.allow` and `deny`: a network, an address, a host name, or `*.` before one.
pub fn is_destination(entry: &str) -> bool {
    entry.parse::<ipnet::IpNet>().is_ok()
        || entry.parse::<std::net::IpAddr>().is_ok()
        || (is_host_name(entry.strip_prefix("*.").unwrap_or(entry)) && !looks_like_an_address(entry))
}

/// Whether `entry` is meant as an address: four dotted numbers, or a slash or a colon. Its error then says that the
/// address is wrong.
fn looks_like_an_address(entry: &str) -> bool {
    entry.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `entry` is valid in `server.allowed_hosts`: a host with or without a port, or an http(s) origin.
pub fn is_host_or_origin(entry: &str) -> bool {
    let authority = entry.strip_prefix("https://").or_else(|| entry.strip_prefix("http://")).unwrap_or(entry);
    let Ok(authority) = authority.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    !authority.as_str().contains('@') && (is_host_name(host) || bare.parse::<std::net::IpAddr>().is_ok())
}

/// Whether `entry` is valid in `server.allowed_origins`: an http(s) origin.
pub fn is_origin(entry: &str) -> bool {
    (entry.starts_with("https://") || entry.starts_with("http://")) && is_host_or_origin(entry.trim_end_matches('/'))
}

/// Whether a text is a host name: labels of letters, digits, `-` and `_`, each of 1 to 63 bytes, 253 in all (RFC 1035
/// §2.3.4). Resolvers accept `_`.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RawSetting {
        RawSetting::Text(text.to_owned())
    }

    #[test]
    fn durations_are_read_in_every_unit_and_written_back() {
        for (written, ms) in [("30s", 30_000), ("90m", 5_400_000), ("24h", 86_400_000), ("31d", 2_678_400_000)] {
            assert_eq!(text(written).duration_ms(0, i64::MAX), Ok(ms), "{written}");
            assert_eq!(durations::exact(ms), written);
        }
        assert_eq!(text("1h 30m").duration_ms(0, i64::MAX), Ok(5_400_000));
        assert_eq!(durations::exact(1_500), "1500ms");
        for wrong in ["31", "", "1 month", "-5s", "tomorrow", "9999999999d"] {
            let error = text(wrong).duration_ms(1_000, 86_400_000).expect_err(wrong);
            assert!(error.contains("a duration from 1s to 24h"), "{error}");
        }
        assert!(RawSetting::Whole(31).duration_ms(0, i64::MAX).is_err(), "a bare number has no unit");
    }

    #[test]
    fn sizes_are_numbers_or_have_a_unit() {
        for (written, size) in [("1GiB", 1 << 30), ("256 MiB", 256 << 20), ("64kib", 65_536), ("17", 17), ("0", 0)] {
            assert_eq!(text(written).bytes(0, u64::MAX), Ok(size), "{written}");
        }
        assert_eq!(RawSetting::Whole(4096).bytes(0, u64::MAX), Ok(4096));
        assert_eq!(bytes_text(1 << 30), "1GiB");
        assert_eq!(bytes_text(1536 << 10), "1536KiB");
        assert_eq!(bytes_text(1000), "1000");
        for wrong in ["1.5GiB", "-1", "GiB", "1GB", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(text(wrong).bytes(0, u64::MAX).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listeners_are_addresses_or_sockets() {
        let tcp = |text: &str| text.parse::<ListenSetting>();
        assert_eq!(tcp("[::1]:0").map(|l| l.to_string()).as_deref(), Ok("[::1]:0"));
        assert_eq!(tcp("localhost:80"), tcp("127.0.0.1:80"));
        assert_eq!(tcp("unix:/run/p.sock"), Ok(ListenSetting::Unix("/run/p.sock".into())));
        for wrong in ["8080", ":8080", "127.0.0.1", "example.com:80", "unix:", "127.0.0.1:99999"] {
            assert!(tcp(wrong).is_err(), "{wrong}");
        }
        assert!(tcp(&format!("unix:/{}", "x".repeat(107))).is_err());
        assert!(tcp("[::ffff:127.0.0.1]:1").is_ok_and(|l| l.is_loopback()));
        assert!(tcp("0.0.0.0:1").is_ok_and(|l| !l.is_loopback()));
    }

    #[test]
    fn destinations_are_networks_addresses_and_names() {
        for right in ["10.0.0.0/8", "::1", "fd00::/8", "192.168.1.7", "erp", "*.corp.internal", "a_b.example"] {
            assert!(is_destination(right), "{right}");
        }
        for wrong in ["", "10.0.0.0/40", "10.0.0.256", "http://erp", "*", "a..b", "-a", "erp:80", "*.*.x"] {
            assert!(!is_destination(wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts_may_have_ports_and_origins_a_scheme() {
        for right in ["hooks.example.com", "hooks.example.com:8443", "https://c.example.com", "[::1]:80", "10.0.0.1"] {
            assert!(is_host_or_origin(right), "{right}");
        }
        for wrong in ["", "https://a/b", "ftp://a", "a b", "u@h", "*.example.com"] {
            assert!(!is_host_or_origin(wrong), "{wrong}");
        }
    }

    #[test]
    fn lists_split_at_commas_and_name_the_wrong_entry() {
        assert_eq!(text(" a, b ").list("names", is_host_name), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(text("").list("names", is_host_name), Ok(vec![]));
        assert_eq!(text("a,,b").list("names", is_host_name), Err("\"\" is not one of names".to_owned()));
    }

    #[test]
    fn values_are_written_as_toml_reads_them() {
        let nasty = "a\"b\\c\nd\u{7f}";
        let table: toml::Table = format!("key = {}", text(nasty)).parse().expect("it is TOML");
        assert_eq!(table["key"].as_str(), Some(nasty));
        assert_eq!(RawSetting::List(vec!["a".into(), "b".into()]).to_string(), r#"["a", "b"]"#);
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", SecretSetting::new("hunter2")), "Secret(…)");
    }
}
