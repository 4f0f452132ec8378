//! Checks of the running daemon: its readiness, its backlog, and its metrics.

use http::StatusCode;
use serde_json::Value;

use super::Site;
use super::finding::Finding;
use super::machine::bytes;
use crate::cli::client::{Call, Client, UNTRUSTED_HINT, has_failed_in_tls};
use crate::cli::moment::now_ms;
use crate::model::Time;
use crate::rules::durations;
use crate::store::admin::QUEUE_BYTES_MAX;

/// Lateness of the oldest due delivery above which the doctor warns.
const LATE_MS: i64 = 10 * 60_000;
/// Share of a limit above which the doctor warns.
const NEARLY: f64 = 0.8;
/// Seconds that a standby may be behind its owner.
const STANDBY_BEHIND_S: f64 = 60.0;

/// Checks whether the daemon answers, and accepts this key.
pub(super) async fn check(client: &Client, site: &Site, findings: &mut Vec<Finding>) -> bool {
    let ready = match client.peek("/readyz", None).await {
        Ok((_, body)) => serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        Err(error) if has_failed_in_tls(&error) => {
            findings.push(Finding::fail("daemon", error, UNTRUSTED_HINT));
            return false;
        }
        Err(error) => {
            let fix = "start it (systemctl start postrider, or `postrider serve`) and look at its log (journalctl -u \
                       postrider); if it runs elsewhere, give --url. --offline leaves this out";
            findings.push(Finding::fail("daemon", error, fix));
            return false;
        }
    };
    findings.extend(readiness(&ready));
    let is_node = site.settings.cluster.log.is_some();
    let key = site.settings.metrics.key.as_ref().map(|key| key.expose());
    if let Ok((StatusCode::OK, body)) = client.peek("/metrics", key).await {
        findings.extend(figures(&String::from_utf8_lossy(&body), is_node));
    }
    if stands_by(&ready) {
        // It answers nothing about deliveries and webhooks.
        return false;
    }
    match client.value(Call::get(&["stats"])).await {
        Ok(stats) => {
            findings.push(backlog(&stats, now_ms()));
            true
        }
        Err(exit) => {
            let said = exit.text();
            let said = said.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let fix = "give a key of yours with --token or POSTRIDER_TOKEN; the first one is in first-key of the data \
                       directory. Without it webhooks cannot be looked at";
            findings.push(Finding::fail("key", said, fix));
            false
        }
    }
}

/// The code of `/readyz` on a machine that stands by, which is unready while it is well.
const STANDBY: &str = "standby";

fn stands_by(ready: &Value) -> bool {
    ready["reasons"].as_array().is_some_and(|rows| rows.iter().any(|row| row["code"] == STANDBY))
}

fn readiness(ready: &Value) -> Vec<Finding> {
    let each = |name: &str| ready[name].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let finding = |reason: &Value| match text(reason, "code").as_str() {
        STANDBY => Finding::ok("daemon", text(reason, "detail")),
        code => Finding::fail("daemon", text(reason, "detail"), fix_of(code)),
    };
    let mut findings: Vec<Finding> = each("reasons").iter().map(finding).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("daemon", "it is ready"));
    }
    // The other warnings are about webhooks, which are told one by one.
    let checks = [
        ("clock_distrusted", "clock"),
        ("proxy_unreachable", "proxy"),
        ("proxy_credentials", "proxy"),
        ("sending_held_back", "sending"),
        ("standby_missing", "standby"),
        ("restored_copy", "copy"),
    ];
    for (code, check) in checks {
        let warning = each("warnings").into_iter().find(|row| row["code"] == code);
        findings.extend(warning.map(|row| Finding::fail(check, text(&row, "detail"), fix_of(code))));
    }
    findings
}

fn fix_of(code: &str) -> &'static str {
    match code {
        "disk_full" => "free space on the disk of data_dir; no restart is needed",
        "clock_distrusted" => "set the clock right (timedatectl), then `postrider doctor --accept-clock`",
        "standby_missing" => "bring the standby back, or set standby.required = false and reload (docs/standby.md)",
        "restored_copy" => "stop the other store for good, then stop this one, `postrider promote`, and start it again",
        "proxy_unreachable" => "look at the proxy and at the network between; the log says what failed",
        "proxy_credentials" => "mend the user and the password in delivery.proxy, then reload the daemon",
        "sending_held_back" => {
            "give the daemon what it lacks; no restart is needed, unless its limits are to be raised"
        }
        "storage_failing" => "read the log for the error (journalctl -u postrider -p err), and look at the disk",
        "queue_full" => "the disk does not keep up: look at disk_sync above, and for other programs that write to it",
        "log_unanswered" => {
            "look at the PostgreSQL of cluster.log: its log, the space on its disk, its synchronous replica"
        }
        "stopping" => "wait, or look why it was told to stop",
        _ => "read the log",
    }
}

/// Lateness of the oldest due delivery. Failing and paused webhooks are reported one by one.
fn backlog(stats: &Value, now_ms: i64) -> Finding {
    const CHECK: &str = "backlog";
    let waiting = stats["backlog"].as_u64().unwrap_or(0);
    let due = stats["oldest_due"].as_str().and_then(|text| text.parse::<Time>().ok());
    let late_ms = due.map_or(0, |due| now_ms - due.0).max(0);
    let detail = format!(
        "deliveries that are not final: {waiting}; the oldest due one is {} late",
        durations::exact(late_ms / 1_000 * 1_000)
    );
    match late_ms {
        0 => Finding::ok(CHECK, format!("deliveries that are not final: {waiting}; none is late")),
        late if late < LATE_MS => Finding::ok(CHECK, detail),
        _ => Finding::warn(
            CHECK,
            detail,
            "a paused or failing webhook holds back its own (see below); else raise delivery.max_in_flight, or the \
             webhook's own max_in_flight",
        ),
    }
}

/// Findings from the metrics of a machine, which may be a node of a cluster.
fn figures(text: &str, is_node: bool) -> Vec<Finding> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    let share = |of: &str, most: &str| Some((value(of)?, value(most)?)).filter(|(_, most)| *most > 0.0);
    let mut findings = Vec::new();
    if let Some(damaged) = value("postrider_rows_damaged_total").filter(|count| *count > 0.0) {
        let fix = "`postrider verify` names them; look at the disk and at memory, and restore a backup";
        findings.push(Finding::fail("rows", format!("{damaged} rows did not read back as they were written"), fix));
    }
    if let Some((used, most)) = share("postrider_in_flight", "postrider_in_flight_max").filter(|(a, b)| a >= b) {
        let fix = "receivers are slow: lower their timeout_ms, or raise delivery.max_in_flight";
        findings.push(Finding::warn("in_flight", format!("{used} of {most} requests are under way"), fix));
    }
    if let Some((used, most)) = share("postrider_publish_queue", "postrider_publish_queue_max")
        && used >= most * NEARLY
    {
        let fix = "the disk does not keep up: look at disk_sync above";
        findings.push(Finding::warn("publish_queue", format!("{used} of {most} publishes wait"), fix));
    }
    if let Some(followers) = value("postrider_backup_followers").filter(|count| *count > 0.0) {
        let behind = value("postrider_backup_follower_queue_bytes").unwrap_or(0.0);
        let cut = value("postrider_backup_followers_cut_total").unwrap_or(0.0);
        let waiting = bytes(behind as u64);
        let detail = format!("{followers} follow every commit; {waiting} wait for them; {cut} were cut off");
        findings.push(match cut > 0.0 || behind >= QUEUE_BYTES_MAX as f64 / 2.0 {
            true => Finding::warn("followers", detail, "the disk that `backup --follow` writes to does not keep up"),
            false => Finding::ok("followers", detail),
        });
    }
    findings.extend(standby(value, is_node));
    if let Some((used, most)) = share("postrider_client_connections", "postrider_client_connections_max") {
        let detail = format!("clients have {used} connections open of {most}");
        findings.push(match used >= most * NEARLY {
            true => Finding::warn("connections", detail, "raise LimitNOFILE of its unit, or look at who connects"),
            false => Finding::ok("connections", detail),
        });
    }
    if let Some((used, most)) = share("process_open_fds", "process_max_fds") {
        let detail = format!("the daemon has {used} open of {most}");
        findings.push(match used >= most * NEARLY {
            true => Finding::warn("open_files", detail, "raise LimitNOFILE of its unit (systemctl edit postrider)"),
            false => Finding::ok("open_files", detail),
        });
    }
    if let Some(resident) = value("process_resident_memory_bytes") {
        findings.push(Finding::ok("memory", format!("{} resident", bytes(resident as u64))));
    }
    findings
}

/// The finding about a standby, or a node of a cluster that stands by. `None` for an owner.
fn standby(value: impl Fn(&str) -> Option<f64>, is_node: bool) -> Option<Finding> {
    let behind = value("postrider_standby_behind_seconds")?;
    let commits = value("postrider_standby_behind_commits").unwrap_or(0.0);
    let is_well = value("postrider_standby_connected") == Some(1.0) && value("postrider_standby_whole") == Some(1.0);
    let detail = format!(
        "this is a standby, {commits} commits and {} behind its owner",
        durations::rough((behind * 1_000.0) as i64)
    );
    Some(match is_well && behind < STANDBY_BEHIND_S {
        true => Finding::ok("standby", detail),
        false => {
            let fix = match is_node {
                true => {
                    "look at PostgreSQL, the owner and the network between; the log says what failed (docs/cluster.md)"
                }
                false => {
                    "look at the owner and the network between; the log says what failed. If the owner is gone for good: \
                     `postrider promote` (docs/standby.md)"
                }
            };
            Finding::warn("standby", detail, fix)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::finding::Grade;

    #[test]
    fn every_reason_has_a_fix_of_its_own() {
        let codes = [
            "disk_full",
            "clock_distrusted",
            "proxy_unreachable",
            "proxy_credentials",
            "sending_held_back",
            "storage_failing",
            "queue_full",
            "log_unanswered",
            "stopping",
        ];
        let fixes: std::collections::BTreeSet<_> = codes.iter().map(|code| fix_of(code)).collect();
        assert_eq!(fixes.len(), codes.len());
        assert!(!fixes.contains(fix_of("something else")));
        let ready = json!({ "reasons": [{ "code": "disk_full", "detail": "the disk is full" }], "warnings": [] });
        let found = readiness(&ready);
        assert_eq!((found.len(), found[0].grade, found[0].detail.as_str()), (1, Grade::Fail, "the disk is full"));
        assert_eq!(readiness(&json!({ "reasons": [] }))[0].grade, Grade::Ok);
        let warning =
            |code: &str| json!({ "reasons": [], "warnings": [{ "code": code, "detail": "the clock jumped" }] });
        let found = readiness(&warning("clock_distrusted"));
        assert_eq!((found.len(), found[1].check, found[1].grade), (2, "clock", Grade::Fail));
        let found = readiness(&warning("proxy_unreachable"));
        assert_eq!((found.len(), found[1].check, found[1].grade), (2, "proxy", Grade::Fail));
        assert_eq!(readiness(&warning("webhooks_paused")).len(), 1);
    }

    #[test]
    fn a_machine_that_stands_by_is_well_and_only_a_standby_is_promoted() {
        let reason = |code: &str| json!({ "reasons": [{ "code": code, "detail": "d" }], "warnings": [] });
        assert!(stands_by(&reason("standby")) && !stands_by(&reason("disk_full")));
        assert_eq!(readiness(&reason("standby")), [Finding::ok("daemon", "d")]);
        let told = |connected: u8, is_node: bool| {
            let text = format!(
                "postrider_standby_behind_seconds 0\npostrider_standby_whole 1\npostrider_standby_connected {connected}\n"
            );
            figures(&text, is_node).pop().expect("a finding")
        };
        assert_eq!([told(1, false).grade, told(1, true).grade], [Grade::Ok, Grade::Ok]);
        for is_node in [false, true] {
            let lost = told(0, is_node);
            assert_eq!(lost.grade, Grade::Warn);
            assert_eq!(lost.fix.expect("a cure").contains("postrider promote"), !is_node);
        }
    }

    #[test]
    fn lateness_is_that_of_the_oldest() {
        let now = 1_772_704_800_000;
        let stats = |due: Value| json!({ "backlog": 7, "oldest_due": due });
        let grade = |due: Value| backlog(&stats(due), now).grade;
        assert_eq!(grade(Value::Null), Grade::Ok);
        assert_eq!(grade(json!(Time(now - LATE_MS + 1).to_string())), Grade::Ok);
        assert_eq!(grade(json!(Time(now - LATE_MS).to_string())), Grade::Warn);
    }

    #[test]
    fn unusual_metrics_are_reported() {
        let quiet = "postrider_rows_damaged_total 0\npostrider_in_flight 1\npostrider_in_flight_max 10\n\
            process_open_fds 10\nprocess_max_fds 1024\n\
            postrider_backup_followers 1\npostrider_backup_follower_queue_bytes 1000\n";
        assert!(figures(quiet, false).iter().all(|finding| finding.grade == Grade::Ok));
        let loud = "postrider_rows_damaged_total 1\npostrider_in_flight 10\npostrider_in_flight_max 10\n\
            postrider_publish_queue 80\npostrider_publish_queue_max 100\nprocess_open_fds 900\nprocess_max_fds 1024\n\
            postrider_backup_followers 1\n";
        for behind in ["postrider_backup_follower_queue_bytes 60000000\n", "postrider_backup_followers_cut_total 1\n"] {
            let found = figures(&format!("{loud}{behind}"), false);
            let grades: Vec<_> = found.iter().map(|finding| finding.grade).collect();
            assert_eq!(grades, [Grade::Fail, Grade::Warn, Grade::Warn, Grade::Warn, Grade::Warn], "{behind}");
        }
    }
}
