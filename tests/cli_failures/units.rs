//! The packaged systemd units against the program: a start that cannot succeed is not repeated for ever.

use std::collections::HashMap;
use std::net::TcpListener;

use crate::support::process::refused;

const SERVICE: &str = include_str!("../../packaging/systemd/postrider.service");
const FOLLOW: &str = include_str!("../../packaging/systemd/postrider-follow.service");
const BACKUP: &str = include_str!("../../packaging/systemd/postrider-backup.service");
const OPERATING: &str = include_str!("../../docs/operating.md");
const EXIT: &str = include_str!("../../src/cli/exit.rs");
/// Maximum seconds that a start of the service takes until it fails.
const START_S: u64 = 10;

/// The assignments of one section. A repeated key replaces the earlier one.
fn section<'a>(unit: &'a str, wanted: &str) -> HashMap<&'a str, &'a str> {
    let (mut found, mut current) = (HashMap::new(), "");
    for line in unit.lines().filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = name;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| current == wanted) {
            found.insert(key, value);
        }
    }
    found
}

fn seconds(unit: &HashMap<&str, &str>, key: &str) -> u64 {
    let value = unit.get(key).unwrap_or_else(|| panic!("no {key}"));
    value.parse().unwrap_or_else(|_| panic!("{key}={value}"))
}

fn prevented(unit: &str) -> Vec<i32> {
    let service = section(unit, "Service");
    service["RestartPreventExitStatus"].split(' ').map(|code| code.parse().expect("a code")).collect()
}

/// Starts are counted within the interval, so the burst must fit into it with the pauses between (systemd.unit(5)).
#[test]
fn the_services_start_limit_can_be_reached() {
    let (unit, service) = (section(SERVICE, "Unit"), section(SERVICE, "Service"));
    assert_eq!(service["Restart"], "on-failure");
    let burst = seconds(&unit, "StartLimitBurst");
    let taken = burst * (seconds(&service, "RestartSec") + START_S);
    assert!(taken < seconds(&unit, "StartLimitIntervalSec"), "{burst} starts take {taken} s");
    // The follower waits for a daemon for ever, as its unit says.
    assert_eq!(seconds(&section(FOLLOW, "Unit"), "StartLimitIntervalSec"), 0);
}

#[test]
fn a_start_that_cannot_succeed_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (variable, value, code) in [
        ("POSTRIDER_LISTEN", &*address, 71),
        ("POSTRIDER_METRICS__LISTEN", &*address, 71),
        ("POSTRIDER_LISTEN", "x", 78),
    ] {
        let (ended, said) = refused(&data, &log, &[(variable, value)]);
        assert_eq!(ended, code, "{variable}: {said}");
        assert!(prevented(SERVICE).contains(&ended), "{variable}: {said}");
    }
    assert!(prevented(FOLLOW).contains(&78));
}

#[test]
fn the_page_for_operators_has_every_exit_code_and_those_that_end_the_restarts() {
    let codes = EXIT.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": u8 = "));
    let codes: Vec<&str> = codes.map(|(_, code)| code.trim_end_matches(';')).collect();
    assert!(codes.len() > 8, "{codes:?}");
    for code in codes {
        assert!(OPERATING.contains(&format!("\n| {code} | ")), "{code} has no row");
    }
    let codes: Vec<String> = prevented(SERVICE).iter().map(i32::to_string).collect();
    let (last, others) = codes.split_last().expect("codes");
    let words = format!("does not restart the service after {} and {last},", others.join(", "));
    assert!(OPERATING.contains(&words), "{words}");
}

#[test]
fn no_unit_dumps_its_keys_and_the_service_starts_after_the_clock() {
    for unit in [SERVICE, FOLLOW, BACKUP] {
        assert_eq!(section(unit, "Service").get("LimitCORE"), Some(&"0"));
    }
    assert!(section(SERVICE, "Unit")["After"].split(' ').any(|unit| unit == "time-sync.target"));
}
