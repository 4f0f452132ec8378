//! One cell: a load on a server for some seconds, and all of its measurements.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::board::Board;
use super::histogram::Histogram;
use super::load::{self, Load};
use super::process::{self, InstructionCount};
use super::server::Server;

const WARM_UP: Duration = Duration::from_secs(1);
/// Time without an arrival after which outstanding deliveries count as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Longest wait for outstanding deliveries after the load: this time, or a multiple of the load's.
const DRAIN_MAX: Duration = Duration::from_secs(120);
const DRAIN_FACTOR_MAX: u32 = 20;
/// Time after the last expected arrival in which a surplus one may appear.
const AFTERMATH: Duration = Duration::from_millis(300);

/// The results of a cell. Rates are per second. A field without meaning for the server is `None`.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub name: String,
    pub events: u64,
    pub acks_per_s: f64,
    pub ack_p50_ms: Option<f64>,
    pub ack_p99_ms: Option<f64>,
    /// Deliveries per second from the start of the window to the last arrival, draining included.
    pub delivered_per_s: Option<f64>,
    /// Arrivals per second during the load.
    pub arrived_per_s: Option<f64>,
    pub arrival_p50_ms: Option<f64>,
    pub arrival_p99_ms: Option<f64>,
    pub cpu_us_per_event: Option<f64>,
    /// `None` where `perf` does not count them.
    pub instructions_per_event: Option<f64>,
    pub peak_rss_mb: Option<f64>,
    pub written_bytes_per_event: Option<f64>,
    /// The share of the machine that other programs used. Above a few percent the row is unreliable.
    pub others_percent: Option<f64>,
    pub refused: u64,
    pub errors: u64,
    pub lost: u64,
    /// Deliveries that were missing when the wait ended, and still came.
    pub late: u64,
    pub duplicates: u64,
    pub bad_signatures: u64,
}

/// Runs `load` for `seconds` after warming up, then waits until all deliveries have arrived.
pub async fn measure(
    name: &str,
    server: &Server,
    board: &Arc<Board>,
    load: Load,
    seconds: u64,
) -> io::Result<Measured> {
    let delivers = board.fanout > 0;
    let crew = load::connect(load, server.aim.clone()).await?;
    let before = server.reading();
    let others = Others::now(server);
    let instructions = server.instructions();
    let producing = tokio::spawn(crew.run(board.clone()));
    sleep(WARM_UP).await;
    board.begin_window();
    let (began, began_us) = (Instant::now(), board.now_us());
    let (acks_before, arrivals_before) = (board.acks.load(Relaxed), board.arrivals.load(Relaxed));
    sleep(Duration::from_secs(seconds)).await;
    let window_s = began.elapsed().as_secs_f64();
    let (acks, arrivals) = (board.acks.load(Relaxed) - acks_before, board.arrivals.load(Relaxed) - arrivals_before);
    board.stop.store(true, Relaxed);
    producing.await.map_err(io::Error::other)?;
    let ack_times = board.ack_times.take();
    let mut drain = Drain::All;
    if delivers {
        drain = drained(board, DRAIN_MAX.max(Duration::from_secs(seconds) * DRAIN_FACTOR_MAX)).await;
        sleep(AFTERMATH).await;
    }
    let after = server.reading();
    let instructions = instructions.and_then(InstructionCount::end);
    let all_arrivals = board.arrivals.load(Relaxed) - arrivals_before;
    let until_last_s = board.last_arrival_us.load(Relaxed).saturating_sub(began_us) as f64 / 1e6;
    let arrival_times = board.arrival_times.take();
    let events = board.acks.load(Relaxed);
    let per_event = |figure: f64| (after.peak_rss_bytes > 0 && events > 0).then(|| figure / events as f64);
    let rate = (delivers && until_last_s > 0.0).then(|| all_arrivals as f64 / until_last_s.max(window_s));
    Ok(Measured {
        name: name.to_owned(),
        events,
        acks_per_s: acks as f64 / window_s,
        ack_p50_ms: ack_times.ms(0.5),
        ack_p99_ms: ack_times.ms(0.99),
        delivered_per_s: rate,
        arrived_per_s: delivers.then(|| arrivals as f64 / window_s),
        arrival_p50_ms: arrival_times.ms(0.5),
        arrival_p99_ms: arrival_times.ms(0.99),
        cpu_us_per_event: per_event((after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6),
        instructions_per_event: instructions.and_then(|count| per_event(count as f64)),
        peak_rss_mb: (after.peak_rss_bytes > 0).then(|| mb(after.peak_rss_bytes)),
        written_bytes_per_event: per_event(after.written_bytes.saturating_sub(before.written_bytes) as f64),
        others_percent: others.percent(server),
        ..counted(board, drain)
    })
}

/// The machine's load when a cell began.
pub struct Others {
    began: Instant,
    machine: Duration,
    ours: Duration,
}

impl Others {
    pub fn now(server: &Server) -> Others {
        Others { began: Instant::now(), machine: process::machine_cpu(), ours: Others::ours(server) }
    }

    fn ours(server: &Server) -> Duration {
        server.reading().cpu + process::read(std::process::id()).cpu
    }

    /// The share of all cores that neither the server nor this program used since then. `None` if the server's process
    /// is unknown.
    pub fn percent(&self, server: &Server) -> Option<f64> {
        let ours = Others::ours(server).saturating_sub(self.ours);
        let theirs = process::machine_cpu().saturating_sub(self.machine).saturating_sub(ours);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all_s = self.began.elapsed().as_secs_f64() * cores as f64;
        (server.reading().rss_bytes > 0).then(|| theirs.as_secs_f64() / all_s * 100.0)
    }
}

/// The end of the wait for the last arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    All,
    /// No more deliveries came, so the missing ones are lost.
    Silent,
    /// Deliveries still came when the time had passed.
    Late,
}

/// Measures only the counts that must be 0.
pub fn counted(board: &Board, drain: Drain) -> Measured {
    let missing = board.lost();
    let (lost, late) = if drain == Drain::Late { (0, missing) } else { (missing, 0) };
    Measured {
        refused: board.refused.load(Relaxed),
        errors: board.errors.load(Relaxed) + board.strangers.load(Relaxed),
        lost,
        late,
        duplicates: board.duplicates.load(Relaxed),
        bad_signatures: board.bad_signatures.load(Relaxed),
        ..Measured::default()
    }
}

/// Waits until all acknowledged events have arrived, until no more deliveries come, or until the time has passed.
pub async fn drained(board: &Board, at_most: Duration) -> Drain {
    let began = Instant::now();
    let (mut arrivals, mut last_change) = (board.arrivals.load(Relaxed), Instant::now());
    while board.outstanding() > 0 {
        sleep(Duration::from_millis(10)).await;
        let now = board.arrivals.load(Relaxed);
        if now != arrivals {
            (arrivals, last_change) = (now, Instant::now());
        }
        if last_change.elapsed() > SILENCE_MAX {
            return Drain::Silent;
        }
        if began.elapsed() > at_most {
            return Drain::Late;
        }
    }
    Drain::All
}

/// One second of a long run.
#[derive(Debug, Clone)]
pub struct Second {
    pub rss_bytes: u64,
    pub outstanding: u64,
    pub arrivals: u64,
    pub acks: Histogram,
    pub lags: Histogram,
}

/// Runs `load` for `seconds` and measures every second.
pub async fn observe(server: &Server, board: &Arc<Board>, load: Load, seconds: u64) -> io::Result<Vec<Second>> {
    let producing = tokio::spawn(load::connect(load, server.aim.clone()).await?.run(board.clone()));
    let began = Instant::now();
    let (mut all, mut arrivals) = (Vec::new(), 0);
    for second in 1..=seconds {
        tokio::time::sleep_until(began + Duration::from_secs(second)).await;
        let now = board.arrivals.load(Relaxed);
        all.push(Second {
            rss_bytes: server.reading().rss_bytes,
            outstanding: board.outstanding(),
            arrivals: now - arrivals,
            acks: board.ack_times.take(),
            lags: board.arrival_times.take(),
        });
        arrivals = now;
    }
    board.stop.store(true, Relaxed);
    producing.await.map_err(io::Error::other)?;
    Ok(all)
}

/// The merged times of several seconds.
pub fn merged<'s>(seconds: impl Iterator<Item = &'s Histogram>) -> Histogram {
    let mut all = Histogram::default();
    seconds.for_each(|more| all.merge(more));
    all
}

pub fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
