//! A large store of many partitions: reads from it, starts with it, and deliveries with it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Bench, Hooks};
use crate::board::Board;
use crate::cell::{self, Drain, drained, mb};
use crate::histogram::Histogram;
use crate::load::Load;
use crate::process::folder_bytes;
use crate::report::{Target, short};
use crate::server::{Server, Settings, fill};
use crate::sink::Sink;
use crate::wire::{Connection, get};

pub(super) const STORED: u64 = 100_000;
pub(super) const STORED_FULL: u64 = 5_000_000;
const PARTITIONS: u64 = 40;
const FANOUT: usize = 10;
/// Smallest partition that the settings allow.
const PARTITION_BYTES_MIN: u64 = 16 << 20;
const DRAIN_MAX: Duration = Duration::from_secs(7_200);
/// A round of maintenance has passed after this time.
pub(super) const MAINTENANCE: Duration = Duration::from_secs(70);
pub(super) const READS: u64 = 1_000;

impl Bench {
    pub(super) async fn listing(&mut self) -> io::Result<()> {
        let stored = self.options.stored.unwrap_or(if self.options.full { STORED_FULL } else { STORED });
        let empty = self.postrider(Hooks::Each(1), Load::new(self.options.connections)).await?;
        let partition_bytes = self.partition_bytes(Hooks::Each(FANOUT), stored / PARTITIONS).await?;
        let settings = vec![("POSTRIDER_PARTITION_MAX_BYTES", partition_bytes.to_string())];
        let (began, began_ms) = (Instant::now(), unix_ms());
        let (sink, mut server) = self.stored(Hooks::Each(FANOUT), stored, stored / PARTITIONS, settings).await?;
        self.report.note(format!(
            "{} deliveries in {} partitions, {:.0} MB, made in {:.0} s",
            short(stored as f64),
            server.partitions().len(),
            server.store_folder().map_or(0.0, |folder| mb(folder_bytes(folder))),
            began.elapsed().as_secs_f64()
        ));
        let span = (began_ms, unix_ms());
        tokio::time::sleep(MAINTENANCE).await;
        self.reads(&server, span).await?;
        // From here on publishing must have its normal cost. Another scenario measures small partitions.
        server.forget_settings();
        let start = server.kill_and_start().await?;
        let what = format!("{} stored: ready after kill -9", short(stored as f64));
        self.report.judge(what, Some(start.as_secs_f64()), " s", Target::AtMost(1.0, 0.2));
        self.delivers_as_ever(&mut server, stored, empty.delivered_per_s).await?;
        drop(sink);
        Ok(())
    }

    /// A store with this many final deliveries. A partition's worth is published at a time, so that it is delivered
    /// before the next partition begins.
    pub(super) async fn stored(
        &self,
        hooks: Hooks,
        deliveries: u64,
        at_a_time: u64,
        settings: Settings,
    ) -> io::Result<(Sink, Server)> {
        let (sink, server) = self.contender(&hooks, settings).await?;
        sink.board.refused_every.store(hooks.refused_every(), Relaxed);
        while sink.board.arrivals.load(Relaxed) < deliveries {
            let events = (at_a_time / hooks.fanout() as u64).max(1);
            fill(&server, &sink.board, events, hooks.event_types()).await?;
            if drained(&sink.board, DRAIN_MAX).await != Drain::All {
                return Err(io::Error::other("the store to be measured was not filled: deliveries are missing"));
            }
        }
        Ok((sink, server))
    }

    /// The size of a file with this many deliveries, rounded down, because a partition is sealed before it exceeds its
    /// size.
    pub(super) async fn partition_bytes(&self, hooks: Hooks, deliveries: u64) -> io::Result<u64> {
        let (_sink, server) = self.stored(hooks, deliveries, deliveries, Settings::new()).await?;
        let folder = server.store_folder().map(|store| store.join("data/partitions"));
        let bytes = folder.map_or(0, |folder| folder_bytes(&folder));
        Ok((bytes / 10 * 9).max(PARTITION_BYTES_MIN))
    }

    /// Pages and single events, from all over the stored time.
    async fn reads(&mut self, server: &Server, span: (i64, i64)) -> io::Result<()> {
        let (_, webhooks) = server.call("GET", "/v1/webhooks?limit=1", None).await?;
        let webhook = webhooks["data"][0]["id"].as_str().unwrap_or_default().to_owned();
        let mut client = Reader::open(server).await?;
        let moments = || (0..READS).map(|read| moment(span, read));
        let lists = [
            "/v1/deliveries?limit=50".to_owned(),
            format!("/v1/webhooks/{webhook}/deliveries?limit=50"),
            "/v1/events?limit=50".into(),
        ];
        let mut ids = Vec::new();
        for list in lists {
            let paths = moments().map(|to| format!("{list}&to={to}"));
            let times = client.time(paths, |page| {
                ids.extend(page["data"][0]["event_id"].as_str().map(str::to_owned));
            });
            let p99 = times.await?.ms(0.99);
            let what = format!("GET {}: p99", list.replace(&webhook, "{id}"));
            self.report.judge(what, p99, " ms", Target::AtMost(5.0, 1.0));
        }
        ids.truncate(READS as usize);
        // In another order than that of the pages just read.
        let scattered = (0..ids.len()).map(|read| ids[read * 7919 % ids.len()].clone());
        let times = client.time(scattered.map(|id| format!("/v1/events/{id}")), |_| {}).await?;
        self.report.judge("GET /v1/events/{id}: p99", times.ms(0.99), " ms", Target::AtMost(5.0, 1.0));
        Ok(())
    }

    /// The same measurement as in an empty store, with its own webhook and sink.
    async fn delivers_as_ever(&mut self, server: &mut Server, stored: u64, empty: Option<f64>) -> io::Result<()> {
        let (_, webhooks) = server.call("GET", "/v1/webhooks?limit=250", None).await?;
        for webhook in webhooks["data"].as_array().into_iter().flatten() {
            let path = format!("/v1/webhooks/{}", webhook["id"].as_str().unwrap_or_default());
            server.call("PATCH", &path, Some(&json!({ "event_types": ["other"] }))).await?;
        }
        let sink = Sink::start(self.options.sink, Arc::new(Board::new(1)), true).await?;
        server.webhook(sink.addr, 0, &[], json!({})).await?;
        let load = Load::new(self.options.connections);
        let name = format!("(c) Postrider ×1, {} stored", short(stored as f64));
        let full = cell::measure(&name, server, &sink.board, load, self.options.seconds()).await?;
        let what = format!("delivered/s with {} stored, to an empty store", short(stored as f64));
        self.report.judge_ratio(what, full.delivered_per_s, empty, Target::AtLeast(0.85, 0.95));
        self.report.add(&full);
        Ok(())
    }
}

/// One connection that reads with one request after another.
pub(super) struct Reader<'s> {
    connection: Connection,
    server: &'s Server,
    /// The header line that proves who reads.
    proof: String,
}

impl Reader<'_> {
    /// A reader of the API.
    pub(super) async fn open(server: &Server) -> io::Result<Reader<'_>> {
        let token = server.aim.token.as_deref().unwrap_or_default();
        let proof = format!("authorization: Bearer {token}");
        Ok(Reader { connection: Connection::open(server.aim.addr).await?, server, proof })
    }

    /// A reader of the pages, logged in by the server's key.
    pub(super) async fn log_in(server: &Server) -> io::Result<Reader<'_>> {
        let mut reader = Reader::open(server).await?;
        let form = format!("key={}", server.aim.token.as_deref().unwrap_or_default());
        let kind = "application/x-www-form-urlencoded";
        let head = format!("POST /ui/login HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\n", server.aim.addr);
        let login = format!("{head}content-length: {}\r\n\r\n{form}", form.len());
        let answer = reader.connection.exchange(login.as_bytes()).await?;
        let cookie = reader.connection.answered("set-cookie").and_then(|cookie| std::str::from_utf8(cookie).ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        let cookie =
            cookie.ok_or_else(|| io::Error::other(format!("the login was answered with {}", answer.status)))?;
        reader.proof = format!("cookie: {cookie}");
        Ok(reader)
    }

    /// Measures `GET` of all paths and shows the answers.
    pub(super) async fn time(
        &mut self,
        paths: impl Iterator<Item = String>,
        mut show: impl FnMut(&Value),
    ) -> io::Result<Histogram> {
        let mut times = Histogram::default();
        for path in paths {
            let bytes = get(&path, self.server.aim.addr, &self.proof);
            let began = Instant::now();
            let answer = self.connection.exchange(&bytes).await?;
            times.add(began.elapsed().as_micros() as u64);
            let body: Value = serde_json::from_slice(self.connection.body()).unwrap_or_default();
            if answer.status != 200 {
                return Err(io::Error::other(format!("GET {path} was answered with {}: {body}", answer.status)));
            }
            show(&body);
        }
        Ok(times)
    }
}

pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// The `read`-th of a series of times that spreads evenly over the span, in RFC 3339.
pub(super) fn moment((from_ms, to_ms): (i64, i64), read: u64) -> String {
    // Multiples of the golden ratio fill an interval evenly, however many there are.
    let share = (read as f64 * 0.618_033_988_75).fract();
    let at_ms = from_ms + ((to_ms - from_ms) as f64 * share) as i64;
    let at_ms = at_ms.clamp(from_ms + 1, to_ms);
    jiff::Timestamp::from_millisecond(at_ms).map(|at| format!("{at:.3}")).unwrap_or_default()
}
