//! The seeds of the oracle with a commit log: an owner and two other nodes on disks that fail. The log
//! refuses, answers late and forgets its end. Every node that takes over equals the oracle at the last answer.
//!
//! `POSTRIDER_STEPS=10000` runs longer, `POSTRIDER_SEED=7` runs one seed.

use crate::oracle::cluster_nodes::Nodes;
use crate::oracle::power_loss::{misbehave, recover};
use crate::oracle::world::{Step, World};
use crate::oracle::{Check, check, ensure, setting};

const SEEDS: u64 = 4;
const ROUNDS: u64 = 8;
/// Maximum steps of a round. A power cut ends it earlier.
const STEPS_OF_ROUND: u64 = 20;
/// Steps after which another node applies the log and is compared with the oracle.
const COMPARED_STEPS: u64 = 7;

#[derive(Debug, Default)]
struct Tally {
    takeovers: u64,
    compared: u64,
    forgotten: u64,
    cuts: u64,
}

/// Compares another node, as it would be if it took over now, with the oracle.
fn compare(world: &mut World) -> Check {
    let (options, now) = (world.options.clone(), world.now);
    let node = world.rng.below(2) as usize;
    let mut rng = world.rng.fork();
    let Some(nodes) = &mut world.nodes else { return Ok(()) };
    nodes.follow(node, &options, now)?;
    let store = nodes.promoted(node, &options, now)?.store;
    check::all(&world.oracle, &store, now, &mut rng)?;
    check::hidden(&world.oracle, &store)?;
    let report = store.verify(&mut |_| {}).map_err(|error| error.to_string())?;
    ensure!(report.is_sound() && report.unlisted.is_empty(), "{report:#?}");
    Ok(())
}

fn run(seed: u64, rounds: u64) -> Check<Tally> {
    let mut world = World::new(seed);
    world.nodes = Some(Nodes::new(&mut world.rng));
    world.cuts_openings = true;
    let mut compared = 0;
    for _ in 0..rounds {
        let is_calm = world.rng.chance(50);
        // As in `power_loss`, changes of the configuration are not tried while they may fail and be on disk.
        world.history.is_calm = !is_calm;
        if !is_calm {
            misbehave(&mut world);
        }
        let mut stepped = Step::Done;
        for step in 1..=STEPS_OF_ROUND {
            stepped = world.step()?;
            if is_calm && stepped == Step::Done && step % COMPARED_STEPS == 0 {
                stepped = world.quiet()?;
                if stepped == Step::Done {
                    compare(&mut world)?;
                    compared += 1;
                }
            }
            if stepped == Step::Cut {
                break;
            }
        }
        recover(&mut world, stepped)?;
    }
    let nodes = world.nodes.as_ref().ok_or("there are no nodes")?;
    Ok(Tally { takeovers: nodes.takeovers, compared, forgotten: nodes.log.forgotten(), cuts: world.cuts })
}

#[test]
fn a_node_that_takes_over_equals_the_oracle_at_the_last_answer() {
    let rounds = setting("POSTRIDER_STEPS").map_or(ROUNDS, |steps| steps.div_ceil(STEPS_OF_ROUND));
    let only = setting("POSTRIDER_SEED");
    let mut all = Tally::default();
    for seed in only.map_or((1..=SEEDS).collect(), |seed| vec![seed]) {
        let tally = run(seed, rounds).unwrap_or_else(|problem| panic!("POSTRIDER_SEED={seed}: {problem}"));
        all.takeovers += tally.takeovers;
        all.compared += tally.compared;
        all.forgotten += tally.forgotten;
        all.cuts += tally.cuts;
    }
    println!("{all:?}");
    let is_enough = all.takeovers >= SEEDS && all.compared >= SEEDS && all.forgotten >= SEEDS;
    assert!(is_enough || only.is_some(), "only {all:?}");
}
