//! Critical tasks: a panic in one ends the process.
//!
//! Without that task the daemon would look healthy and do nothing. Acknowledged events are on disk, so a restart
//! recovers.
//!
//! Invariant: a task that returns or is aborted does not end the process.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The guard of a critical task. Dropped during a panic, it reports the crash.
pub struct CriticalTask {
    part: &'static str,
    crashed: Arc<Notify>,
}

impl CriticalTask {
    pub fn new(part: &'static str, crashed: &Arc<Notify>) -> CriticalTask {
        CriticalTask { part, crashed: crashed.clone() }
    }

    /// Spawns the critical task.
    pub fn spawn(self, running: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(async move {
            let _until_it_ends = self;
            running.await;
        })
    }
}

impl Drop for CriticalTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(part = self.part, "panicked: the daemon ends, because it would do nothing without it");
            self.crashed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_panic_is_reported() {
        let crashed = Arc::new(Notify::new());
        CriticalTask::new("ends", &crashed).spawn(async {}).await.unwrap();
        let stopped = CriticalTask::new("is stopped", &crashed).spawn(std::future::pending());
        stopped.abort();
        assert!(stopped.await.unwrap_err().is_cancelled());
        let is_reported = tokio::select! {
            biased;
            () = crashed.notified() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_reported);
        let panicked = CriticalTask::new("panics", &crashed).spawn(async { panic!("as it should, for the test") });
        crashed.notified().await;
        assert!(panicked.await.unwrap_err().is_panic());
    }
}
