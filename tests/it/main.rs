//! The daemon as its users see it: the API over a real socket on one side, receivers on real sockets on the other, and
//! a clock that only the test moves in between. One module a theme.

mod support;

mod circuit;
mod publishing;
mod restart;
mod retries;
mod times;
