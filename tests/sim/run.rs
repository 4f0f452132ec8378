//! One simulation: turmoil's hosts advance in steps, and accidents happen between two steps.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use postrider::store::Disk as _;
use turmoil::Sim;

use super::api::Api;
use super::auditor::Auditor;
use super::expectations::{Expectations, Kind};
use super::faults::Faults;
use super::machine::Machine;
use super::producers::{Outside, Producer};
use super::receivers::Receiver;
use super::rng::Rng;
use super::users::{Checker, Handler, Reader};
use super::world::{DAEMON, OUTSIDE, START, elapsed_ms, sleep_ms};

/// Length of a step of simulated time. Messages are delivered between two steps.
pub(super) const TICK_MS: u64 = 200;
const PRODUCERS: u64 = 3;
/// Maximum time of the remaining work once all disturbances have ended.
const REST_MS: i64 = 2 * 3_600_000;

/// Time that a simulation continues after its first fault.
const AFTER_FAULT_MS: i64 = 60_000;

/// The result of a simulation.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub seed: u64,
    pub simulated_ms: i64,
    pub events: u64,
    pub requests: u64,
    pub repeated: u64,
    pub crashes: u64,
    pub accidents: u64,
    /// Number of partition files at the end.
    pub partitions: u64,
    /// Nodes of a cluster. 0 of a daemon by itself.
    pub nodes: usize,
    pub takeovers: u64,
    /// Records that the engine of a cluster forgot.
    pub forgotten: u64,
    /// Requests of nodes that no longer owned the store.
    pub outrun: u64,
    pub trace: u64,
    pub trace_lines: u64,
    pub faults: Vec<String>,
}

/// Progress of the outside world.
#[derive(Clone, Default)]
pub(super) struct Progress {
    /// Whether the webhooks exist, so that accidents may happen.
    pub is_prepared: Rc<Cell<bool>>,
    /// Whether everything was read.
    pub is_concluded: Rc<Cell<bool>>,
}

/// Runs the simulation of a seed: `hours` with accidents, and the time after them until no work is left.
pub fn simulate(seed: u64, hours: u64) -> Report {
    let mut rng = Rng::new(seed);
    let machine = Machine::new(rng.fork());
    let expectations = Rc::new(RefCell::new(Expectations::new()));
    let outside = Outside { expectations: expectations.clone(), is_over: Rc::default(), open: Rc::default() };
    let is_healed = Rc::new(RefCell::new(false));
    let progress = Progress::default();
    let mut sim = world(rng.draw());
    add_outside(&mut sim, (outside.clone(), is_healed.clone(), progress.clone(), rng.fork()));
    let computer = machine.clone();
    sim.host(DAEMON, move || {
        let computer = computer.clone();
        async move {
            computer.run().await;
            Ok(())
        }
    });
    let mut faults = Faults::new(machine.clone(), expectations.clone(), rng.fork());
    drive(&mut sim, hours, (&outside, &is_healed, &progress), &mut faults);
    let partitions = machine.disk.borrow().list("partitions").map_or(0, |files| files.len() as u64);
    let report = report(seed, sim.elapsed().as_millis() as i64, &expectations.borrow(), faults.count);
    Report { partitions, ..report }
}

/// The accidents of a simulation.
pub(super) trait Disturbance {
    /// Begins and ends accidents at `now`, in milliseconds of simulated time.
    fn step(&mut self, sim: &mut Sim<'_>, now: i64, may_begin: bool);
    /// Whether no accident goes on.
    fn is_quiet(&self) -> bool;
    /// Ends everything that disturbs.
    fn calm(&self);
}

/// Advances a simulation: `hours` with accidents, and the time after them until no work is left.
pub(super) fn drive(
    sim: &mut Sim<'_>,
    hours: u64,
    (outside, is_healed, progress): (&Outside, &Rc<RefCell<bool>>, &Progress),
    accidents: &mut impl Disturbance,
) {
    let end_ms = hours as i64 * 3_600_000;
    while !progress.is_concluded.get() {
        if let Err(error) = sim.step() {
            outside.expectations.borrow_mut().fault(0, format!("the simulation broke: {error}"));
            break;
        }
        let now = sim.elapsed().as_millis() as i64;
        let may_begin = progress.is_prepared.get() && now < end_ms;
        accidents.step(sim, now, may_begin);
        if now >= end_ms && !outside.is_over.get() && accidents.is_quiet() {
            outside.expectations.borrow_mut().trace(now, "everything becomes well");
            outside.is_over.set(true);
            accidents.calm();
            *is_healed.borrow_mut() = true;
        }
        if now > end_ms + 3 * REST_MS {
            outside.expectations.borrow_mut().fault(now, "given up".to_owned());
        }
        // A fault may show more of itself for a while.
        if outside.expectations.borrow().first_fault_ms.is_some_and(|first| now > first + AFTER_FAULT_MS) {
            break;
        }
    }
}

/// The simulated world, without hosts.
pub(super) fn world<'a>(seed: u64) -> Sim<'a> {
    turmoil::Builder::new()
        .tick_duration(Duration::from_millis(TICK_MS))
        .simulation_duration(Duration::from_secs(u64::from(u32::MAX)))
        .epoch(UNIX_EPOCH + Duration::from_millis(START.0 as u64))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(300))
        .tcp_capacity(4_096)
        .ephemeral_ports(10_000..=u16::MAX)
        .rng_seed(seed)
        .build()
}

/// Adds the host of everything outside the daemon.
pub(super) fn add_outside(sim: &mut Sim<'_>, parts: (Outside, Rc<RefCell<bool>>, Progress, Rng)) {
    sim.host(OUTSIDE, move || {
        let (outside, is_healed, progress, rng) = parts.clone();
        async move {
            live_outside(outside, is_healed, progress, rng).await;
            Ok(())
        }
    });
}

pub(super) fn report(seed: u64, simulated_ms: i64, expectations: &Expectations, accidents: u64) -> Report {
    let (requests, repeated) = expectations.tally();
    let mut faults = expectations.faults.clone();
    faults.extend(super::panics());
    Report {
        seed,
        simulated_ms,
        events: expectations.accepted.len() as u64,
        requests,
        repeated,
        crashes: expectations.crashes,
        accidents,
        trace: expectations.trace_hash(),
        trace_lines: expectations.trace_lines,
        faults,
        ..Report::default()
    }
}

async fn live_outside(outside: Outside, is_healed: Rc<RefCell<bool>>, progress: Progress, mut rng: Rng) {
    let count = outside.expectations.borrow().hooks.len();
    for number in 0..count {
        let receiver = Receiver::new(number, outside.expectations.clone(), rng.fork(), is_healed.clone());
        tokio::task::spawn_local(receiver.run());
    }
    let mut auditor = Auditor::new(outside.clone(), rng.fork());
    if let Err(words) = auditor.prepare().await {
        outside.expectations.borrow_mut().fault(elapsed_ms(), words);
    }
    progress.is_prepared.set(true);
    let mut living = tokio::task::JoinSet::new();
    for name in 0..PRODUCERS {
        living.spawn_local(Producer::new(name, outside.clone(), rng.fork()).run());
    }
    living.spawn_local(Handler { outside: outside.clone(), api: Api::default(), rng: rng.fork() }.run());
    living.spawn_local(Reader { outside: outside.clone(), api: Api::default() }.run());
    living.spawn_local(Checker { outside: outside.clone(), api: Api::default(), rng: rng.fork() }.run());
    auditor.run().await;
    while living.join_next().await.is_some() {}
    while outside.open.get() > 0 {
        sleep_ms(1_000).await;
    }
    rest(&outside, &mut auditor).await;
    progress.is_concluded.set(true);
}

/// Waits until no work is left, and judges all deliveries.
async fn rest(outside: &Outside, auditor: &mut Auditor) {
    let begin = elapsed_ms();
    loop {
        let left = auditor.pending().await;
        if left == Some(0) {
            break;
        }
        if elapsed_ms() - begin > REST_MS {
            outside
                .expectations
                .borrow_mut()
                .fault(elapsed_ms(), format!("still to be done after a long rest: {left:?}"));
            break;
        }
        sleep_ms(10_000).await;
    }
    auditor.conclude().await;
    let now = elapsed_ms();
    let mut expectations = outside.expectations.borrow_mut();
    expectations.judge_promptness(now);
    expectations.judge_deliveries(now);
    expectations.judge_replays(now);
    expectations.judge_requests(now);
    let crashes = expectations.troubles.iter().filter(|trouble| trouble.kind == Kind::Crash).count();
    expectations.trace(now, &format!("concluded after {crashes} crashes"));
}
