//! A client of the API with one connection per request, which shows complete answers.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The address of a daemon, and the key of the requests.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub key: String,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, if the status is the one expected.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    /// The same daemon with another key.
    pub fn with_key(&self, key: &str) -> Client {
        Client { address: self.address, key: key.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, &[], Bytes::new()).await.expect(200)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let answer = self.try_get("/metrics").await;
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body.to_vec()).expect("text")
    }

    /// Makes a POST that must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.try_post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub async fn try_post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// A POST with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.call(Method::POST, path, &headers, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Value {
        let headers = [("content-type", "application/merge-patch+json")];
        self.call(Method::PATCH, path, &headers, body.to_string()).await.expect(200)
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], Bytes::new()).await
    }

    pub async fn try_get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// Makes any request, with the key unless it is empty.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let asked = format!("{method} {path}");
        super::in_time(&asked, self.ask(method, path, headers, body.into())).await
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("the daemon accepts");
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let (head, body) = requests.send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }
}
