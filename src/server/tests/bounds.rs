//! Tests of the bounds of connections: over all, by address, and by the memory of strangers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpSocket;

use super::super::table::{ConnectionSlot, ConnectionTable};
use super::{ServerLimits, TestClient, TestServer, limits, request, run};
use crate::engine::client_connections::{ClientConnections, ConnectionBound};
use crate::engine::network::Peer;

const PING: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

impl TestServer {
    /// A client that connects from this address.
    async fn connect_from(&self, from: [u8; 4]) -> TestClient {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        TestClient { tcp: socket.connect(self.addr).await.unwrap(), read: Vec::new() }
    }
}

async fn pinged(client: &mut TestClient) -> u16 {
    client.say(PING).await;
    client.answer().await.map_or(0, |answer| answer.status)
}

#[tokio::test]
async fn at_the_cap_the_longest_idle_goes_first() {
    let running = run(ServerLimits { connections_max: 2, reserved_for_local: 0, ..limits() }).await;
    let (mut first, mut second) = (running.connect().await, running.connect().await);
    assert_eq!((pinged(&mut first).await, pinged(&mut second).await), (200, 200));
    assert_eq!(pinged(&mut first).await, 200);
    let mut third = running.connect().await;
    assert_eq!(pinged(&mut third).await, 200);
    assert!(second.is_closed().await, "it has been idle longest");
    assert_eq!(pinged(&mut first).await, 200);
    assert_eq!(running.server.open_connections(), 2);
}

#[tokio::test]
async fn a_connection_whose_request_is_answered_is_never_ended_for_others() {
    let running = run(ServerLimits { connections_max: 1, reserved_for_local: 0, ..limits() }).await;
    let mut busy = running.connect().await;
    busy.say(request("GET /wait", "", "")).await;
    running.service.waiting.notified().await;
    assert!(running.connect().await.is_closed().await, "none waits, so the new one is refused");
    running.service.go.notify_one();
    assert_eq!(busy.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn one_address_takes_its_share_and_no_more() {
    let running = run(ServerLimits { connections_max: 4, per_address_max: 2, reserved_for_local: 0, ..limits() }).await;
    let mut other = running.connect_from([127, 0, 0, 2]).await;
    assert_eq!(pinged(&mut other).await, 200);
    let mut flood = Vec::new();
    for _ in 0..10 {
        let mut client = running.connect().await;
        assert_eq!(pinged(&mut client).await, 200, "a new one is served");
        flood.push(client);
    }
    assert_eq!(running.server.open_connections(), 3);
    assert_eq!(pinged(&mut other).await, 200, "another address keeps its connection");
}

/// A table on its own, with its counts.
fn table(limits: ServerLimits) -> (Arc<ConnectionTable>, Arc<ClientConnections>) {
    let counts = Arc::<ClientConnections>::default();
    (ConnectionTable::new(limits, counts.clone()), counts)
}

fn v4(last: u8) -> Peer {
    Peer::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 1))
}

fn v6(network: u16, host: u16) -> Peer {
    Peer::Tcp(SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host)), 1))
}

/// Takes a place for a connection whose request is being answered.
fn busy(table: &Arc<ConnectionTable>, peer: Peer) -> Result<Arc<ConnectionSlot>, ConnectionBound> {
    table.take(peer).inspect(|slot| slot.begin_request())
}

#[test]
fn a_reserve_is_left_for_this_machine() {
    let limits = ServerLimits { connections_max: 4, reserved_for_local: 2, ..ServerLimits::default() };
    let (table, counts) = table(limits);
    let taken: Vec<_> = (1..=2).map(|last| busy(&table, v4(last)).unwrap()).collect();
    assert_eq!(busy(&table, v4(3)).err(), Some(ConnectionBound::Total));
    let loopback = Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 1)));
    let local = [busy(&table, Peer::Unix).unwrap(), busy(&table, loopback).unwrap()];
    assert_eq!(busy(&table, Peer::Unix).err(), Some(ConnectionBound::Total));
    assert_eq!((counts.stats().open, counts.stats().refused), (4, [2, 0, 0, 0]));
    drop((taken, local));
    assert_eq!((counts.stats().open, table.open_connections()), (0, 0));
}

#[test]
fn a_network_of_ipv6_is_one_address_and_mapped_ipv4_is_ipv4() {
    let limits = ServerLimits { per_address_max: 2, ..ServerLimits::default() };
    let (table, counts) = table(limits);
    let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
    let mut taken = Vec::new();
    for peer in [v6(1, 1), v6(1, 2), v6(2, 1), v4(1), Peer::Tcp(SocketAddr::new(IpAddr::V6(mapped), 1))] {
        taken.push(busy(&table, peer).unwrap());
    }
    assert_eq!(busy(&table, v6(1, 3)).err(), Some(ConnectionBound::Address));
    assert_eq!(busy(&table, v4(1)).err(), Some(ConnectionBound::Address));
    taken.push(busy(&table, v6(2, 2)).unwrap());
    for _ in 0..10 {
        taken.push(busy(&table, Peer::Unix).unwrap());
    }
    assert_eq!(counts.stats().refused, [0, 2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_its_answer_slowly_has_not_waited_longest() {
    let (table, _) = table(ServerLimits { connections_max: 2, reserved_for_local: 0, ..limits() });
    let (slow, idle) = (table.take(v4(1)).unwrap(), table.take(v4(2)).unwrap());
    slow.begin_request();
    slow.queue(10_000);
    slow.end_request();
    tokio::time::advance(Duration::from_secs(1)).await;
    idle.begin_request();
    idle.end_request();
    tokio::time::advance(Duration::from_secs(1)).await;
    slow.written(1_000);
    let ended = |slot: &Arc<ConnectionSlot>| !slot.is_listed();
    table.take(v4(3)).unwrap();
    assert_eq!((ended(&slow), ended(&idle)), (false, true));
}

#[tokio::test]
async fn strangers_share_their_memory_and_the_longest_half_head_goes_first() {
    let strangers_bytes_max = 400 * 1024;
    let running = run(ServerLimits { strangers_bytes_max, ..limits() }).await;
    let mut known = running.connect().await;
    known.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(known.answer().await.unwrap().status, 200);
    let half = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "y".repeat(40_000));
    let mut flood = Vec::new();
    for _ in 0..10 {
        let mut client = running.connect().await;
        client.say(&half).await;
        flood.push(client);
    }
    assert!(flood[0].is_closed().await, "together they hold too much");
    let mut next = running.connect().await;
    assert_eq!(pinged(&mut next).await, 200, "a new stranger is served");
    known.say(request("GET /v1/webhooks", "", "")).await;
    assert_eq!(known.answer().await.unwrap().status, 200, "a client with a key is none of them");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_sooner_while_more_than_half_of_all_are_open() {
    let idle_crowded = Duration::from_secs(15);
    let limits = ServerLimits { connections_max: 8, reserved_for_local: 0, idle_crowded, ..ServerLimits::default() };
    let (table, counts) = table(limits);
    let idle: Vec<_> = (1..=4).map(|last| table.take(v4(last)).unwrap()).collect();
    let _busy = busy(&table, v4(5)).unwrap();
    tokio::time::advance(idle_crowded + Duration::from_secs(2)).await;
    let _sixth = table.take(v4(6)).unwrap();
    assert_eq!((table.open_connections(), counts.stats().closed), (2, [0, 0, 0, 4]), "the idle ones are gone");
    let _seventh = table.take(v4(7)).unwrap();
    tokio::time::advance(idle_crowded + Duration::from_secs(2)).await;
    let _eighth = table.take(v4(8)).unwrap();
    assert_eq!(table.open_connections(), 4, "half of all is no crowd");
    drop(idle);
    assert_eq!(counts.stats().open, 4);
}

#[tokio::test]
async fn bodies_share_their_memory() {
    let running = run(ServerLimits { bodies_bytes_max: 100_000, ..limits() }).await;
    let mut first = running.connect().await;
    first.say(request("GET /wait", "Content-Length: 60000\r\n", &"x".repeat(60_000))).await;
    running.service.waiting.notified().await;
    let body = request("POST /v1/events", "Content-Length: 60000\r\n", &"x".repeat(60_000));
    let refused = running.request(&body).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    let small = running.request(request("POST /v1/events", "Content-Length: 2\r\n", "hi")).await.unwrap();
    assert_eq!(small.status, 202);
    running.service.go.notify_one();
    assert_eq!(first.answer().await.unwrap().status, 200);
    assert_eq!(running.request(&body).await.unwrap().status, 202, "the memory is free again");
}
