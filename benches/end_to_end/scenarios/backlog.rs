//! Many waiting deliveries: the start after kill -9, the memory, and the rate of draining.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bench, Hooks};
use crate::board::Board;
use crate::cell::{Measured, Others, counted, drained, mb};
use crate::load::Load;
use crate::report::{Target, short};
use crate::server::{Server, Settings, fill};

/// Waiting deliveries of the main figures, and of the one that runs by default.
const MANY: u64 = 1_000_000;
const FEW: u64 = 100_000;
/// Time between the start and the reading of the memory.
const SETTLE: Duration = Duration::from_secs(2);
const DRAIN_MAX: Duration = Duration::from_secs(1_800);

impl Bench {
    pub(super) async fn backlog(&mut self) -> io::Result<()> {
        let fresh = self.postrider(Hooks::Each(1), Load::new(self.options.connections)).await?;
        let sizes = match self.options.waiting {
            Some(waiting) => vec![waiting],
            None if self.options.full => vec![FEW, MANY],
            None => vec![FEW],
        };
        for waiting in sizes {
            self.backlog_of(waiting, &fresh).await?;
        }
        Ok(())
    }

    async fn backlog_of(&mut self, waiting: u64, fresh: &Measured) -> io::Result<()> {
        let sink = self.sink(1, true).await?;
        let board = sink.board.clone();
        let mut server = Server::contender(&self.options, Settings::new())?;
        let id = server.webhook(sink.addr, 0, &[], json!({})).await?;
        server.call("POST", &format!("/v1/webhooks/{id}/pause"), Some(&json!({}))).await?;
        let began = Instant::now();
        fill(&server, &board, waiting, 1).await?;
        let said = short(waiting as f64);
        self.report.note(format!(
            "{said} waiting, published in {:.1} s, {:.0} MB on disk",
            began.elapsed().as_secs_f64(),
            server.store_folder().map_or(0.0, |folder| mb(crate::process::folder_bytes(folder)))
        ));
        let start = server.kill_and_start().await?;
        tokio::time::sleep(SETTLE).await;
        let rss = mb(server.reading().rss_bytes);
        // The memory target for 100,000 deliveries is tighter than the one for a million.
        let few = waiting <= FEW;
        let (start_target, rss_target) = if few { ((1.0, 0.2), (100.0, 60.0)) } else { ((1.0, 0.2), (150.0, 60.0)) };
        self.report.judge(
            format!("{said} waiting: ready after kill -9"),
            Some(start.as_secs_f64()),
            " s",
            Target::AtMost(start_target.0, start_target.1),
        );
        let target = Target::AtMost(rss_target.0, rss_target.1);
        self.report.judge(format!("{said} waiting: memory"), Some(rss), " MB", target);
        let drain = self.drain(&server, &board, &id, waiting).await?;
        let what = format!("{said} waiting: draining, to the fresh rate");
        self.report.judge_ratio(what, drain.delivered_per_s, fresh.delivered_per_s, Target::AtLeast(0.8, 1.0));
        self.report.add(&drain);
        Ok(())
    }

    /// Resumes the webhook and waits for all deliveries.
    async fn drain(&self, server: &Server, board: &Arc<Board>, id: &str, waiting: u64) -> io::Result<Measured> {
        let before = server.reading();
        let others = Others::now(server);
        let (began, began_us) = (Instant::now(), board.now_us());
        server.call("POST", &format!("/v1/webhooks/{id}/resume"), Some(&json!({}))).await?;
        let drain = drained(board, DRAIN_MAX).await;
        let after = server.reading();
        let arrivals = board.arrivals.load(Relaxed);
        let took_s = (board.last_arrival_us.load(Relaxed).saturating_sub(began_us)) as f64 / 1e6;
        let took_s = if took_s > 0.0 { took_s } else { began.elapsed().as_secs_f64() };
        let per_event = |figure: f64| Some(figure / arrivals.max(1) as f64);
        Ok(Measured {
            name: format!("(c) Postrider, draining {}", short(waiting as f64)),
            events: arrivals,
            delivered_per_s: Some(arrivals as f64 / took_s),
            cpu_us_per_event: per_event((after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6),
            peak_rss_mb: Some(mb(after.peak_rss_bytes)),
            written_bytes_per_event: per_event(after.written_bytes.saturating_sub(before.written_bytes) as f64),
            others_percent: others.percent(server),
            ..counted(board, drain)
        })
    }
}
