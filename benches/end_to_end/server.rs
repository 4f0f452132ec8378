//! The server under test: started as a process of its own, called over HTTP, measured through the kernel, and killed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::board::Board;
use super::load::{self, Aim, Load};
use super::options::Options;
use super::process::{self, InstructionCount, Reading};
use super::rivals::READY;
use super::sink::SECRET;
use super::wire::{Connection, request};

const DAEMON: &str = env!("CARGO_BIN_EXE_postrider");
const DAEMON_READY: &str = "postrider: listening on http://";
/// The daemon's administrator key. Each store is temporary.
const KEY: &str = "benchmark-key-that-opens-nothing-else-1234567890";
/// Maximum time until a server accepts its first connection.
const START_MAX: Duration = Duration::from_secs(120);

/// Settings that differ from the defaults, as environment variables.
pub type Settings = Vec<(&'static str, String)>;

pub struct Server {
    child: Option<Child>,
    pub aim: Aim,
    pid: Option<u32>,
    store: Option<TempDir>,
    settings: Settings,
    /// Webhooks that were made in it. They are removed if the server outlives the cell.
    made: Vec<String>,
    webhooks_exist: bool,
}

impl Server {
    pub fn bare() -> io::Result<Server> {
        Server::rival(&["--be-bare".into()])
    }

    pub fn relay(sink: SocketAddr, fanout: usize, connections: usize, signs: bool) -> io::Result<Server> {
        let (sink, fanout, connections) = (sink.to_string(), fanout.to_string(), connections.to_string());
        let words = ["--be-relay", &sink, "--relay-fanout", &fanout, "--connections", &connections];
        let signing = signs.then_some("--relay-signs");
        Server::rival(&words.into_iter().chain(signing).map(str::to_owned).collect::<Vec<_>>())
    }

    fn rival(words: &[String]) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words).stderr(Stdio::inherit());
        let (child, addr) = start(command, READY)?;
        Ok(Server::of(child, addr, None))
    }

    /// A fresh daemon with an empty store and default settings, except for `settings`. With `--url` it is the server
    /// there.
    pub fn contender(options: &Options, settings: Settings) -> io::Result<Server> {
        let Some(url) = &options.url else {
            let store = TempDir::with_prefix_in("postrider-bench-", data_dir(options))?;
            return Server::daemon(store, settings);
        };
        let place = url.strip_prefix("http://").and_then(|rest| rest.trim_end_matches('/').to_socket_addrs().ok());
        let addr = place.and_then(|mut found| found.next());
        let addr = addr.ok_or_else(|| io::Error::other(format!("--url {url}: give http://host:port")))?;
        Ok(Server {
            child: None,
            aim: Aim { addr, token: options.token.clone() },
            pid: options.pid,
            store: None,
            settings: Vec::new(),
            made: Vec::new(),
            webhooks_exist: options.webhooks_exist,
        })
    }

    fn daemon(store: TempDir, settings: Settings) -> io::Result<Server> {
        let (child, addr) = start_daemon(store.path(), &settings)?;
        let mut server = Server::of(child, addr, Some(KEY.into()));
        server.store = Some(store);
        server.settings = settings;
        Ok(server)
    }

    fn of(child: Child, addr: SocketAddr, token: Option<String>) -> Server {
        let pid = Some(child.id());
        Server {
            child: Some(child),
            aim: Aim { addr, token },
            pid,
            store: None,
            settings: Vec::new(),
            made: Vec::new(),
            webhooks_exist: false,
        }
    }

    /// Drops the changed settings from the next start on.
    pub fn forget_settings(&mut self) {
        self.settings.clear();
    }

    /// Kills the daemon as a power cut would, and starts it again on the same store. Returns the time from the start to
    /// the first 200 of `/readyz`.
    pub async fn kill_and_start(&mut self) -> io::Result<Duration> {
        self.kill();
        let store = self.store.as_ref().ok_or_else(|| io::Error::other("not started here"))?;
        let began = Instant::now();
        let (child, addr) = start_daemon(store.path(), &self.settings)?;
        self.pid = Some(child.id());
        self.child = Some(child);
        self.aim.addr = addr;
        while self.call("GET", "/readyz", None).await?.0 != 200 {
            if began.elapsed() > START_MAX {
                return Err(io::Error::other("not ready"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(began.elapsed())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn reading(&self) -> Reading {
        self.pid.map(process::read).unwrap_or_default()
    }

    /// Begins to count the instructions of the server's process. `None` if this machine cannot.
    pub fn instructions(&self) -> Option<InstructionCount> {
        self.pid.and_then(InstructionCount::begin)
    }

    pub fn fine_cpu(&self) -> Duration {
        self.pid.map(process::fine_cpu).unwrap_or_default()
    }

    pub fn store_folder(&self) -> Option<&Path> {
        self.store.as_ref().map(TempDir::path)
    }

    /// The names of the partitions' files.
    pub fn partitions(&self) -> Vec<String> {
        let folder = self.store_folder().map(|store| store.join("data/partitions"));
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
        entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Makes one call. Returns the status and the JSON body, or `Null` for any other body.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let mut connection = Connection::open(self.aim.addr).await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request(method, path, self.aim.addr, self.aim.token.as_deref(), body.as_bytes());
        let answer = connection.exchange(&request).await?;
        Ok((answer.status, serde_json::from_slice(connection.body()).unwrap_or_default()))
    }

    /// Makes a webhook to the sink's path `/w/<number>`, for `types` (all, if empty), changed by `change`. Returns its
    /// id.
    pub async fn webhook(
        &mut self,
        sink: SocketAddr,
        number: usize,
        types: &[String],
        change: Value,
    ) -> io::Result<String> {
        if self.webhooks_exist {
            return Ok(String::new());
        }
        let id = make_webhook(&self.aim, sink, number, types, change).await?;
        self.made.push(id.clone());
        Ok(id)
    }

    /// Removes the webhooks from a server that keeps running.
    pub async fn clean(&mut self) -> io::Result<()> {
        if self.child.is_none() {
            for id in std::mem::take(&mut self.made) {
                self.call("DELETE", &format!("/v1/webhooks/{id}"), None).await?;
            }
        }
        Ok(())
    }

    /// Whether the server still runs, if that can be known.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a webhook. Many tasks may call it at once.
pub async fn make_webhook(
    aim: &Aim,
    sink: SocketAddr,
    number: usize,
    types: &[String],
    change: Value,
) -> io::Result<String> {
    let mut form = json!({ "url": format!("http://{sink}/w/{number:05}"), "event_types": types, "secret": SECRET });
    if let (Value::Object(form), Value::Object(change)) = (&mut form, change) {
        form.extend(change);
    }
    let mut connection = Connection::open(aim.addr).await?;
    let body = form.to_string();
    let answer =
        connection.exchange(&request("POST", "/v1/webhooks", aim.addr, aim.token.as_deref(), body.as_bytes())).await?;
    let made: Value = serde_json::from_slice(connection.body()).unwrap_or_default();
    match (answer.status, made["id"].as_str()) {
        (201, Some(id)) => Ok(id.to_owned()),
        (status, _) => Err(io::Error::other(format!("making a webhook was answered with {status}: {made}"))),
    }
}

/// Size of the binary under test.
pub fn binary_bytes() -> u64 {
    std::fs::metadata(DAEMON).map_or(0, |meta| meta.len())
}

/// The folder of the stores.
pub fn data_dir(options: &Options) -> PathBuf {
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let chosen = options.data_dir.clone();
    chosen.unwrap_or_else(|| if built.is_dir() { built } else { std::env::temp_dir() })
}

fn start_daemon(store: &Path, settings: &Settings) -> io::Result<(Child, SocketAddr)> {
    let empty = store.join("no-settings.toml");
    File::create(&empty)?;
    let mut command = Command::new(DAEMON);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POSTRIDER_")) {
        command.env_remove(name);
    }
    command.arg("serve");
    command.env("POSTRIDER_CONFIG", &empty);
    command.env("POSTRIDER_DATA_DIR", store.join("data"));
    command.env("POSTRIDER_LISTEN", "127.0.0.1:0");
    command.env("POSTRIDER_ADMIN_KEY", KEY);
    // The sink is on this machine, so only this address must be allowed.
    command.env("POSTRIDER_DELIVERY__ALLOW", "127.0.0.1");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.stderr(File::options().create(true).append(true).open(store.join("log"))?);
    start(command, DAEMON_READY).map_err(|error| {
        let log = std::fs::read_to_string(store.join("log")).unwrap_or_default();
        io::Error::other(format!("{error}\n{log}"))
    })
}

/// Starts a server and waits for the line with its address. Its other lines are read and dropped.
fn start(mut command: Command, ready: &'static str) -> io::Result<(Child, SocketAddr)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(addr) = line.strip_prefix(ready) {
                // No caller waits for a second address.
                let _ = tell.send(addr.trim().parse());
            }
        }
    });
    match told.recv_timeout(START_MAX) {
        Ok(Ok(addr)) => Ok((child, addr)),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::other("the server did not start"))
        }
    }
}

/// Publishes at least `events` more of so many types as fast as possible, in batches, and waits for the last
/// acknowledgement.
pub async fn fill(server: &Server, board: &Arc<Board>, events: u64, types: usize) -> io::Result<()> {
    let connections = 8;
    let batch = (events / connections).clamp(1, 500) as usize;
    let load = Load { batch, types, events_max: Some(board.drawn() + events), ..Load::new(connections as usize) };
    load::connect(load, server.aim.clone()).await?.run(board.clone()).await;
    Ok(())
}
