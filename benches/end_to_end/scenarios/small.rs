//! A daemon with little or no work.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Bench, Hooks};
use crate::cell::{self, mb};
use crate::load::{Load, type_of};
use crate::report::Target;
use crate::server::{self, Server, Settings, make_webhook};

const QUIET_RATE_PER_S: f64 = 500.0;
/// Time between the start and the idle measurement, in which the work of the start ends.
const SETTLE: Duration = Duration::from_secs(3);
const WEBHOOKS: usize = 10_000;
const WEBHOOK_PERIOD_S: f64 = 10.0;

impl Bench {
    pub(super) async fn latency(&mut self) -> io::Result<()> {
        let load = Load { rate_per_s: Some(QUIET_RATE_PER_S), ..Load::new(16) };
        let ours = self.postrider(Hooks::Each(1), load).await?;
        let target = Target::AtMost(5.0, 2.0);
        self.report.judge("publish to arrival p50 at 500 events/s", ours.arrival_p50_ms, " ms", target);
        Ok(())
    }

    pub(super) async fn idle(&mut self) -> io::Result<()> {
        let server = Server::contender(&self.options, Settings::new())?;
        sleep(SETTLE).await;
        let (before, began) = (server.fine_cpu(), Instant::now());
        sleep(Duration::from_secs(if self.options.full { 60 } else { 10 })).await;
        let busy = server.fine_cpu().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
        let rss = mb(server.reading().rss_bytes);
        self.report.judge("idle: memory", Some(rss), " MB", Target::AtMost(14.0, 12.0));
        self.report.judge("idle: processor", Some(busy * 100.0), " %", Target::AtMost(0.1, 0.005));
        self.report.judge("size of the binary", Some(mb(server::binary_bytes())), " MB", Target::AtMost(15.0, 9.0));
        Ok(())
    }

    /// 10,000 webhooks and 1,000 events/s, so that each gets one every 10 s.
    pub(super) async fn webhooks10k(&mut self) -> io::Result<()> {
        let sink = self.sink(1, true).await?;
        let server = Server::contender(&self.options, Settings::new())?;
        let began = Instant::now();
        self.make_webhooks(&server, sink.addr).await?;
        self.report.note(format!("{WEBHOOKS} webhooks made in {:.1} s", began.elapsed().as_secs_f64()));
        let rate = WEBHOOKS as f64 / WEBHOOK_PERIOD_S;
        let load = Load { rate_per_s: Some(rate), types: WEBHOOKS, ..Load::new(64) };
        // Long enough for two turns of every webhook.
        let seconds = self.options.seconds().max(2 * WEBHOOK_PERIOD_S as u64);
        let ours = cell::measure("(c) Postrider, 10,000 webhooks", &server, &sink.board, load, seconds).await?;
        self.report.judge(
            "10,000 webhooks, one event every 10 s each: lag p99",
            ours.arrival_p99_ms,
            " ms",
            Target::AtMost(50.0, 10.0),
        );
        self.report.add(&ours);
        Ok(())
    }

    async fn make_webhooks(&self, server: &Server, sink: std::net::SocketAddr) -> io::Result<()> {
        let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut makers: JoinSet<io::Result<()>> = JoinSet::new();
        for _ in 0..64 {
            let (next, aim) = (next.clone(), server.aim.clone());
            makers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= WEBHOOKS {
                        return Ok(());
                    }
                    make_webhook(&aim, sink, number, &[type_of(number)], serde_json::json!({})).await?;
                }
            });
        }
        while let Some(done) = makers.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(())
    }
}
