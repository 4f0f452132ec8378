//! The blocking pool: runs synchronous work on threads beside the runtime, or inline in a single-threaded simulation.

/// The place of reads and other synchronous work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockingPool {
    #[default]
    Threads,
    Inline,
}

impl BlockingPool {
    /// Runs `step` and returns its result. `None` if it panicked.
    pub async fn run<T: Send + 'static>(self, step: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            BlockingPool::Threads => tokio::task::spawn_blocking(step).await.ok(),
            BlockingPool::Inline => Some(step()),
        }
    }
}
