//! The five published read shapes, through the API as the server calls it.

mod agree;
mod bench;
mod changes;
mod devdraft_writes;
mod dfns_writes;
mod errors;
mod everlytic_writes;
mod golden;
mod published_clients;
mod sixth;
