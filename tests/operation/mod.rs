//! Postrider as an operator uses it: a process with a settings file, signals and a log, and the command line.

mod activation;
mod backup;
mod demo;
mod descriptors;
mod faults;
mod first_hour;
mod follow;
mod keys;
mod reload;
mod settings_in_force;
mod standby;
mod tail;
