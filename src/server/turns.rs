//! The turns of clients: of reads that take long, and of tests of webhooks.
//!
//! Invariants: at most `reads_max` reads run at once, and a caller with many waiting reads has no more turns than one
//! with a single read. Tests are bounded for each webhook and in all.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::api::auth::RequestOwner;
use crate::model::id::WebhookId;

use super::table::PeerGroup;

/// Maximum reads of one caller that wait for their turn.
const WAITING_READS_MAX: usize = 256;
/// One read runs at once for this many processors, and at least `READS_MIN`.
const PROCESSORS_PER_READ: usize = 2;
const READS_MIN: usize = 2;
/// Maximum tests of one webhook that run at once.
pub(super) const TESTS_OF_WEBHOOK_MAX: usize = 4;
/// Maximum tests that run at once.
pub(super) const TESTS_MAX: usize = 64;

/// The caller whose turns a read uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TurnOwner {
    Known(RequestOwner),
    /// Callers without a key, by the group of their address.
    Stranger(PeerGroup),
}

/// The turns of reads.
pub(super) struct ReadTurns {
    reads_max: usize,
    state: Mutex<ReadTurnsState>,
}

#[derive(Default)]
struct ReadTurnsState {
    running: usize,
    /// Callers with waiting reads, in the order of their turns.
    ring: VecDeque<TurnOwner>,
    waiting: HashMap<TurnOwner, VecDeque<oneshot::Sender<ReadTurn>>>,
}

/// The turn of a read. Dropping it gives it to the next.
pub(super) struct ReadTurn(Option<Arc<ReadTurns>>);

impl ReadTurns {
    /// Turns for a machine with this many processors.
    pub fn new(processors: usize) -> Arc<ReadTurns> {
        let reads_max = (processors / PROCESSORS_PER_READ).max(READS_MIN);
        Arc::new(ReadTurns { reads_max, state: Mutex::default() })
    }

    /// Waits for the turn of a read of this caller. `None` if too many of the caller's reads wait.
    pub async fn wait(self: &Arc<Self>, key: TurnOwner) -> Option<ReadTurn> {
        let turn = {
            let mut state = self.lock();
            if state.running < self.reads_max {
                state.running += 1;
                return Some(ReadTurn(Some(self.clone())));
            }
            let waiting = state.waiting.entry(key).or_default();
            if waiting.len() >= WAITING_READS_MAX {
                return None;
            }
            let (sender, turn) = oneshot::channel();
            waiting.push_back(sender);
            if waiting.len() == 1 {
                state.ring.push_back(key);
            }
            turn
        };
        turn.await.ok()
    }

    /// Gives a turn that is free to the next key.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let Some(next) = state.next() else {
                    state.running -= 1;
                    return;
                };
                next
            };
            match next.send(ReadTurn(Some(self.clone()))) {
                Ok(()) => return,
                // The client of this read is gone. Its turn must not be given back twice.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ReadTurnsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadTurnsState {
    /// The first waiting read of the next key.
    fn next(&mut self) -> Option<oneshot::Sender<ReadTurn>> {
        let key = self.ring.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.ring.push_back(key);
        }
        next
    }
}

impl Drop for ReadTurn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

/// The tests of webhooks that run.
#[derive(Default)]
pub(super) struct RunningTests {
    of: Mutex<HashMap<WebhookId, usize>>,
}

/// A test that runs. Dropping it frees its place.
pub(super) struct TestPlace<'a> {
    tests: &'a RunningTests,
    webhook: WebhookId,
}

impl RunningTests {
    /// Begins a test of a webhook.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn begin(&self, webhook: WebhookId) -> Result<TestPlace<'_>, &'static str> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.values().sum::<usize>() >= TESTS_MAX {
            return Err("64 tests of webhooks are running");
        }
        let running = of.entry(webhook).or_insert(0);
        if *running >= TESTS_OF_WEBHOOK_MAX {
            return Err("4 tests of this webhook are running");
        }
        *running += 1;
        Ok(TestPlace { tests: self, webhook })
    }
}

impl Drop for TestPlace<'_> {
    fn drop(&mut self) {
        let mut of = self.tests.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = of.get_mut(&self.webhook) {
            *running -= 1;
            if *running == 0 {
                of.remove(&self.webhook);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Id;

    fn key(nth: u128) -> TurnOwner {
        TurnOwner::Known(RequestOwner::Key(Id::from_u128(nth)))
    }

    fn stranger(last: u8) -> TurnOwner {
        TurnOwner::Stranger(PeerGroup::of(Some(([127, 0, 0, last], 1).into())))
    }

    #[tokio::test]
    async fn a_key_with_many_reads_waits_for_the_others() {
        let turns = ReadTurns::new(2);
        let running = [turns.wait(key(1)).await.unwrap(), turns.wait(key(1)).await.unwrap()];
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        let wait = |nth: u128| {
            let (turns, sender) = (turns.clone(), sender.clone());
            tokio::spawn(async move {
                let turn = turns.wait(key(nth)).await;
                sender.send(nth).unwrap();
                drop(turn);
            })
        };
        for nth in [1, 1, 1, 2, 3] {
            wait(nth);
            tokio::task::yield_now().await;
        }
        drop(running);
        let mut served = Vec::new();
        for _ in 0..5 {
            served.push(order.recv().await.unwrap());
        }
        served.truncate(3);
        served.sort_unstable();
        assert_eq!(served, [1, 2, 3], "each key has a turn before one has its second");
        assert_eq!(turns.lock().running, 0);
    }

    #[tokio::test]
    async fn a_turn_of_a_client_that_is_gone_is_passed_on_and_a_key_waits_with_few() {
        let turns = ReadTurns::new(1);
        let running = [turns.wait(key(1)).await.unwrap(), turns.wait(key(2)).await.unwrap()];
        let mut waiting = Vec::new();
        for _ in 0..WAITING_READS_MAX {
            let turns = turns.clone();
            waiting.push(tokio::spawn(async move { turns.wait(key(1)).await.is_some() }));
            tokio::task::yield_now().await;
        }
        assert!(turns.wait(key(1)).await.is_none());
        let last = waiting.pop().unwrap();
        for task in &waiting {
            task.abort();
        }
        for task in waiting {
            assert!(task.await.is_err());
        }
        drop(running);
        assert!(last.await.unwrap());
        assert_eq!(turns.lock().running, 0);
    }

    #[tokio::test]
    async fn strangers_of_one_address_refuse_nothing_to_those_of_another() {
        let turns = ReadTurns::new(1);
        let running = [turns.wait(stranger(1)).await.unwrap(), turns.wait(stranger(1)).await.unwrap()];
        let mut waiting = Vec::new();
        for _ in 0..WAITING_READS_MAX {
            let turns = turns.clone();
            waiting.push(tokio::spawn(async move { turns.wait(stranger(1)).await.is_some() }));
            tokio::task::yield_now().await;
        }
        assert!(turns.wait(stranger(1)).await.is_none());
        let other = tokio::spawn(async move { turns.wait(stranger(2)).await.is_some() });
        tokio::task::yield_now().await;
        drop(running);
        assert!(other.await.unwrap());
    }

    #[test]
    fn tests_are_bounded_by_webhook_and_in_all() {
        let tests = RunningTests::default();
        let of = |nth: u128| tests.begin(Id::from_u128(nth));
        let mut running: Vec<_> = (0..TESTS_OF_WEBHOOK_MAX).map(|_| of(0).unwrap()).collect();
        assert!(of(0).is_err());
        running.extend((TESTS_OF_WEBHOOK_MAX..TESTS_MAX).map(|nth| of(nth as u128).unwrap()));
        assert!(of(1_000).is_err());
        running.pop();
        assert!(of(1_000).is_ok());
        drop(running);
        assert!(tests.of.lock().unwrap().is_empty());
    }
}
