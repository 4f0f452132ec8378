//! Name resolution and the check of addresses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::engine::network::RealNetwork;
use crate::engine::sender::tests::receiver::{Stream, TestReceiver};
use crate::engine::sender::tests::{AllowAll, BRIEF, Named, PATIENT, post, send};
use crate::engine::sender::{AddressGuard, Sender, Shortage};
use crate::model::AttemptOutcome;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Refuses `refused`, and records its calls.
#[derive(Default)]
struct RecordingGuard {
    refused: Vec<IpAddr>,
    asked: Mutex<Vec<(String, Vec<IpAddr>, u16)>>,
}

impl AddressGuard for RecordingGuard {
    fn allows(&self, host: &str, addresses: &[IpAddr], port: u16) -> bool {
        self.asked.lock().unwrap().push((host.to_owned(), addresses.to_vec(), port));
        !addresses.iter().any(|ip| self.refused.contains(ip))
    }

    fn allows_unresolved(&self, _: &str, _: u16) -> bool {
        true
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_port_without_a_listener_is_connect_refused() {
    let addr = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let got = send(&format!("http://{addr}/"), PATIENT).await;
    assert_eq!((got.outcome, got.status_code), (AttemptOutcome::ConnectRefused, None));
    assert_eq!((got.error.as_deref(), got.remote_addr), (Some("Connection refused"), None));
}

#[tokio::test]
async fn a_refused_address_is_never_connected_to() {
    let receiver = TestReceiver::responding(OK).await;
    let watch = Arc::new(RecordingGuard { refused: ips(&["127.0.0.1"]), ..RecordingGuard::default() });
    let sender = Sender::new(Arc::new(RealNetwork), watch.clone()).unwrap();
    let got = sender.send(&post(&receiver.url(), PATIENT)).await;
    assert_eq!((got.outcome, got.error.as_deref()), (AttemptOutcome::BlockedAddress, Some("Address not allowed")));
    assert_eq!((got.detail, got.remote_addr), (None, None));
    assert_eq!(receiver.connections(), 0);
    let port = receiver.addr.port();
    assert_eq!(*watch.asked.lock().unwrap(), [("127.0.0.1".to_owned(), ips(&["127.0.0.1"]), port)]);
}

#[tokio::test]
async fn one_refused_address_refuses_the_name() {
    let receiver = TestReceiver::responding(OK).await;
    let network = Arc::new(Named::with(&["127.0.0.1", "10.0.0.1"]));
    let watch = Arc::new(RecordingGuard { refused: ips(&["10.0.0.1"]), ..RecordingGuard::default() });
    let sender = Sender::new(network, watch).unwrap();
    let got = sender.send(&post(&format!("http://a.example:{}/", receiver.addr.port()), PATIENT)).await;
    assert_eq!((got.outcome, receiver.connections()), (AttemptOutcome::BlockedAddress, 0));
}

#[tokio::test]
async fn the_guard_checks_each_new_connection_and_no_reuse() {
    let receiver = TestReceiver::responding(OK).await;
    let watch = Arc::new(RecordingGuard::default());
    let sender = Sender::new(Arc::new(Named::with(&["127.0.0.1"])), watch.clone()).unwrap();
    let request = post(&format!("http://a.example:{}/", receiver.addr.port()), PATIENT);
    tokio::join!(sender.send(&request), sender.send(&request));
    sender.send(&request).await;
    assert_eq!((watch.asked.lock().unwrap().len(), receiver.connections()), (2, 2));
}

#[tokio::test]
async fn a_name_without_address_is_a_dns_error_and_a_burst_resolves_it_once() {
    let network = Arc::new(Named::default());
    let sender = Sender::new(network.clone(), Arc::new(AllowAll)).unwrap();
    let request = post("http://nowhere.example/", PATIENT);
    let (a, b, c) = tokio::join!(sender.send(&request), sender.send(&request), sender.send(&request));
    for got in [a, b, c] {
        assert_eq!((got.outcome, got.status_code), (AttemptOutcome::DnsError, None));
        assert_eq!(got.error.as_deref(), Some("Host name could not be resolved"));
    }
    assert_eq!(network.resolutions(), 1);
}

#[tokio::test]
async fn a_name_is_resolved_once_per_lifetime_and_traffic_follows_it() {
    let receiver = TestReceiver::responding(OK).await;
    let network = Arc::new(Named::with(&["127.0.0.1"]));
    let sender = Sender::new(network.clone(), Arc::new(AllowAll)).unwrap();
    let request = post(&format!("http://a.example:{}/", receiver.addr.port()), PATIENT);
    let first = sender.send(&request).await;
    assert!(first.timings.dns.is_some());
    for _ in 0..3 {
        assert_eq!(sender.send(&request).await.timings.dns, None);
    }
    assert_eq!((network.resolutions(), receiver.connections()), (1, 1));

    // The name moves to an address without a listener. The connection to the old address is not reused.
    sender.pool.set_addresses(
        &request.target.origin,
        Some(Arc::from(ips(&["127.0.0.2"]))),
        tokio::time::Instant::now(),
    );
    let got = sender.send(&request).await;
    assert_eq!((got.outcome, receiver.connections()), (AttemptOutcome::ConnectRefused, 1));
}

#[tokio::test]
async fn addresses_are_tried_until_one_answers() {
    let receiver = TestReceiver::responding(OK).await;
    let port = receiver.addr.port();
    // The first address has no listener. Connections to the second never complete.
    let network = Named { silent: ips(&["10.9.9.9"]), ..Named::with(&["127.0.0.2", "10.9.9.9", "127.0.0.1"]) };
    let sender = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap();
    let got = sender.send(&post(&format!("http://a.example:{port}/"), PATIENT)).await;
    assert_eq!((got.status_code, got.remote_addr), (Some(200), Some(receiver.addr)));

    let sender = Sender::new(Arc::new(Named::with(&["127.0.0.2", "127.0.0.3"])), Arc::new(AllowAll)).unwrap();
    let got = sender.send(&post(&format!("http://a.example:{port}/"), PATIENT)).await;
    assert_eq!(got.outcome, AttemptOutcome::ConnectRefused);
}

#[tokio::test]
async fn connecting_has_its_own_deadline() {
    let network = Named { silent: ips(&["10.9.9.9"]), ..Named::with(&["10.9.9.9"]) };
    let sender = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap();
    let mut request = post("http://a.example/", PATIENT);
    request.connect_timeout = BRIEF;
    let got = sender.send(&request).await;
    assert_eq!((got.outcome, got.error.as_deref()), (AttemptOutcome::ConnectTimeout, Some("Connection timeout")));
}

#[tokio::test]
async fn a_deadline_names_the_phase_that_it_ended() {
    let mut request = post("https://a.example/", PATIENT);
    request.connect_timeout = BRIEF;
    let mute = Named { is_mute: true, ..Named::default() };
    let got = Sender::new(Arc::new(mute), Arc::new(AllowAll)).unwrap().send(&request).await;
    let words = "The name server did not answer in time [dns_timeout]";
    assert_eq!((got.outcome, got.error.as_deref()), (AttemptOutcome::DnsError, Some(words)));

    let receiver = TestReceiver::start(Stream::stay_silent).await;
    let mut request = post(&format!("https://a.example:{}/", receiver.addr.port()), PATIENT);
    request.connect_timeout = BRIEF;
    let network = Named::with(&["127.0.0.1"]);
    let got = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap().send(&request).await;
    let words = "The TLS handshake was not done in time [tls_timeout]";
    assert_eq!((got.outcome, got.error.as_deref()), (AttemptOutcome::ConnectTimeout, Some(words)));
}

#[tokio::test]
async fn a_machine_without_a_route_lacks_its_network_and_one_without_ipv6_does_not() {
    let routeless = ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (addresses, shortage, words) in [
        (&["192.0.2.1"][..], Some(Shortage::Network), "no_route"),
        (&["2001:db8::1", "192.0.2.1", "192.0.2.2"], Some(Shortage::Network), "no_route"),
        (&["2001:db8::1"], None, "This machine has no route to the receiver [no_route]"),
        (&["2001:db8::1", "2001:db8::2"], None, "no_route"),
        // The error of the address with a route counts.
        (&["2001:db8::1", "127.0.0.1"], None, "Connection refused"),
    ] {
        let network = Named { routeless: routeless.clone(), ..Named::with(addresses) };
        let sender = Sender::new(Arc::new(network), Arc::new(AllowAll)).unwrap();
        let got = sender.send(&post(&format!("http://a.example:{}/", closed.port()), PATIENT)).await;
        assert_eq!((got.outcome, got.shortage), (AttemptOutcome::ConnectRefused, shortage), "{addresses:?}");
        assert!(got.error.as_deref().is_some_and(|error| error.contains(words)), "{addresses:?} {:?}", got.error);
    }
}
