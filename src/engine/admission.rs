//! Publishing waits for its turn while deliveries fall behind for want of processor time.
//!
//! What is accepted faster than it can be sent piles up: it goes to disk and comes back from there, which makes sending slower
//! still, and reaches nobody any sooner. While the scheduler says so, only a few publishes are in hand at a time and the others
//! stand in line. None is refused for it, and nobody waits for receivers that are slow by themselves: see
//! `scheduler/pressure.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Publishes in hand while they take turns, a batch being one: enough for a commit to be worth its sync, few enough to leave the
/// processor to deliveries.
const CONCURRENT_MAX: usize = 16;

pub struct PublishAdmission {
    is_limited: AtomicBool,
    permits: Semaphore,
}

impl Default for PublishAdmission {
    fn default() -> PublishAdmission {
        PublishAdmission { is_limited: AtomicBool::new(false), permits: Semaphore::new(CONCURRENT_MAX) }
    }
}

impl PublishAdmission {
    /// Whether publishing takes turns from now on. Those in line stay there until it is theirs.
    pub fn set(&self, are_taken: bool) {
        self.is_limited.store(are_taken, Ordering::Relaxed);
    }

    /// Waits in line with a publish; its turn lasts until the permit is dropped. None: no turns are taken.
    pub async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        if !self.is_limited.load(Ordering::Relaxed) {
            return None;
        }
        // It is never closed.
        self.permits.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn nobody_waits_unless_turns_are_taken() {
        let admission = PublishAdmission::default();
        for _ in 0..2 * CONCURRENT_MAX {
            assert!(admission.acquire().await.is_none());
        }
        admission.set(true);
        assert!(admission.acquire().await.is_some());
        admission.set(false);
        assert!(admission.acquire().await.is_none());
    }

    #[tokio::test]
    async fn a_few_are_in_hand_and_the_next_follows_whoever_is_done() {
        let admission = PublishAdmission::default();
        admission.set(true);
        let mut in_hand = Vec::new();
        for _ in 0..CONCURRENT_MAX {
            in_hand.push(admission.acquire().await.unwrap());
        }
        let (mut one, mut other) = (pin!(admission.acquire()), pin!(admission.acquire()));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
        drop(in_hand.pop());
        assert!(poll(&mut other).is_pending(), "not before its turn");
        let Poll::Ready(Some(turn)) = poll(&mut one) else { panic!("its turn") };
        // Who stands in line gets a turn even when no more turns are taken.
        admission.set(false);
        drop(turn);
        assert!(poll(&mut other).is_ready());
    }
}
