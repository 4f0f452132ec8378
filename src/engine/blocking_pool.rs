//! Where synchronous work runs: on threads beside the runtime, or, in a simulation with one thread, right here.

/// How reads and other synchronous steps are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlockingPool {
    #[default]
    Threads,
    Inline,
}

impl BlockingPool {
    /// Runs `step` and gives what it gave. None: it panicked.
    pub async fn run<T: Send + 'static>(self, step: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            BlockingPool::Threads => tokio::task::spawn_blocking(step).await.ok(),
            BlockingPool::Inline => Some(step()),
        }
    }
}
