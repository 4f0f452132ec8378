//! Rates against the two ceilings.

use std::io;

use super::{Bench, Hooks};
use crate::cell::Measured;
use crate::load::Load;
use crate::report::{Target, ratio};

/// Producer connections of the matrix.
const CONNECTIONS: [usize; 4] = [16, 64, 256, 1024];
const PAYLOAD_BYTES: [usize; 2] = [1024, 65_536];
const BATCH: usize = 100;
/// Payload and producer connections of `large`.
const LARGE_BYTES: usize = 65_536;
const LARGE_CONNECTIONS: usize = 64;
/// Maximum connections of batches with large payloads. More would only measure memory, at 6.5 MB per request.
const LARGE_BATCH_CONNECTIONS_MAX: usize = 16;

impl Bench {
    pub(super) async fn accept(&mut self) -> io::Result<()> {
        let mut counts = vec![64, self.options.connections];
        counts.dedup();
        for connections in counts {
            let load = Load::new(connections);
            let mut ratios = Vec::new();
            for _ in 0..self.options.rounds() {
                let bare = self.bare(load.clone()).await?;
                let ours = self.postrider(Hooks::None, load.clone()).await?;
                ratios.push(ratio(Some(ours.acks_per_s), Some(bare.acks_per_s)));
            }
            let target = if connections == 64 { Target::AtLeast(0.15, 0.60) } else { Target::AtLeast(0.52, 0.60) };
            self.report.judge_rounds(format!("durable acks/s, {connections} connections, to (a)"), &ratios, target);
        }
        Ok(())
    }

    /// Measures delivery. The target is for one webhook with default settings. The others show the effect of its
    /// `max_in_flight` of 16.
    pub(super) async fn deliver(&mut self) -> io::Result<()> {
        let load = Load::new(self.options.connections);
        let mut variants = vec![
            (Hooks::Each(1), "one webhook, defaults", Vec::new()),
            (Hooks::Wide(256), "one webhook, max_in_flight 256", Vec::new()),
            (Hooks::Spread(16), "16 webhooks, defaults", Vec::new()),
        ];
        if self.options.webhooks_exist {
            variants.truncate(1);
        }
        for _ in 0..self.options.rounds() {
            let relay = self.relay(1, load.clone()).await?;
            for (hooks, _, ratios) in &mut variants {
                let ours = self.postrider(*hooks, load.clone()).await?;
                if matches!(hooks, Hooks::Each(1)) {
                    self.report.judge("memory at the top", ours.peak_rss_mb, " MB", Target::AtMost(85.0, 70.0));
                    self.judge_written("1 KiB", &ours, Target::AtMost(7.0, 4.0));
                }
                ratios.push(ratio(ours.delivered_per_s, relay.delivered_per_s));
            }
        }
        for (_, said, ratios) in variants {
            let what = format!("delivered/s ×1, {} connections, {said}, to (b)", load.connections);
            self.report.judge_rounds(what, &ratios, Target::AtLeast(0.50, 0.70));
        }
        Ok(())
    }

    pub(super) async fn fanout10(&mut self) -> io::Result<()> {
        let load = Load::new(self.options.connections);
        let mut ratios = Vec::new();
        for _ in 0..self.options.rounds() {
            let relay = self.relay(10, load.clone()).await?;
            let ours = self.postrider(Hooks::Each(10), load.clone()).await?;
            ratios.push(ratio(ours.delivered_per_s, relay.delivered_per_s));
        }
        let what = format!("delivered/s ×10, {} connections, to (b) ×10", load.connections);
        self.report.judge_rounds(what, &ratios, Target::AtLeast(0.62, 0.80));
        Ok(())
    }

    /// Measures deliveries of 64 KiB. A relay stores nothing, so the one that signs is the fairer ceiling. The hash
    /// over the body is a large part of its cost.
    pub(super) async fn large(&mut self) -> io::Result<()> {
        let load = Load { payload_bytes: LARGE_BYTES, ..Load::new(LARGE_CONNECTIONS) };
        let (mut to_relay, mut to_signing) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds() {
            let relay = self.relay(1, load.clone()).await?;
            let signing = self.relay_that(true, 1, load.clone()).await?;
            let ours = self.postrider(Hooks::Each(1), load.clone()).await?;
            self.judge_written("64 KiB", &ours, Target::AtMost(75.0, 70.0));
            to_relay.push(ratio(ours.delivered_per_s, relay.delivered_per_s));
            to_signing.push(ratio(ours.delivered_per_s, signing.delivered_per_s));
        }
        let what = format!("delivered/s ×1, 64 KiB, {LARGE_CONNECTIONS} connections, to (b)");
        self.report.judge_rounds(what.clone(), &to_relay, Target::AtLeast(0.26, 0.50));
        self.report.judge_rounds(format!("{what} that signs"), &to_signing, Target::AtLeast(0.45, 0.70));
        Ok(())
    }

    /// Judges the bytes to disk of an event's life so far.
    fn judge_written(&mut self, payload: &str, ours: &Measured, target: Target) {
        let kb = ours.written_bytes_per_event.map(|bytes| bytes / 1e3);
        self.report.judge(format!("written for an event of {payload}"), kb, " KB", target);
    }

    pub(super) async fn batch(&mut self) -> io::Result<()> {
        let single = Load::new(16);
        let batches = Load { batch: BATCH, ..single.clone() };
        let mut ratios = Vec::new();
        for _ in 0..self.options.rounds() {
            let one_by_one = self.postrider(Hooks::None, single.clone()).await?;
            let together = self.postrider(Hooks::None, batches.clone()).await?;
            ratios.push(ratio(Some(together.acks_per_s), Some(one_by_one.acks_per_s)));
        }
        let what = "acks/s in batches of 100 on 16 connections, to singles";
        self.report.judge_rounds(what, &ratios, Target::AtLeast(2.0, 3.0));
        Ok(())
    }

    /// Measures every combination. The servers take turns within one, so that each ratio compares neighbours in time.
    pub(super) async fn matrix(&mut self) -> io::Result<()> {
        for payload_bytes in PAYLOAD_BYTES {
            for connections in CONNECTIONS {
                let single = Load { payload_bytes, ..Load::new(connections) };
                self.bare(single.clone()).await?;
                for fanout in [1, 10] {
                    self.relay(fanout, single.clone()).await?;
                    self.postrider(Hooks::Each(fanout), single.clone()).await?;
                    if payload_bytes == 1024 || connections <= LARGE_BATCH_CONNECTIONS_MAX {
                        self.postrider(Hooks::Each(fanout), Load { batch: BATCH, ..single.clone() }).await?;
                    }
                }
                self.report.show_rows();
            }
        }
        Ok(())
    }
}
