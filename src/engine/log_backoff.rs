//! Log back-off: logs a repeating failure the 1st, 2nd, 4th, 8th … time, so that earlier lines stay findable.

/// A count of consecutive failures.
#[derive(Debug, Default)]
pub struct LogBackoff {
    count: u64,
}

impl LogBackoff {
    /// Counts a failure. Returns the count if it is to be logged.
    pub fn record(&mut self) -> Option<u64> {
        self.count += 1;
        self.count.is_power_of_two().then_some(self.count)
    }

    /// Resets the count. Returns whether there was a failure.
    pub fn reset(&mut self) -> bool {
        std::mem::take(&mut self.count) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_failure_is_logged_at_powers_of_two_until_reset() {
        let mut backoff = LogBackoff::default();
        assert!(!backoff.reset());
        let logged: Vec<u64> = (0..20).filter_map(|_| backoff.record()).collect();
        assert_eq!(logged, [1, 2, 4, 8, 16]);
        assert!(backoff.reset());
        assert_eq!(backoff.record(), Some(1));
    }
}
