//! Checks of `Host` and `Origin`: a web page in a browser of this machine must not reach a daemon that listens there
//! (DNS rebinding, forged requests; docs/api.md).
//!
//! On a loopback listener `Host` must be a loopback name, the public URL's, or listed. On any TCP listener an `Origin`
//! must be the daemon's own (the same host and port as `Host`, or the public URL's) or listed. A browser cannot reach a
//! unix socket, so neither is checked there. By `Sec-Fetch-Site` a browser says that a page of another site or origin
//! makes the request. It says so for a link or an image too, for which it sends no `Origin`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The clients that can reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// Clients on this machine.
    Loopback,
    /// Every host with a route to it.
    Open,
    /// Users that may open the socket's file.
    Unix,
}

/// The rejected name of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignName {
    /// 421: the request was meant for another server.
    Host,
    /// 403: a foreign page sent it.
    Origin,
    /// 403: a browser sent it for a page of another site or origin.
    Site,
}

/// A host and a port as in `Host`, `Origin` and the settings. Names compare without case.
#[derive(Debug, Clone, Copy)]
struct HostPort<'a> {
    host: &'a str,
    port: Option<u16>,
}

/// The names that count as the daemon's own beside the loopback ones.
#[derive(Debug, Clone, Default)]
pub struct OriginRules {
    /// `server.allowed_hosts` and the host of `server.public_url`.
    names: Vec<(String, Option<u16>)>,
}

impl OriginRules {
    /// `allowed_hosts` are names, with a port if only that port is meant. `public_urls` are absolute URLs. The error is
    /// the entry that names no host.
    pub fn new<'a>(
        allowed_hosts: &'a [String],
        public_urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, &'a str> {
        let mut rules = Self::default();
        for entry in allowed_hosts.iter().map(String::as_str).chain(public_urls) {
            let (scheme, authority) = split_scheme(entry);
            let authority = authority.split('/').next().unwrap_or_default();
            let place = HostPort::parse(authority).ok_or(entry)?;
            // A URL stands for its port, and a bare name for any port.
            rules.names.push((place.host.to_owned(), place.port.or_else(|| scheme.map(default_port))));
        }
        Ok(rules)
    }

    /// Checks `Host` on a listener of this kind.
    pub fn check_host(&self, listener: ListenerKind, host: &str) -> Result<(), ForeignName> {
        if listener != ListenerKind::Loopback {
            return Ok(());
        }
        let place = HostPort::parse(host).ok_or(ForeignName::Host)?;
        // A proxy passes on the name with its own port, so a listed name stands for any port here.
        let known = place.is_loopback() || self.names.iter().any(|(name, _)| name.eq_ignore_ascii_case(place.host));
        if known { Ok(()) } else { Err(ForeignName::Host) }
    }

    /// Checks `Sec-Fetch-Site` (Fetch Metadata), which browsers send with every request. `is_allowed` says that the
    /// request has an `Origin` that `check_origin` admits, or that it opens one of the daemon's own pages.
    pub fn check_site(listener: ListenerKind, site: Option<&str>, is_allowed: bool) -> Result<(), ForeignName> {
        let is_own = matches!(site, None | Some("same-origin" | "none"));
        if is_own || is_allowed || listener == ListenerKind::Unix { Ok(()) } else { Err(ForeignName::Site) }
    }

    /// Checks `Origin` beside the `Host` of the same request. `origin` is `None` if the client is no browser, or no
    /// other page sent it.
    pub fn check_origin(&self, listener: ListenerKind, host: &str, origin: Option<&str>) -> Result<(), ForeignName> {
        let Some(origin) = origin else { return Ok(()) };
        if listener == ListenerKind::Unix {
            return Ok(());
        }
        let (Some(scheme), authority) = split_scheme(origin) else { return Err(ForeignName::Origin) };
        let place = HostPort::parse(authority).ok_or(ForeignName::Origin)?;
        let port = place.port.unwrap_or(default_port(scheme));
        let own = HostPort::parse(host).is_some_and(|host| {
            host.host.eq_ignore_ascii_case(place.host) && host.port.unwrap_or(default_port(scheme)) == port
        });
        let listed = self
            .names
            .iter()
            .any(|(name, listed)| name.eq_ignore_ascii_case(place.host) && listed.is_none_or(|listed| listed == port));
        if own || listed { Ok(()) } else { Err(ForeignName::Origin) }
    }
}

/// Whether a `Host` value has the form of one (RFC 9110 section 7.2): a name or address, and a port or none.
pub fn is_host(value: &str) -> bool {
    HostPort::parse(value).is_some()
}

impl<'a> HostPort<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (inner, rest) = bracketed.split_once(']')?;
                inner.parse::<Ipv6Addr>().ok()?;
                (&text[..inner.len() + 2], rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        let named = !host.is_empty() && (host.starts_with('[') || host.bytes().all(is_name_byte));
        named.then_some(Self { host, port })
    }

    fn is_loopback(&self) -> bool {
        let address = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match address {
            Some(v6) => v6.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()),
            None => {
                self.host.eq_ignore_ascii_case("localhost")
                    || self.host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// RFC 3986 section 3.2.2: unreserved, sub-delims and the percent sign.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

fn split_scheme(text: &str) -> (Option<&str>, &str) {
    match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> OriginRules {
        let allowed = ["hooks.corp".to_owned(), "dash.corp:8443".to_owned()];
        OriginRules::new(&allowed, Some("https://public.example/base")).unwrap()
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_and_listed_names_only() {
        let loopback = ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:80", "localhost:"];
        let listed = ["hooks.corp", "Hooks.Corp:81", "dash.corp", "public.example:8080"];
        for host in loopback.iter().chain(&listed) {
            assert_eq!(rules().check_host(ListenerKind::Loopback, host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "128.0.0.1",
            "0.0.0.0",
            "[::2]",
            "[::1",
            "",
            "localhost@evil.example",
            "localhost:x",
            "hooks.corp.evil.example",
            "0127.0.0.1",
        ] {
            assert_eq!(rules().check_host(ListenerKind::Loopback, host), Err(ForeignName::Host), "{host}");
            assert_eq!(rules().check_host(ListenerKind::Unix, host), Ok(()), "{host}");
        }
        assert_eq!(rules().check_host(ListenerKind::Open, "anything.example"), Ok(()));
    }

    #[test]
    fn a_request_for_another_site_is_refused_unless_its_origin_is_listed() {
        let check = OriginRules::check_site;
        for (site, is_right) in [
            (None, true),
            (Some("none"), true),
            (Some("same-origin"), true),
            (Some("same-site"), false),
            (Some("cross-site"), false),
            (Some("anything"), false),
            (Some(""), false),
        ] {
            for listener in [ListenerKind::Loopback, ListenerKind::Open] {
                assert_eq!(check(listener, site, false).is_ok(), is_right, "{site:?}");
                assert!(check(listener, site, true).is_ok());
            }
            assert!(check(ListenerKind::Unix, site, false).is_ok());
        }
    }

    #[test]
    fn only_the_daemons_own_and_listed_origins_are_let_in() {
        let host = "127.0.0.1:8080";
        for origin in [
            "http://127.0.0.1:8080",
            "https://hooks.corp",
            "http://hooks.corp:9",
            "https://dash.corp:8443",
            "https://public.example",
        ] {
            assert_eq!(rules().check_origin(ListenerKind::Loopback, host, Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://public.example",
            "https://dash.corp",
            "https://hooks.corp.evil.example",
            "file://",
        ] {
            for listener in [ListenerKind::Loopback, ListenerKind::Open] {
                assert_eq!(rules().check_origin(listener, host, Some(origin)), Err(ForeignName::Origin), "{origin}");
            }
            assert_eq!(rules().check_origin(ListenerKind::Unix, host, Some(origin)), Ok(()), "{origin}");
        }
        assert_eq!(rules().check_origin(ListenerKind::Loopback, host, None), Ok(()));
    }

    #[test]
    fn the_schemes_own_port_may_be_left_out() {
        let rules = OriginRules::default();
        assert_eq!(rules.check_origin(ListenerKind::Open, "a.example", Some("https://a.example")), Ok(()));
        assert_eq!(rules.check_origin(ListenerKind::Open, "a.example:80", Some("http://A.example")), Ok(()));
        assert_eq!(
            rules.check_origin(ListenerKind::Open, "a.example:80", Some("https://a.example")),
            Err(ForeignName::Origin)
        );
    }

    #[test]
    fn a_setting_that_names_no_host_is_reported() {
        let bad = ["a.example".to_owned(), "b example".to_owned()];
        assert_eq!(OriginRules::new(&bad, None).unwrap_err(), "b example");
        assert_eq!(OriginRules::new(&[], Some("https:///x")).unwrap_err(), "https:///x");
    }
}
