//! Maps errors of sockets, TLS and HTTP to the published outcomes of an attempt.

use std::error::Error;
use std::io;

use rustix::io::Errno;

use crate::engine::resolver::ResolverBusy;
use crate::engine::sender::http1::ExchangeError;
use crate::model::AttemptOutcome;
use crate::rules::diagnosis::attempt_words;
use crate::rules::tls_words;

/// The failure of a request that got no whole response.
#[derive(Debug)]
pub(in crate::engine) struct SendFailure {
    pub outcome: AttemptOutcome,
    /// The message of the innermost error, for the log and for the webhook's owner. `None` if there is no such error.
    pub detail: Option<String>,
    /// The shortage of this machine that prevented the request. `None` if the receiver or the network failed.
    pub shortage: Option<Shortage>,
    /// The error in place of the outcome's phrase, with a stable code at its end. `None` if the phrase says it.
    pub words: Option<&'static str>,
}

/// A resource of this machine that a request needs and that is used up. It says nothing about the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    FileDescriptors,
    Memory,
    LocalPorts,
    /// All slots of the resolver are in use.
    Resolver,
    /// This machine has no route to any address.
    Network,
}

impl Shortage {
    pub const ALL: [Shortage; 5] =
        [Shortage::FileDescriptors, Shortage::Memory, Shortage::LocalPorts, Shortage::Resolver, Shortage::Network];

    /// Stable, for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Shortage::FileDescriptors => "file_descriptors",
            Shortage::Memory => "memory",
            Shortage::LocalPorts => "local_ports",
            Shortage::Resolver => "resolver",
            Shortage::Network => "network",
        }
    }

    /// The shortage and its cure, for the operator.
    pub const fn words(self) -> &'static str {
        match self {
            Shortage::FileDescriptors => "no file descriptor is free: raise LimitNOFILE (ulimit -n) of the daemon",
            Shortage::Memory => {
                "the kernel has no memory for a connection: free memory, or lower delivery.max_in_flight"
            }
            Shortage::LocalPorts => {
                "no local port is free: widen net.ipv4.ip_local_port_range, or lower delivery.max_in_flight"
            }
            Shortage::Resolver => "too many host names are being resolved: look at the name server (/etc/resolv.conf)",
            Shortage::Network => {
                "this machine has no route to any receiver: look at its network (ip route, ip address)"
            }
        }
    }

    /// The shortage that a system call reported. `None` for every other error.
    fn of(error: &io::Error) -> Option<Shortage> {
        if find::<ResolverBusy>(error).is_some() {
            return Some(Shortage::Resolver);
        }
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Shortage::FileDescriptors),
            Errno::NOMEM | Errno::NOBUFS => Some(Shortage::Memory),
            // connect(2) reports exhausted ports as either.
            Errno::ADDRNOTAVAIL | Errno::AGAIN => Some(Shortage::LocalPorts),
            _ => None,
        }
    }
}

impl SendFailure {
    pub fn of(outcome: AttemptOutcome) -> Self {
        Self { outcome, detail: None, shortage: None, words: None }
    }

    pub fn because(outcome: AttemptOutcome, why: &(dyn Error + 'static)) -> Self {
        let shortage = find::<io::Error>(why).and_then(Shortage::of);
        let detail = find::<rustls::Error>(why).map_or_else(|| innermost(why).to_string(), tls_words::words);
        Self { outcome, detail: Some(detail), shortage, words: None }
    }

    /// The failure of a connection attempt.
    pub fn connecting(error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let outcome = match error.kind() {
            // A router reports an unreachable host. As after a refusal, no connection was accepted.
            K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown => {
                AttemptOutcome::ConnectRefused
            }
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => AttemptOutcome::ConnectReset,
            K::TimedOut => AttemptOutcome::ConnectTimeout,
            _ => AttemptOutcome::RequestError,
        };
        let words = match error.kind() {
            K::HostUnreachable => Some(attempt_words::HOST_UNREACHABLE),
            _ if is_without_route(error) => Some(attempt_words::NO_ROUTE),
            _ => None,
        };
        Self { words, ..Self::because(outcome, error) }
    }

    /// The failure of a request whose deadline for connecting passed while the name was being resolved.
    pub fn while_resolving(self) -> Self {
        match self.outcome {
            AttemptOutcome::ConnectTimeout => {
                Self { words: Some(attempt_words::DNS_TIMEOUT), ..Self::of(AttemptOutcome::DnsError) }
            }
            _ => self,
        }
    }

    /// The failure of a request whose deadline for connecting passed in the TLS handshake.
    pub fn while_securing(self) -> Self {
        match self.outcome {
            AttemptOutcome::ConnectTimeout => Self { words: Some(attempt_words::TLS_TIMEOUT), ..self },
            _ => self,
        }
    }

    /// The failure of a TLS handshake.
    pub fn securing(error: &io::Error) -> Self {
        let outcome = match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => AttemptOutcome::ConnectReset,
            _ => AttemptOutcome::TlsError,
        };
        Self::because(outcome, error)
    }

    /// The failure of an exchange on an open connection.
    pub fn exchanging(error: &ExchangeError) -> Self {
        let outcome = match error {
            ExchangeError::Fault(_) => AttemptOutcome::RequestError,
            ExchangeError::Ended => AttemptOutcome::ConnectReset,
            // With TLS 1.3 a receiver rejects the client certificate only after the handshake.
            ExchangeError::Io(why) if find::<rustls::Error>(why).is_some() => AttemptOutcome::TlsError,
            ExchangeError::Io(why) => Self::broken(why),
        };
        Self::because(outcome, error)
    }

    fn broken(error: &io::Error) -> AttemptOutcome {
        use io::ErrorKind as K;
        match error.kind() {
            K::ConnectionReset
            | K::ConnectionAborted
            | K::BrokenPipe
            | K::NotConnected
            | K::UnexpectedEof
            | K::TimedOut
            | K::WriteZero => AttemptOutcome::ConnectReset,
            _ => AttemptOutcome::RequestError,
        }
    }
}

/// Whether an error of a system call reports a shortage of this machine.
pub(in crate::engine) fn is_shortage(error: &io::Error) -> bool {
    Shortage::of(error).is_some()
}

/// Whether this machine has no route to the address (`Network::connect`).
pub(in crate::engine) fn is_without_route(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown)
}

/// Whether a lookup got no answer from a name server, so that nothing is known about the name. The standard library
/// gives `EAI_AGAIN` only as the text of the C library: that of glibc, or that of musl.
pub(in crate::engine) fn is_unanswered(error: &io::Error) -> bool {
    let text = error.to_string();
    error.kind() == io::ErrorKind::TimedOut
        || text.ends_with("Temporary failure in name resolution")
        || text.ends_with("Try again")
}

/// The first error of type `E` in the chain, including errors wrapped in an `io::Error`.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_host_and_a_missing_route_have_words_of_their_own() {
        for (errno, words) in [
            (Errno::HOSTUNREACH, Some(attempt_words::HOST_UNREACHABLE)),
            (Errno::NETUNREACH, Some(attempt_words::NO_ROUTE)),
            (Errno::NETDOWN, Some(attempt_words::NO_ROUTE)),
            (Errno::CONNREFUSED, None),
        ] {
            let failure = SendFailure::connecting(&errno.into());
            assert_eq!((failure.outcome, failure.words), (AttemptOutcome::ConnectRefused, words), "{errno:?}");
        }
    }

    #[test]
    fn a_shortage_of_this_machine_is_distinguished_from_a_failure_of_the_network() {
        for (errno, expected) in [
            (Errno::MFILE, Some(Shortage::FileDescriptors)),
            (Errno::NFILE, Some(Shortage::FileDescriptors)),
            (Errno::NOMEM, Some(Shortage::Memory)),
            (Errno::NOBUFS, Some(Shortage::Memory)),
            (Errno::ADDRNOTAVAIL, Some(Shortage::LocalPorts)),
            (Errno::AGAIN, Some(Shortage::LocalPorts)),
            (Errno::CONNREFUSED, None),
            (Errno::TIMEDOUT, None),
            (Errno::HOSTUNREACH, None),
            (Errno::NETUNREACH, None),
            (Errno::CONNRESET, None),
        ] {
            assert_eq!(SendFailure::connecting(&errno.into()).shortage, expected, "{errno:?}");
        }
        let busy = io::Error::other(ResolverBusy);
        let failure = SendFailure::because(AttemptOutcome::DnsError, &busy);
        assert_eq!(failure.shortage, Some(Shortage::Resolver));
        let nowhere = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        assert_eq!(SendFailure::because(AttemptOutcome::DnsError, &nowhere).shortage, None);
    }
}
