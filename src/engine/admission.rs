//! Admission control for publishes: while CPU saturation makes deliveries lag, at most `CONCURRENT_MAX` run at once.
//!
//! Events that are accepted faster than they can be sent go to disk and are read back. That slows sending down, and no
//! event arrives sooner. While the scheduler limits admission, further publishes queue. The limit rejects none of them,
//! and a slow receiver never causes it (`scheduler/saturation.rs`).

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Maximum publishes at once under limited admission. A batch counts as one. The number is large enough for a commit to
/// be worth its sync, and small enough to leave the processor to deliveries.
const CONCURRENT_MAX: usize = 16;

/// The admission control of publishes.
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
    /// Limits admission from now on, or ends the limit. Queued publishes keep their position.
    pub fn set(&self, is_limited: bool) {
        self.is_limited.store(is_limited, Ordering::Relaxed);
    }

    /// Waits for admission. The permit admits one publish until it is dropped. `None` if admission is not limited.
    pub async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        if !self.is_limited.load(Ordering::Relaxed) {
            return None;
        }
        // The semaphore is never closed.
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
    async fn a_publish_waits_only_if_admission_is_limited() {
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
    async fn a_few_publishes_are_admitted_and_the_next_follows_each_that_ends() {
        let admission = PublishAdmission::default();
        admission.set(true);
        let mut in_hand = Vec::new();
        for _ in 0..CONCURRENT_MAX {
            in_hand.push(admission.acquire().await.unwrap());
        }
        let (mut one, mut other) = (pin!(admission.acquire()), pin!(admission.acquire()));
        assert!(poll(&mut one).is_pending() && poll(&mut other).is_pending());
        drop(in_hand.pop());
        assert!(poll(&mut other).is_pending(), "not before another ends");
        let Poll::Ready(Some(turn)) = poll(&mut one) else { panic!("its turn") };
        // A queued publish is admitted by a permit even after the limit has ended.
        admission.set(false);
        drop(turn);
        assert!(poll(&mut other).is_ready());
    }
}
