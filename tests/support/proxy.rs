//! A forward proxy on a real socket. It tunnels and forwards to this machine for any host name, or answers with a
//! scripted status.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// The proxy's reaction to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyAct {
    Forward,
    /// Answers with this status, without a connection.
    Status(u16),
    /// Closes the connection without an answer.
    Close,
}

struct ProxyPlan {
    act: Mutex<ProxyAct>,
    heads: Mutex<Vec<String>>,
}

pub struct Proxy {
    pub address: SocketAddr,
    plan: Arc<ProxyPlan>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub async fn start(act: ProxyAct) -> Proxy {
        Proxy::at("127.0.0.1:0".parse().expect("an address"), act).await
    }

    /// Listens at the address of an earlier proxy.
    pub async fn at(address: SocketAddr, act: ProxyAct) -> Proxy {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let plan = Arc::new(ProxyPlan { act: Mutex::new(act), heads: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, plan.clone()));
        Proxy { address, plan, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://user:hunter2hunter2@{}", self.address)
    }

    pub fn does(&self, act: ProxyAct) {
        *self.plan.act.lock().expect("a lock") = act;
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.plan.heads.lock().expect("a lock").clone()
    }
}

async fn accept(listener: TcpListener, plan: Arc<ProxyPlan>) {
    // Dropped with this task: a stopped proxy has no connection.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, plan.clone()));
    }
}

/// Serves one request on a connection, which then ends, because the next one would have to be rewritten too.
async fn serve(mut near: TcpStream, plan: Arc<ProxyPlan>) -> Option<()> {
    let (head, mut body) = read_head(&mut near).await?;
    plan.heads.lock().expect("a lock").push(head.clone());
    let act = *plan.act.lock().expect("a lock");
    if act == ProxyAct::Close {
        return None;
    }
    let target = head.split(' ').nth(1)?;
    let authority = target.trim_start_matches("http://").split('/').next()?;
    if let ProxyAct::Status(status) = act {
        let answer = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        near.write_all(answer.as_bytes()).await.ok()?;
        // The peer may still send a body. A close with unread bytes would reset the answer.
        tokio::io::copy(&mut near, &mut tokio::io::sink()).await.ok()?;
        return None;
    }
    let port: u16 = authority.rsplit(':').next()?.parse().ok()?;
    let mut far = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    if head.starts_with("CONNECT ") {
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    } else {
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        while body.len() < length.unwrap_or(0) {
            near.read_buf(&mut body).await.ok().filter(|read| *read > 0)?;
        }
        let origin_form = head.replacen(&format!("http://{authority}"), "", 1);
        let kept = origin_form.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
        far.write_all(kept.collect::<String>().as_bytes()).await.ok()?;
        far.write_all(&body).await.ok()?;
        let (answer, rest) = read_head(&mut far).await?;
        near.write_all(answer.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).await.ok()?;
        near.write_all(&rest).await.ok()?;
    }
    copy_bidirectional(&mut near, &mut far).await.ok()?;
    Some(())
}

/// A head with its empty line, and the bytes after it.
async fn read_head(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(at + 4);
            return Some((String::from_utf8_lossy(&read).into_owned(), rest));
        }
        stream.read_buf(&mut read).await.ok().filter(|count| *count > 0)?;
    }
}
