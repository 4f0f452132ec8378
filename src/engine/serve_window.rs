//! The time until which an owner in a cluster may begin deliveries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::mutants::mutant;

/// The machine's monotonic clock. It goes on while the machine is suspended (`CLOCK_BOOTTIME` of clock_gettime(2)).
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec.clamp(0, 999_999_999) as u32)
}

/// The end of the tenure, which each beat moves.
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

    /// Whether deliveries may begin.
    pub fn is_open(&self) -> bool {
        self.is_open_at(monotonic())
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
        let window = ServeWindow::default();
        assert!(!window.is_open());
        window.set(monotonic() + Duration::from_secs(3_600));
        assert!(window.is_open());
        window.close();
        assert!(!window.is_open());
        window.set(monotonic());
        assert!(!window.is_open());
    }
}
