//! The network, handed in: connect, resolve and listen. A simulation implements the same three calls.
//!
//! Invariant: no other module opens a socket, so the `Network` sees all traffic.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::engine::resolver::RESOLVER;

/// Connections that the kernel queues until they are accepted. The kernel caps it at `somaxconn`.
pub const LISTEN_BACKLOG: u32 = 1_024;

/// The port of the discard service (RFC 863), for a UDP socket that sends nothing.
const DISCARD_PORT: u16 = 9;

/// Mode of a new unix socket: only its owner may connect. The caller may widen it.
pub const UNIX_SOCKET_MODE: u32 = 0o600;

/// A boxed future, for methods of traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A byte stream over any transport.
pub trait Conn: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Conn for T {}

/// An address to listen on: `127.0.0.1:8080`, `[::1]:0` (port 0 picks one) or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The peer of an accepted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Peer {
    /// `None` for a unix socket.
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(addr) => Some(addr),
            Peer::Unix => None,
        }
    }
}

/// A listening socket.
pub trait Listener: Send {
    /// Accepts the next connection. Dropping the future loses none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>>;

    /// The address in use, with the port that was picked.
    fn local_addr(&self) -> ListenAddr;
}

/// The network of the process: the machine's own, or a simulated one.
pub trait Network: Send + Sync {
    /// Connects to `addr`, without delay of small segments. The caller sets the deadline.
    ///
    /// # Errors
    /// `NetworkUnreachable` and `NetworkDown` mean that this machine has no route to `addr`. A report of a router is
    /// `HostUnreachable`.
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>>;

    /// Resolves a name to addresses in the order to try them. An empty answer is an error.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// Whether this machine has the address, so that a connection to it arrives here.
    fn is_own_address(&self, _ip: IpAddr) -> bool {
        false
    }

    /// # Errors
    /// The address is in use or not allowed, or the unix path exists and is not a dead socket.
    fn listen<'a>(&'a self, at: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// The machine's own network.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNetwork;

impl Network for RealNetwork {
    fn connect(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Conn>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await.map_err(|error| without_route(error, addr))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Conn>)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let name = host.to_owned();
            let asked = RESOLVER.ask(host, move || {
                let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>);
                found.map_err(|error| shortage_of_descriptors().unwrap_or(error))
            });
            let mut found: Vec<IpAddr> = Vec::new();
            for addr in asked.await? {
                if !found.contains(&addr.ip()) {
                    found.push(addr.ip());
                }
            }
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Ok(found)
        })
    }

    /// The kernel takes an own address as the source of traffic to it. A UDP socket tells the source without sending.
    fn is_own_address(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((ip, DISCARD_PORT))?;
            socket.local_addr()
        });
        source.is_ok_and(|source| source.ip() == ip)
    }

    fn listen<'a>(&'a self, at: &'a ListenAddr) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            Ok(match at {
                ListenAddr::Tcp(addr) => Box::new(listen_tcp(*addr)?) as Box<dyn Listener>,
                ListenAddr::Unix(path) => Box::new(listen_unix(path).await?),
            })
        })
    }
}

/// The error of opening a file. `None` if that works. The resolver reports a shortage of descriptors as "try again".
fn shortage_of_descriptors() -> Option<io::Error> {
    std::fs::File::open("/dev/null").err()
}

/// `EADDRNOTAVAIL` of connect(2) means that no local port is free, or that this machine has no address of the family.
/// Without such an address, a UDP socket cannot be connected either, and the network is unreachable. `ENETUNREACH` means
/// that this machine has no route, or that a router reported it. A UDP socket asks no router.
fn without_route(error: io::Error, addr: SocketAddr) -> io::Error {
    use io::ErrorKind as K;
    if !matches!(error.kind(), K::AddrNotAvailable | K::NetworkUnreachable) {
        return error;
    }
    let any: IpAddr = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let udp = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(addr));
    match (error.kind(), udp.map_err(|udp| udp.kind())) {
        (K::AddrNotAvailable, Err(K::AddrNotAvailable)) => K::NetworkUnreachable.into(),
        (K::NetworkUnreachable, Ok(())) => K::HostUnreachable.into(),
        _ => error,
    }
}

impl RealNetwork {
    /// The listening sockets that a supervisor passed (`LISTEN_FDS`, sd_listen_fds(3)), in its order. Empty without a
    /// supervisor. To be called once, at the start.
    ///
    /// # Errors
    /// A passed descriptor is neither a TCP nor a unix stream listener.
    pub fn passed() -> io::Result<Vec<Box<dyn Listener>>> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut listeners: Vec<Box<dyn Listener>> = Vec::with_capacity(passed.len());
        for nth in 0..passed.len() {
            if let Ok(Some(tcp)) = passed.take_tcp_listener(nth) {
                tcp.set_nonblocking(true)?;
                listeners.push(Box::new(Tcp::new(TcpListener::from_std(tcp)?)?));
            } else if let Some(unix) = passed.take_unix_listener(nth)? {
                unix.set_nonblocking(true)?;
                let path = unix.local_addr()?.as_pathname().map(Path::to_path_buf).unwrap_or_default();
                listeners.push(Box::new(Unix { inner: UnixListener::from_std(unix)?, path, made_here: false }));
            }
        }
        Ok(listeners)
    }
}

struct Tcp {
    inner: TcpListener,
    local: SocketAddr,
}

impl Tcp {
    fn new(inner: TcpListener) -> io::Result<Self> {
        Ok(Self { local: inner.local_addr()?, inner })
    }
}

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>> {
        Box::pin(async move {
            let (stream, peer) = self.inner.accept().await?;
            // A peer that is gone already must not look like a broken listener.
            let _ = stream.set_nodelay(true);
            Ok((Box::new(stream) as Box<dyn Conn>, Peer::Tcp(peer)))
        })
    }

    fn local_addr(&self) -> ListenAddr {
        ListenAddr::Tcp(self.local)
    }
}

struct Unix {
    inner: UnixListener,
    path: PathBuf,
    /// Whether this process made the socket. A passed socket and its file belong to the supervisor.
    made_here: bool,
}

impl Listener for Unix {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Conn>, Peer)>> {
        Box::pin(async move {
            let (stream, _) = self.inner.accept().await?;
            Ok((Box::new(stream) as Box<dyn Conn>, Peer::Unix))
        })
    }

    fn local_addr(&self) -> ListenAddr {
        ListenAddr::Unix(self.path.clone())
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        if self.made_here {
            // Best effort: the next start recognises a leftover file as stale.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn listen_tcp(addr: SocketAddr) -> io::Result<Tcp> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the TIME_WAIT of old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Tcp::new(socket.listen(LISTEN_BACKLOG)?)
}

async fn listen_unix(path: &Path) -> io::Result<Unix> {
    remove_stale_socket(path).await?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    // Set before listening, so that no other user connects in between.
    let listening = std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_SOCKET_MODE))
        .and_then(|()| socket.listen(LISTEN_BACKLOG as i32))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| UnixListener::from_std(socket.into()));
    match listening {
        Ok(inner) => Ok(Unix { inner, path: path.to_path_buf(), made_here: true }),
        Err(error) => {
            // Best effort, as in `drop`.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

/// Removes the file of a dead listener. A live socket, or any other file, stays and is an error.
async fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Text that is not a listening address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnAddress;

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address to listen on, such as 127.0.0.1:8080, [::1]:8080, localhost:8080 or unix:/path")
    }
}

impl std::error::Error for NotAnAddress {}

impl FromStr for ListenAddr {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(NotAnAddress) } else { Ok(ListenAddr::Unix(PathBuf::from(path))) };
        }
        // The only name that needs no resolver.
        let addr = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse(),
            None => text.parse(),
        };
        addr.map(ListenAddr::Tcp).map_err(|_| NotAnAddress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn addresses_to_listen_on_read_back_as_they_are_shown() {
        for text in ["127.0.0.1:8080", "[::1]:0", "unix:/run/postrider.sock"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:1".parse(), Ok(ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)))));
        for text in ["", "8080", "unix:", "example.com:80", "127.0.0.1", "localhost:", "127.0.0.1:99999"] {
            assert_eq!(text.parse::<ListenAddr>(), Err(NotAnAddress), "{text}");
        }
    }

    #[tokio::test]
    async fn a_tcp_listener_reports_the_port_it_picked() {
        let network = RealNetwork;
        let mut listener = network.listen(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let ListenAddr::Tcp(addr) = listener.local_addr() else { panic!("not TCP") };
        assert_ne!(addr.port(), 0);
        let (client, server) = tokio::join!(network.connect(addr), listener.accept());
        let (mut client, (mut server, peer)) = (client.unwrap(), server.unwrap());
        assert!(peer.addr().unwrap().ip().is_loopback());
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_and_replaces_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // A listener of the standard library leaves its file behind, like a killed process.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let at = ListenAddr::Unix(path.clone());
        let listener = RealNetwork.listen(&at).await.unwrap();
        assert_eq!(listener.local_addr(), at);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, UNIX_SOCKET_MODE);
        let taken = RealNetwork.listen(&at).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, "precious").unwrap();
        assert!(RealNetwork.listen(&ListenAddr::Unix(path.clone())).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn resolving_an_address_gives_it_back_once() {
        let found = RealNetwork.resolve("127.0.0.1", 80).await.unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, 1])]);
    }
}
