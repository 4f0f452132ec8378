//! Postrider as an operator meets it: a process with a settings file, signals, a log, and a command line to ask it with.

mod activation;
mod backup;
mod demo;
mod faults;
mod first_hour;
mod follow;
mod reload;
mod tail;
