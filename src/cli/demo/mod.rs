//! `postrider demo`: a whole installation for twenty seconds, in this process and in a temporary directory.
//!
//! Invariant: every line of the story is read over the HTTP API of the started daemon, with a key, and none comes from
//! inside the process. After every end except SIGKILL the directory is removed.

pub(super) mod scratch;
mod stage;
mod story;
mod watch;

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::Exit;
use super::listen::Stop;
use super::screen::{Format, Output, Screen};
use scratch::Scratch;
use stage::Stage;
use watch::Watch;

/// Time that the daemon has for current requests when the demo ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between two reads of the API.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// See all of it in twenty seconds: a daemon, two receivers, events delivered, failed and retried
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider demo
  postrider demo --keep          stay until Ctrl-C

Everything is kept in a temporary directory, which is removed at the end.")]
pub struct Demo {
    /// Stay until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// End after this many seconds
    #[arg(long, hide = true, default_value_t = 20, value_name = "SECONDS")]
    seconds: u64,
}

impl Demo {
    pub fn run(self) -> Result<(), Exit> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
        let entered = runtime.enter();
        // Before the directory exists, so that no signal falls between its creation and the handler that removes it.
        let stop = Stop::new()?;
        let scratch = Scratch::new("demo")?;
        drop(entered);
        let ended = runtime.block_on(self.play(&scratch, stop));
        // After the last thread that may still write.
        runtime.shutdown_timeout(Duration::from_secs(1));
        let removed = scratch.remove();
        ended.and(removed)
    }

    async fn play(&self, scratch: &Scratch, mut stop: Stop) -> Result<(), Exit> {
        let stage = tokio::select! {
            stage = Stage::set(scratch.path()) => stage?,
            () = stop.asked() => return Ok(()),
        };
        let screen = Output { output: Format::Table, full: false }.screen();
        let ended = tokio::select! {
            ended = self.run_story(&stage, screen) => ended,
            () = stop.asked() => Ok(()),
        };
        stage.strike(STOP_TIMEOUT).await;
        ended
    }

    /// Tells the story, then the figures, then the actions of a second shell, until the time is up.
    async fn run_story(&self, stage: &Stage, screen: Screen) -> Result<(), Exit> {
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let client = stage.client()?;
        screen.text(story::opening(stage, screen.paint))?;
        let mut watch = Watch::new(stage.signature_checks());
        let mut story = story::Story::default();
        let mut figures_shown_at = None;
        loop {
            let news = watch.poll(&client).await?;
            for line in &news {
                screen.text(line.text(screen.paint))?;
            }
            story.go_on(&client, &watch).await?;
            let is_over = !self.keep && Instant::now() + LOOK_EVERY >= end;
            if figures_shown_at.is_none() && story.is_complete(&watch) {
                figures_shown_at = Some(watch.shown_lines());
                story::figures(&client, &watch, screen).await?;
                screen.text(story::closing(stage, (!self.keep).then(|| end - Instant::now())))?;
            } else if is_over {
                // Events and attempts that a second shell caused.
                if figures_shown_at != Some(watch.shown_lines()) {
                    story::figures(&client, &watch, screen).await?;
                }
                return Ok(());
            }
            let next = Instant::now() + LOOK_EVERY;
            sleep_until(if self.keep { next } else { next.min(end) }).await;
        }
    }
}
