//! The target of a request: its origin, which is the pool's key, and its path.
//!
//! Invariant: two origins are equal if and only if their scheme, host, port and TLS identity are equal. Only targets of
//! one origin may share a connection. The pool checks the connection's address in addition.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::uri::PathAndQuery;
use rustls_pki_types::ServerName;
use url::{Host, Url};

use crate::engine::sender::tls::TlsIdentity;

/// A parsed URL to send to. Parsed once per webhook. A clone costs two reference counts.
#[derive(Debug, Clone)]
pub struct SendTarget {
    pub origin: Arc<Origin>,
    pub path_and_query: PathAndQuery,
    /// Whether requests go directly although the installation has a proxy.
    pub bypasses_proxy: bool,
}

/// Scheme, host, port and TLS identity, with the values that each connection derives from them.
#[derive(Debug)]
pub struct Origin {
    pub https: bool,
    /// The URL's host in its ASCII form. An IPv6 address has no brackets.
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<TlsIdentity>>,
    /// The host's address. `None` if the host is a name, which must be resolved.
    pub(in crate::engine) literal: Option<Arc<[IpAddr]>>,
    /// The `Host` header, without the scheme's default port (RFC 9110 section 7.2).
    pub(in crate::engine) host_header: HeaderValue,
    /// The name that the certificate must have. `None` without TLS, or if the host is no valid name.
    pub(in crate::engine) server_name: Option<ServerName<'static>>,
}

/// The error for a URL that is no HTTP target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATarget;

impl fmt::Display for NotATarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an absolute http or https URL without user info")
    }
}

impl std::error::Error for NotATarget {}

impl SendTarget {
    /// Parses an http or https URL by the WHATWG rules. A fragment is dropped. `AddressGuard` checks the host later.
    pub fn parse(url: &str, tls: Option<Arc<TlsIdentity>>) -> Result<Self, NotATarget> {
        let url = Url::parse(url).map_err(|_| NotATarget)?;
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(NotATarget),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotATarget);
        }
        let origin = Origin::new(https, &url, tls)?;
        let path = match url.query() {
            Some(query) => path_and_query(format!("{}?{query}", url.path()))?,
            None => path_and_query(url.path().to_owned())?,
        };
        Ok(Self { origin: Arc::new(origin), path_and_query: path, bypasses_proxy: false })
    }

    /// The same target with `query` (encoded pairs) appended to its query.
    pub fn with_query(&self, query: &str) -> Result<Self, NotATarget> {
        if query.is_empty() {
            return Ok(self.clone());
        }
        let between = match self.path_and_query.query() {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        let path = path_and_query(format!("{}{between}{query}", self.path_and_query))?;
        Ok(Self { path_and_query: path, ..self.clone() })
    }
}

fn path_and_query(text: String) -> Result<PathAndQuery, NotATarget> {
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| NotATarget)
}

impl Origin {
    fn new(https: bool, url: &Url, tls: Option<Arc<TlsIdentity>>) -> Result<Self, NotATarget> {
        let port = url.port_or_known_default().ok_or(NotATarget)?;
        let (host, literal) = match url.host().ok_or(NotATarget)? {
            Host::Domain(name) => (name.to_owned(), None),
            Host::Ipv4(ip) => (ip.to_string(), Some(Arc::from([IpAddr::V4(ip)]))),
            Host::Ipv6(ip) => (ip.to_string(), Some(Arc::from([IpAddr::V6(ip)]))),
        };
        let in_header = match (url.host_str().ok_or(NotATarget)?, url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let server_name = if https { ServerName::try_from(host.clone()).ok() } else { None };
        let host_header = HeaderValue::from_maybe_shared(Bytes::from(in_header)).map_err(|_| NotATarget)?;
        Ok(Self { https, host, port, tls, literal, host_header, server_name })
    }

    fn identity(&self) -> Option<&[u8; 32]> {
        self.tls.as_deref().map(TlsIdentity::digest)
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port
            && self.https == other.https
            && self.host == other.host
            && self.identity() == other.identity()
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        state.write_u16(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> SendTarget {
        SendTarget::parse(url, None).unwrap_or_else(|_| panic!("{url}"))
    }

    #[test]
    fn a_url_becomes_a_host_header_and_a_path() {
        for (url, host, port, path) in [
            ("https://example.com", "example.com", 443, "/"),
            ("https://example.com:443/a?b=c#d", "example.com", 443, "/a?b=c"),
            ("http://Example.com:8080/a b", "example.com:8080", 8080, "/a%20b"),
            ("http://[::1]:81/?q", "[::1]:81", 81, "/?q"),
            ("http://0x7f.1/", "127.0.0.1", 80, "/"),
        ] {
            let target = target(url);
            assert_eq!(target.origin.host_header, host, "{url}");
            assert_eq!(target.origin.port, port, "{url}");
            assert_eq!(target.path_and_query.as_str(), path, "{url}");
        }
    }

    #[test]
    fn addresses_need_no_resolver_and_names_do() {
        assert_eq!(target("http://[::ffff:1.2.3.4]/").origin.host, "::ffff:1.2.3.4");
        assert_eq!(target("http://127.1/").origin.literal.as_deref(), Some(&[IpAddr::from([127, 0, 0, 1])][..]));
        assert_eq!(target("http://a.example/").origin.literal, None);
    }

    #[test]
    fn a_url_that_is_not_plain_http_is_rejected() {
        for url in ["", "/a", "ftp://a.example/", "http://", "http://u@a.example/", "http://u:p@a.example/"] {
            assert!(SendTarget::parse(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn pairs_are_appended_to_the_query() {
        for (url, joined) in [("http://a/p", "/p?x=1"), ("http://a/p?", "/p?x=1"), ("http://a/p?y=2", "/p?y=2&x=1")] {
            assert_eq!(target(url).with_query("x=1").unwrap().path_and_query.as_str(), joined);
        }
        assert_eq!(target("http://a/p").with_query("").unwrap().path_and_query.as_str(), "/p");
    }

    #[test]
    fn only_the_same_scheme_host_and_port_share_connections() {
        let origin = target("https://a.example/x").origin;
        assert_eq!(origin, target("https://a.example:443/y").origin);
        for other in ["http://a.example:443/", "https://b.example/", "https://a.example:444/"] {
            assert_ne!(origin, target(other).origin, "{other}");
        }
    }
}
