//! Logins of browsers: the rules of their sessions, the tries that are left, and one-time links.
//!
//! Invariant: a link logs in once, an address that tried too often waits for the next minute, and no address uses up the
//! tries of another.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::id::KeyId;
use crate::model::time::MINUTE_MS;
use crate::model::{ApiKey, Time};

use ring::hmac;

use super::auth::sha256;

/// Maximum tries to log in of one address in a minute. The addresses of one IPv6 network of 64 bits count as one.
pub const TRIES_OF_ADDRESS_MAX: u32 = 10;
/// Maximum addresses whose tries are counted. A further one takes the place of the address with the fewest tries.
const ADDRESSES_MAX: usize = 1_024;
/// The purpose that the key of portal links is derived for.
const PORTAL_KEY_PURPOSE: &[u8] = b"postrider ui portal v1";
/// Default of `PortalSettings::webhooks_max`.
pub const PORTAL_WEBHOOKS_MAX: usize = 50;
/// Maximum number of one-time links that are not used. The oldest is dropped first.
const LINKS_MAX: usize = 16;

/// The settings of the pages.
#[derive(Clone)]
pub struct PageSettings {
    /// The key of session cookies and form tokens, derived from the store's data key.
    pub key: [u8; 32],
    /// The address of the daemon for browsers, without `/ui/`.
    pub url: String,
    /// Time from a login to the end of its session.
    pub session_ms: i64,
    /// Time without a request after which a session ends.
    pub idle_ms: i64,
    /// Whether a login over plain HTTP from another machine is refused.
    pub require_tls: bool,
    /// Whether browsers reach the pages by https, so that cookies are for it only.
    pub is_secure: bool,
    pub logins: Arc<Logins>,
    pub portal: PortalSettings,
}

/// The settings of the portal.
#[derive(Clone)]
pub struct PortalSettings {
    /// The key of links and of their cookies.
    pub key: [u8; 32],
    /// Whether the portal is served.
    pub enabled: bool,
    /// The operator's name. Empty for none.
    pub name: String,
    /// Maximum number of webhooks of an app that the portal makes.
    pub webhooks_max: usize,
    /// Whether every signature goes out under the header names of Standard Webhooks.
    pub has_standard_names: bool,
    pub logo: Option<Arc<PortalLogo>>,
}

/// The operator's logo.
pub struct PortalLogo {
    pub content_type: &'static str,
    pub content: bytes::Bytes,
}

impl fmt::Debug for PageSettings {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageSettings").field("session_ms", &self.session_ms).finish_non_exhaustive()
    }
}

impl PageSettings {
    /// The default settings: a session lasts 12 hours, and one hour without a request.
    pub fn new(key: [u8; 32]) -> PageSettings {
        let hour_ms = 60 * MINUTE_MS;
        PageSettings {
            key,
            url: String::new(),
            session_ms: 12 * hour_ms,
            idle_ms: hour_ms,
            require_tls: false,
            is_secure: false,
            logins: Arc::default(),
            portal: PortalSettings {
                key: hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), PORTAL_KEY_PURPOSE)
                    .as_ref()
                    .try_into()
                    .expect("32 bytes"),
                enabled: true,
                name: String::new(),
                webhooks_max: PORTAL_WEBHOOKS_MAX,
                has_standard_names: false,
                logo: None,
            },
        }
    }
}

/// The tries of this minute, and the links that are not used.
#[derive(Default)]
pub struct Logins(Mutex<LoginCounts>);

#[derive(Default)]
struct LoginCounts {
    minute: u32,
    by_address: HashMap<Option<IpAddr>, u32>,
    links: Vec<LoginLink>,
}

struct LoginLink {
    hash: [u8; 32],
    key: KeyId,
    expires_at: Time,
}

/// The address that tries are counted under: a client has all of an IPv6 network of 64 bits (RFC 6177).
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

impl Logins {
    fn counts(&self) -> MutexGuard<'_, LoginCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one try of an address. The error is the number of seconds until the next try is allowed.
    pub fn count_try(&self, from: Option<IpAddr>, now: Time) -> Result<(), u32> {
        let mut counts = self.counts();
        if counts.minute != now.minute() {
            counts.minute = now.minute();
            counts.by_address.clear();
        }
        let from = from.map(network_of);
        let of_address = counts.by_address.get(&from).copied().unwrap_or(0);
        if of_address >= TRIES_OF_ADDRESS_MAX {
            let left_ms = MINUTE_MS - now.0.rem_euclid(MINUTE_MS);
            return Err((left_ms as u64).div_ceil(1_000) as u32);
        }
        if of_address == 0 && counts.by_address.len() >= ADDRESSES_MAX {
            let fewest = counts.by_address.iter().min_by_key(|(_, tries)| **tries).map(|(address, _)| *address);
            fewest.map(|address| counts.by_address.remove(&address));
        }
        counts.by_address.insert(from, of_address + 1);
        Ok(())
    }

    /// Lets `token` log in once with `key`, until `expires_at`.
    pub fn put_link(&self, token: &str, key: &ApiKey, expires_at: Time) {
        let mut counts = self.counts();
        if counts.links.len() >= LINKS_MAX {
            counts.links.remove(0);
        }
        counts.links.push(LoginLink { hash: sha256(&[token.as_bytes()]), key: key.id, expires_at });
    }

    /// Uses up the link with this token. `None` if there is none, or its time is over.
    pub fn take_link(&self, token: &str, now: Time) -> Option<KeyId> {
        let mut counts = self.counts();
        let hash = sha256(&[token.as_bytes()]);
        let at = counts.links.iter().position(|link| link.hash == hash)?;
        let link = counts.links.remove(at);
        (now < link.expires_at).then_some(link.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_address_has_ten_tries_a_minute_and_takes_none_of_others() {
        let (logins, now) = (Logins::default(), Time(10 * MINUTE_MS + 15_000));
        for from in 1..=20 {
            for _ in 0..TRIES_OF_ADDRESS_MAX {
                assert_eq!(logins.count_try(address(from), now), Ok(()), "{from}");
            }
            assert_eq!(logins.count_try(address(from), now), Err(45));
        }
        assert_eq!(logins.count_try(address(1), now.plus_ms(45_000)), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_the_counted_addresses_are_bounded() {
        let (logins, now) = (Logins::default(), Time(10 * MINUTE_MS));
        let of = |network: u128, host: u128| Some(IpAddr::V6((0x2001_0db8 << 96 | network << 64 | host).into()));
        for host in 0..10 {
            assert_eq!(logins.count_try(of(0, host), now), Ok(()));
        }
        for network in 1..3 * ADDRESSES_MAX as u128 {
            assert_eq!(logins.count_try(of(network, 0), now), Ok(()));
        }
        assert_eq!(logins.counts().by_address.len(), ADDRESSES_MAX);
        assert_eq!(logins.count_try(of(0, 99), now), Err(60), "an address that tried too often is not forgotten");
    }

    #[test]
    fn a_link_logs_in_once_and_not_after_its_time() {
        let key = ApiKey {
            id: Id::from_u128(7),
            org_id: Id::MIN,
            app_id: None,
            name: String::new(),
            scopes: Vec::new(),
            hash: [0; 32],
            created_at: Time(0),
            expires_at: None,
            rate_per_s: None,
            installation: false,
            makers: Vec::new(),
            feature_flags: Vec::new(),
            portal: false,
        };
        let logins = Logins::default();
        logins.put_link("a", &key, Time(100));
        logins.put_link("b", &key, Time(100));
        assert_eq!(logins.take_link("c", Time(0)), None);
        assert_eq!(logins.take_link("a", Time(99)), Some(key.id));
        assert_eq!(logins.take_link("a", Time(99)), None);
        assert_eq!(logins.take_link("b", Time(100)), None);
    }
}
