//! The reads of an operator at night: the failed deliveries of a day, attempts, figures, and events by name. The store
//! is large and has 1,000 webhooks, and one delivery in a thousand has failed.

use std::io;

use super::large::{MAINTENANCE, READS, Reader, STORED, STORED_FULL, moment, unix_ms};
use super::{Bench, Hooks};
use crate::report::{Target, short};
use crate::server::Server;

const WEBHOOKS: Hooks = Hooks::Groups(100, 10);
const PARTITIONS: u64 = 30;
/// Floor and goal of a read's p99 in milliseconds.
const READ_MS: Target = Target::AtMost(15.0, 5.0);

/// Floor and goal of a page's median in milliseconds.
const PAGE_MEDIAN_MS: Target = Target::AtMost(5.0, 2.0);
/// The pages that need no id, below `/ui/`.
const PAGES: [&str; 20] = [
    "",
    "webhooks",
    "webhooks?order=worst",
    "deliveries",
    "deliveries?status=failed",
    "deliveries?status=waiting",
    "deliveries?outcome=4xx",
    "deliveries?type=absent",
    "deliveries?last=1h",
    "deliveries?search=absent",
    "events",
    "events?type=absent",
    "events?event_id=absent",
    "events?subject=absent",
    "live",
    "apps",
    "replays",
    "audit",
    "keys",
    "system",
];

/// The path of the n-th read of a kind.
type PathOf<'p> = Box<dyn Fn(u64) -> String + 'p>;

impl Bench {
    pub(super) async fn night(&mut self) -> io::Result<()> {
        let stored = self.options.stored.unwrap_or(if self.options.full { STORED_FULL } else { STORED });
        let partition_bytes = self.partition_bytes(WEBHOOKS, stored / PARTITIONS).await?;
        let settings = vec![("POSTRIDER_PARTITION_MAX_BYTES", partition_bytes.to_string())];
        let began_ms = unix_ms();
        let (sink, mut server) = self.stored(WEBHOOKS, stored, stored / PARTITIONS, settings).await?;
        let partitions = server.partitions().len();
        self.report.note(format!("{} deliveries of 1,000 webhooks in {partitions} partitions", short(stored as f64)));
        let span = (began_ms, unix_ms());
        tokio::time::sleep(MAINTENANCE).await;
        self.night_reads(&server, span).await?;
        self.night_pages(&server).await?;
        server.forget_settings();
        let start = server.kill_and_start().await?;
        self.report.judge(
            "the same store: ready after kill -9",
            Some(start.as_secs_f64()),
            " s",
            Target::AtMost(1.0, 0.2),
        );
        drop(sink);
        Ok(())
    }

    async fn night_reads(&mut self, server: &Server, span: (i64, i64)) -> io::Result<()> {
        let mut client = Reader::open(server).await?;
        let mut webhooks = Vec::new();
        let all = "/v1/webhooks?limit=250".to_owned();
        client.time([all].into_iter(), |page| webhooks.extend(ids(page, "id"))).await?;
        let (mut attempts, mut events) = (Vec::new(), Vec::new());
        let some = (0..100).map(|read| format!("/v1/deliveries?limit=50&to={}", moment(span, read)));
        client.time(some, |page| events.extend(ids(page, "event_id"))).await?;
        client.time(["/v1/attempts?limit=250".to_owned()].into_iter(), |page| attempts.extend(ids(page, "id"))).await?;

        let at = |read: u64| moment(span, read);
        let one = |of: &[String], read: u64| of[read as usize % of.len()].clone();
        let reads: Vec<(&str, PathOf<'_>)> = vec![
            (
                "failed deliveries",
                Box::new(|read| format!("/v1/deliveries?status=failed&limit=50&ended_to={}", at(read))),
            ),
            (
                "failed deliveries of a webhook",
                Box::new(|read| format!("/v1/webhooks/{}/deliveries?status=failed&limit=50", one(&webhooks, read))),
            ),
            (
                "failed deliveries with a status class",
                Box::new(|read| format!("/v1/deliveries?status=failed&status_code=4xx&limit=50&ended_to={}", at(read))),
            ),
            (
                "waiting deliveries of a webhook",
                Box::new(|read| format!("/v1/webhooks/{}/waiting", one(&webhooks, read))),
            ),
            ("a webhook", Box::new(|read| format!("/v1/webhooks/{}", one(&webhooks, read)))),
            ("health of a webhook", Box::new(|read| format!("/v1/webhooks/{}/health", one(&webhooks, read)))),
            ("figures", Box::new(|_| "/v1/stats?last=24h".into())),
            ("figures of 31 days", Box::new(|_| "/v1/stats?last=31d".into())),
            ("series of figures", Box::new(|_| "/v1/stats/series?step=1h".into())),
            (
                "series of a webhook",
                Box::new(|read| format!("/v1/stats/series?step=1m&webhook_id={}", one(&webhooks, read))),
            ),
            ("webhooks, worst first", Box::new(|_| "/v1/webhooks?include=figures&order=worst&limit=50".into())),
            ("failed attempts", Box::new(|_| "/v1/attempts?success=false&limit=50".into())),
            (
                "attempts of a webhook",
                Box::new(|read| format!("/v1/attempts?limit=50&webhook_id={}", one(&webhooks, read))),
            ),
            ("request of an attempt", Box::new(|read| format!("/v1/attempts/{}/request", one(&attempts, read)))),
            ("an event by its id", Box::new(|read| format!("/v1/events/{}", one(&events, read)))),
            ("an event that is not there, by event_id", Box::new(|read| format!("/v1/events?event_id=absent-{read}"))),
            ("events by a subject that is not there", Box::new(|read| format!("/v1/events?subject=absent-{read}"))),
            ("event types", Box::new(|_| "/v1/event-types".into())),
            ("the audit log by action", Box::new(|_| "/v1/audit?action=webhook.create&limit=50".into())),
            ("the machine", Box::new(|_| "/v1/system".into())),
        ];
        for (name, path) in reads {
            let p99 = client.time((0..READS).map(path), |_| {}).await?.ms(0.99);
            self.report.judge(format!("{name}: p99"), p99, " ms", READ_MS);
        }
        Ok(())
    }

    /// The pages of the dashboard, with each filter alone.
    async fn night_pages(&mut self, server: &Server) -> io::Result<()> {
        let mut api = Reader::open(server).await?;
        let (mut webhooks, mut deliveries, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let page = |path: &str| std::iter::once(path.to_owned());
        api.time(page("/v1/webhooks?limit=250"), |page| webhooks.extend(ids(page, "id"))).await?;
        api.time(page("/v1/deliveries?limit=250"), |page| {
            deliveries.extend(ids(page, "id"));
            events.extend(ids(page, "event_id"));
        })
        .await?;
        let one = |of: &[String], read: u64| of[read as usize % of.len()].clone();
        let mut pages: Vec<(String, PathOf<'_>)> = PAGES
            .into_iter()
            .map(|path| (format!("/ui/{path}"), Box::new(move |_| format!("/ui/{path}")) as PathOf<'_>))
            .collect();
        let kinds = [("webhooks", &webhooks), ("deliveries", &deliveries), ("events", &events)];
        for (kind, of) in kinds {
            pages.push((format!("/ui/{kind}/{{id}}"), Box::new(move |read| format!("/ui/{kind}/{}", one(of, read)))));
        }
        let chosen = |read| format!("/ui/deliveries?webhook={}", one(&webhooks, read));
        pages.push(("/ui/deliveries?webhook={id}".into(), Box::new(chosen)));
        let mut browser = Reader::log_in(server).await?;
        for (name, path) in pages {
            let times = browser.time((0..READS).map(path), |_| {}).await?;
            self.report.judge(format!("{name}: median"), times.ms(0.5), " ms", PAGE_MEDIAN_MS);
            self.report.judge(format!("{name}: p99"), times.ms(0.99), " ms", READ_MS);
        }
        Ok(())
    }
}

/// This field of all objects of a page.
fn ids(page: &serde_json::Value, field: &str) -> Vec<String> {
    let objects = page["data"].as_array().into_iter().flatten();
    objects.filter_map(|object| object[field].as_str().map(str::to_owned)).collect()
}
