//! Ports for tests.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

/// A port that no other test gets while this value lives. Connections to it are refused until a process listens on it.
/// A process may, because both sides set `SO_REUSEADDR` (socket(7)).
pub struct ReservedPort {
    socket: Socket,
}

impl ReservedPort {
    pub fn new() -> ReservedPort {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        ReservedPort { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address")
    }
}

#[test]
fn a_reserved_port_refuses_until_it_is_listened_on() {
    let port = ReservedPort::new();
    let refused = TcpStream::connect(port.address()).expect_err("no process listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let listener = TcpListener::bind(port.address()).expect("the port is for this");
    assert!(TcpStream::connect(port.address()).is_ok());
    drop(listener);
}
