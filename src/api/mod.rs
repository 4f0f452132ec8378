//! The HTTP API as pure functions: a call comes in, a step comes out. Floor 3: no IO, no clock, no tokio.
