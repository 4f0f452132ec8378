//! The answer that all requests of one route share.
//!
//! Invariants: at most one run of the handler is under way. A request gets the answer of a run that began after it came, so
//! no answer is older than its request. No request is refused, however many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::api::response::HttpResponse;

/// The answer of one route.
pub(super) struct SharedAnswer {
    /// Number of runs that have begun.
    begun: AtomicU64,
    /// The last run that has ended, by its number, and its answer. Its lock is held while its reader waits for a run.
    last: Mutex<Option<(u64, HttpResponse)>>,
    /// The place of the one run. It outlasts a request that is gone.
    place: Arc<Semaphore>,
}

impl Default for SharedAnswer {
    fn default() -> Self {
        SharedAnswer { begun: AtomicU64::new(0), last: Mutex::default(), place: Arc::new(Semaphore::new(1)) }
    }
}

impl SharedAnswer {
    /// The answer of a run that begins from now on. `run` makes one if no other request does, and drops its place once it has
    /// ended.
    ///
    /// # Errors
    /// Those of `run`.
    pub async fn get<E>(
        &self,
        run: impl AsyncFnOnce(Option<OwnedSemaphorePermit>) -> Result<HttpResponse, E>,
    ) -> Result<HttpResponse, E> {
        let before = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if let Some((_, response)) = last.as_ref().filter(|(number, _)| *number > before) {
            return Ok(response.clone());
        }
        // The semaphore is never closed.
        let place = self.place.clone().acquire_owned().await.ok();
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let response = run(place).await?;
        *last = Some((number, response.clone()));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use http::StatusCode;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn requests_that_wait_share_one_run_that_began_after_they_came() {
        let (shared, runs, gate) =
            (Arc::new(SharedAnswer::default()), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (shared, runs, gate) = (shared.clone(), runs.clone(), gate.clone());
            tokio::spawn(async move {
                let run = async |_place| {
                    let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.expect("open").forget();
                    Ok::<_, Infallible>(HttpResponse::empty(StatusCode::OK).with(http::header::AGE, run.into()))
                };
                shared.get(run).await.map(|response| response.headers[http::header::AGE].clone())
            })
        };
        let first = ask();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The first run has begun, so its answer may be older than these requests.
        let later: Vec<_> = (0..1_000).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(2);
        assert_eq!(first.await.expect("an end").expect("an answer"), "1");
        for request in later {
            assert_eq!(request.await.expect("an end").expect("an answer"), "2");
        }
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
