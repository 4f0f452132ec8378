//! The time limit of a test on sockets: a test that hangs ends the binary, and its name is printed.
//!
//! Invariant: a limit that is dropped in time has no effect.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longest life of a daemon in a test, far beyond `PATIENCE`, so that a wait that names its cause ends first.
const LIMIT: Duration = Duration::from_secs(900);

/// Ends the process unless it is dropped within `LIMIT`.
pub struct TimeLimit {
    _alive: Sender<()>,
}

impl TimeLimit {
    /// Begins the limit of the test that runs on this thread.
    pub fn begin() -> TimeLimit {
        TimeLimit::after(LIMIT, |test| {
            eprintln!("{test} has run for {LIMIT:?} and is not done");
            std::process::abort();
        })
    }

    /// Calls `over` with the test's name after `limit`.
    fn after(limit: Duration, over: impl FnOnce(&str) + Send + 'static) -> TimeLimit {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let (alive, dropped) = channel::<()>();
        std::thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                over(&test);
            }
        });
        TimeLimit { _alive: alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_over_its_limit_is_named() {
        let (tell, told) = channel();
        let limit = TimeLimit::after(Duration::from_millis(1), move |test| tell.send(test.to_owned()).expect("a test"));
        assert!(told.recv().expect("a name").ends_with("a_test_over_its_limit_is_named"));
        drop(limit);
    }

    #[test]
    fn a_limit_that_is_dropped_has_no_effect() {
        let (tell, told) = channel::<()>();
        drop(TimeLimit::after(LIMIT, move |_| tell.send(()).expect("a test")));
        assert!(told.recv().is_err(), "its thread has ended");
    }
}
