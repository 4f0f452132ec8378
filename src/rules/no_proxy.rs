//! The hosts of `delivery.no_proxy`, which are reached without the proxy.
//!
//! The entries mean the same as in `NO_PROXY` of curl and Go: a name includes every name below it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::target::{parse_net, plain_name};

/// The forms of an entry.
pub const NO_PROXY_FORMS: &str = "host names (erp, which includes everything below it), suffixes (.corp.internal, which \
                                  includes only names below it), addresses, networks (10.0.0.0/8), or * for all";

/// The parsed list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<NoProxyEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyEntry {
    All,
    Net(IpNet),
    /// The name and every name below it.
    Within(String),
    /// Every name below this one.
    Below(String),
}

impl NoProxy {
    /// Parses the list. The error is the first wrong entry.
    pub fn parse(entries: &[String]) -> Result<NoProxy, String> {
        let parsed = entries.iter().map(|entry| NoProxyEntry::parse(entry).ok_or_else(|| entry.clone()));
        Ok(NoProxy { entries: parsed.collect::<Result<_, _>>()? })
    }

    /// Whether `host`, as a URL has it, is reached without the proxy. An IPv6 address has no brackets. Networks match
    /// addresses and never names, because the proxy resolves those.
    pub fn matches(&self, host: &str) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let name = host.strip_suffix('.').unwrap_or(host);
        self.entries.iter().any(|entry| match (entry, address) {
            (NoProxyEntry::All, _) => true,
            (NoProxyEntry::Net(net), Some(ip)) => net.contains(&ip),
            (NoProxyEntry::Within(own), None) => name == own || is_below(name, own),
            (NoProxyEntry::Below(own), None) => is_below(name, own),
            _ => false,
        })
    }
}

/// Whether `entry` has one of `NO_PROXY_FORMS`.
pub fn is_no_proxy_entry(entry: &str) -> bool {
    NoProxyEntry::parse(entry).is_some()
}

impl NoProxyEntry {
    fn parse(entry: &str) -> Option<NoProxyEntry> {
        if entry == "*" {
            return Some(NoProxyEntry::All);
        }
        if let Some(net) = parse_net(entry) {
            return Some(NoProxyEntry::Net(net));
        }
        let suffix = entry.strip_prefix("*.").or_else(|| entry.strip_prefix('.'));
        let url::Host::Domain(domain) = url::Host::parse(suffix.unwrap_or(entry)).ok()? else { return None };
        let name = plain_name(&domain).ok()?;
        Some(if suffix.is_some() { NoProxyEntry::Below(name) } else { NoProxyEntry::Within(name) })
    }
}

fn is_below(name: &str, own: &str) -> bool {
    name.strip_suffix(own).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(entry: &str, host: &str) -> bool {
        NoProxy::parse(&[entry.to_owned()]).unwrap_or_else(|wrong| panic!("{wrong}")).matches(host)
    }

    #[test]
    fn names_suffixes_addresses_networks_and_all() {
        for (entry, inside, outside) in [
            ("erp", &["erp", "x.erp", "erp."][..], &["erpx", "xerp", "erp.example", "10.0.0.1"][..]),
            ("Corp.Example", &["corp.example", "a.b.corp.example"], &["notcorp.example"]),
            (".corp.internal", &["a.corp.internal", "a.b.corp.internal"], &["corp.internal", "xcorp.internal"]),
            ("*.corp.internal", &["a.corp.internal"], &["corp.internal"]),
            ("10.0.0.0/8", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.1", "10.example"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.8"]),
            ("fd00::/8", &["fd00::1"], &["fe00::1"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("*", &["a.example", "10.0.0.1", "::1"], &[]),
        ] {
            inside.iter().for_each(|host| assert!(matches(entry, host), "{entry} {host}"));
            outside.iter().for_each(|host| assert!(!matches(entry, host), "{entry} {host}"));
        }
        assert!(!NoProxy::default().matches("a.example"));
    }

    #[test]
    fn other_entries_are_refused() {
        for wrong in ["", ".", "*.", "http://erp", "erp:80", "10.0.0.0/40", "a b", "a/b", "**"] {
            assert!(!is_no_proxy_entry(wrong), "{wrong}");
        }
        assert_eq!(NoProxy::parse(&["erp".to_owned(), "erp:80".to_owned()]), Err("erp:80".to_owned()));
    }
}
