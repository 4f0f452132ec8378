//! Clock and randomness, handed in: the only module that asks the machine for either.
//!
//! Invariant: due times are compared with `Clock::now`. Waiting is measured on the monotonic clock in pieces of at most
//! `WAIT_PIECE_MS`, so that a step of the time is noticed within that time.
#![allow(clippy::disallowed_methods, reason = "this is where the machine is asked")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use crate::model::Time;

use crate::engine::network::BoxFuture;

/// The longest single wait, in milliseconds. Then the clock is read again.
const WAIT_PIECE_MS: i64 = 1_000;
/// Random bytes that are fetched from the system at once.
const RANDOM_BYTES: usize = 4_096;

/// A clock: the time, and waiting for a time.
pub trait Clock: Send + Sync + 'static {
    /// The time that stored times and due times are compared with.
    fn now(&self) -> Time;
    /// The machine's wall clock, for timestamps that other machines compare with theirs.
    fn wall(&self) -> Time {
        self.now()
    }
    /// Milliseconds from an arbitrary start. They never step back, and they go on while the machine is suspended.
    fn monotonic_ms(&self) -> i64;
    /// Completes after `ms` on the monotonic clock, or earlier. It misses no event after this call.
    fn pause(&self, ms: i64) -> BoxFuture<'_, ()>;
    /// Completes at `time` as far as this reading of the clock says, or after `WAIT_PIECE_MS`, because the time may step.
    fn pause_towards(&self, time: Time) -> BoxFuture<'_, ()> {
        self.pause(time.since(self.now()).clamp(0, WAIT_PIECE_MS))
    }
    /// Completes once `now` is at or after `time`, or earlier if an operator accepted another time.
    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                // The pause begins before the clock is read, so that no step is missed.
                let pause = self.pause_towards(time);
                if self.now() >= time {
                    return;
                }
                pause.await;
            }
        })
    }
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(since.as_millis() as i64)
    }

    fn monotonic_ms(&self) -> i64 {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        since.tv_sec * 1_000 + since.tv_nsec / 1_000_000
    }

    fn pause(&self, ms: i64) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms.max(0) as u64)))
    }
}

/// A clock that stands still until a test moves it. It works with real sockets.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Time, i64)>,
    moved: Notify,
}

impl ManualClock {
    pub fn at(now: Time) -> ManualClock {
        ManualClock { now: Mutex::new((now, 0)), moved: Notify::new() }
    }

    /// Advances both clocks.
    pub fn advance_ms(&self, ms: i64) {
        {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = (now.0.plus_ms(ms), now.1 + ms);
        }
        self.moved.notify_waiters();
    }

    /// Sets the wall clock. The monotonic clock does not move.
    pub fn jump_to(&self, wall: Time) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0 = wall;
        self.moved.notify_waiters();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn monotonic_ms(&self) -> i64 {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn pause(&self, _: i64) -> BoxFuture<'_, ()> {
        // The listener is registered now and not at the first poll.
        let moved = self.moved.notified();
        Box::pin(moved)
    }
}

/// A source of random bytes.
pub trait Random: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's generator, fit for secrets. It fetches many bytes at once, because every request needs a few.
pub struct SystemRandomness {
    system: SystemRandom,
    /// Fetched bytes, and how many of them are used. No byte is returned twice, and used bytes are cleared.
    fetched: Mutex<([u8; RANDOM_BYTES], usize)>,
}

impl Default for SystemRandomness {
    fn default() -> Self {
        SystemRandomness { system: SystemRandom::new(), fetched: Mutex::new(([0; RANDOM_BYTES], RANDOM_BYTES)) }
    }
}

impl Random for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        let fetch = |bytes: &mut [u8]| self.system.fill(bytes).expect("the system gives random bytes");
        if bytes.len() > RANDOM_BYTES {
            return fetch(bytes);
        }
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, used) = &mut *fetched;
        if *used + bytes.len() > RANDOM_BYTES {
            fetch(store);
            *used = 0;
        }
        let taken = &mut store[*used..*used + bytes.len()];
        bytes.copy_from_slice(taken);
        taken.fill(0);
        *used += bytes.len();
    }
}

/// Random numbers, fetched many at a time.
pub fn numbers(random: std::sync::Arc<dyn Random>) -> impl FnMut() -> u64 + Send {
    let mut bytes = vec![0; RANDOM_BYTES];
    let mut used = RANDOM_BYTES;
    move || {
        if used == RANDOM_BYTES {
            random.fill(&mut bytes);
            used = 0;
        }
        let number = bytes[used..].first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        bytes[used..used + 8].fill(0);
        used += 8;
        number
    }
}

/// A UUIDv7 of `now` (RFC 9562), for objects that are not stored, such as requests.
pub fn passing_id(now: Time, random: &dyn Random) -> u128 {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let noise = u128::from_be_bytes(bytes);
    let ms = (now.0 as u128 & 0xffff_ffff_ffff) << 80;
    ms | (0x7 << 76) | (noise & (0xfff << 64)) | (0b10 << 62) | (noise & ((1 << 62) - 1))
}
