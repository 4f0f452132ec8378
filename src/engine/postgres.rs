//! The log and the lease of a cluster in PostgreSQL, version 12 and later.
//!
//! The log and the lease have a connection each, so that a slow append delays no heartbeat. A connection that fails is replaced
//! at the next call. Every wait for an answer is bounded.
//!
//! Invariant: an append is one statement, or one transaction that is rolled back unless it added all its records. The
//! primary key of the log decides which of two appends of a number counts.

mod body;
mod lease;
mod schema;
mod tls;

use std::sync::PoisonError;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Statement};

use crate::engine::log_backoff::LogBackoff;
use crate::rules::postgres_url::{self, with_known_mode};
use crate::store::admin::{Appended, CommitLog, LogEntry, LogMark, LogUnreachable, append_outcome};

pub use lease::PostgresLease;
pub use schema::{begin, begin_again, make_tables};

/// Time to wait for a connection, and for the answer of one statement.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Time to wait for the answer to a statement that reads or removes many records.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(60);
/// Records that are read at once.
const READ_RECORDS: i64 = 10_000;
/// The cure of a certificate whose authority this machine does not know.
const UNKNOWN_AUTHORITY: &str = ": add the certificate's authority to those of this machine, or name its PEM file in SSL_CERT_FILE \
    in the environment (docs/cluster.md)";
/// The refusal of a database without the tables, or without a row of the cluster, and the cure.
const NO_CLUSTER: &str =
    "this database has no cluster: `postrider cluster init` begins one with the stopped store of a machine";
/// The only shard so far.
const SHARD: i16 = 0;

/// Settings of a session. A commit that is answered must be durable, whatever a role's default is.
const SESSION: &str = "set application_name = 'postrider'; \
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') in ('off', 'local')";

const APPEND: &str = "insert into postrider.log (shard, number, epoch, writer, sum, body) \
    select $1, r.number, r.epoch, r.writer, r.sum, r.body \
    from unnest($2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::bytea[]) as r(number, epoch, writer, sum, body) \
    where exists (select 1 from postrider.log where shard = $1 and number = $7 and writer = $8) \
    on conflict do nothing";
const FOUND: &str = "select number, epoch, writer, sum from postrider.log \
    where shard = $1 and (number between $2 and $3 or number = (select max(number) from postrider.log where shard = $1)) \
    order by number";
const LAST: &str = "select number, epoch, writer, sum from postrider.log where shard = $1 order by number desc limit 1";
const READ: &str = "select number, epoch, writer, sum, body from (select *, sum(length(body)) over (order by number) as bytes \
    from (select * from postrider.log where shard = $1 and number >= $2 order by number limit $4) as next) as counted \
    where bytes <= $3 or number < $2 + 2 order by number";
const TRIM: &str = "delete from postrider.log where shard = $1 and number <= $2 \
    and number < (select max(number) from postrider.log where shard = $1)";

/// The connection parameters of the engine.
#[derive(Clone)]
pub struct Connect {
    config: Config,
    tls: tls::Connector,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The settings have a password.
        f.debug_struct("Connect").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Connect {
    /// The engine of a URL: `postgres://user:password@host/database`, with the parameters of libpq. `sslmode=require` checks
    /// the certificate and its name, unlike libpq's, so it is libpq's `verify-full`.
    ///
    /// # Errors
    /// A description: the URL cannot be used, or no certificate authority can be loaded.
    pub fn of(url: &str) -> Result<Connect, String> {
        let mut config = config_of(url)?;
        config.connect_timeout(ANSWER_MAX).tcp_user_timeout(ANSWER_MAX).keepalives_idle(ANSWER_MAX);
        Ok(Connect { config, tls: tls::Connector::new()? })
    }

    async fn client(&self) -> Result<Client, LogUnreachable> {
        let connecting = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await.map_err(unreachable)?;
            // It ends with the client, or with an error that the client's next call has too.
            tokio::spawn(async move { drop(connection.await) });
            client.batch_execute(SESSION).await.map_err(unreachable)?;
            Ok(client)
        };
        in_time(ANSWER_MAX, connecting).await.map_err(|error| self.naming_place(error))
    }

    /// The error with the setting and the hosts of the engine.
    fn naming_place(&self, error: LogUnreachable) -> LogUnreachable {
        LogUnreachable(format!("cluster.log at {}: {error}", self.place()))
    }

    /// The hosts of the engine with their ports, for messages.
    fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        let name = |(n, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(n)),
            Host::Unix(folder) => folder.display().to_string(),
        };
        self.config.get_hosts().iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// The parameters of a URL.
///
/// # Errors
/// A description: the URL cannot be used. It has no password.
fn config_of(url: &str) -> Result<Config, String> {
    postgres_url::check(url)?;
    let known = with_known_mode(url)?;
    let config: Config = known.parse().map_err(|error: tokio_postgres::Error| {
        // The error itself only names its kind.
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        format!("is no URL of PostgreSQL: {cause}")
    })?;
    if config.get_hosts().len() != 1 {
        return Err("names several hosts or none: give the address that leads to the primary".to_owned());
    }
    Ok(config)
}

fn unreachable(error: tokio_postgres::Error) -> LogUnreachable {
    let cause = std::error::Error::source(&error);
    let cure = if cause.is_some_and(tls::is_of_unknown_authority) { UNKNOWN_AUTHORITY } else { "" };
    let words = match error.as_db_error() {
        Some(error) if *error.code() == SqlState::UNDEFINED_TABLE => NO_CLUSTER.to_owned(),
        Some(error) => error.to_string(),
        None => cause.map_or_else(|| error.to_string(), |why| format!("{error}: {why}")),
    };
    LogUnreachable(format!("PostgreSQL: {words}{cure}"))
}

async fn in_time<T>(
    wait: Duration,
    answer: impl Future<Output = Result<T, LogUnreachable>>,
) -> Result<T, LogUnreachable> {
    let late = || Err(LogUnreachable(format!("PostgreSQL gave no answer for {} s", wait.as_secs())));
    tokio::time::timeout(wait, answer).await.unwrap_or_else(|_| late())
}

/// A connection with the statements that are prepared on it.
struct LogSession {
    client: Client,
    append: Statement,
}

/// The log. Calls block, so they come from a thread that runs no task.
pub struct PostgresLog {
    connect: Connect,
    runtime: Handle,
    session: Mutex<Option<LogSession>>,
    failures: std::sync::Mutex<LogBackoff>,
}

impl std::fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresLog").field("connect", &self.connect).finish_non_exhaustive()
    }
}

type Row = (LogMark, u32);

fn mark_of(row: &tokio_postgres::Row) -> Row {
    let unsigned = |column: usize| row.get::<_, i64>(column) as u64;
    (LogMark { number: unsigned(0), term: unsigned(1), writer: unsigned(2) }, row.get::<_, i64>(3) as u32)
}

impl PostgresLog {
    /// The log in an engine. Must be called within the runtime.
    pub fn new(connect: Connect) -> PostgresLog {
        PostgresLog {
            connect,
            runtime: Handle::current(),
            session: Mutex::new(None),
            failures: std::sync::Mutex::default(),
        }
    }

    /// Runs a call on the connection. After an error or without an answer the next call connects anew.
    fn call<T>(
        &self,
        wait: Duration,
        call: impl AsyncFnOnce(&LogSession) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, LogUnreachable> {
        self.runtime.block_on(async {
            let mut session = self.session().await?;
            let Some(open) = session.as_ref() else { return Err(LogUnreachable("no connection".to_owned())) };
            let answer = in_time(wait, async { call(open).await.map_err(unreachable) }).await;
            if answer.is_err() {
                *session = None;
            }
            answer.map_err(|error| self.connect.naming_place(error))
        })
    }

    /// Logs appends that fail, and the first one that succeeds afterwards.
    fn log_append(&self, appended: &Result<Appended, LogUnreachable>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match appended {
            Ok(_) if failures.reset() => tracing::info!("PostgreSQL takes commits again"),
            Ok(_) => {}
            Err(error) => {
                if let Some(times) = failures.record() {
                    tracing::warn!(%error, times, "PostgreSQL took no commit; trying again");
                }
            }
        }
    }

    async fn session(&self) -> Result<MutexGuard<'_, Option<LogSession>>, LogUnreachable> {
        let mut session = self.session.lock().await;
        if session.as_ref().is_none_or(|session| session.client.is_closed()) {
            *session = None;
            let client = self.connect.client().await?;
            let append = in_time(ANSWER_MAX, async { client.prepare(APPEND).await.map_err(unreachable) }).await;
            let append = append.map_err(|error| self.connect.naming_place(error))?;
            *session = Some(LogSession { client, append });
        }
        Ok(session)
    }
}

fn entry_of(row: &tokio_postgres::Row) -> LogEntry {
    let (mark, sum) = mark_of(row);
    LogEntry { mark, sum, body: body::unpack(row.get(4), sum) }
}

/// The first entries, up to about `bytes_max` bytes of bodies, and at least two. A body has more bytes than its row.
fn first_of(entries: impl Iterator<Item = LogEntry>, bytes_max: usize) -> Vec<LogEntry> {
    let (mut taken, mut bytes) = (0, 0);
    let fits = |entry: &LogEntry| {
        (taken, bytes) = (taken + 1, bytes + entry.body.len());
        taken <= 2 || bytes <= bytes_max
    };
    entries.take_while(fits).collect()
}

/// Adds the records. Returns how many were added.
async fn insert(
    session: &LogSession,
    before: LogMark,
    entries: &[LogEntry],
    bodies: &[Vec<u8>],
) -> Result<u64, tokio_postgres::Error> {
    let column = |of: fn(&LogEntry) -> i64| entries.iter().map(of).collect::<Vec<_>>();
    let numbers = column(|entry| entry.mark.number as i64);
    let terms = column(|entry| entry.mark.term as i64);
    let writers = column(|entry| entry.mark.writer as i64);
    let sums = column(|entry| i64::from(entry.sum));
    let (number, writer) = (before.number as i64, before.writer as i64);
    session
        .client
        .execute(&session.append, &[&SHARD, &numbers, &terms, &writers, &sums, &bodies, &number, &writer])
        .await
}

/// Adds all records or none. Returns whether they were added.
async fn insert_all(
    session: &LogSession,
    before: LogMark,
    entries: &[LogEntry],
    bodies: &[Vec<u8>],
) -> Result<bool, tokio_postgres::Error> {
    if entries.len() == 1 {
        return Ok(insert(session, before, entries, bodies).await? == 1);
    }
    session.client.batch_execute("begin").await?;
    let is_whole = insert(session, before, entries, bodies).await? == entries.len() as u64;
    session.client.batch_execute(if is_whole { "commit" } else { "rollback" }).await?;
    Ok(is_whole)
}

impl CommitLog for PostgresLog {
    fn append(&self, before: LogMark, entries: &[LogEntry]) -> Result<Appended, LogUnreachable> {
        let bodies: Result<Vec<Vec<u8>>, String> = entries.iter().map(|entry| body::pack(&entry.body)).collect();
        let bodies = bodies.map_err(LogUnreachable)?;
        let appended = self.call(ANSWER_MAX, async |session| {
            if entries.is_empty() || insert_all(session, before, entries, &bodies).await? {
                return Ok(Appended::Durable);
            }
            let to = entries.last().map_or(before.number, |entry| entry.mark.number) as i64;
            let rows = session.client.query(FOUND, &[&SHARD, &(before.number as i64), &to]).await?;
            let found: Vec<Row> = rows.iter().map(mark_of).collect();
            let last = found.last().map(|(mark, _)| *mark).unwrap_or_default();
            Ok(append_outcome(before, entries, &found, last))
        });
        self.log_append(&appended);
        appended
    }

    fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<LogEntry>, LogUnreachable> {
        self.call(LONG_ANSWER_MAX, async |session| {
            let bytes = bytes_max as i64;
            let rows = session.client.query(READ, &[&SHARD, &(from as i64), &bytes, &READ_RECORDS]).await?;
            Ok(first_of(rows.iter().map(entry_of), bytes_max))
        })
    }

    fn last(&self) -> Result<LogMark, LogUnreachable> {
        let row = self.call(ANSWER_MAX, async |session| session.client.query_opt(LAST, &[&SHARD]).await)?;
        row.map(|row| mark_of(&row).0).ok_or_else(|| LogUnreachable("the log is empty".to_owned()))
    }

    fn trim(&self, upto: u64) -> Result<(), LogUnreachable> {
        self.call(LONG_ANSWER_MAX, async |session| {
            session.client.execute(TRIM, &[&SHARD, &(upto as i64)]).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::cluster_lease::{Leases as _, Member};

    #[test]
    fn a_url_with_parameters_that_are_not_honoured_is_refused_and_a_password_is_not_shown() {
        assert!(Connect::of("https://db.example.com/").is_err());
        let refused = Connect::of("postgres://a:secret@db.example.com/postrider?sslmode=verify-ca").unwrap_err();
        assert!(
            refused.contains("disable, prefer, require or verify-full") && !refused.contains("secret"),
            "{refused}"
        );
        let connect = Connect::of("postgres://postrider:secret@db.example.com/postrider?sslmode=require").unwrap();
        assert!(!format!("{connect:?}").contains("secret"), "{connect:?}");
    }

    /// Accepts one connection as an engine with TLS whose certificate no authority signed. Returns the address.
    async fn engine_of_an_unknown_authority() -> std::net::SocketAddr {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into());
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config.unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request for TLS has eight bytes, and S accepts it.
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            drop(acceptor.accept(stream).await);
        });
        address
    }

    #[tokio::test]
    async fn a_failed_connection_names_the_setting_and_the_host_and_how_to_trust_an_authority() {
        let address = engine_of_an_unknown_authority().await;
        let url = format!("postgres://a:secret@localhost:{}/postrider?sslmode=require", address.port());
        let LogUnreachable(said) = Connect::of(&url).unwrap().client().await.unwrap_err();
        assert!(said.starts_with(&format!("cluster.log at localhost:{}: ", address.port())), "{said}");
        assert!(said.contains("UnknownIssuer") && said.contains("SSL_CERT_FILE"), "{said}");
        let closed = Connect::of(&url.replace("require", "disable")).unwrap().client().await.unwrap_err().0;
        assert!(!closed.contains("SSL_CERT_FILE"), "{closed}");
        assert!(!said.contains("secret") && !closed.contains("secret"), "{said} {closed}");
    }

    /// Accepts one connection as an engine without the tables. Returns the address.
    async fn engine_without_tables() -> std::net::SocketAddr {
        const ACCEPTED: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        const DONE: &[u8] = b"C\0\0\0\x08SET\0Z\0\0\0\x05I";
        const NO_TABLE: &[u8] = b"E\0\0\0\x1dSERROR\0C42P01\0Mno table\0\0Z\0\0\0\x05I";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request to begin, the settings of the session, and the first statement.
            for answer in [ACCEPTED, DONE, NO_TABLE] {
                let asked = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(asked > 0);
                stream.write_all(answer).await.unwrap();
            }
            drop(stream.read(&mut [0; 1024]).await);
        });
        address
    }

    #[tokio::test]
    async fn a_database_without_the_tables_is_named_with_the_cure() {
        let address = engine_without_tables().await;
        let url = format!("postgres://a:secret@localhost:{}/postrider?sslmode=disable", address.port());
        let me = Member { node: String::new(), url: String::new(), version: String::new(), options: 0 };
        let lease = PostgresLease::new(Connect::of(&url).unwrap(), me);
        let LogUnreachable(said) = lease.cluster().await.unwrap_err();
        assert!(said.starts_with(&format!("cluster.log at localhost:{}: ", address.port())), "{said}");
        assert!(said.contains(NO_CLUSTER) && !said.contains("no table"), "{said}");
    }

    #[test]
    fn a_read_returns_two_records_and_as_many_more_as_fit() {
        let entry = |number| LogEntry::new(LogMark { number, ..LogMark::default() }, vec![7; 100].into());
        let numbers = |bytes_max| {
            let read = first_of((1..=9).map(entry), bytes_max);
            read.iter().map(|entry| entry.mark.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(0), [1, 2]);
        assert_eq!(numbers(399), [1, 2, 3]);
        assert_eq!(numbers(usize::MAX).len(), 9);
    }

    #[test]
    fn every_parameter_that_is_accepted_is_read() {
        for name in postgres_url::PARAMETERS {
            let said = config_of(&format!("postgres://a@db.example.com/b?{name}=")).err().unwrap_or_default();
            assert!(!said.contains("unknown"), "{name}: {said}");
        }
        let said = "postgres://a@db.example.com/b?none=1".parse::<Config>().unwrap_err();
        let cause = std::error::Error::source(&said).expect("a cause").to_string();
        assert!(cause.contains("unknown"), "{cause}");
    }

    #[test]
    fn verify_full_is_the_mode_that_demands_tls_and_checks_the_name() {
        let url = |mode: &str| format!("postgres://a:b%3F@db.example.com/postrider?connect_timeout=3&sslmode={mode}");
        for mode in ["require", "verify-full"] {
            let connect = Connect::of(&url(mode)).unwrap();
            assert_eq!(connect.config.get_ssl_mode(), tokio_postgres::config::SslMode::Require, "{mode}");
            assert_eq!(connect.config.get_password(), Some(b"b?".as_slice()));
        }
        assert_eq!(Connect::of(&url("prefer")).unwrap().config.get_ssl_mode(), tokio_postgres::config::SslMode::Prefer);
    }
}
