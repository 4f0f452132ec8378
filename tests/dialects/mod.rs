//! The five published read shapes, through the API as the server calls it.

mod agree;
mod bench;
mod changes;
mod devdraft_writes;
mod dfns_writes;
mod errors;
mod everlytic_writes;
mod golden;
mod instantly_writes;
mod over_sockets;
mod published_clients;
mod round_trip;
mod sent_writes;
mod sixth;
