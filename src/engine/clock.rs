//! Time and chance, handed in: the only module that asks the machine for either.
//!
//! Invariant: due times are compared with the wall clock; waiting is measured on the monotonic one, a piece at a time, so
//! that a clock that jumps is noticed within `WAIT_PIECE`.
#![allow(clippy::disallowed_methods, reason = "this is where the machine is asked")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use crate::model::Time;

use crate::engine::network::BoxFuture;

/// The longest single wait; then the clock is looked at again.
const WAIT_PIECE: Duration = Duration::from_secs(1);
/// Random bytes fetched from the system at once.
const RANDOM_BYTES: usize = 4_096;

/// What time it is, and how to wait.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Time;
    /// Milliseconds that never step back, from an arbitrary beginning.
    fn monotonic_ms(&self) -> i64;
    /// Ends once `now` is at or after `time`.
    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()>;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(since.as_millis() as i64)
    }

    fn monotonic_ms(&self) -> i64 {
        self.start.elapsed().as_millis() as i64
    }

    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let left = time.since(self.now());
                if left <= 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(left as u64).min(WAIT_PIECE)).await;
            }
        })
    }
}

/// A clock that stands still until it is moved. For tests on real sockets.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(Time, i64)>,
    moved: Notify,
}

impl ManualClock {
    pub fn at(now: Time) -> ManualClock {
        ManualClock { now: Mutex::new((now, 0)), moved: Notify::new() }
    }

    /// Time passes: both clocks go on.
    pub fn advance_ms(&self, ms: i64) {
        {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = (now.0.plus_ms(ms), now.1 + ms);
        }
        self.moved.notify_waiters();
    }

    /// Somebody sets the wall clock: the monotonic one does not move.
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

    fn sleep_until(&self, time: Time) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                // Listening begins before looking, so that no move falls between.
                let moved = self.moved.notified();
                if self.now() >= time {
                    return;
                }
                moved.await;
            }
        })
    }
}

/// Where random bytes come from.
pub trait Random: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's generator, fit for secrets. Asked for many bytes at a time: every request takes a few.
pub struct SystemRandomness {
    system: SystemRandom,
    /// What was fetched, and how much of it is used: no byte is given twice, nor kept once it is given.
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

/// Random numbers one by one, fetched many at a time.
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

/// Ids for things that are not stored, such as a request: a UUIDv7 of now.
pub fn passing_id(clock: &dyn Clock, random: &dyn Random) -> u128 {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let noise = u128::from_be_bytes(bytes);
    let ms = (clock.now().0 as u128 & 0xffff_ffff_ffff) << 80;
    ms | (0x7 << 76) | (noise & (0xfff << 64)) | (0b10 << 62) | (noise & ((1 << 62) - 1))
}
