//! Checks webhook URLs at creation and target addresses at every connect.
//!
//! Invariants: cloud metadata services are never reached, even if allowed. `deny` overrides `allow`. One refused address of
//! a name refuses the name. Every refused address gives the same message, so that responses cannot be used to map a
//! network.

mod ranges;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

/// Longest webhook URL, as given and as normalised.
pub const URL_BYTES_MAX: usize = 2048;

/// Longest label of a host name (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// Longest host name in text form, without a final dot (RFC 1035: 255 octets on the wire).
pub const NAME_BYTES_MAX: usize = 253;

/// Message for every refused address.
pub const ADDRESS_REFUSED: &str = "the address is not one that may be sent to, unless delivery.allow of the daemon names it; those of cloud metadata \
     never are";

/// The "bad ports" of the Fetch standard (section 2.9), ascending, and 6379 (Redis reads lines of HTTP as commands).
const BLOCKED_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Top-level names that exist only on the local network, or not in DNS at all.
const LOCAL_SUFFIXES: &[&str] = &["local", "internal", "onion", "localhost"];

/// Names that hosts files give to the loopback interface. Every name under `.localhost` belongs to it as well (RFC
/// 6761).
const LOOPBACK_NAMES: &[&str] = &[
    "localhost",
    "localhost4",
    "localhost6",
    "localhost.localdomain",
    "localhost4.localdomain4",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
    "loopback",
];

/// The operator's address settings: `delivery.allow`, `delivery.deny`, `delivery.https_only`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    allow: TargetList,
    deny: TargetList,
    https_only: bool,
    /// Addresses that this daemon listens on. They are never a target, so that no delivery loop can start. A listener
    /// on the unspecified address stands for every loopback address. Addresses of interfaces can be added beside it.
    pub own: Vec<SocketAddr>,
}

impl TargetPolicy {
    /// Reads the settings. Each item is a CIDR, an address, a host name, or `*.suffix` (any depth below it). The error
    /// names the first item that has none of these forms.
    pub fn parse(allow: &[String], deny: &[String], https_only: bool) -> Result<Self, String> {
        Ok(TargetPolicy {
            allow: TargetList::parse("allow", allow)?,
            deny: TargetList::parse("deny", deny)?,
            https_only,
            own: Vec::new(),
        })
    }

    /// Whether an address of a host passes. `named` says that `allow` names the host. [`TargetPolicy::is_own`] checks
    /// ports.
    fn passes(&self, ip: IpAddr, named: bool) -> bool {
        let ip = ip.to_canonical();
        if self.denies(ip) || ranges::is_metadata(ip) {
            return false;
        }
        let behind = match ip {
            IpAddr::V6(v6) => ranges::nat64(v6).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        named || self.allow.holds(ip) || behind.is_some_and(|v4| self.allow.holds(v4)) || !ranges::is_special(ip)
    }

    /// Whether `allow` names the host, itself or by a suffix. Such a host may have ports of other protocols. A network
    /// in `allow` opens its addresses only, and not these ports.
    fn opens_port(&self, host: &TargetHost, port: u16) -> bool {
        BLOCKED_PORTS.binary_search(&port).is_err()
            || match host {
                TargetHost::Ip(ip) => self.allow.is_address(ip.to_canonical()),
                TargetHost::Name(name) => self.allow.names(name),
            }
    }

    /// A denied IPv4 address stays denied in every IPv6 form.
    fn denies(&self, ip: IpAddr) -> bool {
        self.deny.holds(ip)
            || match ip {
                IpAddr::V6(v6) => ranges::carried_v4(v6).any(|v4| self.deny.holds(v4.into())),
                IpAddr::V4(_) => false,
            }
    }

    /// Whether a connection to `ip:port` would arrive at this daemon. The system treats a connection to the unspecified
    /// address as one to loopback.
    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        let ip = ip.to_canonical();
        self.own.iter().any(|own| {
            let bound = own.ip().to_canonical();
            let inward = ip.is_loopback() || ip.is_unspecified();
            own.port() == port
                && (bound == ip
                    || (ip.is_unspecified() && bound.is_loopback())
                    // A listener on [::] accepts IPv4 too, and one on 0.0.0.0 accepts no IPv6.
                    || (bound.is_unspecified() && inward && (bound.is_ipv6() || ip.is_ipv4())))
        })
    }
}

/// Networks and host names of one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TargetList {
    nets: Vec<IpNet>,
    names: Vec<NamePattern>,
}

impl TargetList {
    fn parse(setting: &str, items: &[String]) -> Result<Self, String> {
        let mut places = TargetList::default();
        for item in items {
            if let Some(net) = parse_net(item.trim()) {
                places.nets.push(net);
            } else if let Some(name) = NamePattern::parse(item.trim()) {
                places.names.push(name);
            } else {
                return Err(format!(
                    "delivery.{setting}: {item:?} is neither a network, an address, a host name nor *.suffix"
                ));
            }
        }
        Ok(places)
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&ip))
    }

    /// Whether the list contains the address itself, and not only a network around it.
    fn is_address(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.addr() == ip && net.prefix_len() == net.max_prefix_len())
    }

    fn names(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| pattern.matches(name))
    }
}

/// Parses a CIDR or an address. Brackets around IPv6 are accepted. A network of mapped addresses becomes the IPv4
/// network.
pub(in crate::rules) fn parse_net(item: &str) -> Option<IpNet> {
    let bare = item.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(item);
    let net = bare.parse::<IpNet>().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from))?.trunc();
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).ok().map(IpNet::V4),
            None => Some(net),
        },
        _ => Some(net),
    }
}

/// A host name, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NamePattern {
    Exact(String),
    Below(String),
}

impl NamePattern {
    fn parse(item: &str) -> Option<Self> {
        let (name, below) = match item.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (item, false),
        };
        match url::Host::parse(name).ok()? {
            url::Host::Domain(domain) => {
                let name = plain_name(&domain).ok()?;
                Some(match below {
                    true => NamePattern::Below(name),
                    false => NamePattern::Exact(name),
                })
            }
            _ => None,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Exact(exact) => name == exact,
            NamePattern::Below(suffix) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetRefused {
    /// The URL is wrong. The text says how.
    Syntax(&'static str),
    /// The target address is refused. The error has no detail on purpose.
    Address,
}

impl fmt::Display for TargetRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetRefused::Syntax(reason) => reason,
            TargetRefused::Address => ADDRESS_REFUSED,
        })
    }
}

impl std::error::Error for TargetRefused {}

/// The host of a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetHost {
    /// An address, in whatever notation it was written.
    Ip(IpAddr),
    /// A name to resolve: in lower case and punycode, without a final dot.
    Name(String),
}

/// The form in a URL and a `Host` header: IPv6 in brackets.
impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetHost::Ip(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            TargetHost::Ip(IpAddr::V4(v4)) => write!(f, "{v4}"),
            TargetHost::Name(name) => f.write_str(name),
        }
    }
}

/// The scheme of a target: `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UrlScheme {
    Http,
    Https,
}

impl UrlScheme {
    /// The scheme as written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            UrlScheme::Http => "http",
            UrlScheme::Https => "https",
        }
    }

    /// The port that a URL of this scheme omits.
    pub fn default_port(self) -> u16 {
        match self {
            UrlScheme::Http => 80,
            UrlScheme::Https => 443,
        }
    }
}

/// The parts of an accepted URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTarget {
    /// The whole URL as the WHATWG URL standard serialises it. This form is stored and sent to.
    pub url: String,
    pub scheme: UrlScheme,
    pub host: TargetHost,
    /// The port to connect to. If the URL names none, that of the scheme.
    pub port: u16,
    /// Path and query for the request line.
    pub path_and_query: String,
}

impl CheckedTarget {
    /// The value of the `Host` header. The scheme's own port is omitted.
    pub fn authority(&self) -> String {
        match self.port == self.scheme.default_port() {
            true => self.host.to_string(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The reason that a text is refused which is no URL of HTTP at all.
pub const NO_HTTP_URL: &str = "must begin with http:// or https://";

/// Checks a webhook URL by its text, without resolving. [`check_addrs`] checks names again at every connect.
pub fn check_url(text: &str, policy: &TargetPolicy) -> Result<CheckedTarget, TargetRefused> {
    check_text(text)?;
    let url = url::Url::parse(text).map_err(|error| TargetRefused::Syntax(parse_reason(error)))?;
    let scheme = match url.scheme() {
        "https" => UrlScheme::Https,
        "http" if !policy.https_only => UrlScheme::Http,
        "http" => {
            return Err(TargetRefused::Syntax("must be https: this installation sends to nothing else"));
        }
        _ => return Err(TargetRefused::Syntax(NO_HTTP_URL)),
    };
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(TargetRefused::Syntax("must be at most 2,048 bytes long once escaped"));
    }
    let port = url.port().unwrap_or(scheme.default_port());
    let host = match url.host() {
        Some(url::Host::Ipv4(v4)) => TargetHost::Ip(v4.into()),
        Some(url::Host::Ipv6(v6)) => TargetHost::Ip(v6.into()),
        Some(url::Host::Domain(domain)) => TargetHost::Name(plain_name(domain).map_err(TargetRefused::Syntax)?),
        None => return Err(TargetRefused::Syntax("must have a host")),
    };
    if !policy.opens_port(&host, port) {
        return Err(TargetRefused::Syntax(
            "the port belongs to another protocol than HTTP: name the host in delivery.allow to open it",
        ));
    }
    check_host(&host, port, policy)?;
    let path_and_query = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Ok(CheckedTarget { path_and_query, scheme, host, port, url: url.into() })
}

/// Checks the addresses that a target is about to be connected to. There must be one, and all must pass. `port` is the
/// target's. Call it for a literal's own address too, because the settings may have changed since the webhook was made.
pub fn check_addrs(host: &TargetHost, addrs: &[IpAddr], port: u16, policy: &TargetPolicy) -> Result<(), TargetRefused> {
    let (named, loopback) = match host {
        TargetHost::Ip(_) => (false, false),
        TargetHost::Name(name) if policy.deny.names(name) || ranges::is_metadata_name(name) => {
            return Err(TargetRefused::Address);
        }
        TargetHost::Name(name) => (policy.allow.names(name), is_loopback_name(name)),
    };
    let good = |ip: IpAddr| {
        // `localhost` counts as 127.0.0.1 even if it resolves to ::1, because an operator who allowed one meant both.
        let counted = match loopback && ip.is_loopback() && !policy.denies(ip) {
            true => policy.passes(ip, named) || policy.passes(Ipv4Addr::LOCALHOST.into(), named),
            false => policy.passes(ip, named),
        };
        counted && !policy.is_own(ip, port)
    };
    match policy.opens_port(host, port) && !addrs.is_empty() && addrs.iter().copied().all(good) {
        true => Ok(()),
        false => Err(TargetRefused::Address),
    }
}

/// Checks a target whose name a proxy will resolve: an address as [`check_addrs`] does, and a name by its text alone.
pub fn check_unresolved(host: &TargetHost, port: u16, policy: &TargetPolicy) -> Result<(), TargetRefused> {
    match policy.opens_port(host, port) {
        true => check_host(host, port, policy).map_err(|_| TargetRefused::Address),
        false => Err(TargetRefused::Address),
    }
}

/// Refuses texts that URL parsers repair, because parsers repair them differently.
fn check_text(text: &str) -> Result<(), TargetRefused> {
    let refuse = |reason| Err(TargetRefused::Syntax(reason));
    if text.len() > URL_BYTES_MAX {
        return refuse("must be at most 2,048 bytes long");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return refuse("must not contain spaces, control characters or backslashes");
    }
    if text.contains('#') {
        return refuse("must not have a fragment");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse(NO_HTTP_URL);
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return refuse(NO_HTTP_URL);
    }
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if authority.is_empty() {
        return refuse("must have a host right after the two slashes");
    }
    if authority.contains('@') {
        return refuse("must not have user information: credentials belong in auth");
    }
    if authority.ends_with(':') {
        return refuse("must have a port after the colon, or no colon");
    }
    Ok(())
}

/// The parser's errors in stable words that do not depend on the crate.
fn parse_reason(error: url::ParseError) -> &'static str {
    match error {
        url::ParseError::EmptyHost => "must have a host",
        url::ParseError::InvalidPort => "the port is not a number up to 65,535",
        url::ParseError::InvalidIpv4Address => "the IPv4 address is malformed",
        url::ParseError::InvalidIpv6Address => "the IPv6 address is malformed",
        url::ParseError::IdnaError | url::ParseError::InvalidDomainCharacter => "the host name is malformed",
        _ => "is not a valid URL",
    }
}

/// A parsed domain without its final dot, if it can be a host name.
pub(in crate::rules) fn plain_name(domain: &str) -> Result<String, &'static str> {
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err("the host name must be 1 to 253 bytes long");
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX) {
        return Err("each label of the host name must be 1 to 63 bytes long");
    }
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    match name.bytes().all(fits) {
        true => Ok(name.to_owned()),
        false => Err("the host name holds characters that names do not have"),
    }
}

/// The part of [`check_url`] that concerns the host.
fn check_host(host: &TargetHost, port: u16, policy: &TargetPolicy) -> Result<(), TargetRefused> {
    let name = match host {
        TargetHost::Ip(ip) => return check_addrs(host, &[*ip], port, policy),
        TargetHost::Name(name) => name,
    };
    if is_loopback_name(name) {
        return check_addrs(host, &[Ipv4Addr::LOCALHOST.into()], port, policy);
    }
    if policy.deny.names(name) || ranges::is_metadata_name(name) {
        return Err(TargetRefused::Address);
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let local = !name.contains('.') || LOCAL_SUFFIXES.contains(&last);
    if local && !policy.allow.names(name) {
        return Err(TargetRefused::Syntax(
            "the host name means something only on a local network: name it in delivery.allow to open it",
        ));
    }
    Ok(())
}

fn is_loopback_name(name: &str) -> bool {
    LOOPBACK_NAMES.contains(&name) || name.ends_with(".localhost")
}
