//! The slots of the resolver: how many names are looked up at once, and which names wait.
//!
//! Invariant: names that answered lately find a slot whatever others do. Names that are not known yet share a part of
//! the slots, and names that took long lately a small part.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Maximum concurrent lookups, each of which takes a thread. tokio has 512 threads, for files and reads too.
const LOOKUPS_MAX: usize = 128;
/// Maximum concurrent lookups of names that are not known to answer.
const UNPROVEN_MAX: usize = 64;
/// Maximum concurrent lookups of names whose last lookup took long.
const SLOW_MAX: usize = 16;
/// A lookup that takes this time or more is slow. Name servers answer in milliseconds.
const SLOW: Duration = Duration::from_secs(1);
/// Time for which the last lookup of a name counts.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Maximum names that are remembered.
const NAMES_MAX: usize = 20_000;

/// Maximum wait for a slot. It is shorter than the shortest timeout of a webhook, so the receiver is not blamed for the
/// wait.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The slots of this process.
pub(in crate::engine) static RESOLVER: LazyLock<Resolver> = LazyLock::new(Resolver::new);

/// The error of a lookup that found no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolverBusy;

impl fmt::Display for ResolverBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many host names are being resolved already")
    }
}

impl std::error::Error for ResolverBusy {}

/// The slots, and the last lookup of each name.
pub(in crate::engine) struct Resolver {
    all: Semaphore,
    unproven: Semaphore,
    slow: Semaphore,
    last: Mutex<HashMap<String, Lookup>>,
}

#[derive(Debug, Clone, Copy)]
struct Lookup {
    at: Instant,
    is_slow: bool,
}

impl Resolver {
    fn new() -> Resolver {
        let [all, unproven, slow] = [LOOKUPS_MAX, UNPROVEN_MAX, SLOW_MAX].map(Semaphore::new);
        Resolver { all, unproven, slow, last: Mutex::default() }
    }

    /// Runs the lookup of a name on a thread of its own, once there is a slot.
    ///
    /// # Errors
    /// `ResolverBusy` if there is none in time, otherwise those of the lookup.
    pub async fn ask<T: Send + 'static>(
        &'static self,
        name: &str,
        lookup: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let last = self.last(name);
        let slots = async {
            let slow = match last {
                Some(Lookup { is_slow: true, .. }) => Some(self.slow.acquire().await),
                _ => None,
            };
            let unproven = match last {
                Some(Lookup { is_slow: false, .. }) => None,
                _ => Some(self.unproven.acquire().await),
            };
            (slow, unproven, self.all.acquire().await)
        };
        let slots = timeout(WAIT_MAX, slots).await.map_err(|_| io::Error::other(ResolverBusy))?;
        let name = name.to_owned();
        // The system's resolver may block a thread after its caller is gone. If it hangs, reads of the store still find
        // a thread.
        let asked = tokio::task::spawn_blocking(move || {
            let _until_it_answers = slots;
            let began = Instant::now();
            let found = lookup();
            self.remember(name, began.elapsed() >= SLOW);
            found
        });
        asked.await.map_err(io::Error::other)?
    }

    /// The last lookup of a name. `None` if it is not known or too old.
    fn last(&self, name: &str) -> Option<Lookup> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(name).copied().filter(|lookup| lookup.at.elapsed() < REMEMBERED)
    }

    fn remember(&self, name: String, is_slow: bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= NAMES_MAX {
            last.retain(|_, lookup| lookup.at.elapsed() < REMEMBERED);
        }
        if last.len() >= NAMES_MAX {
            last.clear();
        }
        last.insert(name, Lookup { at: Instant::now(), is_slow });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn resolver() -> &'static Resolver {
        Box::leak(Box::new(Resolver::new()))
    }

    /// A lookup that hangs until it is released.
    fn hanging(released: &Arc<AtomicBool>) -> impl FnOnce() -> io::Result<()> + Send + 'static {
        let released = released.clone();
        move || {
            while !released.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        }
    }

    async fn is_busy(resolver: &'static Resolver, name: &str) -> bool {
        let asked = resolver.ask(name, || Ok(())).await;
        asked.is_err_and(|error| error.get_ref().is_some_and(|inner| inner.is::<ResolverBusy>()))
    }

    #[tokio::test]
    async fn names_that_answered_find_a_slot_while_unknown_ones_hang() {
        let (resolver, released) = (resolver(), Arc::new(AtomicBool::new(false)));
        resolver.ask("known", || Ok(())).await.unwrap();
        resolver.remember("slow".to_owned(), true);
        let hanging: Vec<_> = (0..UNPROVEN_MAX)
            .map(|nth| tokio::spawn(resolver.ask_owned(format!("n{nth}"), hanging(&released))))
            .collect();
        while resolver.unproven.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(is_busy(resolver, "another").await, "unknown names have all of their slots");
        assert!(is_busy(resolver, "slow").await);
        assert!(!is_busy(resolver, "known").await);
        released.store(true, Ordering::Relaxed);
        for lookup in hanging {
            lookup.await.unwrap().unwrap();
        }
        assert!(!is_busy(resolver, "another").await);
    }

    #[tokio::test]
    async fn slow_names_share_few_slots_and_leave_unknown_ones_theirs() {
        let (resolver, released) = (resolver(), Arc::new(AtomicBool::new(false)));
        let mut lookups = Vec::new();
        for nth in 0..=SLOW_MAX {
            resolver.remember(format!("n{nth}"), true);
        }
        for nth in 0..SLOW_MAX {
            lookups.push(tokio::spawn(resolver.ask_owned(format!("n{nth}"), hanging(&released))));
        }
        while resolver.slow.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(is_busy(resolver, &format!("n{SLOW_MAX}")).await);
        assert!(!is_busy(resolver, "unknown").await);
        released.store(true, Ordering::Relaxed);
        for lookup in lookups {
            lookup.await.unwrap().unwrap();
        }
        assert!(!is_busy(resolver, "n0").await, "it is asked again");
        assert!(!resolver.last("n0").unwrap().is_slow, "and has answered");
    }

    impl Resolver {
        async fn ask_owned(
            &'static self,
            name: String,
            lookup: impl FnOnce() -> io::Result<()> + Send + 'static,
        ) -> io::Result<()> {
            self.ask(&name, lookup).await
        }
    }
}
