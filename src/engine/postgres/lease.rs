//! The lease on a store, and the members of its cluster.
//!
//! Invariant: a lease is renewed in the statement that checks that it still runs, by the engine's clock. Taking it raises its
//! term, if the term is the one that was seen.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::{ANSWER_MAX, Connect, LONG_ANSWER_MAX, NO_CLUSTER, SHARD, in_time, unreachable};
use crate::engine::cluster_lease::{ClusterRow, HeartbeatAnswer, Leases, Member, MemberRow, Pending};
use crate::rules::tenure::{LEASE, LeaseHolder, ShownLease, trim_upto};
use crate::store::admin::LogUnreachable;

/// A member counts as alive for so long after its last heartbeat.
const ALIVE: Duration = LEASE;

/// Renews the lease that runs, says that the member lives, and shows both. `$6` is null if the member does not know its last
/// commit, and `$7` is the term that the member holds, or -1.
const HEARTBEAT: &str = "with me as (
        insert into postrider.member as m (shard, node, url, version, options, seen_at, applied)
            values ($1, $2, $3, $4, $5, now(), coalesce($6::int8, 0))
        on conflict (shard, node) do update set url = excluded.url, version = excluded.version,
            options = excluded.options, seen_at = excluded.seen_at, applied = coalesce($6, m.applied)),
    renewed as (
        update postrider.shard set until = now() + make_interval(secs => $8)
            where shard = $1 and node = $2 and epoch = $7 and until > now() returning epoch)
    select s.epoch, s.node, exists (select 1 from renewed) or s.until > now() and s.epoch is distinct from $7,
        (select max(number) from postrider.log where shard = $1),
        (select max(applied) from postrider.member
            where shard = $1 and node <> $2 and seen_at > now() - make_interval(secs => $9)),
        (select url from postrider.member as m where m.shard = $1 and m.node = s.node)
    from postrider.shard as s where s.shard = $1";
const TAKE: &str = "update postrider.shard set epoch = epoch + 1, node = $2, until = now() + make_interval(secs => $4)
    where shard = $1 and epoch = $3 returning epoch";
const RELEASE: &str = "update postrider.shard set node = null, until = now() where shard = $1 and epoch = $2";
/// Ends a cluster: the empty name, which no node has, gets the lease for ever.
const END: &str = "update postrider.shard set epoch = epoch + 1, node = '', until = 'infinity'
    where shard = $1 and (node is null or node in ('', $2) or until < now()) returning epoch";
const CLUSTER: &str = "select store, coalesce(node = '', false) from postrider.shard where shard = $1";
const MEMBERS: &str = "select m.node, m.url, m.version, m.options, m.applied,
        extract(epoch from now() - m.seen_at)::float8, coalesce(s.node = m.node and s.until > now(), false)
    from postrider.member as m join postrider.shard as s using (shard) where shard = $1 order by m.node";
/// The last commit that every member has applied, and the last record older than `$2` seconds. A member that was not
/// seen within `$2` seconds does not count.
const TRIMMABLE: &str = "select
        (select min(applied) from postrider.member where shard = $1 and seen_at > now() - make_interval(secs => $2)),
        (select max(number) from postrider.log where shard = $1 and at < now() - make_interval(secs => $2))";
/// Rounds of the search for a transaction pooler.
const POOLER_ROUNDS: u32 = 3;
const IS_SYNCHRONOUS: &str = "select current_setting('synchronous_standby_names') <> ''";

/// The lease in an engine, as one node uses it.
pub struct PostgresLease {
    connect: Connect,
    me: Member,
    client: Mutex<Option<Client>>,
}

impl PostgresLease {
    pub fn new(connect: Connect, me: Member) -> PostgresLease {
        PostgresLease { connect, me, client: Mutex::new(None) }
    }

    /// Runs a call on the connection. After an error or without an answer the next call connects anew.
    async fn call<T>(
        &self,
        wait: Duration,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LogUnreachable> {
        let mut client = self.client.lock().await;
        // Taken out, so that a call that is dropped leaves no connection with an answer under way.
        let open = match client.take().filter(|client| !client.is_closed()) {
            Some(open) => open,
            None => self.connect.client().await?,
        };
        let answer = in_time(wait, async { call(&open).await.map_err(unreachable) }).await;
        let answer = answer.map_err(|error| self.connect.naming_place(error))?;
        *client = Some(open);
        Ok(answer)
    }

    async fn send_heartbeat(&self, applied: Option<u64>, held: Option<u64>) -> Result<HeartbeatAnswer, LogUnreachable> {
        let me = &self.me;
        let (applied_i, held_i) = (applied.map(|number| number as i64), held.map_or(-1, |held| held as i64));
        let (lease_s, alive_s) = (LEASE.as_secs_f64(), ALIVE.as_secs_f64());
        let row = self.call(ANSWER_MAX, async |client| {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
                [&SHARD, &me.node, &me.url, &me.version, &me.options, &applied_i, &held_i, &lease_s, &alive_s];
            client.query_opt(HEARTBEAT, &parameters).await
        });
        let row = row.await?.ok_or_else(|| self.no_cluster())?;
        let holder = match row.get::<_, Option<String>>(1) {
            None => LeaseHolder::Free,
            Some(node) if node.is_empty() => LeaseHolder::Ended,
            Some(node) if node == me.node => LeaseHolder::Me,
            Some(_) => LeaseHolder::Other,
        };
        let last = row.get::<_, Option<i64>>(3).unwrap_or(0) as u64;
        // Another node may have commits that the log has forgotten. Those in the log are read before the fence.
        let ahead = row.get::<_, Option<i64>>(4).unwrap_or(0) as u64;
        let is_outrun = Some(ahead) > applied && ahead > last;
        let term = row.get::<_, i64>(0) as u64;
        let lease = ShownLease { term, holder, is_running: row.get(2), is_outrun };
        Ok(HeartbeatAnswer { lease, last, owner: row.get(5) })
    }

    async fn take_term(&self, seen: u64) -> Result<Option<u64>, LogUnreachable> {
        let taken = self.call(ANSWER_MAX, async |client| {
            client.query_opt(TAKE, &[&SHARD, &self.me.node, &(seen as i64), &LEASE.as_secs_f64()]).await
        });
        Ok(taken.await?.map(|row| row.get::<_, i64>(0) as u64))
    }

    async fn release_term(&self, term: u64) -> Result<(), LogUnreachable> {
        let released = async |client: &Client| client.execute(RELEASE, &[&SHARD, &(term as i64)]).await;
        self.call(ANSWER_MAX, released).await.map(drop)
    }

    async fn end_lease(&self) -> Result<Option<u64>, LogUnreachable> {
        let ended = self.call(ANSWER_MAX, async |client| client.query_opt(END, &[&SHARD, &self.me.node]).await);
        Ok(ended.await?.map(|row| row.get::<_, i64>(0) as u64))
    }

    async fn find_cluster(&self) -> Result<ClusterRow, LogUnreachable> {
        let row = self.call(ANSWER_MAX, async |client| client.query_opt(CLUSTER, &[&SHARD]).await).await?;
        row.map(|row| ClusterRow { store: row.get(0), has_ended: row.get(1) }).ok_or_else(|| self.no_cluster())
    }

    async fn list_members(&self) -> Result<Vec<MemberRow>, LogUnreachable> {
        let rows = self.call(ANSWER_MAX, async |client| client.query(MEMBERS, &[&SHARD]).await).await?;
        let member = |row: &Row| MemberRow {
            member: Member { node: row.get(0), url: row.get(1), version: row.get(2), options: row.get(3) },
            applied: row.get::<_, i64>(4) as u64,
            seen_s: row.get(5),
            is_owner: row.get(6),
        };
        Ok(rows.iter().map(member).collect())
    }

    /// Whether a transaction pooler stands before the engine. Opens two sessions and asks each for the process that
    /// serves it. Behind such a pooler both get the same process in turn, or one changes its process while the other's
    /// transaction runs.
    async fn find_pooler(&self) -> Result<bool, LogUnreachable> {
        let (first, second) = (self.connect.client().await?, self.connect.client().await?);
        let asking = async {
            for _ in 0..POOLER_ROUNDS {
                let before = backend(&first).await?;
                // A pooler of transactions prepares no statement for a later transaction, so none is prepared here.
                second.batch_execute("begin").await.map_err(unreachable)?;
                let (other, after) = (backend(&second).await?, backend(&first).await?);
                second.batch_execute("rollback").await.map_err(unreachable)?;
                if before != after || before == other {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        in_time(ANSWER_MAX, asking).await.map_err(|error| self.connect.naming_place(error))
    }

    fn no_cluster(&self) -> LogUnreachable {
        self.connect.naming_place(LogUnreachable(NO_CLUSTER.to_owned()))
    }

    async fn find_trimmable(&self, keep: Duration) -> Result<u64, LogUnreachable> {
        let keep_s = keep.as_secs_f64();
        let row = self.call(LONG_ANSWER_MAX, async |client| client.query_one(TRIMMABLE, &[&SHARD, &keep_s]).await);
        let row = row.await?;
        let number = |column: usize| row.get::<_, Option<i64>>(column).unwrap_or(0).max(0) as u64;
        Ok(trim_upto(number(0), number(1)))
    }
}

/// The process of the engine that serves a session now.
async fn backend(client: &Client) -> Result<String, LogUnreachable> {
    let messages = client.simple_query("select pg_backend_pid()").await.map_err(unreachable)?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    pid.ok_or_else(|| LogUnreachable("PostgreSQL named no process".to_owned()))
}

impl Leases for PostgresLease {
    fn heartbeat(&self, applied: Option<u64>, held: Option<u64>) -> Pending<'_, HeartbeatAnswer> {
        Box::pin(self.send_heartbeat(applied, held))
    }

    fn take(&self, seen: u64) -> Pending<'_, Option<u64>> {
        Box::pin(self.take_term(seen))
    }

    fn release(&self, term: u64) -> Pending<'_, ()> {
        Box::pin(self.release_term(term))
    }

    fn end(&self) -> Pending<'_, Option<u64>> {
        Box::pin(self.end_lease())
    }

    fn cluster(&self) -> Pending<'_, ClusterRow> {
        Box::pin(self.find_cluster())
    }

    fn members(&self) -> Pending<'_, Vec<MemberRow>> {
        Box::pin(self.list_members())
    }

    fn trimmable(&self, keep: Duration) -> Pending<'_, u64> {
        Box::pin(self.find_trimmable(keep))
    }

    fn is_pooled(&self) -> Pending<'_, bool> {
        Box::pin(self.find_pooler())
    }

    fn is_synchronous(&self) -> Pending<'_, bool> {
        let ask = async |client: &Client| client.query_one(IS_SYNCHRONOUS, &[]).await;
        Box::pin(async move { self.call(ANSWER_MAX, ask).await.map(|row| row.get(0)) })
    }
}
