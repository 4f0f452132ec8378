//! `postrider cluster`: begins a cluster with the store of this machine, and shows its nodes.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, SettingsFlags, screen::Output};
use crate::daemon::cluster::{init, leave, rebase};
use crate::daemon::standby::ENDED;
use crate::engine::cluster_lease::MemberRow;

/// Run two or more machines as one, with the order of commits in PostgreSQL
#[derive(Args, Debug)]
pub struct Cluster {
    #[command(subcommand)]
    verb: ClusterVerb,
}

#[derive(Subcommand, Debug)]
enum ClusterVerb {
    Init(ClusterInit),
    Status(ClusterStatus),
    Leave(ClusterLeave),
    Rebase(ClusterRebase),
}

/// Begin a cluster with the stopped store of this machine; the database in cluster.log has none yet
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider cluster init
  postrider cluster init --data-dir /srv/postrider

See docs/cluster.md.")]
struct ClusterInit {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

/// Show the nodes of the cluster, the owner, and how far each has come
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider cluster status
  postrider cluster status -o json")]
struct ClusterStatus {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

/// End the cluster with the stopped store of this machine, which is by itself again; all other nodes are stopped
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider cluster leave
  postrider cluster leave --data-dir /srv/postrider

See docs/cluster.md.")]
struct ClusterLeave {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

/// Let the log go on from the stopped store of this machine, because PostgreSQL has forgotten commits that all nodes have
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider cluster rebase
  postrider cluster rebase --data-dir /srv/postrider

Run it on the node with the most commits: postrider cluster status shows them. Nodes with other commits copy this store.
See docs/cluster.md.")]
struct ClusterRebase {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
    /// Give up the commits that PostgreSQL or another node has and this store lacks
    #[arg(long)]
    accept_loss: bool,
}

impl Cluster {
    pub fn run(&self) -> Result<(), Exit> {
        match &self.verb {
            ClusterVerb::Init(verb) => verb.run(),
            ClusterVerb::Status(verb) => verb.run(),
            ClusterVerb::Leave(verb) => verb.run(),
            ClusterVerb::Rebase(verb) => verb.run(),
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| Exit::failed(format!("cannot start: {error}")))
}

impl ClusterInit {
    fn run(&self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let settings = self.settings.load_for_store()?;
        let commit = init::init(&settings, runtime()?.handle())?;
        if screen.is_json() {
            return screen.text(json!({ "commit": commit }).to_string());
        }
        screen.text(format!(
            "this store begins the cluster, with every commit up to {commit}; start it with postrider serve"
        ))
    }
}

impl ClusterLeave {
    fn run(&self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let settings = self.settings.load_for_store()?;
        let commit = leave::leave(&settings, runtime()?.handle())?;
        if screen.is_json() {
            return screen.text(json!({ "commit": commit }).to_string());
        }
        screen.text(format!(
            "this store is by itself again, with every commit up to {commit}, and the cluster has ended; remove cluster.log \
             from the settings and start it with postrider serve; `drop schema postrider cascade` removes the log from the \
             database"
        ))
    }
}

impl ClusterRebase {
    fn run(&self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let settings = self.settings.load_for_store()?;
        let commit = rebase::rebase(&settings, runtime()?.handle(), self.accept_loss)?;
        if screen.is_json() {
            return screen.text(json!({ "commit": commit }).to_string());
        }
        screen.text(format!("the log goes on from this store, behind commit {commit}; start it with postrider serve"))
    }
}

impl ClusterStatus {
    fn run(&self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let settings = self.settings.load_for_store()?;
        let (cluster, members, is_synchronous) = runtime()?.block_on(init::status(&settings))?;
        if screen.is_json() {
            let nodes: Vec<_> = members.iter().map(node_json).collect();
            return screen.text(
                json!({ "nodes": nodes, "synchronous": is_synchronous, "ended": cluster.has_ended }).to_string(),
            );
        }
        let mut lines: Vec<String> = members.iter().map(node_line).collect();
        let options: Vec<i64> = members.iter().map(|row| row.member.options).collect();
        if options.windows(2).any(|pair| pair[0] != pair[1]) {
            lines.push("warning: retention and idempotency_window are not the same on all nodes".to_owned());
        }
        if cluster.has_ended {
            lines.push(format!("warning: {ENDED}"));
        }
        if !is_synchronous {
            lines.push(
                "warning: PostgreSQL has no synchronous_standby_names, so its failover may lose commits".to_owned(),
            );
        }
        screen.text(lines.join("\n"))
    }
}

fn node_json(row: &MemberRow) -> serde_json::Value {
    json!({
        "node": row.member.node, "url": row.member.url, "version": row.member.version, "owner": row.is_owner,
        "applied": row.applied, "seen_s": row.seen_s,
    })
}

fn node_line(row: &MemberRow) -> String {
    let part = if row.is_owner { "owner" } else { "standby" };
    let member = &row.member;
    format!(
        "{} {part} {} version {} commit {} seen {:.0} s ago",
        member.node, member.url, member.version, row.applied, row.seen_s
    )
}
