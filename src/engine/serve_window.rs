//! The time until which an owner in a cluster may begin deliveries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::clock::Clock;
use crate::mutants::mutant;

/// The monotonic clock of a machine, in whole milliseconds.
pub fn monotonic(clock: &dyn Clock) -> Duration {
    Duration::from_millis(clock.monotonic_ms().max(0) as u64)
}

/// The end of the tenure, which each heartbeat moves.
#[derive(Debug, Default)]
pub struct ServeWindow {
    until_ms: AtomicU64,
}

impl ServeWindow {
    /// Moves the end to a moment of `monotonic`.
    pub fn set(&self, until: Duration) {
        self.until_ms.store(until.as_millis() as u64, Ordering::Release);
    }

    /// Ends the tenure now.
    pub fn close(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    /// Whether deliveries may begin at a moment of `monotonic`.
    pub fn is_open_at(&self, now: Duration) -> bool {
        let until_ms = self.until_ms.load(Ordering::Acquire);
        (now.as_millis() as u64) < until_ms || (until_ms > 0 && mutant!("serve_after_tenure"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_until_its_end() {
        let (window, now) = (ServeWindow::default(), Duration::from_secs(60));
        assert!(!window.is_open_at(now));
        window.set(now + Duration::from_secs(8));
        assert!(window.is_open_at(now));
        assert!(!window.is_open_at(now + Duration::from_secs(8)));
        window.close();
        assert!(!window.is_open_at(now));
        window.set(now);
        assert!(!window.is_open_at(now));
    }
}
