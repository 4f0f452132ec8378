//! Verbs that go on for ever outlive a restart of the daemon: they ask again until it answers.

use std::time::Duration;

use super::{Exit, screen};

/// Time before the first repetition; each further one waits twice as long.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The answer of `ask`, asked again while the daemon is away or busy. Says on stderr that it is away, and that it is back.
///
/// # Errors
/// Failures that another request does not cure, such as a revoked key.
pub async fn until_answered<T>(mut ask: impl AsyncFnMut() -> Result<T, Exit>) -> Result<T, Exit> {
    let mut wait = None;
    loop {
        match ask().await {
            Ok(answer) => {
                if wait.is_some() {
                    screen::note("connected again\n");
                }
                return Ok(answer);
            }
            Err(exit) if exit.is_passing() => {
                if wait.is_none() {
                    screen::note(&format!("{}; trying again\n", exit.message()));
                }
                let next = wait.map_or(WAIT_MIN, |wait: Duration| wait.saturating_mul(2).min(WAIT_MAX));
                wait = Some(next);
                tokio::time::sleep(next).await;
            }
            Err(exit) => return Err(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_is_away_is_asked_until_it_is_back() {
        let mut asked = 0;
        let answer = until_answered(async || {
            asked += 1;
            match asked {
                1 => Err(Exit::unreachable("gone")),
                2..9 => Err(Exit::failed("busy").with_status(503)),
                _ => Ok(asked),
            }
        });
        assert_eq!(answer.await.expect("an answer"), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final() {
        let mut asked = 0;
        let answer = until_answered(async || {
            asked += 1;
            Err::<(), _>(Exit::failed("unauthorized").with_status(401))
        });
        assert_eq!(answer.await.map_err(|exit| exit.status), Err(Some(401)));
        assert_eq!(asked, 1);
    }
}
