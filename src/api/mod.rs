//! HTTP-shaped and nothing else: calls in, replies out, without IO. Floor 3, a neighbour of `engine`.

pub mod call;
pub mod origin;
