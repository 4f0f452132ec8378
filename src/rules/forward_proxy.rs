//! The forward proxy of `delivery.proxy`: the parts of its URL.
//!
//! Invariant: no `Display`, no `Debug` and no error contains the user or the password.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

/// Stands for a credential in a shown URL.
const MASK: &str = "********";
/// The forms that are accepted. It names no value, because a wrong URL may contain a password too.
const FORM: &str = "the URL of a proxy such as http://proxy:3128 or https://user:password@proxy:3129, with nothing \
                    after the port. In the user and the password, write @ as %40, : as %3A, / as %2F, # as %23, ? as \
                    %3F and % as %25";

/// A proxy for deliveries.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardProxy {
    /// Whether the connection to the proxy itself is TLS.
    pub https: bool,
    /// The host and the port, in brackets if it is an IPv6 address.
    authority: String,
    credentials: Option<ProxyCredentials>,
}

#[derive(Clone, PartialEq, Eq)]
struct ProxyCredentials {
    user: String,
    password: String,
}

impl ForwardProxy {
    /// Parses `http://proxy:3128` or `https://user:password@proxy:3129`. The default port is that of the scheme. User
    /// and password are percent-encoded (RFC 3986 section 3.2.1).
    ///
    /// Errors: the second half of a sentence that says which values are allowed.
    pub fn parse(written: &str) -> Result<ForwardProxy, String> {
        let wrong = || format!("is not {FORM}");
        let url = Url::parse(written).map_err(|_| wrong())?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err("names a SOCKS proxy, and only HTTP proxies are spoken to".to_owned());
            }
            _ => return Err(wrong()),
        };
        // The parser moves a password with an unescaped `/`, `?` or `#` behind the host.
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let (Some(host), Some(port), true) = (url.host_str(), url.port_or_known_default(), is_bare) else {
            return Err(wrong());
        };
        let authority = format!("{host}:{port}");
        Ok(ForwardProxy { https, authority, credentials: credentials_of(&url).map_err(|()| wrong())? })
    }

    /// The URL without credentials.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// The value of `Proxy-Authorization` (RFC 7617). `None` without credentials.
    pub fn authorization(&self) -> Option<String> {
        self.credentials.as_ref().map(|credentials| format!("Basic {}", credentials.pair()))
    }

    /// The credentials, for redaction: a receiver or the proxy may repeat them.
    pub fn secrets(&self) -> Vec<String> {
        let credentials = self.credentials.iter();
        credentials.flat_map(|credentials| [credentials.password.clone(), credentials.pair()]).collect()
    }
}

impl ProxyCredentials {
    fn pair(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password))
    }
}

/// A user name must not contain a colon, and neither part a control character (RFC 7617 section 2).
fn credentials_of(url: &Url) -> Result<Option<ProxyCredentials>, ()> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(drop);
    let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
        return Err(());
    }
    let is_given = !user.is_empty() || !password.is_empty();
    Ok(is_given.then_some(ProxyCredentials { user, password }))
}

/// `written` as it may be shown: the password masked, or the user if it is the only credential.
pub fn masked(written: &str) -> String {
    let Ok(mut url) = Url::parse(written) else { return MASK.to_owned() };
    let done = match (url.password().is_some(), url.username().is_empty()) {
        (true, _) => url.set_password(Some(MASK)),
        (false, false) => url.set_username(MASK),
        (false, true) => Ok(()),
    };
    match done {
        Ok(()) => url.as_str().trim_end_matches('/').to_owned(),
        Err(()) => MASK.to_owned(),
    }
}

impl fmt::Display for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardProxy({})", self.url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_scheme_authority_and_credentials() {
        for (written, url, authorization) in [
            ("http://proxy:3128", "http://proxy:3128", None),
            ("http://proxy", "http://proxy:80", None),
            ("https://[::1]/", "https://[::1]:443", None),
            ("http://Aladdin:open%20sesame@Proxy:3128/", "http://proxy:3128", Some("Aladdin:open sesame")),
            ("http://u%40corp:p%3Aw%2F%25@proxy", "http://proxy:80", Some("u@corp:p:w/%")),
            ("http://token@proxy", "http://proxy:80", Some("token:")),
        ] {
            let proxy = ForwardProxy::parse(written).unwrap_or_else(|why| panic!("{written}: {why}"));
            let expected = authorization.map(|pair| format!("Basic {}", STANDARD.encode(pair)));
            assert_eq!((proxy.url().as_str(), proxy.authorization()), (url, expected), "{written}");
        }
    }

    #[test]
    fn another_url_is_refused_without_being_repeated() {
        for written in [
            "",
            "proxy:3128",
            "ftp://u:hunter2@proxy",
            "socks5://u:hunter2@proxy:1080",
            "http://u:hunter2#1@proxy:3128",
            "http://u:hunter2@proxy/path",
            "http://u:hunter2@proxy?x",
            "http://a%3Ab:hunter2@proxy",
            "http://u:hunter2%0A@proxy",
            "http://u:hunter2%FF@proxy",
            "http://u:hunter2@:3128",
            "http://u:hunter2@proxy:99999",
        ] {
            let why = ForwardProxy::parse(written).expect_err(written);
            assert!(!why.contains("hunter2") && why.contains("prox"), "{written}: {why}");
        }
        assert!(ForwardProxy::parse("socks5://proxy").unwrap_err().contains("SOCKS"));
    }

    #[test]
    fn credentials_are_masked_wherever_it_is_shown() {
        let proxy = ForwardProxy::parse("http://user:hunter2@proxy:3128").unwrap();
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy:3128 ForwardProxy(http://proxy:3128)");
        for (written, shown) in [
            ("http://user:hunter2@proxy:3128", "http://user:********@proxy:3128"),
            ("http://token@proxy:3128/", "http://********@proxy:3128"),
            ("http://proxy:3128", "http://proxy:3128"),
            ("hunter2", "********"),
        ] {
            assert_eq!(masked(written), shown);
        }
    }
}
