//! Tokens of portal links: a signed text in a URL, and the cookie that it becomes.
//!
//! Invariant: an id can be checked without a stored link, because half of it is a MAC over its app. So no id is
//! accepted that this installation has not made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::model::id::{AppId, Id, OrganizationId, PortalLinkId};
use crate::model::portal::PortalLink;
use crate::model::{ApiKey, Scope, Time};

use super::logins::PageSettings;

const MAC_BYTES: usize = 32;
/// Number of random bytes in a cookie. Form tokens are derived from them.
const RANDOM_BYTES: usize = 16;
/// Ends the return URL if a preset follows. No URL contains it (RFC 3986 section 2).
const PRESET_MARK: char = '\n';
/// The bits of an id that are its MAC: all behind the variant of RFC 9562 section 5.7.
const ID_MAC_BITS: u32 = 62;
const ENTER_LABEL: &[u8] = b"portal enter";
const SESSION_LABEL: &[u8] = b"portal session";
const ID_LABEL: &[u8] = b"portal link id";

/// The first bytes of a key's hash, as a link has them.
pub fn hash_start(key: &ApiKey) -> [u8; PortalLink::HASH_BYTES] {
    *key.hash.first_chunk().expect("a hash is longer")
}

/// An id that begins with `now` and ends with a MAC over the app.
pub fn new_id(pages: &PageSettings, org: OrganizationId, app: AppId, random: [u8; 2], now: Time) -> PortalLinkId {
    let chance = u128::from(u16::from_be_bytes(random) & 0x0fff);
    let head = ((now.0 as u128 & 0xffff_ffff_ffff) << 80) | (0x7 << 76) | (chance << 64);
    Id::from_u128(head | (0b10 << ID_MAC_BITS) | id_mac(pages, org, app, head))
}

/// Whether the id is one of a link to this app.
pub fn is_of(pages: &PageSettings, org: OrganizationId, app: AppId, id: PortalLinkId) -> bool {
    let head = id.as_u128() >> 64 << 64;
    id.as_u128() == head | (0b10 << ID_MAC_BITS) | id_mac(pages, org, app, head)
}

fn id_mac(pages: &PageSettings, org: OrganizationId, app: AppId, head: u128) -> u128 {
    let parts = [ID_LABEL, org.as_bytes(), app.as_bytes(), &head.to_be_bytes()].concat();
    let mac = hmac::sign(&key(pages), &parts);
    let start: &[u8; 8] = mac.as_ref().first_chunk().expect("a MAC is longer");
    u128::from(u64::from_be_bytes(*start)) & ((1 << ID_MAC_BITS) - 1)
}

fn key(pages: &PageSettings) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &pages.portal.key)
}

/// The token of a link.
pub fn text(link: &PortalLink, pages: &PageSettings) -> String {
    signed(ENTER_LABEL, bytes_of(link), pages)
}

/// The link of a token. `None` if it was not made here.
pub fn parse(text: &str, pages: &PageSettings) -> Option<PortalLink> {
    link_of(&verified(ENTER_LABEL, text, pages)?)
}

/// The text of the cookie of a browser that has entered by `link`.
pub fn cookie_text(link: &PortalLink, random: [u8; RANDOM_BYTES], pages: &PageSettings) -> String {
    signed(SESSION_LABEL, [random.as_slice(), &bytes_of(link)].concat(), pages)
}

/// The link and the random bytes of a cookie. `None` if it was not made here.
pub fn of_cookie(text: &str, pages: &PageSettings) -> Option<(PortalLink, [u8; RANDOM_BYTES])> {
    let bytes = verified(SESSION_LABEL, text, pages)?;
    let (random, rest) = bytes.split_first_chunk::<RANDOM_BYTES>()?;
    Some((link_of(rest)?, *random))
}

fn signed(label: &[u8], mut bytes: Vec<u8>, pages: &PageSettings) -> String {
    let mac = hmac::sign(&key(pages), &[label, &bytes].concat());
    bytes.extend_from_slice(mac.as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn verified(label: &[u8], text: &str, pages: &PageSettings) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let mac = bytes.split_off(bytes.len().checked_sub(MAC_BYTES)?);
    hmac::verify(&key(pages), &[label, &bytes].concat(), &mac).ok()?;
    Some(bytes)
}

fn bytes_of(link: &PortalLink) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(link.id.as_bytes());
    bytes.extend_from_slice(link.key_id.as_bytes());
    bytes.extend_from_slice(&link.key_hash);
    bytes.extend_from_slice(link.app_id.as_bytes());
    let scopes = PortalLink::SCOPES.iter().enumerate().filter(|(_, scope)| link.scopes.contains(scope));
    bytes.push(scopes.fold(0, |bits, (at, _)| bits | 1 << at));
    bytes.extend_from_slice(&link.enter_by.0.to_be_bytes());
    bytes.extend_from_slice(&link.expires_at.0.to_be_bytes());
    bytes.extend_from_slice(link.return_url.as_deref().unwrap_or_default().as_bytes());
    if let Some(preset) = &link.preset {
        bytes.extend_from_slice(format!("{PRESET_MARK}{preset}").as_bytes());
    }
    bytes
}

fn link_of(bytes: &[u8]) -> Option<PortalLink> {
    let (id, rest) = bytes.split_first_chunk::<16>()?;
    let (key_id, rest) = rest.split_first_chunk::<16>()?;
    let (key_hash, rest) = rest.split_first_chunk::<{ PortalLink::HASH_BYTES }>()?;
    let (app_id, rest) = rest.split_first_chunk::<16>()?;
    let ([bits], rest) = rest.split_first_chunk::<1>()?;
    let (enter_by, rest) = rest.split_first_chunk::<8>()?;
    let (expires_at, rest) = rest.split_first_chunk::<8>()?;
    let scopes = PortalLink::SCOPES.into_iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
    let scopes: Vec<Scope> = scopes.map(|(_, scope)| scope).collect();
    let texts = std::str::from_utf8(rest).unwrap_or_default();
    let (return_url, preset) = texts.split_once(PRESET_MARK).map_or((texts, None), |(url, name)| (url, Some(name)));
    Some(PortalLink {
        id: Id::from_bytes(*id),
        key_id: Id::from_bytes(*key_id),
        key_hash: *key_hash,
        app_id: Id::from_bytes(*app_id),
        scopes,
        enter_by: Time(i64::from_be_bytes(*enter_by)),
        expires_at: Time(i64::from_be_bytes(*expires_at)),
        return_url: Some(return_url).filter(|url| !url.is_empty()).map(str::to_owned),
        preset: preset.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_772_704_800_000);

    fn link(pages: &PageSettings) -> PortalLink {
        PortalLink {
            id: new_id(pages, Id::from_u128(1), Id::from_u128(2), [7, 9], NOW),
            key_id: Id::from_u128(3),
            key_hash: [9; 8],
            app_id: Id::from_u128(2),
            scopes: vec![Scope::EventsRead, Scope::WebhooksSecret],
            enter_by: NOW.plus_ms(5),
            expires_at: NOW.plus_ms(9),
            return_url: Some("https://app.example/settings?a=ä".to_owned()),
            preset: None,
        }
    }

    #[test]
    fn a_preset_reads_back_beside_a_return_url_and_without_one() {
        let pages = PageSettings::new([1; 32]);
        for return_url in [None, Some("https://app.example/".to_owned())] {
            let link = PortalLink { preset: Some("shape".to_owned()), return_url, ..link(&pages) };
            assert_eq!(parse(&text(&link, &pages), &pages), Some(link));
        }
    }

    #[test]
    fn a_token_and_a_cookie_read_back_and_neither_is_the_other() {
        let pages = PageSettings::new([1; 32]);
        let link = link(&pages);
        let (token, cookie) = (text(&link, &pages), cookie_text(&link, [5; 16], &pages));
        assert_eq!(parse(&token, &pages), Some(link.clone()));
        assert_eq!(of_cookie(&cookie, &pages), Some((link, [5; 16])));
        assert_eq!((parse(&cookie, &pages), of_cookie(&token, &pages)), (None, None));
        assert_eq!(parse(&token, &PageSettings::new([2; 32])), None);
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(parse(std::str::from_utf8(&altered).unwrap(), &pages), None, "{at}");
        }
    }

    #[test]
    fn an_id_is_of_one_app_of_one_installation() {
        let pages = PageSettings::new([1; 32]);
        let id = link(&pages).id;
        assert_eq!(id.time(), NOW);
        assert!(is_of(&pages, Id::from_u128(1), Id::from_u128(2), id));
        assert!(!is_of(&pages, Id::from_u128(1), Id::from_u128(4), id));
        assert!(!is_of(&pages, Id::from_u128(4), Id::from_u128(2), id));
        assert!(!is_of(&PageSettings::new([2; 32]), Id::from_u128(1), Id::from_u128(2), id));
        assert!(!is_of(&pages, Id::from_u128(1), Id::from_u128(2), Id::from_u128(id.as_u128() ^ 1)));
        assert!(!is_of(&pages, Id::from_u128(1), Id::from_u128(2), Id::from_u128(id.as_u128() ^ 1 << 80)));
    }
}
