//! The accidents of a cluster: kills, power cuts and stops of nodes, nodes that stand still, and broken links to the
//! engine and to the world. The engine restarts, forgets the end of its log, or has a clock that jumps. They come one
//! at a time.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use turmoil::Sim;

use super::engine::SimEngine;
use super::node::{NodeEnded, SimNode};
use crate::sim::expectations::{Expectations, Kind};
use crate::sim::rng::Rng;
use crate::sim::run::Disturbance;
use crate::sim::world::{NODES, OUTSIDE};

/// Maximum time of a stop.
const STOP_MS_MAX: i64 = 30_000;
/// Maximum time from the end of an accident until a node serves.
const OWNER_MS_MAX: i64 = 60_000;
/// Time after waking in which the requests arrive that a node had sent before it stood still.
const WAKING_MS: i64 = 4_000;
/// Maximum time until the owner has appended the records again that the engine forgot. It needs a commit for that.
const HEALED_MS_MAX: i64 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccidentKind {
    Kill,
    Power,
    Stop,
    /// The link to the engine breaks.
    LogCut,
    /// As before, with an append under way that arrives later.
    LateAppend,
    /// The link to the world breaks.
    WorldCut,
    /// All messages of the node wait.
    Still,
    /// The engine answers no node.
    EngineDown,
    EngineForgets,
    EngineClock,
}

const ACCIDENTS: [AccidentKind; 14] = [
    AccidentKind::Kill,
    AccidentKind::Kill,
    AccidentKind::Power,
    AccidentKind::Power,
    AccidentKind::Stop,
    AccidentKind::LogCut,
    AccidentKind::LogCut,
    AccidentKind::LateAppend,
    AccidentKind::WorldCut,
    AccidentKind::Still,
    AccidentKind::Still,
    AccidentKind::EngineDown,
    AccidentKind::EngineForgets,
    AccidentKind::EngineClock,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccidentStage {
    /// No accident comes before this time.
    Well { until: i64 },
    /// An accident of a node, and its end.
    Under { kind: AccidentKind, node: usize, until: i64 },
    /// The engine has forgotten records, of which this was the last.
    Forgotten { last: u64, since: i64 },
    /// No node serves yet.
    Ownerless { since: i64 },
}

pub struct Accidents {
    nodes: Vec<Rc<SimNode>>,
    engine: SimEngine,
    expectations: Rc<RefCell<Expectations>>,
    rng: Rng,
    stage: AccidentStage,
    /// When a node that is down starts.
    starts: Vec<Option<i64>>,
    pub count: u64,
    pub takeovers: u64,
    last_term: u64,
}

impl Disturbance for Accidents {
    fn step(&mut self, sim: &mut Sim<'_>, now: i64, may_begin: bool) {
        for words in self.engine.problems() {
            self.expectations.borrow_mut().fault(now, words);
        }
        let newest = self.owner().and_then(|owner| self.nodes[owner].term.get()).unwrap_or(0);
        if newest > self.last_term {
            self.expectations.borrow_mut().trace(now, &format!("term {newest} serves"));
            (self.last_term, self.takeovers) = (newest, self.takeovers + 1);
        }
        for number in 0..self.nodes.len() {
            self.look_at(sim, now, number);
        }
        match self.stage {
            AccidentStage::Well { .. } if self.owner().is_none() => {
                self.trouble(now, &[Kind::Crash]);
                self.stage = AccidentStage::Ownerless { since: now };
            }
            AccidentStage::Well { until } if may_begin && now >= until => self.begin(sim, now),
            AccidentStage::Under { kind, node, until } if now >= until => self.end(sim, now, kind, node),
            AccidentStage::Forgotten { last, .. } if self.engine.last() >= last => self.rest(now),
            AccidentStage::Forgotten { since, .. } if now > since + HEALED_MS_MAX => {
                self.expectations.borrow_mut().fault(now, "the log is not healed".to_owned());
                self.rest(now);
            }
            AccidentStage::Ownerless { .. } if self.owner().is_some() => {
                for kind in [Kind::Crash, Kind::Stop, Kind::Network] {
                    self.expectations.borrow_mut().end(kind, now + 1_000);
                }
                self.rest(now);
            }
            AccidentStage::Ownerless { .. } if self.starts.iter().any(Option::is_some) => {
                self.stage = AccidentStage::Ownerless { since: now };
            }
            AccidentStage::Ownerless { since } if now > since + OWNER_MS_MAX => {
                self.expectations.borrow_mut().fault(now, "no node serves".to_owned());
                self.stage = AccidentStage::Ownerless { since: now };
            }
            _ => {}
        }
    }

    fn is_quiet(&self) -> bool {
        matches!(self.stage, AccidentStage::Well { .. }) && self.starts.iter().all(Option::is_none)
    }

    fn calm(&self) {
        self.engine.calm();
    }
}

impl Accidents {
    pub fn new(
        nodes: &[Rc<SimNode>],
        engine: &SimEngine,
        expectations: &Rc<RefCell<Expectations>>,
        rng: Rng,
    ) -> Accidents {
        Accidents {
            nodes: nodes.to_vec(),
            engine: engine.clone(),
            expectations: expectations.clone(),
            rng,
            stage: AccidentStage::Ownerless { since: 0 },
            starts: vec![None; nodes.len()],
            count: 0,
            takeovers: 0,
            last_term: 0,
        }
    }

    fn owner(&self) -> Option<usize> {
        // A node that was outrun and does not know yet is not the owner.
        let serving = self.nodes.iter().filter_map(|node| Some((node.term.get()?, node.number)));
        serving.max().map(|(_, number)| number)
    }

    /// Looks whether a node's process has ended, and starts it again.
    fn look_at(&mut self, sim: &mut Sim<'_>, now: i64, number: usize) {
        let node = self.nodes[number].clone();
        let is_dead = {
            let disks = node.disks.borrow();
            disks.store.is_dead() || disks.log.is_dead()
        };
        if is_dead {
            return self.go_down(sim, now, number, true, "its power failed");
        }
        let ended = node.ended.borrow_mut().take();
        if let Some(ended) = ended {
            if let NodeEnded::Failed(words) = &ended {
                self.expectations.borrow_mut().fault(now, format!("node {number}: {words}"));
            }
            return self.go_down(sim, now, number, false, &format!("{ended:?}"));
        }
        if self.starts[number].is_some_and(|at| now >= at) {
            self.starts[number] = None;
            self.expectations.borrow_mut().trace(now, &format!("node {number} starts"));
            sim.bounce(NODES[number]);
        }
    }

    fn go_down(&mut self, sim: &mut Sim<'_>, now: i64, number: usize, is_cut: bool, why: &str) {
        let node = &self.nodes[number];
        self.expectations.borrow_mut().trace(now, &format!("node {number} ends: {why}"));
        let left = node.disks.borrow().after_end(is_cut);
        sim.crash(NODES[number]);
        node.ended.borrow_mut().take();
        node.term.set(None);
        node.up_since.set(None);
        *node.disks.borrow_mut() = left;
        let wait =
            if self.rng.chance(10) { self.rng.between(60_000, 1_200_000) } else { self.rng.between(100, 20_000) };
        self.starts[number] = Some(now + wait as i64);
    }

    fn trouble(&self, now: i64, kinds: &[Kind]) {
        let mut expectations = self.expectations.borrow_mut();
        for kind in kinds {
            if !expectations.troubles.iter().any(|trouble| trouble.kind == *kind && trouble.to_ms == i64::MAX) {
                expectations.begin(*kind, now);
            }
        }
    }

    fn rest(&mut self, now: i64) {
        let (from, to) = if self.rng.chance(85) { (5_000, 120_000) } else { (300_000, 1_800_000) };
        self.stage = AccidentStage::Well { until: now + self.rng.between(from, to) as i64 };
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: i64) {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|number| self.starts[*number].is_none()).collect();
        // Most often the owner.
        let node = match self.owner() {
            Some(owner) if self.rng.chance(70) => owner,
            _ => self.rng.choose(&running),
        };
        self.count += 1;
        let kind = self.rng.choose(&ACCIDENTS);
        self.expectations.borrow_mut().trace(now, &format!("{kind:?} of node {node}"));
        let lasts = match self.rng.chance(50) {
            true => self.rng.between(500, 12_000),
            false => self.rng.between(12_000, 60_000),
        };
        let mut until = now + lasts as i64;
        let link = &self.engine.links[node];
        match kind {
            AccidentKind::Kill => {
                self.trouble(now, &[Kind::Crash]);
                self.go_down(sim, now, node, false, "killed");
                until = now;
            }
            AccidentKind::Power => {
                self.trouble(now, &[Kind::Crash]);
                self.nodes[node].disks.borrow().store.set_fuse(Some(self.rng.below(60)));
            }
            AccidentKind::Stop => {
                self.trouble(now, &[Kind::Stop]);
                self.nodes[node].stop.notify_one();
                until = now + STOP_MS_MAX;
            }
            AccidentKind::LogCut | AccidentKind::LateAppend => {
                self.trouble(now, &[Kind::Crash]);
                link.is_cut.store(true, Ordering::Relaxed);
                link.is_late.store(kind == AccidentKind::LateAppend, Ordering::Relaxed);
            }
            AccidentKind::WorldCut => {
                self.trouble(now, &[Kind::Network]);
                sim.partition(NODES[node], OUTSIDE);
            }
            AccidentKind::Still => {
                self.trouble(now, &[Kind::Crash, Kind::Network]);
                link.is_cut.store(true, Ordering::Relaxed);
                link.is_late.store(self.rng.chance(50), Ordering::Relaxed);
                sim.hold(NODES[node], OUTSIDE);
            }
            AccidentKind::EngineDown => {
                self.trouble(now, &[Kind::Crash]);
                self.engine.links.iter().for_each(|link| link.is_cut.store(true, Ordering::Relaxed));
            }
            AccidentKind::EngineForgets => {
                let last = self.engine.forget();
                self.stage = AccidentStage::Forgotten { last, since: now };
                return;
            }
            AccidentKind::EngineClock => {
                self.trouble(now, &[Kind::Crash]);
                self.engine.jump();
                until = now + 15_000;
            }
        }
        self.stage = AccidentStage::Under { kind, node, until };
    }

    fn end(&mut self, sim: &mut Sim<'_>, now: i64, kind: AccidentKind, node: usize) {
        for link in &*self.engine.links {
            link.is_cut.store(false, Ordering::Relaxed);
            link.is_late.store(false, Ordering::Relaxed);
        }
        match kind {
            // No operation came.
            AccidentKind::Power if self.starts[node].is_none() => {
                self.go_down(sim, now, node, true, "the power is cut");
            }
            AccidentKind::Stop
                if self.starts[node].is_none()
                    && self.nodes[node].up_since.get().is_some_and(|at| at < now - STOP_MS_MAX) =>
            {
                self.expectations.borrow_mut().fault(now, "a stop does not end".to_owned());
            }
            AccidentKind::WorldCut => sim.repair(NODES[node], OUTSIDE),
            AccidentKind::Still => {
                if let Some(address) = self.nodes[node].address() {
                    self.expectations.borrow_mut().wakes(address, now + WAKING_MS);
                }
                sim.release(NODES[node], OUTSIDE);
            }
            _ => {}
        }
        self.stage = AccidentStage::Ownerless { since: now };
    }
}
