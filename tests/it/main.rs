//! The daemon as its users see it: the API over a real socket on one side, receivers on real sockets on the other, and
//! a clock that only the test moves in between. One module a theme.

mod support;

mod bodies;
mod circuit;
mod cloudevents;
mod erase;
mod feed;
mod handshake;
mod idempotency;
mod listing;
mod ordering;
mod publishing;
mod replays;
mod restart;
mod retention;
mod retries;
mod secrets;
mod times;
