//! What the daemon cannot do without: a part of it that panics is a bug, and a daemon that went on without that part would
//! look well and do nothing. So it ends, with everything that was acknowledged on the disk, and is started again.
//!
//! Invariant: a part that ends because it is told to ends nobody else.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Held by a vital part for as long as it runs.
pub struct CriticalTask {
    part: &'static str,
    crashed: Arc<Notify>,
}

impl CriticalTask {
    pub fn new(part: &'static str, crashed: &Arc<Notify>) -> CriticalTask {
        CriticalTask { part, crashed: crashed.clone() }
    }

    /// Runs a part as a task.
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
    async fn only_who_panics_is_told_of() {
        let crashed = Arc::new(Notify::new());
        CriticalTask::new("ends", &crashed).spawn(async {}).await.unwrap();
        let stopped = CriticalTask::new("is stopped", &crashed).spawn(std::future::pending());
        stopped.abort();
        assert!(stopped.await.unwrap_err().is_cancelled());
        let told = tokio::select! {
            biased;
            () = crashed.notified() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!told);
        let panicked = CriticalTask::new("panics", &crashed).spawn(async { panic!("as it should, for the test") });
        crashed.notified().await;
        assert!(panicked.await.unwrap_err().is_panic());
    }
}
