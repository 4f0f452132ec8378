//! The stage of the demo: a daemon with an empty store, and two receivers with a webhook each.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::watch::SignatureChecks;
use crate::cli::Exit;
use crate::cli::client::{Call, Client};
use crate::cli::listen::receiver::{Receiver, serve};
use crate::config::{ListenSetting, Settings};
use crate::daemon::{Daemon, Platform, url_of};

/// The receiver that answers every request.
pub const STEADY: &str = "steady";
/// The receiver that fails `FAILURES` times first. It receives `FLAKY_TYPES` only.
pub const FLAKY: &str = "flaky";
pub const FLAKY_TYPES: &str = "invoice.*";
pub const FAILURES: u64 = 2;
/// The schedule in seconds, short enough to be watched.
const RETRY_SCHEDULE_S: [u32; 3] = [1, 1, 2];
/// Maximum answered requests that are not read yet. Further ones delay the answers.
const UNREAD_MAX: usize = 1_000;
/// Free space below which publishing is refused. It is small, because the demo writes little.
const MIN_FREE_BYTES: u64 = 16 << 20;

/// The running parts of the demo.
pub struct Stage {
    daemon: Daemon,
    url: String,
    key: String,
    signature_checks: Arc<Mutex<SignatureChecks>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    /// Starts all parts. The daemon's data is in `directory`.
    pub async fn set(directory: &Path) -> Result<Self, Exit> {
        let settings = settings(directory);
        let daemon = Daemon::start(&settings, Platform::real(&settings)?).await?;
        let key = daemon.first_key.as_ref().map(|key| key.text.clone());
        let key = key.ok_or_else(|| Exit::failed("the new store has no first key"))?;
        let url = url_of(&daemon.address);
        let signature_checks = Arc::<Mutex<SignatureChecks>>::default();
        let mut stage = Self { daemon, url, key, signature_checks, tasks: Vec::new() };
        stage.receiver(json!({"name": STEADY}), 0).await?;
        stage.receiver(json!({"name": FLAKY, "event_types": [FLAKY_TYPES]}), FAILURES).await?;
        Ok(stage)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The address of the pages, which logs in once.
    pub fn login_link(&self) -> String {
        self.daemon.login_link().unwrap_or_else(|| format!("{}/ui/", self.url))
    }

    pub fn signature_checks(&self) -> Arc<Mutex<SignatureChecks>> {
        self.signature_checks.clone()
    }

    pub fn client(&self) -> Result<Client, Exit> {
        Client::new(&self.url, Some(&self.key))
    }

    /// Starts a receiver that fails `fail` times first, and makes its webhook.
    async fn receiver(&mut self, mut webhook: Value, fail: u64) -> Result<(), Exit> {
        let failed = |error: std::io::Error| Exit::failed(format!("cannot listen on 127.0.0.1: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        webhook["url"] = format!("http://{}/", listener.local_addr().map_err(failed)?).into();
        webhook["retry_schedule_s"] = RETRY_SCHEDULE_S.to_vec().into();
        let made = self.client()?.value(Call::post(&["webhooks"]).json(&webhook)?).await?;
        let secret = made["secret"].as_str().unwrap_or_default().parse();
        let secret = secret.map_err(|error| Exit::failed(format!("the webhook's secret cannot be used: {error}")))?;
        let (reports, mut requests) = mpsc::channel(UNREAD_MAX);
        let receiver = Receiver {
            secrets: vec![secret],
            accepts_bad: false,
            fail,
            status: StatusCode::OK,
            forward: None,
            received: AtomicU64::new(0),
            reports,
        };
        self.tasks.push(tokio::spawn(serve(listener, Arc::new(receiver))));
        let signature_checks = self.signature_checks();
        self.tasks.push(tokio::spawn(async move {
            while let Some(seen) = requests.recv().await {
                signature_checks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).learn(&seen);
            }
        }));
        Ok(())
    }

    /// Ends all parts. The daemon has `timeout` for current requests.
    pub async fn strike(self, timeout: Duration) {
        self.daemon.stop(timeout).await;
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The default settings, regardless of the machine's, so that a demo shows the same everywhere.
fn settings(directory: &Path) -> Settings {
    let mut settings = Settings {
        data_dir: directory.join("data"),
        listen: ListenSetting::Tcp((Ipv4Addr::LOCALHOST, 0).into()),
        min_free_bytes: MIN_FREE_BYTES,
        ..Settings::default()
    };
    settings.delivery.allow = vec!["127.0.0.0/8".to_owned()];
    settings
}
