//! Has this `event_id` or `Idempotency-Key` been seen? A fingerprint in memory says where to look; the row decides.
//!
//! Invariant: a fingerprint is only a hint. Whoever finds one reads the event's row and compares what it stands for.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};

use crate::model::Time;
use crate::model::id::{AppId, EventId};

/// The first eight bytes of a SHA-256.
pub type Fingerprint = u64;

/// What an event is remembered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    EventId = 0,
    Answer = 1,
}

/// Of a caller's own event id.
pub fn of_event_id(app: AppId, event_id: &str) -> Fingerprint {
    let mut hash = Context::new(&SHA256);
    hash.update(b"event_id");
    hash.update(app.as_bytes());
    hash.update(event_id.as_bytes());
    head(hash.finish().as_ref())
}

/// Of an `Idempotency-Key`'s hash.
pub fn of_answer(key: &[u8; 32]) -> Fingerprint {
    head(key) ^ 1
}

/// The first eight bytes of the `Idempotency-Key`'s hash that has this fingerprint.
pub fn head_of_answer(fingerprint: Fingerprint) -> [u8; 8] {
    (fingerprint ^ 1).to_be_bytes()
}

fn head(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |head| u64::from_be_bytes(*head))
}

/// Fingerprints of the idempotency window, by partition, so that a partition's go with it.
#[derive(Debug, Default)]
pub struct Dedup {
    seen: HashMap<Fingerprint, EventId>,
}

impl Dedup {
    pub fn find(&self, fingerprint: Fingerprint) -> Option<EventId> {
        self.seen.get(&fingerprint).copied()
    }

    pub fn learn(&mut self, fingerprint: Fingerprint, event: EventId) {
        self.seen.insert(fingerprint, event);
    }

    /// Forgets what was received before `horizon`.
    pub fn forget_before(&mut self, horizon: Time) {
        self.seen.retain(|_, event| event.time() >= horizon);
        self.seen.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}
