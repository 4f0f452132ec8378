//! The daemon: assembles a store, an engine and a server from settings. Clock, randomness, network and disk are handed
//! in.

pub mod backup;
pub mod backup_repo;
pub mod cluster;
pub mod control;
mod descriptors;
mod error;
pub mod follow;
mod keys;
pub mod link;
mod listeners;
mod metrics_listener;
mod offline;
mod otlp;
mod ownership;
mod policy_guard;
mod portal_logo;
pub mod promote;
pub mod protocol;
pub mod standby;
mod standby_log;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::api::auth::{KEY_PREFIX, key_hash, key_text};
use crate::api::jwt::JwtSettings;
use crate::api::link::{LinkRequest, LinkStream};
use crate::api::logins::PageSettings;
use crate::api::origin::OriginRules;
use crate::api::{Api, ApiMount, ApiSettings, MetricsAccess, dialects, native, openapi};
use crate::config::{ForeignTokenSettings, Settings};
use crate::engine::blocking_pool::BlockingPool;
use crate::engine::clock::{Clock, Random, SystemClock, SystemRandomness};
use crate::engine::log_backoff::LogBackoff;
use crate::engine::network::{ListenAddr, Listener, Network, RealNetwork};
use crate::engine::sender::DeliveryProxy;
use crate::engine::{self, Engine, RunningTasks};
use crate::model::Scope;
use crate::model::time::MINUTE_MS;
use crate::rules::forward_proxy::ForwardProxy;
use crate::rules::no_proxy::NoProxy;
use crate::rules::target::TargetPolicy;
use crate::server::dispatcher::{ApiRules, ApiService, Dispatcher, ServedPart};
use crate::server::shared_origins::SharedOrigins;
use crate::server::{Server, ServerLimits, ServerTls, TlsFiles};
use crate::store::admin::{self, Role, TermAndRole};
use crate::store::{self, Disk, RealDisk, StoreOptions};
use crate::ui;

use self::link::{LinkAnswer, OtherMachine, OvertakenSignal, OwnerLinks};
use self::listeners::{addresses, listen, listen_all};
use self::ownership::open_as_owner;
use self::policy_guard::PolicyGuard;

pub use error::{
    BROKEN_RESTORE_CURE, DaemonError, OVERTAKEN_CURE, STANDBY_LOG_CURE, STATE_MISSING_CURE, TWO_OWNERS_CURE,
};
pub use keys::{FirstKey, KeyRotation};
pub use offline::{
    accept_loss, check_files, check_master_key, compact, refuse_broken_restore, refuse_overtaken, rotate_master_key,
    unapplied, verify, wal_damage,
};
pub use ownership::Ownership;
pub use protocol::CONTROL_FILE;

/// Interval at which an owner asks the other machine for its term.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Time for which a printed login link can be used.
const LOGIN_LINK_MS: i64 = 15 * MINUTE_MS;

/// The daemon's platform: clock, randomness, network and disk.
pub struct Platform {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub network: Arc<dyn Network>,
    pub disk: Arc<dyn Disk>,
    /// The disk of the replication log of a cluster's node. `None` for a folder of `settings.data_dir`.
    pub replica_log: Option<Arc<dyn Disk>>,
    pub work: BlockingPool,
    pub limits: ServerLimits,
    /// Listeners that a supervisor passed. If empty, `settings.listen` is opened.
    pub listeners: Vec<Box<dyn Listener>>,
    /// The certificate of the API's listener, as an owner and while it stands by. `None` without TLS.
    pub tls: Option<Arc<ServerTls>>,
}

impl Platform {
    /// The real machine.
    ///
    /// # Errors
    /// The data directory cannot be made or is in use, a passed socket cannot be listened on, or the certificate cannot be
    /// read.
    pub fn real(settings: &Settings) -> Result<Platform, DaemonError> {
        keys::check_data_dir(&settings.data_dir)?;
        let connections_max = descriptors::raise(settings.delivery.max_in_flight);
        let disk = lock_folder(&settings.data_dir)?;
        let listeners =
            RealNetwork::passed().map_err(|source| DaemonError::Io { context: "a passed socket".into(), source })?;
        Ok(Platform {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandomness::default()),
            network: Arc::new(RealNetwork),
            disk,
            replica_log: None,
            work: BlockingPool::Threads,
            limits: ServerLimits::default().with_connections(connections_max, settings.server.connections_per_address),
            listeners,
            tls: certificate(settings)?,
        })
    }
}

/// Locks the data directory for this process.
pub fn lock_folder(data_dir: &Path) -> Result<Arc<dyn Disk>, DaemonError> {
    checked_lock(RealDisk::lock(data_dir), data_dir)
}

fn checked_lock(disk: std::io::Result<RealDisk>, data_dir: &Path) -> Result<Arc<dyn Disk>, DaemonError> {
    match disk {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(store::Error::InUse(data_dir.display().to_string()).into())
        }
        Err(source) => Err(DaemonError::Io {
            context: format!("data directory {}", data_dir.display()),
            source: directory_words(source),
        }),
    }
}

/// The same error in words that say the cure, for a file in place of the directory and for a read-only file system.
fn directory_words(error: std::io::Error) -> std::io::Error {
    use std::io::ErrorKind::{AlreadyExists, NotADirectory, ReadOnlyFilesystem};
    let words = match error.kind() {
        AlreadyExists | NotADirectory => "it is a file, and not a directory; choose another --data-dir",
        ReadOnlyFilesystem => "the file system is read-only; mount it for writing, or choose another --data-dir",
        _ => return error,
    };
    std::io::Error::new(error.kind(), words)
}

/// The store's options from the settings.
pub fn options(settings: &Settings) -> StoreOptions {
    StoreOptions {
        retention_ms: settings.retention_ms,
        idempotency_window_ms: settings.idempotency_window_ms,
        partition_max_bytes: settings.partition_max_bytes,
        min_free_bytes: settings.min_free_bytes,
        row_payload_bytes_max: store::ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: store::FINGERPRINTS_MAX,
    }
}

/// A running daemon.
pub struct Daemon {
    pub address: ListenAddr,
    pub engine: Arc<Engine>,
    /// The key that the first start made.
    pub first_key: Option<FirstKey>,
    running: RunningTasks,
    server: Server,
    /// The server of `ui.listen`.
    pages_server: Option<Server>,
    /// The address of the listener that serves the pages.
    pages_address: ListenAddr,
    tls: Option<Arc<ServerTls>>,
    dispatcher: Arc<Dispatcher>,
    guard: Arc<PolicyGuard>,
    /// The listeners' own addresses, which are never a target of deliveries.
    own: Vec<std::net::SocketAddr>,
    scrape: Option<Server>,
    /// The settings of the pages, with the key of their sessions and the tries to log in.
    pages: PageSettings,
    /// Who may read on the listener of `metrics.listen`.
    metrics_access: Arc<ArcSwap<MetricsAccess>>,
    /// The higher term that this owner has met.
    overtaken: Arc<OvertakenSignal>,
    /// The term and the role of the store when it was opened.
    pub term_and_role: TermAndRole,
    /// The task that asks the other machine for its term. `None` if the settings name none.
    asking: Option<tokio::task::JoinHandle<()>>,
}

impl Daemon {
    /// Starts the daemon and returns once it accepts requests. Must be called within the runtime.
    pub async fn start(settings: &Settings, world: Platform) -> Result<Daemon, DaemonError> {
        Daemon::start_as(settings, world, None).await
    }

    /// Like `start`, for the node of a cluster that owns the store, if `own` is its ownership.
    pub async fn start_as(settings: &Settings, world: Platform, own: Option<Ownership>) -> Result<Daemon, DaemonError> {
        let Platform { clock, random, network, disk, work, limits, listeners, tls, .. } = world;
        warm_up(work);
        let window = own.as_ref().map(|own| own.window.clone());
        let (opened, term_and_role) = open_as_owner(settings, disk, (&*clock, &random), own)?;
        let is_new = opened.is_new;
        let (listeners, pages_listener) = listen_all(settings, &*network, listeners).await?;
        let address = listeners[0].local_addr();
        let own = [addresses(&listeners), addresses(pages_listener.as_slice())].concat();
        let policy = policy(settings, &own)?;
        let guard = Arc::new(PolicyGuard::new(policy.clone(), network.clone()));
        let parts = engine::EngineParts {
            opened,
            clock,
            random,
            network: network.clone(),
            guard: guard.clone(),
            proxy: proxy(settings)?,
            work,
            in_flight_max: settings.delivery.max_in_flight,
            origin: origin(settings, &address),
            attempt_observer: attempt_observer(settings)?,
            svix_whitelabel: settings.svix_whitelabel,
            window,
        };
        let (engine, running) = Engine::start(parts).map_err(DaemonError::Engine)?;
        let engine = Arc::new(engine);
        let first_key = keys::first_key(settings, &engine, is_new).await?;
        let metrics_access = Arc::new(ArcSwap::from_pointee(metrics_listener::access(&settings.metrics)));
        let scrape = metrics_listener::server(settings, &engine, &metrics_access, (&*network, limits)).await?;
        let pages_address = pages_listener.as_ref().map_or_else(|| address.clone(), |listener| listener.local_addr());
        let own_url = url(&address, tls.is_some());
        let pages = page_settings(&engine, url(&pages_address, tls.is_some()));
        let dispatcher = Arc::new(Dispatcher::new(engine.clone(), rules(settings, policy, &own_url, &pages)?));
        let (overtaken, asking) = serve_links(settings, &dispatcher, &engine, term_and_role)?;
        warn_of_clear_text(settings, &own);
        let serve = |part, listeners| {
            let service = ApiService { dispatcher: dispatcher.clone(), part };
            Server::start_with(Arc::new(service), listeners, limits, tls.clone())
        };
        Ok(Daemon {
            server: serve(ServedPart::Api, listeners),
            pages_server: pages_listener.map(|listener| serve(ServedPart::Pages, vec![listener])),
            address,
            engine,
            first_key,
            running,
            pages_address,
            tls,
            dispatcher,
            guard,
            own,
            scrape,
            pages,
            metrics_access,
            overtaken,
            term_and_role,
            asking,
        })
    }

    /// Waits until this owner meets a higher term of its store, or another owner of its term.
    pub async fn overtaken(&self) -> TermAndRole {
        let term = self.overtaken.wait().await;
        TermAndRole { term: self.term_and_role.term, role: Role::Owner, overtaken_by: term }
    }

    /// Applies the live settings (`config::keys`, `live`) to the running daemon. Running requests end under the old
    /// ones. If the target policy changes, pooled connections are closed.
    ///
    /// # Errors
    /// The settings cannot be applied. Nothing has changed then.
    pub fn apply_settings(&self, settings: &Settings) -> Result<(), DaemonError> {
        let (policy, proxy) = (policy(settings, &self.own)?, proxy(settings)?);
        self.dispatcher.set_rules(rules(settings, policy.clone(), &self.url(), &self.pages)?);
        if self.guard.exchange(policy) {
            self.engine.deliverer.sender.forget_connections();
        }
        self.metrics_access.store(Arc::new(metrics_listener::access(&settings.metrics)));
        self.engine.set_proxy(proxy);
        self.engine.replication.require_standby(settings.standby.required);
        Ok(())
    }

    /// The URL of the daemon for clients.
    pub fn url(&self) -> String {
        url(&self.address, self.tls.is_some())
    }

    /// The address of the pages for a browser on this machine. `None` if the daemon listens on a unix socket.
    pub fn pages_url(&self) -> Option<String> {
        let ListenAddr::Tcp(address) = &self.pages_address else { return None };
        let host = match address.ip().is_unspecified() {
            true => format!("localhost:{}", address.port()),
            false => address.to_string(),
        };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{host}/ui/"))
    }

    /// A link that logs a browser of this machine in once, with the installation's oldest key that has the scope `admin`.
    /// `None` if there is no such key, or no page.
    pub fn login_link(&self) -> Option<String> {
        let url = self.pages_url()?;
        let (registry, now) = (self.engine.store.registry(), self.engine.clock.now());
        let key = registry.keys().find(|key| key.installation && key.may(Scope::Admin) && !key.expired(now))?;
        let mut random = [0; 32];
        self.engine.random.fill(&mut random);
        let token = key_text(random).split_off(KEY_PREFIX.len());
        self.pages.logins.put_link(&token, key, now.plus_ms(LOGIN_LINK_MS));
        Some(format!("{url}enter?t={token}"))
    }

    /// The certificate of the API's listener. `None` without TLS.
    pub fn tls(&self) -> Option<&ServerTls> {
        self.tls.as_deref()
    }

    /// Stops the daemon: rejects new requests and lets running ones finish until `timeout`. Requests in flight after
    /// that are sent again after the next start. Then everything is committed and closed.
    pub async fn stop(self, timeout: Duration) {
        let Daemon { engine, running, server, pages_server, scrape, asking, .. } = self;
        if let Some(asking) = asking {
            asking.abort();
        }
        let by = tokio::time::Instant::now() + timeout;
        engine.quiesce();
        let mut cut = server.drain(by).await;
        if let Some(pages_server) = pages_server {
            cut += pages_server.drain(by).await;
        }
        if cut > 0 {
            tracing::warn!(cut, "requests were cut");
        }
        drop(scrape);
        while engine.outstanding() > 0 && tokio::time::Instant::now() < by {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = engine.outstanding();
        if left > 0 {
            tracing::warn!(left, "deliveries were given up; they are sent again after the start");
        }
        running.end(engine).await;
    }
}

/// The settings of pages at this address, which the settings file may change.
fn page_settings(engine: &Engine, url: String) -> PageSettings {
    PageSettings { url, ..PageSettings::new(engine.store.derived_key(ui::SESSION_KEY_PURPOSE)) }
}

/// Begins to read the root certificates, unless the platform has no threads.
fn warm_up(work: BlockingPool) {
    if work == BlockingPool::Threads {
        engine::sender::read_roots_ahead();
    }
}

/// Stores that a closed store has met a higher term, or another owner of its term.
///
/// # Errors
/// The disk fails.
pub fn set_overtaken(settings: &Settings, overtaken: TermAndRole) -> Result<DaemonError, DaemonError> {
    // The process still holds the lock where a task has not ended yet, but its writer has.
    let disk = RealDisk::folder(&settings.data_dir);
    let disk = disk.map_err(|source| DaemonError::Io { context: settings.data_dir.display().to_string(), source })?;
    admin::set_term_and_role(&disk, overtaken)?;
    Ok(ownership::overtaken_error(settings, overtaken))
}

/// Serves the links of standbys. Returns the signal of a higher term, and the task that asks the other machine for its own.
fn serve_links(
    settings: &Settings,
    dispatcher: &Dispatcher,
    engine: &Arc<Engine>,
    term_and_role: TermAndRole,
) -> Result<(Arc<OvertakenSignal>, Option<tokio::task::JoinHandle<()>>), DaemonError> {
    engine.replication.require_standby(settings.standby.required);
    let overtaken = Arc::<OvertakenSignal>::default();
    let links = OwnerLinks::new(engine.clone(), term_and_role, overtaken.clone());
    let asking = ask_other(settings, &links)?;
    dispatcher.serve_links(Arc::new(links));
    Ok((overtaken, asking))
}

/// Asks the other machine of the settings for its term, again and again: each of two owners hears of the other, wherever
/// producers go. `None` if the settings name no other machine.
///
/// # Errors
/// The settings cannot be used.
fn ask_other(settings: &Settings, links: &OwnerLinks) -> Result<Option<tokio::task::JoinHandle<()>>, DaemonError> {
    let Some(other) = OtherMachine::of(&settings.standby)? else { return Ok(None) };
    let (own, overtaken) = (links.identity.clone(), links.overtaken.clone());
    let mut log_backoff = LogBackoff::default();
    Ok(Some(tokio::spawn(async move {
        loop {
            let (store, term, owner_run) = (Some(own.name.clone()), own.term, own.run);
            let link_request = LinkRequest { stream: LinkStream::Status, store, term, owner_run, key: None };
            match other.ask(&link_request).await.and_then(LinkAnswer::of_known_key) {
                Ok(answer) => {
                    log_backoff.reset();
                    own.overtaking(&answer).into_iter().for_each(|met| overtaken.set(met));
                }
                Err(why) => {
                    if let Some(times) = log_backoff.record() {
                        let other = other.url();
                        tracing::warn!(
                            other,
                            why,
                            times,
                            "the other machine does not tell its term: if both are owners, both go on"
                        );
                    }
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    })))
}

/// The observer of attempts that the settings ask for: an exporter of spans. `None` if they ask for none.
fn attempt_observer(settings: &Settings) -> Result<Option<Arc<dyn engine::deliverer::AttemptObserver>>, DaemonError> {
    let Some(endpoint) = &settings.traces.endpoint else { return Ok(None) };
    let exporter =
        otlp::SpanExporter::start(endpoint).map_err(|why| DaemonError::Settings(format!("traces.endpoint: {why}")))?;
    Ok(Some(Arc::new(exporter)))
}

/// Logs each listener that takes plain HTTP from other machines.
fn warn_of_clear_text(settings: &Settings, own: &[std::net::SocketAddr]) {
    let api = own.iter().filter(|_| settings.server.tls_cert.is_none());
    for listener in api.filter(|address| !address.ip().to_canonical().is_loopback()) {
        tracing::warn!(
            %listener,
            "the API speaks plain HTTP on an address that other machines may reach: keys and events cross the network in \
             clear; set server.tls_cert and server.tls_key, or listen on 127.0.0.1 behind a proxy that speaks TLS"
        );
    }
    if let Some(listener) = settings.metrics.listen.as_ref().filter(|listener| listener.is_open_to_others()) {
        tracing::warn!(
            %listener,
            "the metrics are served in plain HTTP on an address that other machines may reach: the figures, and \
             metrics.key if it is set, cross the network in clear"
        );
    }
}

/// The target policy: the settings' networks and hosts, without this daemon's own addresses.
fn policy(settings: &Settings, own: &[std::net::SocketAddr]) -> Result<TargetPolicy, DaemonError> {
    let delivery = &settings.delivery;
    let mut policy =
        TargetPolicy::parse(&delivery.allow, &delivery.deny, delivery.https_only).map_err(DaemonError::Settings)?;
    policy.own = own.to_vec();
    Ok(policy)
}

/// The proxy of deliveries. `None` if the settings name none.
fn proxy(settings: &Settings) -> Result<Option<DeliveryProxy>, DaemonError> {
    let Some(url) = &settings.delivery.proxy else { return Ok(None) };
    let wrong = |why: String| DaemonError::Settings(format!("delivery.proxy {why}"));
    let no_proxy = NoProxy::parse(&settings.delivery.no_proxy)
        .map_err(|entry| DaemonError::Settings(format!("delivery.no_proxy: {entry:?} is no host and no network")))?;
    let proxy = DeliveryProxy::new(ForwardProxy::parse(url.expose()).map_err(wrong)?, no_proxy);
    proxy.map(Some).map_err(|why| wrong(format!("cannot be used: {why}")))
}

/// The rules of the API from the settings.
fn rules(
    settings: &Settings,
    policy: TargetPolicy,
    own_url: &str,
    pages: &PageSettings,
) -> Result<ApiRules, DaemonError> {
    let public_urls = settings.server.public_url.as_deref().into_iter().chain(settings.ui.public_url.as_deref());
    let origins = OriginRules::new(&settings.server.allowed_hosts, public_urls)
        .map_err(|entry| DaemonError::Settings(format!("{entry:?} is no host")))?;
    let description = openapi::Description::of(|name| settings.dialects.contains(name));
    let mut mounts = dialect_mounts(settings);
    let has_own = settings.ui.listen.is_some();
    mounts.extend((settings.ui.enabled && !has_own).then(ui::mount));
    let pages_mount = if settings.ui.enabled { ui::mount() } else { ui::mount().without_routes() };
    Ok(ApiRules {
        api: Api::new(native::mount(), mounts),
        pages: Api::new(pages_mount, Vec::new()),
        settings: api_settings(settings, policy, own_url, pages),
        origins,
        shared_origins: SharedOrigins::new(&settings.server.allowed_origins),
        quotas: settings.quotas,
        description,
    })
}

/// The certificate of the API's listener. `None` if the settings name none.
///
/// # Errors
/// A file cannot be read or used.
pub fn certificate(settings: &Settings) -> Result<Option<Arc<ServerTls>>, DaemonError> {
    match (&settings.server.tls_cert, &settings.server.tls_key) {
        (Some(cert), Some(key)) => {
            let client_ca = settings.server.tls_client_ca.clone();
            let tls = ServerTls::load(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca });
            tls.map(|tls| Some(Arc::new(tls)))
                .map_err(|why| DaemonError::Settings(format!("server.tls_cert, tls_key, tls_client_ca: {why}")))
        }
        _ => Ok(None),
    }
}

fn api_settings(settings: &Settings, policy: TargetPolicy, own_url: &str, pages: &PageSettings) -> ApiSettings {
    let metrics = match (&settings.metrics.listen, &settings.metrics.key) {
        (Some(_), _) => MetricsAccess::Elsewhere,
        (None, Some(key)) => MetricsAccess::Key(key_hash(key.expose())),
        (None, None) => MetricsAccess::Everybody,
    };
    let public_url = settings.server.public_url.clone().unwrap_or_else(|| own_url.to_owned());
    let public = settings.ui.public_url.clone().or_else(|| settings.server.public_url.clone());
    let pages_url = public.unwrap_or_else(|| pages.url.clone());
    ApiSettings {
        max_event_bytes: settings.max_event_bytes as usize,
        retention_ms: settings.retention_ms,
        idempotency_window_ms: settings.idempotency_window_ms,
        policy,
        metrics,
        pages: PageSettings {
            session_ms: settings.ui.session_ms,
            idle_ms: settings.ui.idle_ms,
            require_tls: settings.ui.require_tls,
            is_secure: pages_url.starts_with("https:"),
            url: pages_url,
            portal: portal_logo::settings(settings, &pages.portal),
            ..pages.clone()
        },
        public_url,
        dialect_lists: settings.dialect_lists.clone(),
        foreign_tokens: foreign_tokens(&settings.foreign_tokens),
    }
}

fn foreign_tokens(settings: &ForeignTokenSettings) -> Option<JwtSettings> {
    let secret = settings.secret.as_ref()?;
    Some(JwtSettings::new(secret.expose(), settings.org.clone(), settings.organization))
}

/// This sender's name in handshakes: the host by which its clients know it.
fn origin(settings: &Settings, address: &ListenAddr) -> String {
    let public = settings.server.public_url.clone().unwrap_or_else(|| url_of(address));
    let host = url::Url::parse(&public).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "localhost".to_owned())
}

/// The address as a URL. A unix socket has none of its own.
pub fn url_of(address: &ListenAddr) -> String {
    url(address, false)
}

fn url(address: &ListenAddr, is_secured: bool) -> String {
    match address {
        ListenAddr::Tcp(addr) if is_secured => format!("https://{addr}"),
        ListenAddr::Tcp(addr) => format!("http://{addr}"),
        ListenAddr::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The mounts of the enabled dialects.
pub fn dialect_mounts(settings: &Settings) -> Vec<ApiMount> {
    dialects::mounts(|name| settings.dialects.contains(name))
}
