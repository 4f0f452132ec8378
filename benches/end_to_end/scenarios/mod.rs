//! The scenarios. Every cell gets a fresh server, a fresh store and a fresh sink.

mod backlog;
mod large;
mod night;
mod ratios;
mod small;
mod steady;

use std::io;
use std::sync::Arc;

use serde_json::json;

use super::board::Board;
use super::cell::{self, Measured};
use super::load::{Load, type_of};
use super::options::{Options, Scenario};
use super::report::Report;
use super::server::{Server, Settings};
use super::sink::Sink;

/// The shared state of all scenarios.
pub struct Bench {
    pub options: Options,
    pub report: Report,
}

impl Bench {
    pub async fn run(&mut self, scenario: Scenario) -> io::Result<()> {
        match scenario {
            Scenario::Accept => self.accept().await,
            Scenario::Deliver => self.deliver().await,
            Scenario::Fanout10 => self.fanout10().await,
            Scenario::Large => self.large().await,
            Scenario::Batch => self.batch().await,
            Scenario::Matrix => self.matrix().await,
            Scenario::Latency => self.latency().await,
            Scenario::Idle => self.idle().await,
            Scenario::Backlog => self.backlog().await,
            Scenario::Webhooks10k => self.webhooks10k().await,
            Scenario::Soak => self.soak().await,
            Scenario::Partitions => self.partitions().await,
            Scenario::Listing => self.listing().await,
            Scenario::Night => self.night().await,
        }
    }

    /// Measures server (a) under `load`.
    async fn bare(&mut self, load: Load) -> io::Result<Measured> {
        let name = format!("(a) bare server, {}", named(&load));
        let server = Server::bare()?;
        let measured = cell::measure(&name, &server, &Arc::new(Board::new(0)), load, self.options.seconds()).await?;
        self.report.add(&measured);
        Ok(measured)
    }

    /// Measures server (b) with `fanout` deliveries per event, under `load`.
    async fn relay(&mut self, fanout: usize, load: Load) -> io::Result<Measured> {
        self.relay_that(false, fanout, load).await
    }

    /// Measures server (b), which signs if `signs`.
    async fn relay_that(&mut self, signs: bool, fanout: usize, load: Load) -> io::Result<Measured> {
        let signing = if signs { " that signs" } else { "" };
        let name = format!("(b) relay{signing} ×{fanout}, {}", named(&load));
        let sink = self.sink(fanout, signs).await?;
        let server = Server::relay(sink.addr, fanout, load.connections.max(256), signs)?;
        let measured = cell::measure(&name, &server, &sink.board, load, self.options.seconds()).await?;
        self.report.add(&measured);
        Ok(measured)
    }

    /// Measures server (c) with these webhooks, under `load`.
    async fn postrider(&mut self, hooks: Hooks, mut load: Load) -> io::Result<Measured> {
        let who = self.options.url.as_deref().unwrap_or("Postrider");
        let name = format!("(c) {who}{}, {}", hooks.name(), named(&load));
        let (sink, mut server) = self.contender(&hooks, Settings::new()).await?;
        load.types = hooks.event_types();
        let seconds = self.options.seconds();
        let measured = cell::measure(&name, &server, &sink.board, load, seconds).await?;
        if !server.is_alive() {
            return Err(io::Error::other("the daemon ended in the middle"));
        }
        server.clean().await?;
        self.report.add(&measured);
        Ok(measured)
    }

    /// A fresh daemon with webhooks to a fresh sink.
    async fn contender(&self, hooks: &Hooks, settings: Settings) -> io::Result<(Sink, Server)> {
        let sink = self.sink(hooks.fanout(), true).await?;
        let mut server = Server::contender(&self.options, settings)?;
        for (number, types) in hooks.types().into_iter().enumerate() {
            let change = match hooks {
                Hooks::Wide(max) => json!({ "max_in_flight": max }),
                Hooks::Groups(..) => json!({ "retry_schedule_s": [] }),
                _ => json!({}),
            };
            server.webhook(sink.addr, number, &types, change).await?;
        }
        Ok((sink, server))
    }

    async fn sink(&self, fanout: usize, signed: bool) -> io::Result<Sink> {
        Sink::start(self.options.sink, Arc::new(Board::new(fanout)), signed).await
    }
}

const GROUPS_REFUSED_EVERY: u64 = 1_000;

/// The webhooks of a cell. They have default settings except where stated.
#[derive(Debug, Clone, Copy)]
enum Hooks {
    /// One webhook that wants none of the events.
    None,
    /// This many webhooks that want every event.
    Each(usize),
    /// This many webhooks that want a type of their own, so that an event has one delivery.
    Spread(usize),
    /// So many groups of so many webhooks. Each group wants a type of its own, and nothing is retried. One delivery in
    /// `GROUPS_REFUSED_EVERY` is refused.
    Groups(usize, usize),
    /// One webhook with this `max_in_flight`.
    Wide(u32),
}

impl Hooks {
    fn fanout(self) -> usize {
        match self {
            Hooks::None => 0,
            Hooks::Each(many) | Hooks::Groups(_, many) => many,
            Hooks::Spread(_) | Hooks::Wide(_) => 1,
        }
    }

    /// How many event types take turns.
    fn event_types(self) -> usize {
        match self {
            Hooks::Spread(many) | Hooks::Groups(many, _) => many,
            Hooks::None | Hooks::Each(_) | Hooks::Wide(_) => 1,
        }
    }

    /// One delivery in this many is refused. With 0 none is.
    fn refused_every(self) -> u64 {
        if matches!(self, Hooks::Groups(..)) { GROUPS_REFUSED_EVERY } else { 0 }
    }

    fn types(self) -> Vec<Vec<String>> {
        match self {
            Hooks::None => vec![vec!["other".into()]],
            Hooks::Each(many) => vec![vec![]; many],
            Hooks::Spread(many) => (0..many).map(|number| vec![type_of(number)]).collect(),
            Hooks::Groups(groups, each) => (0..groups * each).map(|number| vec![type_of(number / each)]).collect(),
            Hooks::Wide(_) => vec![vec![]],
        }
    }

    fn name(self) -> String {
        match self {
            Hooks::None => String::new(),
            Hooks::Each(many) => format!(" ×{many}"),
            Hooks::Spread(many) => format!(" ×1 of {many} webhooks"),
            Hooks::Groups(groups, each) => format!(" ×{each} of {} webhooks", groups * each),
            Hooks::Wide(max) => format!(" ×1, max_in_flight {max}"),
        }
    }
}

fn named(load: &Load) -> String {
    let batch = if load.batch == 1 { String::new() } else { format!(" batch {}", load.batch) };
    let payload =
        if load.payload_bytes == 1024 { String::new() } else { format!(" {} KiB", load.payload_bytes / 1024) };
    let rate = load.rate_per_s.map(|rate| format!(" at {rate:.0}/s")).unwrap_or_default();
    format!("{} conn{batch}{payload}{rate}", load.connections)
}
