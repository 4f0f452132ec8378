//! Postrider as an operator uses it: a process with a settings file, signals and a log, and the command line.

mod activation;
mod backup;
mod demo;
mod descriptors;
mod faults;
mod first_hour;
mod follow;
mod in_force;
mod keys;
mod reload;
mod standby;
mod tail;
