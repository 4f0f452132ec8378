//! The accidents: power cuts between and within operations, kills, stops, failing syncs and reads, and a full disk. The
//! network loses or delays messages, the resolver fails, and the wall clock jumps and comes back. They come one at a
//! time. The exceptions are accidents while the daemon starts again, and a power cut that waits for the next partition
//! to begin. In some runs nothing fails: the daemon is only stopped and started, and its clock jumps.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use postrider::model::time::{DAY_MS, HOUR_MS};
use turmoil::Sim;

use super::expectations::{Expectations, Kind};
use super::machine::{Ended, Machine};
use super::rng::Rng;
use super::run::Disturbance;
use super::world::{DAEMON, OUTSIDE, START};

/// Maximum wait of an accident for an operation of the disk.
const FUSE_WAIT_MS: i64 = 300_000;
/// Maximum time of a stop.
const STOP_MS_MAX: i64 = 30_000;
/// Maximum time from a start until the daemon accepts requests.
const START_MS_MAX: i64 = 10_000;

/// Steps of a wall clock while the daemon runs: of a resumed machine, of a clock in local time, of one without a battery.
const CLOCK_STEPS_MS: [i64; 5] = [40 * DAY_MS, 25 * HOUR_MS, 8 * HOUR_MS, -HOUR_MS, 60_000 - START.0];
/// Those at which a start doubts the clock. It believes one that is some hours ahead.
const START_STEPS_MS: [i64; 3] = [CLOCK_STEPS_MS[0], CLOCK_STEPS_MS[3], CLOCK_STEPS_MS[4]];
/// Maximum time of a wrong clock. One that stays for five minutes is believed.
const WRONG_MS_MAX: u64 = 200_000;
/// Time after which a clock that is right again is believed, after a start that doubted it.
const BELIEVED_AFTER_MS: i64 = 330_000;

/// Approximate operations of the disk from a partition's beginning until all of its changes in other files are durable.
const PARTITION_OPERATIONS: u64 = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The daemon runs. No accident comes before this time.
    Well {
        until: i64,
    },
    /// The power fails with one of the next operations of the disk, at this time at the latest.
    Fuse {
        by: i64,
    },
    /// One of the next syncs fails. If none comes until this time, nothing happens.
    Sync {
        by: i64,
    },
    /// The daemon was told to stop.
    Stopping {
        since: i64,
    },
    Down {
        until: i64,
    },
    /// The daemon was started and accepts no requests yet.
    Starting {
        since: i64,
    },
    Full {
        until: i64,
    },
    Unread {
        until: i64,
    },
    Split {
        until: i64,
    },
    Held {
        until: i64,
    },
    Unresolved {
        until: i64,
    },
    WrongClock {
        until: i64,
    },
}

pub struct Faults {
    machine: Rc<Machine>,
    expectations: Rc<RefCell<Expectations>>,
    rng: Rng,
    state: State,
    /// Whether the daemon is stopped and started only, and nothing fails.
    is_plain: bool,
    pub count: u64,
}

impl Disturbance for Faults {
    fn step(&mut self, sim: &mut Sim<'_>, now: i64, may_begin: bool) {
        if self.machine.disk.borrow().is_dead() && !matches!(self.state, State::Down { .. }) {
            return self.go_down(sim, now, Kind::Crash, true);
        }
        let ended = self.machine.ended.borrow_mut().take();
        if let Some(ended) = ended {
            return self.take_end(sim, now, ended);
        }
        match self.state {
            State::Well { until } if may_begin && now >= until => self.begin(sim, now),
            State::Well { .. } => {}
            State::Fuse { by } if now >= by => self.go_down(sim, now, Kind::Crash, true),
            State::Sync { by } if now >= by => {
                self.machine.disk.borrow().fail_a_sync(u64::MAX);
                self.rest(now);
            }
            State::Stopping { since } if now - since > STOP_MS_MAX => {
                self.expectations.borrow_mut().fault(now, "a stop does not end".to_owned());
                self.go_down(sim, now, Kind::Crash, false);
            }
            State::Down { until } if now >= until => self.start(sim, now),
            State::Starting { since } => self.look_whether_it_is_up(now, since),
            State::Full { until } if now >= until => {
                self.machine.disk.borrow().set_full(false);
                self.expectations.borrow_mut().end(Kind::Disk, now + 15_000);
                self.rest(now);
            }
            State::Unread { until } if now >= until => {
                self.machine.disk.borrow().fail_a_read(None);
                self.expectations.borrow_mut().end(Kind::Disk, now + 15_000);
                self.rest(now);
            }
            State::Split { until } if now >= until => {
                sim.repair(DAEMON, OUTSIDE);
                self.expectations.borrow_mut().end(Kind::Network, now);
                self.rest(now);
            }
            State::Held { until } if now >= until => {
                sim.release(DAEMON, OUTSIDE);
                self.expectations.borrow_mut().end(Kind::Network, now + 1_000);
                self.rest(now);
            }
            State::Unresolved { until } if now >= until => {
                self.machine.network.resolver_is_down.store(false, Ordering::Relaxed);
                self.expectations.borrow_mut().end(Kind::Network, now);
                self.rest(now);
            }
            State::WrongClock { until } if now >= until => {
                self.set_clock(now, 0);
                self.rest(now);
            }
            _ => {}
        }
    }

    fn is_quiet(&self) -> bool {
        matches!(self.state, State::Well { .. })
    }

    fn calm(&self) {
        let disk = self.machine.disk.borrow();
        disk.set_fuse(None);
        disk.set_fuse_at_rename(None);
    }
}

impl Faults {
    pub fn new(machine: Rc<Machine>, expectations: Rc<RefCell<Expectations>>, mut rng: Rng) -> Faults {
        let is_plain = rng.chance(20);
        Faults { machine, expectations, rng, state: State::Starting { since: 0 }, is_plain, count: 0 }
    }

    /// Sets the wall clock ahead. A start with a wrong clock is a disturbance, until the clock is believed again.
    fn set_clock(&mut self, now: i64, off_ms: i64) {
        let was = self.machine.clock.off_ms.swap(off_ms, Ordering::Relaxed);
        let mut expectations = self.expectations.borrow_mut();
        if was != 0 || off_ms != 0 {
            expectations.trace(now, &format!("the clock is {off_ms} ms ahead"));
        }
        // Another step before the clock is believed again prolongs the doubt.
        if was == 0 && off_ms != 0 && expectations.has_trouble(&[Kind::Clock], now, now) {
            expectations.begin(Kind::Clock, now);
        }
        if was != 0 && off_ms == 0 {
            expectations.end(Kind::Clock, now + BELIEVED_AFTER_MS);
        }
    }

    fn rest(&mut self, now: i64) {
        // The next accident mostly comes soon, and sometimes after a long time.
        let (from, to) = if self.rng.chance(85) { (5_000, 150_000) } else { (300_000, 3_600_000) };
        self.state = State::Well { until: now + self.rng.between(from, to) as i64 };
    }

    fn begin(&mut self, sim: &mut Sim<'_>, now: i64) {
        self.count += 1;
        let accident = if self.is_plain { self.rng.choose(&[60, 60, 60, 60, 97]) } else { self.rng.below(100) };
        self.expectations.borrow_mut().trace(now, &format!("accident {accident}"));
        let disk = self.machine.disk.borrow().clone();
        let short = |rng: &mut Rng| now + rng.between(2_000, 240_000) as i64;
        self.state = match accident {
            0..45 => {
                // The power fails with the first operations after a quiet time, or in the middle of many.
                let most = 1 << self.rng.between(2, 11);
                disk.set_fuse(Some(self.rng.below(most)));
                State::Fuse { by: now + FUSE_WAIT_MS }
            }
            45..50 => return self.go_down(sim, now, Kind::Crash, true),
            50..60 => return self.go_down(sim, now, Kind::Crash, false),
            60..69 => {
                self.expectations.borrow_mut().begin(Kind::Stop, now);
                self.machine.stop.notify_one();
                State::Stopping { since: now }
            }
            69..76 => {
                disk.fail_a_sync(self.rng.below(6));
                State::Sync { by: now + FUSE_WAIT_MS }
            }
            76..82 => {
                self.expectations.borrow_mut().begin(Kind::Disk, now);
                disk.set_full(true);
                State::Full { until: short(&mut self.rng) }
            }
            82..87 => {
                self.expectations.borrow_mut().begin(Kind::Disk, now);
                disk.fail_a_read(Some(self.rng.below(60)));
                State::Unread { until: short(&mut self.rng) }
            }
            87..92 => {
                self.expectations.borrow_mut().begin(Kind::Network, now);
                sim.partition(DAEMON, OUTSIDE);
                State::Split { until: short(&mut self.rng) }
            }
            92..95 => {
                self.expectations.borrow_mut().begin(Kind::Network, now);
                sim.hold(DAEMON, OUTSIDE);
                State::Held { until: now + self.rng.between(500, 20_000) as i64 }
            }
            // Nothing that the outside sees may change, so this is no disturbance.
            95..98 => {
                let step_ms = self.rng.choose(&CLOCK_STEPS_MS);
                self.set_clock(now, step_ms);
                State::WrongClock { until: now + self.rng.between(2_000, WRONG_MS_MAX) as i64 }
            }
            _ => {
                self.expectations.borrow_mut().begin(Kind::Network, now);
                self.machine.network.resolver_is_down.store(true, Ordering::Relaxed);
                State::Unresolved { until: short(&mut self.rng) }
            }
        };
    }

    fn take_end(&mut self, sim: &mut Sim<'_>, now: i64, ended: Ended) {
        match ended {
            Ended::Stopped => self.go_down(sim, now, Kind::Stop, false),
            Ended::Broken => {
                let loses_power = self.rng.chance(50);
                self.go_down(sim, now, Kind::Crash, loses_power);
            }
            Ended::Unstarted(words) => {
                self.expectations.borrow_mut().fault(now, format!("it does not start: {words}"));
                self.go_down(sim, now, Kind::Crash, false);
            }
        }
    }

    /// The daemon ends. The content of its disk then depends on whether the power failed.
    fn go_down(&mut self, sim: &mut Sim<'_>, now: i64, kind: Kind, power: bool) {
        self.end_with_it(sim, now);
        self.set_clock(now, 0);
        let old = self.machine.disk.borrow().clone();
        let new = if power { old.cut() } else { old.kill() };
        sim.crash(DAEMON);
        self.machine.ended.borrow_mut().take();
        self.machine.up_since.set(None);
        *self.machine.disk.borrow_mut() = new;
        let mut expectations = self.expectations.borrow_mut();
        let is_open =
            expectations.troubles.last().is_some_and(|trouble| trouble.kind == kind && trouble.to_ms == i64::MAX);
        if !is_open {
            expectations.begin(kind, now);
        }
        let wait = match self.rng.below(10) {
            0 => self.rng.between(60_000, 1_200_000),
            _ => self.rng.between(100, 20_000),
        };
        self.state = State::Down { until: now + wait as i64 };
    }

    /// Ends other faults when the daemon goes down, so that accidents come one at a time.
    fn end_with_it(&mut self, sim: &mut Sim<'_>, now: i64) {
        match self.state {
            State::Full { .. } | State::Unread { .. } => self.expectations.borrow_mut().end(Kind::Disk, now + 15_000),
            State::Split { .. } => {
                sim.repair(DAEMON, OUTSIDE);
                self.expectations.borrow_mut().end(Kind::Network, now);
            }
            State::Held { .. } => {
                sim.release(DAEMON, OUTSIDE);
                self.expectations.borrow_mut().end(Kind::Network, now + 1_000);
            }
            State::Unresolved { .. } => {
                self.machine.network.resolver_is_down.store(false, Ordering::Relaxed);
                self.expectations.borrow_mut().end(Kind::Network, now);
            }
            _ => {}
        }
    }

    fn start(&mut self, sim: &mut Sim<'_>, now: i64) {
        if self.rng.chance(8) {
            self.expectations.borrow_mut().begin(Kind::Clock, now);
            let step_ms = self.rng.choose(&START_STEPS_MS);
            self.set_clock(now, step_ms);
        }
        if self.rng.chance(20) && !self.is_plain {
            // Another cut, while the daemon recovers from the last one.
            self.machine.disk.borrow().set_fuse(Some(self.rng.below(60)));
        }
        sim.bounce(DAEMON);
        self.state = State::Starting { since: now };
    }

    fn look_whether_it_is_up(&mut self, now: i64, since: i64) {
        if self.machine.up_since.get().is_some() {
            let fuse_is_out = self.expectations.borrow().troubles.is_empty();
            let mut expectations = self.expectations.borrow_mut();
            if !fuse_is_out {
                expectations.end(Kind::Crash, now);
                expectations.end(Kind::Stop, now);
            }
            drop(expectations);
            let disk = self.machine.disk.borrow().clone();
            disk.set_fuse(None);
            // A beginning partition touches three files, one after the other.
            let lays = self.rng.chance(50) && !self.is_plain;
            disk.set_fuse_at_rename(lays.then(|| ("partitions", self.rng.below(PARTITION_OPERATIONS))));
            if self.machine.clock.off_ms.load(Ordering::Relaxed) == 0 {
                self.rest(now);
            } else {
                self.state = State::WrongClock { until: now + self.rng.between(2_000, WRONG_MS_MAX) as i64 };
            }
        } else if now - since > START_MS_MAX {
            self.expectations.borrow_mut().fault(now, "it does not come up".to_owned());
            self.state = State::Starting { since: now };
        }
    }
}
