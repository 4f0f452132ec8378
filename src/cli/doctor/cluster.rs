//! Checks of the cluster: whether its database is reached, confirms a commit on a second machine, and has nodes that agree.

use super::finding::Finding;
use crate::config::Settings;
use crate::daemon::cluster::init;
use crate::daemon::standby::ENDED;
use crate::engine::cluster_lease::MemberRow;
use crate::rules::tenure::LEASE;

const CHECK: &str = "cluster";

/// Nothing without `cluster.log`. The settings are those of the files, because the running daemon masks the URL.
pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    if settings.cluster.log.is_none() {
        return Vec::new();
    }
    match init::status(settings).await {
        Ok((cluster, _, _)) if cluster.has_ended => {
            vec![Finding::fail(CHECK, ENDED.to_owned(), "follow docs/cluster.md, at Leave")]
        }
        Ok((_, members, is_synchronous)) => findings_of(&members, is_synchronous),
        Err(error) => {
            let fix = "look at PostgreSQL and at the network between, or mend cluster.log and restart the daemon";
            vec![Finding::fail(CHECK, error.to_string(), fix)]
        }
    }
}

fn findings_of(members: &[MemberRow], is_synchronous: bool) -> Vec<Finding> {
    let mut findings = vec![match is_synchronous {
        true => Finding::ok(CHECK, "PostgreSQL confirms a commit once a second machine has it".to_owned()),
        false => Finding::warn(
            CHECK,
            "PostgreSQL has no synchronous_standby_names: its failover may lose acknowledged events".to_owned(),
            "give PostgreSQL a synchronous replica and set synchronous_standby_names",
        ),
    }];
    let alive: Vec<&MemberRow> = members.iter().filter(|row| row.seen_s < LEASE.as_secs_f64()).collect();
    let names = |rows: &[&MemberRow]| rows.iter().map(|row| row.member.node.as_str()).collect::<Vec<_>>().join(", ");
    if !alive.iter().any(|row| row.is_owner) {
        let detail = format!("no node owns the store; alive: {}", names(&alive));
        findings.push(Finding::fail(CHECK, detail, "start the nodes; the log of each says why it does not take over"));
    } else if alive.len() < 2 {
        let detail = format!("only {} is alive: no node can take over", names(&alive));
        findings.push(Finding::warn(CHECK, detail, "start another node (docs/cluster.md)"));
    }
    for (is_equal, words) in [
        (is_one(alive.iter().map(|row| row.member.options)), "retention and idempotency_window"),
        (is_one(alive.iter().map(|row| row.member.version.as_str())), "the version of Postrider"),
    ] {
        if !is_equal {
            let detail = format!("{words} are not the same on {}", names(&alive));
            findings.push(Finding::warn(CHECK, detail, "make them equal, and restart the nodes one by one"));
        }
    }
    findings
}

/// Whether all values are equal.
fn is_one<T: PartialEq>(mut values: impl Iterator<Item = T>) -> bool {
    let first = values.next();
    values.all(|value| Some(value) == first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Grade;
    use crate::engine::cluster_lease::Member;

    fn row(node: &str, is_owner: bool, seen_s: f64) -> MemberRow {
        let member = Member {
            node: node.to_owned(),
            url: format!("https://{node}.example.com"),
            version: "0.1.0".to_owned(),
            options: 7,
        };
        MemberRow { member, applied: 5, seen_s, is_owner }
    }

    fn grades(members: &[MemberRow], is_synchronous: bool) -> Vec<Grade> {
        findings_of(members, is_synchronous).iter().map(|finding| finding.grade).collect()
    }

    #[test]
    fn two_living_nodes_on_a_synchronous_database_are_well() {
        assert_eq!(grades(&[row("a", true, 1.0), row("b", false, 1.0), row("old", false, 900.0)], true), [Grade::Ok]);
    }

    #[test]
    fn a_cluster_that_is_not_safe_is_reported() {
        assert_eq!(grades(&[row("a", true, 1.0), row("b", false, 1.0)], false), [Grade::Warn]);
        assert_eq!(grades(&[row("a", true, 1.0), row("b", false, 60.0)], true), [Grade::Ok, Grade::Warn]);
        assert_eq!(grades(&[row("a", false, 1.0), row("b", false, 1.0)], true), [Grade::Ok, Grade::Fail]);
        let mut other = row("b", false, 1.0);
        (other.member.options, other.member.version) = (8, "0.2.0".to_owned());
        let found = findings_of(&[row("a", true, 1.0), other], true);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].detail.ends_with("not the same on a, b"), "{found:?}");
    }

    #[tokio::test]
    async fn a_store_by_itself_has_no_cluster_to_look_at() {
        assert!(check(&Settings::default()).await.is_empty());
    }
}
