//! One simulation of a cluster. The outside world, the expectations and its verdict are those of a daemon by itself.

use std::cell::RefCell;
use std::rc::Rc;

use super::accidents::Accidents;
use super::engine::SimEngine;
use super::node::SimNode;
use crate::sim::expectations::Expectations;
use crate::sim::producers::Outside;
use crate::sim::rng::Rng;
use crate::sim::run::{Progress, Report, add_outside, drive, report, world};
use crate::sim::world::{NODES, set_nodes};

/// Runs the simulation of a seed with two or three nodes: `hours` with accidents, and the time after them until no work is
/// left.
pub fn simulate(seed: u64, hours: u64, count: usize) -> Report {
    let mut rng = Rng::new(seed);
    set_nodes(count);
    let expectations = Rc::new(RefCell::new(Expectations::new()));
    let engine = SimEngine::new(rng.fork(), count);
    let nodes: Vec<Rc<SimNode>> =
        (0..count).map(|number| SimNode::new(number, engine.clone(), expectations.clone(), rng.fork())).collect();
    nodes[0].begins_for(&nodes[1..]);
    let outside = Outside { expectations: expectations.clone(), is_over: Rc::default(), open: Rc::default() };
    let (is_healed, progress) = (Rc::new(RefCell::new(false)), Progress::default());
    let mut sim = world(rng.draw());
    add_outside(&mut sim, (outside.clone(), is_healed.clone(), progress.clone(), rng.fork()));
    for node in &nodes {
        let running = node.clone();
        sim.host(NODES[node.number], move || {
            let running = running.clone();
            async move {
                running.run().await;
                Ok(())
            }
        });
        node.set_address(sim.lookup(NODES[node.number]));
    }
    let mut accidents = Accidents::new(&nodes, &engine, &expectations, rng.fork());
    drive(&mut sim, hours, (&outside, &is_healed, &progress), &mut accidents);
    let expectations = expectations.borrow();
    let report = report(seed, sim.elapsed().as_millis() as i64, &expectations, accidents.count);
    Report {
        nodes: count,
        takeovers: accidents.takeovers,
        forgotten: engine.forgotten(),
        outrun: expectations.outrun,
        ..report
    }
}
