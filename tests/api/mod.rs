//! The daemon as its users see it: the API over a real socket on one side, receivers on real sockets on the other, and
//! a clock that only the test moves. Each theme has a module.

mod attempt_request;
mod attempt_stream;
mod auth_and_scopes;
mod bad_disk;
mod bodies;
mod circuit;
mod clock_steps;
mod cloudevents;
mod diagnosis;
mod erase;
mod event_types;
mod fairness;
mod feed;
mod figures;
mod handshake;
mod health;
mod hostile_receivers;
mod idempotency;
mod kill;
mod listing;
mod metrics;
mod old_stores;
mod ordering;
mod proxy;
mod publishing;
mod regressions;
mod replays;
mod restart;
mod retention;
mod retries;
mod secrets;
mod send_waiting;
mod system;
mod times;
mod waiting;
