//! A test receiver of which the test controls every byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct TestReceiver {
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestReceiver {
    /// Runs `serve` for each connection. The stream closes when `serve` ends.
    pub async fn start<F, Fut>(serve: F) -> TestReceiver
    where
        F: Fn(Stream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (count, seen) = (connections.clone(), requests.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Stream { tcp, seen: seen.clone() }));
            }
        });
        TestReceiver { addr, connections, requests }
    }

    /// Sends `response` to every request. Connections stay open.
    pub async fn responding(response: impl Into<Vec<u8>>) -> TestReceiver {
        let response = Arc::new(response.into());
        Self::start(move |mut stream| {
            let response = response.clone();
            async move {
                while stream.request().await.is_some() {
                    stream.say(&*response).await;
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub struct Stream {
    pub tcp: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Stream {
    /// Reads one request with its body. `None` if the sender has closed the connection.
    pub async fn request(&mut self) -> Option<String> {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |text| text.parse().unwrap()) {
                    self.seen.lock().unwrap().push(text.clone());
                    return Some(text);
                }
            }
            if self.tcp.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        // The sender may have closed the connection. The test checks for that.
        let _ = self.tcp.write_all(bytes.as_ref()).await;
    }

    /// Stays connected and sends no byte until the sender closes the connection.
    pub async fn stay_silent(mut self) {
        let _ = tokio::io::copy(&mut self.tcp, &mut tokio::io::sink()).await;
    }

    /// Repeats `bytes` until the sender closes the connection.
    pub async fn repeat(mut self, bytes: &[u8]) {
        while self.tcp.write_all(bytes).await.is_ok() {}
    }

    /// Sends `bytes` repeatedly, one byte per `every`.
    pub async fn drip(mut self, bytes: &[u8], every: Duration) {
        for byte in bytes.iter().cycle() {
            if self.tcp.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Closes with a RST instead of a FIN.
    pub fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
