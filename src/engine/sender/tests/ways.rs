//! Name resolution and the check of addresses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::engine::network::RealNetwork;
use crate::engine::sender::tests::receiver::TestReceiver;
use crate::engine::sender::tests::{AllowAll, BRIEF, Named, PATIENT, post, send};
use crate::engine::sender::{AddressGuard, Sender};
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
