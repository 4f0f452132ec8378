//! Telling the log of what goes on going wrong: the first, second, fourth, eighth time, so that an operator still finds what
//! was said before.

/// Failures one after another.
#[derive(Debug, Default)]
pub struct LogBackoff {
    count: u64,
}

impl LogBackoff {
    /// Counts another one. How many there were, if the log is to be told.
    pub fn record(&mut self) -> Option<u64> {
        self.count += 1;
        self.count.is_power_of_two().then_some(self.count)
    }

    /// Begins anew. Whether there was any.
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
