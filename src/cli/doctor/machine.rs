//! Checks of the machine: disk space and its use, the duration of a sync, the clock, name servers, the trust store, and
//! the limit of open files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::Site;
use super::finding::Finding;
use crate::cli::moment::{now_ms, rfc3339};
use crate::model::EventId;
use crate::model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::rules::descriptors::{client_connections_max, descriptors_wanted};
use crate::rules::durations;

/// Number of syncs that are measured.
const SYNCS: usize = 16;
const SYNC_BYTES: usize = 4_096;
/// Median duration above which every publish is slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);
const SYNC_TOO_SLOW: Duration = Duration::from_millis(200);
/// Space below this many times `min_free_bytes` gets a warning.
const SPARE_FLOORS: u64 = 4;
/// Minimum age of a store from which its growth is estimated.
const GROWTH_MS_MIN: i64 = HOUR_MS;

pub(super) async fn check(site: &Site) -> Vec<Finding> {
    let stored = Stored::of(&site.data_dir);
    let mut findings = Vec::new();
    let free = rustix::fs::statvfs(&site.data_dir).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize));
    if let Some(free) = free {
        findings.push(space(free, site.settings.min_free_bytes));
        findings.extend(growth(&stored, free, site.settings.retention_ms, now_ms()));
    }
    findings.extend(syncs(&site.data_dir).await);
    findings.push(clock(&stored, now_ms()));
    findings.push(name_servers(fs::read_to_string("/etc/resolv.conf").ok().as_deref()));
    findings.push(trust_store(rustls_native_certs::load_native_certs().certs.len()));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    findings.extend(descriptors(&limits, site.settings.delivery.max_in_flight));
    findings
}

/// Facts from the names and sizes of the files, which are not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stored {
    bytes: u64,
    /// Times at which the oldest and the newest partition began, from their names.
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// Time of the latest change of a file.
    changed_ms: Option<i64>,
}

impl Stored {
    fn of(data_dir: &Path) -> Stored {
        let mut stored = Stored::default();
        for dir in [data_dir.to_owned(), data_dir.join("partitions")] {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_file() {
                    stored.bytes += metadata.len();
                    let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                    stored.changed_ms = stored.changed_ms.max(changed.map(|since| since.as_millis() as i64));
                }
                let began = entry.file_name().to_str().and_then(began_ms);
                stored.oldest_ms = [stored.oldest_ms, began].into_iter().flatten().min();
                stored.newest_ms = stored.newest_ms.max(began);
            }
        }
        stored
    }
}

/// A partition is named by its first id, which begins with its time.
fn began_ms(file_name: &str) -> Option<i64> {
    let id: EventId = file_name.strip_suffix(".redb")?.parse().ok()?;
    Some(id.time().0)
}

fn space(free: u64, floor: u64) -> Finding {
    const CHECK: &str = "disk_space";
    let detail = format!("{} free; min_free_bytes is {}", bytes(free), bytes(floor));
    let fix = "free space on the disk of data_dir, give it a larger one, or shorten the retention";
    if free < floor {
        Finding::fail(CHECK, format!("the disk is full: {detail}. New events are refused (507); deliveries go on"), fix)
    } else if free < floor.saturating_mul(SPARE_FLOORS) {
        Finding::warn(CHECK, detail, fix)
    } else {
        Finding::ok(CHECK, detail)
    }
}

/// Whether the events until the end of the retention find space. Afterwards the store does not grow, because files are
/// dropped as fast as they are made.
fn growth(stored: &Stored, free: u64, retention_ms: i64, now_ms: i64) -> Option<Finding> {
    const CHECK: &str = "disk_growth";
    let span_ms = now_ms - stored.oldest_ms?;
    if span_ms < GROWTH_MS_MIN {
        return Some(Finding::ok(CHECK, format!("{} stored; too young to say how it grows", bytes(stored.bytes))));
    }
    let a_day = (u128::from(stored.bytes) * DAY_MS as u128 / span_ms as u128) as u64;
    let left_ms = (retention_ms - span_ms).max(0);
    let to_come = (u128::from(stored.bytes) * left_ms as u128 / span_ms as u128) as u64;
    let detail = format!(
        "{} stored, {} a day, {} to come before the retention ends",
        bytes(stored.bytes),
        bytes(a_day),
        bytes(to_come)
    );
    Some(match to_come > free {
        true => {
            let days = free / a_day.max(1);
            let detail = format!("{detail}: at this rate the disk is full in {days} days");
            Finding::warn(CHECK, detail, "give data_dir a larger disk, or shorten the retention")
        }
        false => Finding::ok(CHECK, detail),
    })
}

/// Writes and syncs a small file, as every commit does. `None` if the directory is not writable.
async fn syncs(data_dir: &Path) -> Option<Finding> {
    let file = data_dir.join("doctor.tmp");
    let open = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&file);
    let mut open = match open {
        Ok(open) => open,
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            let fix = "free space on the disk of data_dir";
            return Some(Finding::fail("disk_sync", format!("the disk is full: {error}"), fix));
        }
        Err(_) => return None,
    };
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        let written = open.write_all(&[0; SYNC_BYTES]).and_then(|()| open.sync_data());
        if let Err(error) = written {
            let _ = fs::remove_file(&file);
            let fix = "look at the disk: dmesg, its health, its free space";
            return Some(Finding::fail("disk_sync", format!("a write was not kept: {error}"), fix));
        }
        took.push(began.elapsed());
    }
    // A leftover file only takes space, and the next doctor overwrites it.
    let _ = fs::remove_file(&file);
    took.sort();
    Some(sync_finding(took[SYNCS / 2], took[SYNCS - 1]))
}

fn sync_finding(median: Duration, longest: Duration) -> Finding {
    const CHECK: &str = "disk_sync";
    let ms = |took: Duration| format!("{:.1} ms", took.as_secs_f64() * 1_000.0);
    let detail = format!("a sync takes {} in the middle of {SYNCS}, {} at most", ms(median), ms(longest));
    let fix = "every publish waits for one: put data_dir on a local disk, and look for other programs that write to it";
    match median {
        slow if slow >= SYNC_TOO_SLOW => Finding::fail(CHECK, detail, fix),
        slow if slow >= SYNC_SLOW => Finding::warn(CHECK, detail, fix),
        _ => Finding::ok(CHECK, detail),
    }
}

/// A stored event cannot be from the future, and retention does not trust a clock that jumps far ahead of the store.
fn clock(stored: &Stored, now_ms: i64) -> Finding {
    const CHECK: &str = "clock";
    let now = rfc3339(now_ms);
    let newest = stored.newest_ms.max(stored.changed_ms);
    match newest {
        Some(newest) if newest - now_ms > MINUTE_MS => Finding::fail(
            CHECK,
            format!("it says {now}, and something was stored at {}: the clock is wrong, or was", rfc3339(newest)),
            "set the clock (timedatectl, chronyc tracking); signatures carry the time, and receivers refuse wrong ones",
        ),
        Some(newest) if now_ms - newest > DAY_MS => Finding::warn(
            CHECK,
            format!(
                "it says {now}, and nothing was stored for {}",
                durations::exact((now_ms - newest) / HOUR_MS * HOUR_MS)
            ),
            "if the daemon stood still for so long, all is well and `postrider doctor --accept-clock` lets retention go \
             on after its start; else set the clock",
        ),
        _ => Finding::ok(CHECK, format!("it says {now}, and nothing stored contradicts it")),
    }
}

fn name_servers(resolv_conf: Option<&str>) -> Finding {
    const CHECK: &str = "dns";
    let servers = |text: &str| {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim);
        lines.filter(|server| !server.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    match resolv_conf.map(servers) {
        Some(servers) if !servers.is_empty() => Finding::ok(CHECK, format!("asked of {}", servers.join(", "))),
        _ => Finding::warn(
            CHECK,
            "/etc/resolv.conf names no server: names are looked for on this machine only",
            "name a server there, if webhooks have host names",
        ),
    }
}

fn trust_store(authorities: usize) -> Finding {
    const CHECK: &str = "trust_store";
    match authorities {
        0 => Finding::warn(
            CHECK,
            "this machine has none: the authorities compiled in are believed",
            "apt install ca-certificates, so that the list is kept up to date",
        ),
        count => Finding::ok(CHECK, format!("{count} certificate authorities")),
    }
}

/// The hard limit of this process, to which a daemon started from here would raise its own. The metrics of a running
/// daemon have its own limit.
fn descriptors(limits: &str, in_flight_max: usize) -> Option<Finding> {
    const CHECK: &str = "open_files";
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let hard = line.split_whitespace().nth(1)?;
    // Only "unlimited" is no number.
    let limit: u64 = hard.parse().unwrap_or(u64::MAX);
    let wanted = descriptors_wanted(in_flight_max);
    let connections = client_connections_max(limit, in_flight_max);
    let detail = format!(
        "{hard} may be open from here, which allows {connections} connections of clients; {wanted} allow all of them"
    );
    let fix = format!(
        "start the daemon with more (ulimit -Hn {wanted}; the packaged unit sets LimitNOFILE), or lower delivery.max_in_flight"
    );
    Some(if limit < wanted { Finding::warn(CHECK, detail, fix) } else { Finding::ok(CHECK, detail) })
}

/// A size such as `1.5 GiB`, with one decimal.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.iter().find(|(shift, _)| count >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", count as f64 / (1u64 << shift) as f64),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Grade;

    const NOW: i64 = 1_772_704_800_000;

    #[test]
    fn space_is_compared_with_its_floor() {
        assert_eq!(space(99, 100).grade, Grade::Fail);
        assert_eq!(space(399, 100).grade, Grade::Warn);
        assert_eq!(space(400, 100).grade, Grade::Ok);
    }

    #[test]
    fn growth_counts_only_the_time_until_the_retention_ends() {
        let stored = Stored { bytes: 100, oldest_ms: Some(NOW - 10 * DAY_MS), ..Stored::default() };
        let growth_with =
            |free, retention_days| growth(&stored, free, retention_days * DAY_MS, NOW).expect("it has an age");
        assert_eq!(growth_with(200, 31).grade, Grade::Warn, "210 are to come");
        assert_eq!(growth_with(210, 31).grade, Grade::Ok);
        assert_eq!(growth_with(0, 10).grade, Grade::Ok, "files go as fast as they come");
        assert!(growth_with(200, 31).detail.contains("full in 20 days"), "{:?}", growth_with(200, 31));
        assert_eq!(growth(&Stored::default(), 0, DAY_MS, NOW), None);
    }

    #[test]
    fn a_clock_before_the_newest_row_is_wrong_and_one_long_after_it_doubtful() {
        let stored = |newest| Stored { newest_ms: Some(newest), ..Stored::default() };
        assert_eq!(clock(&stored(NOW + 2 * MINUTE_MS), NOW).grade, Grade::Fail);
        assert_eq!(clock(&stored(NOW - 2 * DAY_MS), NOW).grade, Grade::Warn);
        assert_eq!(clock(&stored(NOW - HOUR_MS), NOW).grade, Grade::Ok);
        assert_eq!(clock(&Stored::default(), NOW).grade, Grade::Ok);
        let touched = Stored { changed_ms: Some(NOW + DAY_MS), ..stored(NOW) };
        assert_eq!(clock(&touched, NOW).grade, Grade::Fail);
    }

    #[test]
    fn the_name_of_a_partition_has_its_time() {
        assert_eq!(began_ms("019cbd77-2f00-7000-8000-000000000000.redb"), Some(0x019c_bd77_2f00));
        assert_eq!(began_ms("state.redb"), None);
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("partitions")).expect("a folder");
        fs::write(folder.path().join("partitions/019cbd77-2f00-7000-8000-000000000000.redb"), "12345").expect("a file");
        let stored = Stored::of(folder.path());
        assert_eq!((stored.bytes, stored.oldest_ms), (5, Some(0x019c_bd77_2f00)));
        assert!(stored.changed_ms.is_some());
    }

    #[test]
    fn slow_syncs_missing_servers_and_low_limits_are_reported() {
        let ms = Duration::from_millis;
        assert_eq!(sync_finding(ms(1), ms(500)).grade, Grade::Ok);
        assert_eq!(sync_finding(ms(20), ms(20)).grade, Grade::Warn);
        assert_eq!(sync_finding(ms(200), ms(200)).grade, Grade::Fail);
        assert_eq!(name_servers(Some("search x\nnameserver 192.0.2.1\n")).detail, "asked of 192.0.2.1");
        assert_eq!(name_servers(Some("# nameserver\n")).grade, Grade::Warn);
        assert_eq!(name_servers(None).grade, Grade::Warn);
        assert_eq!(trust_store(0).grade, Grade::Warn);
        let limits = |hard: u32| format!("Max open files            1024                 {hard}              files");
        assert_eq!(descriptors(&limits(1_024), 1_000).map(|f| f.grade), Some(Grade::Warn));
        assert_eq!(descriptors(&limits(65_536), 1_000).map(|f| f.grade), Some(Grade::Ok));
        let few = descriptors(&limits(4_096), 1_000).expect("a limit").detail;
        assert!(few.starts_with("4096 may be open from here, which allows 2072 connections"), "{few}");
    }
}
