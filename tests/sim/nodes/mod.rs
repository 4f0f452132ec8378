//! Two and three daemons as the nodes of a cluster in the simulated world, with the log and the lease as one engine.

mod accidents;
mod engine;
mod node;
pub mod run;
