//! The five published read shapes, through the API as the server calls it.

mod agree;
mod bench;
mod changes;
mod errors;
mod golden;
mod published_clients;
mod sixth;
