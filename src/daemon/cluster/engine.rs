//! The engine of a cluster by the settings: its log and its lease.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::daemon::DaemonError;
use crate::engine::cluster_lease::{Leases, Member};
use crate::store::admin::{CommitLog, LogMark};

/// Minimum time for which the log retains a record.
pub const KEEP: Duration = Duration::from_secs(86_400);

/// The engine of a cluster.
#[derive(Clone)]
pub struct ClusterEngine {
    pub log: Arc<dyn CommitLog>,
    pub leases: Arc<dyn Leases>,
}

/// This node as the others see it.
///
/// # Errors
/// A setting is missing.
pub fn member(settings: &Settings) -> Result<Member, DaemonError> {
    let Some(url) = settings.cluster.url.clone() else {
        let words = "cluster.log needs cluster.url too: the URL of this node's API for the other nodes";
        return Err(DaemonError::Settings(words.to_owned()));
    };
    let options = [settings.retention_ms, settings.idempotency_window_ms];
    let bytes: Vec<u8> = options.iter().flat_map(|option| option.to_le_bytes()).collect();
    Ok(Member {
        node: settings.cluster.node.clone().unwrap_or_else(|| url.clone()),
        url,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        options: i64::from(crc32fast::hash(&bytes)),
    })
}

/// The engine of the settings. Must be called within the runtime.
///
/// # Errors
/// The settings name no engine or cannot be used, or this program was built without PostgreSQL.
pub fn connect(settings: &Settings) -> Result<ClusterEngine, DaemonError> {
    let Some(url) = &settings.cluster.log else {
        let words = "cluster.log is not set: it names the PostgreSQL database of a cluster (docs/cluster.md)";
        return Err(DaemonError::Settings(words.to_owned()));
    };
    open(url.expose(), member(settings)?)
}

#[cfg(feature = "postgres")]
fn open(url: &str, me: Member) -> Result<ClusterEngine, DaemonError> {
    use crate::engine::postgres::{Connect, PostgresLease, PostgresLog};
    let connect = Connect::of(url).map_err(|why| DaemonError::Settings(format!("cluster.log {why}")))?;
    let leases = Arc::new(PostgresLease::new(connect.clone(), me));
    Ok(ClusterEngine { log: Arc::new(PostgresLog::new(connect)), leases })
}

#[cfg(not(feature = "postgres"))]
fn open(_: &str, _: Member) -> Result<ClusterEngine, DaemonError> {
    Err(without_postgres())
}

/// Makes the tables in the engine of the settings, and begins the log with a store's last commit.
///
/// # Errors
/// The engine does not answer or has a cluster already, or this program was built without PostgreSQL.
#[cfg(feature = "postgres")]
pub async fn begin(settings: &Settings, store: &str, last: LogMark) -> Result<(), DaemonError> {
    use crate::engine::postgres;
    Ok(postgres::begin(&reach(settings)?, store, last).await?)
}

/// Makes the tables that the engine of the settings lacks.
///
/// # Errors
/// The engine does not answer, or this program was built without PostgreSQL.
#[cfg(feature = "postgres")]
pub async fn make_tables(settings: &Settings) -> Result<(), DaemonError> {
    use crate::engine::postgres;
    Ok(postgres::make_tables(&reach(settings)?).await?)
}

/// Begins the log of the engine of the settings anew with a store's last commit, and takes its lease for `node`. Returns the
/// term. `None` if the lease of another node runs, the cluster has ended, or the log is of another store.
///
/// # Errors
/// The engine does not answer, or this program was built without PostgreSQL.
#[cfg(feature = "postgres")]
pub async fn begin_again(
    settings: &Settings,
    store: &str,
    node: &str,
    last: LogMark,
) -> Result<Option<u64>, DaemonError> {
    use crate::engine::postgres;
    Ok(postgres::begin_again(&reach(settings)?, store, node, last).await?)
}

/// The way to the engine of the settings.
#[cfg(feature = "postgres")]
fn reach(settings: &Settings) -> Result<crate::engine::postgres::Connect, DaemonError> {
    let url = settings.cluster.log.as_ref().map(|url| url.expose()).unwrap_or_default();
    crate::engine::postgres::Connect::of(url).map_err(|why| DaemonError::Settings(format!("cluster.log {why}")))
}

/// Refuses: this program was built without PostgreSQL.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn begin(_: &Settings, _: &str, _: LogMark) -> Result<(), DaemonError> {
    Err(without_postgres())
}

/// Refuses: this program was built without PostgreSQL.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn make_tables(_: &Settings) -> Result<(), DaemonError> {
    Err(without_postgres())
}

/// Refuses: this program was built without PostgreSQL.
///
/// # Errors
/// Always.
#[cfg(not(feature = "postgres"))]
pub async fn begin_again(_: &Settings, _: &str, _: &str, _: LogMark) -> Result<Option<u64>, DaemonError> {
    Err(without_postgres())
}

#[cfg(not(feature = "postgres"))]
fn without_postgres() -> DaemonError {
    DaemonError::Settings(
        "cluster.log: this program was built without the feature postgres; the packages have it".into(),
    )
}
