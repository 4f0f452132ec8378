//! The tables of a cluster, and the first record of its log.

use super::{ANSWER_MAX, Connect, LONG_ANSWER_MAX, SHARD, in_time, unreachable};
use crate::rules::tenure::LEASE;
use crate::store::admin::{LogMark, LogUnreachable};

/// The tables. The column `epoch` has the term of an owner. A record's body is a zstd frame, which PostgreSQL neither
/// compresses again nor reads in parts.
const TABLES: &str = "
create schema if not exists postrider;
create table if not exists postrider.shard (
    shard int2 primary key, store text not null, epoch int8 not null, node text, until timestamptz not null);
create table if not exists postrider.member (
    shard int2, node text, url text not null, version text not null, options int8 not null,
    seen_at timestamptz not null, applied int8 not null, primary key (shard, node));
create table if not exists postrider.log (
    shard int2, number int8, epoch int8 not null, writer int8 not null, at timestamptz not null default now(),
    sum int8 not null, body bytea not null, primary key (shard, number));
alter table postrider.log alter column body set storage external;
";

const BEGIN_SHARD: &str = "insert into postrider.shard (shard, store, epoch, node, until) values ($1, $2, 0, null, now()) \
    on conflict do nothing";
const BEGIN_LOG: &str =
    "insert into postrider.log (shard, number, epoch, writer, sum, body) values ($1, $2, 0, $3, 0, '')";

/// Takes the lease unless it runs elsewhere, the cluster has ended, or the log is of another store. The end of a cluster counts
/// once the log has its fence.
const TAKE_SHARD: &str = "insert into postrider.shard as s (shard, store, epoch, node, until)
        values ($1, $2, 1, $3, now() + make_interval(secs => $4))
    on conflict (shard) do update set epoch = s.epoch + 1, node = excluded.node, until = excluded.until
        where s.store = $2 and (s.node is null or s.node = $3 or s.node <> '' and s.until < now() or s.node = ''
            and not exists (select 1 from postrider.log as l where l.shard = s.shard and l.epoch = s.epoch))
        returning epoch";
const EMPTY_LOG: &str = "delete from postrider.log where shard = $1";

/// Why no cluster begins in a database, and the cure.
const HAS_CLUSTER: &str = "the database of cluster.log has a cluster already: name another database, or end that cluster by \
    `postrider cluster leave` on one of its nodes, and then remove it by `drop schema postrider cascade` in psql";

/// Makes the tables that are missing.
///
/// # Errors
/// The engine does not answer, or refuses it.
pub async fn make_tables(connect: &Connect) -> Result<(), LogUnreachable> {
    let client = connect.client().await?;
    in_time(ANSWER_MAX, async { client.batch_execute(TABLES).await.map_err(unreachable) }).await
}

/// Begins the log anew with the last commit of the store named `store`, and takes its lease for `node`. Returns the term.
/// `None` if the lease of another node runs, the cluster has ended, or the log is of another store.
///
/// # Errors
/// The engine does not answer.
pub async fn begin_again(
    connect: &Connect,
    store: &str,
    node: &str,
    last: LogMark,
) -> Result<Option<u64>, LogUnreachable> {
    let mut client = connect.client().await?;
    in_time(LONG_ANSWER_MAX, async {
        let transaction = client.transaction().await.map_err(unreachable)?;
        let lease_s = LEASE.as_secs_f64();
        let taken = transaction.query_opt(TAKE_SHARD, &[&SHARD, &store, &node, &lease_s]).await.map_err(unreachable)?;
        let Some(term) = taken.map(|row| row.get::<_, i64>(0) as u64) else { return Ok(None) };
        transaction.execute(EMPTY_LOG, &[&SHARD]).await.map_err(unreachable)?;
        let (number, writer) = (last.number as i64, last.writer as i64);
        transaction.execute(BEGIN_LOG, &[&SHARD, &number, &writer]).await.map_err(unreachable)?;
        transaction.commit().await.map_err(unreachable)?;
        Ok(Some(term))
    })
    .await
}

/// Makes the tables, and begins the log with the last commit of the store named `store`.
///
/// # Errors
/// The engine does not answer, or it has a cluster already.
pub async fn begin(connect: &Connect, store: &str, last: LogMark) -> Result<(), LogUnreachable> {
    let mut client = connect.client().await?;
    let begun = in_time(ANSWER_MAX, async {
        let transaction = client.transaction().await.map_err(unreachable)?;
        transaction.batch_execute(TABLES).await.map_err(unreachable)?;
        if transaction.execute(BEGIN_SHARD, &[&SHARD, &store]).await.map_err(unreachable)? == 0 {
            return Ok(false);
        }
        let (number, writer) = (last.number as i64, last.writer as i64);
        transaction.execute(BEGIN_LOG, &[&SHARD, &number, &writer]).await.map_err(unreachable)?;
        transaction.commit().await.map_err(unreachable)?;
        Ok(true)
    });
    match begun.await? {
        true => Ok(()),
        false => Err(LogUnreachable(HAS_CLUSTER.to_owned())),
    }
}
