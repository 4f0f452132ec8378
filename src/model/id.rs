//! Ids: UUIDv7 (RFC 9562 section 5.7) with one type per noun, so that ids of different nouns cannot be mixed up.
//!
//! Invariant: the bytes of ids sort by their time, so a table keyed by ids is in time order.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::time::Time;

/// The id of a `K`: 16 bytes, big-endian, time first.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

pub type OrganizationId = Id<super::organization::Organization>;
pub type AppId = Id<super::app::App>;
pub type KeyId = Id<super::key::ApiKey>;
pub type WebhookId = Id<super::webhook::Webhook>;
pub type EventId = Id<super::event::Event>;
pub type DeliveryId = Id<super::delivery::Delivery>;
pub type PortalLinkId = Id<super::portal::PortalLink>;
pub type AttemptId = Id<super::attempt::Attempt>;

/// A noun that has ids.
pub trait IdKind {
    /// The prefix of an id that people read. A text that is read as an id may have it.
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($noun:ty => $prefix:literal),* $(,)?) => {
        $(impl IdKind for $noun { const PREFIX: &'static str = $prefix; })*
        /// The prefixes of all nouns.
        pub const PREFIXES: &[&str] = &[$($prefix),*];
    };
}

kinds! {
    super::organization::Organization => "org_",
    super::app::App => "app_",
    super::key::ApiKey => "key_",
    super::webhook::Webhook => "whk_",
    super::event::Event => "evt_",
    super::delivery::Delivery => "dlv_",
    super::attempt::Attempt => "att_",
    super::delivery::ReplayJob => "rpl_",
    super::portal::PortalLink => "lnk_",
}

/// An id without the prefix of its noun. Other texts stay as they are.
pub fn without_prefix(text: &str) -> &str {
    let rest = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
    rest.filter(|rest| Uuid::try_parse(rest).is_ok()).unwrap_or(text)
}

impl<K> Id<K> {
    pub const MIN: Self = Self::from_bytes([0; 16]);
    pub const MAX: Self = Self::from_bytes([0xff; 16]);

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes), PhantomData)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id as a number, in the same order.
    pub const fn as_u128(&self) -> u128 {
        self.0.as_u128()
    }

    pub const fn from_u128(n: u128) -> Self {
        Self(Uuid::from_u128(n), PhantomData)
    }

    /// The millisecond in the first 48 bits.
    pub const fn time(&self) -> Time {
        Time((self.as_u128() >> 80) as i64)
    }

    /// The smallest id of a row of `time` or later: the start of a scan from that time.
    pub const fn floor(time: Time) -> Self {
        let ms = if time.0 < 0 { 0 } else { time.0 as u128 };
        Self::from_u128((ms & 0xffff_ffff_ffff) << 80)
    }

    /// The next id in byte order, saturating.
    pub const fn next(&self) -> Self {
        Self::from_u128(self.as_u128().saturating_add(1))
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> Default for Id<K> {
    /// `MIN`, which refers to no object.
    fn default() -> Self {
        Self::MIN
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
/// A map keyed by ids of this daemon: see `IdHasher`.
pub type IdMap<K, V> = HashMap<Id<K>, V, BuildHasherDefault<IdHasher>>;
/// A set of ids of this daemon.
pub type IdSet<K> = HashSet<Id<K>, BuildHasherDefault<IdHasher>>;

/// A hasher for ids, whose bits are random already. Callers do not choose the keys of such a map, so collisions need no
/// defence.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl IdHasher {
    /// 2^64 divided by the golden ratio: Knuth's multiplicative hashing.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.mix(u64::from_le_bytes(word));
        }
    }
    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (high, low) = self.0.as_u64_pair();
        state.write_u64(high);
        state.write_u64(low);
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Text that is not the 36 characters of a hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID in its 36-character form")
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = NotAnId;
    /// Only the hyphenated form is an id, alone or behind the prefix of its noun; braces, URNs and bare hex are not.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let text = text.strip_prefix(K::PREFIX).unwrap_or(text);
        if text.len() != 36 {
            return Err(NotAnId);
        }
        Uuid::try_parse(text).map(|u| Self(u, PhantomData)).map_err(|_| NotAnId)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Uuid::deserialize(from).map(|u| Self(u, PhantomData))
    }
}

/// The writer's stamp draws ids in strictly ascending order, even if the clock steps back.
///
/// Layout within UUIDv7: 48 bits of milliseconds, then a 32-bit counter (12 bits of `rand_a`, 20 of `rand_b`), then 8
/// bits of the shard, which are 0 in a store by itself, then 34 random bits. The counter restarts at every new millisecond and never wraps: a full one advances the time.
#[derive(Debug, Clone)]
pub struct Stamp {
    ms: i64,
    counter: u32,
}

impl Stamp {
    /// Continues after `last`, the newest known id (`Id::MIN` if there is none).
    pub fn after(last: u128) -> Self {
        Self { ms: (last >> 80) as i64, counter: counter_of(last).saturating_add(1) }
    }

    /// Whether its next id is greater than every id that `other` would make at the same moment.
    pub fn ahead_of(&self, other: &Stamp) -> bool {
        (self.ms, self.counter) > (other.ms, other.counter)
    }

    /// The next id, at `now`, or at the last id's time if the clock stands still or steps back.
    pub fn next<K>(&mut self, now: Time, random: u64) -> Id<K> {
        if now.0 > self.ms {
            self.ms = now.0;
            self.counter = 0;
        } else if self.counter == u32::MAX {
            self.ms += 1;
            self.counter = 0;
        } else {
            self.counter += 1;
        }
        let counter = u128::from(self.counter);
        let bits = ((self.ms as u128 & 0xffff_ffff_ffff) << 80)
            | (0x7 << 76)
            | ((counter >> 20) << 64)
            | (0b10 << 62)
            | ((counter & 0xf_ffff) << 42)
            | u128::from(random & 0x3_ffff_ffff);
        Id::from_u128(bits)
    }
}

fn counter_of(id: u128) -> u32 {
    ((((id >> 64) & 0xfff) << 20) | ((id >> 42) & 0xf_ffff)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_id_loses_its_prefix() {
        let id = "019cbd70-9d78-7320-aa3a-de3497964cb8";
        assert_eq!(without_prefix(&format!("whk_{id}")), id);
        for text in [id, "app_acme", "event.type", "clock"] {
            assert_eq!(without_prefix(text), text);
        }
    }

    #[test]
    fn stamped_ids_rise_even_when_the_clock_steps_back() {
        let mut stamp = Stamp::after(0);
        let mut last = EventId::MIN;
        for now in [5, 5, 5, 900, 2, 900, 901, 1] {
            let id = stamp.next(Time(now), u64::MAX);
            assert!(id > last, "{id} after {last}");
            last = id;
        }
        assert_eq!(last.time(), Time(901));
    }

    #[test]
    fn no_id_is_ahead_of_every_time_that_was_seen() {
        let mut stamp = Stamp::after(0);
        let mut latest = 0;
        for at in [1_000, 900, 1_000, 5_000, 10, 4_999] {
            latest = latest.max(at);
            for _ in 0..10_000 {
                assert_eq!(stamp.next::<()>(Time(at), u64::MAX).time(), Time(latest));
            }
        }
    }

    #[test]
    fn a_stamp_continues_after_the_newest_known_id() {
        let mut first = Stamp::after(0);
        let old: EventId = first.next(Time(1_700_000_000_000), 7);
        let mut again = Stamp::after(old.as_u128());
        let new: EventId = again.next(Time(1_600_000_000_000), 7);
        assert!(new > old);
    }

    #[test]
    fn an_id_is_a_version_7_uuid_and_carries_its_time() {
        let id: EventId = Stamp::after(0).next(Time(1_772_704_800_120), 42);
        let uuid = Uuid::from_bytes(*id.as_bytes());
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.time(), Time(1_772_704_800_120));
        assert!(EventId::floor(id.time()) <= id);
    }

    #[test]
    fn the_prefix_of_the_noun_may_stand_before_an_id_and_no_other() {
        let id: EventId = "019cbd70-9d78-7320-aa3a-de3497964cb8".parse().unwrap();
        assert_eq!("evt_019cbd70-9d78-7320-aa3a-de3497964cb8".parse(), Ok(id));
        for wrong in
            ["dlv_019cbd70-9d78-7320-aa3a-de3497964cb8", "evt_evt_019cbd70-9d78-7320-aa3a-de3497964cb8", "evt_"]
        {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
        }
        let distinct: HashSet<&str> = PREFIXES.iter().copied().collect();
        assert_eq!(distinct.len(), PREFIXES.len());
    }

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        assert!("019cbd70-9d78-7320-aa3a-de3497964cb8".parse::<EventId>().is_ok());
        assert!("019cbd709d787320aa3ade3497964cb8".parse::<EventId>().is_err());
        assert!("{019cbd70-9d78-7320-aa3a-de3497964cb8}".parse::<EventId>().is_err());
    }
}
