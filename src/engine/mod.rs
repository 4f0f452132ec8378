//! What runs: the network and what drives it. Floor 3, a neighbour of `api`, which it never sees.

pub mod network;
pub mod sender;
