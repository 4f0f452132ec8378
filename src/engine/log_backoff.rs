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
    fn the_log_is_told_ever_more_seldom_until_it_is_over() {
        let mut seldom = LogBackoff::default();
        assert!(!seldom.reset());
        let told: Vec<u64> = (0..20).filter_map(|_| seldom.record()).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert!(seldom.reset());
        assert_eq!(seldom.record(), Some(1));
    }
}
