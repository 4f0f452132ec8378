//! The limit of open files: raised at the start, and shared between clients and deliveries.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::rules::descriptors::{client_connections_max, descriptors_wanted};

/// Raises the soft limit to the hard one, and says in the log how many connections of clients it allows. Returns that
/// number.
pub(super) fn raise(in_flight_max: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // `None` if there is no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections_max = client_connections_max(limit, in_flight_max);
    let wanted = descriptors_wanted(in_flight_max);
    match limit < wanted {
        true => tracing::warn!(
            limit,
            wanted,
            connections_max,
            "few files may be open: raise LimitNOFILE (ulimit -Hn) of the daemon"
        ),
        false => tracing::info!(limit, connections_max, "the limit of open files"),
    }
    connections_max
}
