//! Half the top rate for long: growth, and the cost of background maintenance.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use super::{Bench, Hooks};
use crate::cell::{Measured, Others, Second, counted, drained, mb, merged, observe};
use crate::load::Load;
use crate::report::Target;
use crate::server::{Server, Settings};

/// Maximum seconds at the start of a long run that are not judged.
const FIRST_MINUTE_S: usize = 60;
/// Seconds at either end whose figures are merged.
const END_S: usize = 15;
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// More than two rounds of maintenance. A partition that is sealed at the start is archived in the first and dropped in
/// the second.
const PARTITIONS_S: u64 = 150;
/// A size at which several partitions are sealed. The retention ends within the run.
const PARTITION_BYTES: u64 = 64 << 20;
const RETENTION: &str = "20s";

impl Bench {
    pub(super) async fn soak(&mut self) -> io::Result<()> {
        let load = self.half_load().await?;
        let seconds = self.options.soak_seconds.unwrap_or(if self.options.full { 600 } else { 60 });
        let (measured, all) = self.steadily("(c) Postrider, soak", load, seconds, Settings::new()).await?;
        self.report.add(&measured);
        let skipped = FIRST_MINUTE_S.min(all.len() / 4);
        let width = END_S.min(all.len() / 4).max(1);
        let (early, late) = (&all[skipped..skipped + width], &all[all.len() - width..]);
        let rss = |part: &[Second]| part.iter().map(|second| second.rss_bytes).sum::<u64>() as f64 / part.len() as f64;
        let growth = (rss(late) / rss(early) - 1.0) * 100.0;
        let lag = |part: &[Second]| merged(part.iter().map(|second| &second.lags)).ms(0.5);
        self.report.note(format!(
            "memory {:.1} → {:.1} MB, waiting deliveries {} → {}",
            mb(rss(early) as u64),
            mb(rss(late) as u64),
            early[0].outstanding,
            late[width - 1].outstanding
        ));
        let what = format!("{seconds} s at half the top rate: growth of memory after the first {skipped} s");
        self.report.judge(what, Some(growth), " %", Target::AtMost(5.0, 5.0));
        let what = format!("{seconds} s at half the top rate: lag p50 at the end, to the beginning");
        self.report.judge_ratio(what, lag(late), lag(early), Target::AtMost(1.2, 1.1));
        Ok(())
    }

    pub(super) async fn partitions(&mut self) -> io::Result<()> {
        let load = self.half_load().await?;
        let quiet = self.steadily("(c) one partition", load.clone(), PARTITIONS_S, Settings::new()).await?.0;
        self.report.add(&quiet);
        let settings = vec![
            ("POSTRIDER_PARTITION_MAX_BYTES", PARTITION_BYTES.to_string()),
            ("POSTRIDER_RETENTION", RETENTION.into()),
        ];
        let busy = self.steadily("(c) partitions come and go", load, PARTITIONS_S, settings).await?.0;
        self.report.add(&busy);
        let what = "delivered/s while partitions are sealed, counted, dropped, to without";
        self.report.judge_ratio(what, busy.delivered_per_s, quiet.delivered_per_s, Target::AtLeast(0.9, 0.98));
        let what = "acknowledgement p99 meanwhile, to without";
        self.report.judge_ratio(what, busy.ack_p99_ms, quiet.ack_p99_ms, Target::AtMost(1.3, 1.1));
        Ok(())
    }

    /// Half of the maximum rate of one webhook with default settings.
    async fn half_load(&mut self) -> io::Result<Load> {
        let load = Load::new(self.options.connections);
        let top = self.postrider(Hooks::Each(1), load.clone()).await?;
        let rate = top.delivered_per_s.unwrap_or(2.0) / 2.0;
        self.report.note(format!("half the top rate: {rate:.0} events/s"));
        Ok(Load { rate_per_s: Some(rate), ..load })
    }

    async fn steadily(
        &mut self,
        name: &str,
        load: Load,
        seconds: u64,
        settings: Settings,
    ) -> io::Result<(Measured, Vec<Second>)> {
        let (sink, server) = self.contender(&Hooks::Each(1), settings).await?;
        let board = sink.board.clone();
        let before = server.reading();
        let others = Others::now(&server);
        let began = Instant::now();
        let (all, turnover) = tokio::join!(observe(&server, &board, load, seconds), watch_partitions(&server, seconds));
        let all = all?;
        self.report.note(turnover);
        let others_percent = others.percent(&server);
        let took_s = began.elapsed().as_secs_f64();
        let drain = drained(&board, DRAIN_MAX).await;
        let after = server.reading();
        let judged = &all[FIRST_MINUTE_S.min(all.len() / 4)..];
        let (acks, lags) = (merged(judged.iter().map(|s| &s.acks)), merged(judged.iter().map(|s| &s.lags)));
        let arrivals: u64 = judged.iter().map(|second| second.arrivals).sum();
        let events = board.acks.load(std::sync::atomic::Ordering::Relaxed);
        let measured = Measured {
            name: name.to_owned(),
            events,
            acks_per_s: events as f64 / took_s,
            ack_p50_ms: acks.ms(0.5),
            ack_p99_ms: acks.ms(0.99),
            delivered_per_s: Some(arrivals as f64 / judged.len().max(1) as f64),
            arrived_per_s: None,
            arrival_p50_ms: lags.ms(0.5),
            arrival_p99_ms: lags.ms(0.99),
            cpu_us_per_event: Some((after.cpu - before.cpu).as_secs_f64() * 1e6 / events.max(1) as f64),
            peak_rss_mb: Some(mb(after.peak_rss_bytes)),
            written_bytes_per_event: Some((after.written_bytes - before.written_bytes) as f64 / events.max(1) as f64),
            others_percent,
            ..counted(&board, drain)
        };
        Ok((measured, all))
    }
}

/// Watches the partitions' files for `seconds`. Returns how many were made and removed.
async fn watch_partitions(server: &Server, seconds: u64) -> String {
    let folder = server.store_folder().map(|store| store.join("data/partitions")).unwrap_or_default();
    let (mut seen, mut last) = (HashSet::new(), HashSet::new());
    for _ in 0..seconds * 2 {
        last.clear();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            last.insert(entry.file_name());
        }
        seen.extend(last.iter().cloned());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    format!("partitions: {} made, {} dropped", seen.len(), seen.len() - last.len())
}
