//! `postrider backup --follow` until it is stopped, and the generations that `postrider restore` lists.

use std::path::Path;
use std::sync::Arc;

use indicatif::HumanBytes;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit,
    moment::{self, Direction},
    on_this_thread,
    screen::Screen,
    table::{Column, number, text, time},
};
use crate::config::{Settings, duration_ms_of};
use crate::daemon::backup_repo::{self, Generation, RestorePoint};
use crate::daemon::follow::{FollowOptions, FollowProgress, StopSignal, follow};
use crate::model::time::HOUR_MS;

const COLUMNS: &[Column] = &[
    text("GENERATION", "generation"),
    number("FROM", "from"),
    time("AT", "from_at"),
    number("TO", "to"),
    time("AT", "to_at"),
    number("LOG BYTES", "log_bytes"),
    text("STATE", "state"),
];

/// Follows until SIGTERM or SIGINT, with a line for each event of the follower.
pub fn run(settings: Settings, wish: FollowOptions, screen: Screen) -> Result<(), Exit> {
    on_this_thread(async move {
        let mut term = signal(SignalKind::terminate()).map_err(|error| Exit::failed(error.to_string()))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Exit::failed(error.to_string()))?;
        let stop = Arc::new(StopSignal::default());
        let signal = stop.clone();
        let mut following = tokio::task::spawn_blocking(move || {
            // The follower goes on even if the reader of these lines has left.
            follow(&settings, &wish, &signal, &mut |news| drop(screen.text(line(&news, screen.is_json()))))
        });
        let ended = tokio::select! {
            ended = &mut following => ended,
            _ = term.recv() => { stop.set(); following.await }
            _ = interrupt.recv() => { stop.set(); following.await }
        };
        ended.map_err(|error| Exit::software(error.to_string()))?.map_err(Exit::from)
    })
}

fn line(news: &FollowProgress, as_json: bool) -> String {
    if as_json {
        return match news {
            FollowProgress::Begun(generation) => json!({ "news": "begun", "generation": generation }),
            FollowProgress::Whole(generation, point, progress) => json!({
                "news": "whole", "generation": generation, "commit": point.number, "at": point.at.to_string(),
                "files": progress.files, "bytes": progress.bytes,
            }),
            FollowProgress::Removed(generation) => json!({ "news": "removed", "generation": generation }),
            FollowProgress::Interrupted(why) => json!({ "news": "interrupted", "why": why }),
            FollowProgress::Resumed(last) => json!({ "news": "resumed", "commit": last.number }),
            FollowProgress::NoRoom { bytes } => json!({ "news": "no_room", "bytes": bytes }),
            FollowProgress::NoBase(why) => json!({ "news": "no_base", "why": why }),
        }
        .to_string();
    }
    match news {
        FollowProgress::Begun(generation) => format!("generation {generation:06} is begun"),
        FollowProgress::Whole(generation, point, progress) => format!(
            "generation {generation:06} is whole: {} files, {}; it follows from commit {} ({}) on",
            progress.files,
            HumanBytes(progress.bytes),
            point.number,
            point.at
        ),
        FollowProgress::Removed(generation) => format!("generation {generation:06} was removed"),
        FollowProgress::Interrupted(why) => {
            format!("interrupted: {why}; it goes on once the daemon answers")
        }
        FollowProgress::Resumed(last) => format!("it goes on after commit {}", last.number),
        FollowProgress::NoRoom { bytes } => format!(
            "the destination is full: nothing is followed until it has {} free; the generations in it stay good",
            HumanBytes(*bytes)
        ),
        FollowProgress::NoBase(why) => format!("no copy could be begun: {why}; trying again"),
    }
}

/// Reads a duration: `90m`, or a number of hours.
pub fn read_hours(text: &str) -> Result<std::time::Duration, String> {
    let hours = || text.parse::<i64>().ok()?.checked_mul(HOUR_MS);
    let ms = hours().or_else(|| duration_ms_of(text)).filter(|ms| *ms > 0);
    let ms = ms.and_then(|ms| u64::try_from(ms).ok());
    ms.map(std::time::Duration::from_millis)
        .ok_or_else(|| "no number of hours, or duration such as 90m or 7d".to_owned())
}

/// Reads a commit number or a moment (`cli::moment`).
pub fn read_at(text: &str) -> Result<RestorePoint, Exit> {
    if let Ok(number) = text.parse() {
        return Ok(RestorePoint::Number(number));
    }
    let written = moment::read("--at", text, Direction::Back, moment::now_ms())?;
    written.parse().map(RestorePoint::Time).map_err(|error| Exit::usage(format!("--at: {error}")))
}

/// Shows the generations of a directory and the time that each covers.
pub fn list(screen: Screen, root: &Path) -> Result<(), Exit> {
    if !backup_repo::is_one(root) {
        return Err(Exit::failed(format!("{}: no directory that --follow has made", root.display())));
    }
    let rows: Vec<Value> = backup_repo::generations(root)?.iter().map(row).collect();
    match screen.is_json() {
        true => rows.iter().try_for_each(|row| screen.text(row.to_string())),
        false => screen.table(COLUMNS, &rows).map(drop),
    }
}

fn row(generation: &Generation) -> Value {
    let outline = &generation.outline;
    let state = match (&outline.damage, outline.whole) {
        (Some(damage), _) => format!("damaged: {} {damage}", damage.segment),
        (None, None) => "not whole yet".to_owned(),
        (None, Some(_)) => "whole".to_owned(),
    };
    json!({
        "generation": format!("{:06}", generation.number),
        "from": outline.whole.map(|point| point.number),
        "from_at": outline.whole.map(|point| point.at.to_string()),
        "to": outline.whole.map(|_| outline.last.number),
        "to_at": outline.whole.map(|_| outline.last.at.to_string()),
        "log_bytes": outline.bytes,
        "state": state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use std::time::Duration;

    #[test]
    fn points_are_numbers_or_moments() {
        assert_eq!(read_at("17").ok(), Some(RestorePoint::Number(17)));
        assert_eq!(read_at("2026-11-22T03:29:00Z").ok(), Some(RestorePoint::Time(Time(1_795_318_140_000))));
        assert!(matches!(read_at("90m"), Ok(RestorePoint::Time(_))));
        assert_eq!(read_at("yesterday").map_err(|exit| exit.code()), Err(2));
    }

    #[test]
    fn hours_are_numbers_or_durations() {
        assert_eq!(read_hours("24"), Ok(Duration::from_secs(86_400)));
        assert_eq!(read_hours("90m"), Ok(Duration::from_secs(5_400)));
        assert!(["0", "-3", "soon", "9223372036854775807"].into_iter().all(|text| read_hours(text).is_err()));
    }
}
