//! The link between the machines of one store, over the API's listener.
//!
//! The owner answers `GET /v1/replication` and streams a copy of the store, or every commit after one. The frames are those
//! of a follower (`follow/stream.rs`).
//!
//! Invariant: an owner that meets a higher term of its store stops. It serves no link after that. An owner that meets another
//! owner of its term stops too, and so does the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::DaemonError;
use super::control::{backup, stream_commits};
use crate::api::ApiError;
use crate::api::link::{LinkRequest, LinkStream, OWNER_RUN_HEADER, PROTOCOL, STORE_HEADER, TERM_HEADER};
use crate::api::native::replication::ReplicationView;
use crate::api::response::HttpResponse;
use crate::config::StandbySettings;
use crate::engine::Engine;
use crate::engine::clock::{SystemRandomness, numbers};
use crate::engine::network::Conn;
use crate::http_client::HttpEndpoint;
use crate::model::Scope;
use crate::model::id::KeyId;
use crate::server::links::LinkHandler;
use crate::store::admin::{self, CommitMark, MasterKey, ReplicaKind, Role, TermAndRole};
use crate::store::{self, Disk, Store};

/// Purpose of the derived key that names a store.
const NAME_PURPOSE: &str = "postrider store name";
/// Bytes of the derived key that the name shows.
const NAME_BYTES: usize = 16;

/// The name of a store: the same on every machine that has its data key.
pub(super) fn store_name(store: &Store) -> String {
    name_of(&store.derived_key(NAME_PURPOSE))
}

/// The name of a store that no writer has open.
///
/// # Errors
/// `state.redb` cannot be read, or the master key does not open it.
pub(super) fn closed_store_name(disk: &dyn Disk, master_key: &MasterKey) -> Result<String, store::Error> {
    Ok(name_of(&admin::closed_derived_key(disk, master_key, NAME_PURPOSE)?))
}

fn name_of(derived: &[u8]) -> String {
    derived[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Time in which an owner answers another owner of its term, before it stops itself. So the other hears of it.
const TWIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// Interval at which an owner looks whether the key of a link may still replicate.
const LOOK_AT_KEY_EVERY: Duration = Duration::from_secs(2);

/// The term that overtakes an owner: a higher one, or its own if another owner has it too.
#[derive(Debug, Default)]
pub struct OvertakenSignal {
    term: AtomicU64,
    met: Notify,
}

impl OvertakenSignal {
    /// Notes the term.
    pub fn set(&self, term: u64) {
        self.term.fetch_max(term, Ordering::AcqRel);
        self.met.notify_one();
    }

    /// Waits for the term, and returns it.
    pub async fn wait(&self) -> u64 {
        loop {
            if let Some(term) = self.met_term() {
                return term;
            }
            self.met.notified().await;
        }
    }

    fn met_term(&self) -> Option<u64> {
        Some(self.term.load(Ordering::Acquire)).filter(|term| *term > 0)
    }
}

/// The name, the term and the run of an owner.
#[derive(Debug, Clone)]
pub struct OwnerIdentity {
    pub name: String,
    pub term: u64,
    /// A random number of this run. `None` for a restored copy, which may serve beside its store, and for a node of a cluster.
    pub run: Option<u64>,
}

impl OwnerIdentity {
    /// Whether another owner of this term has answered or asked. An owner may meet itself behind an address of both machines.
    fn is_twin(&self, term: u64, run: Option<u64>) -> bool {
        term == self.term && matches!((self.run, run), (Some(own), Some(other)) if own != other)
    }

    /// The term of an answer that overtakes this owner.
    pub fn overtaking(&self, answer: &LinkAnswer) -> Option<u64> {
        let is_over = answer.term > self.term || self.is_twin(answer.term, answer.owner_run);
        (answer.store == self.name && is_over).then_some(answer.term)
    }
}

/// The owner's end of links.
pub struct OwnerLinks {
    engine: Arc<Engine>,
    pub identity: OwnerIdentity,
    pub overtaken: Arc<OvertakenSignal>,
}

impl OwnerLinks {
    pub fn new(engine: Arc<Engine>, term_and_role: TermAndRole, overtaken: Arc<OvertakenSignal>) -> OwnerLinks {
        let run = (term_and_role.role == Role::Owner).then(|| numbers(Arc::new(SystemRandomness::default()))());
        let identity = OwnerIdentity { name: store_name(&engine.store), term: term_and_role.term, run };
        OwnerLinks { engine, identity, overtaken }
    }

    /// Stops this owner after `TWIN_ANSWER_TIME` if another owner of its term has asked.
    fn look_for_twin(&self, link_request: &LinkRequest) {
        let LinkRequest { store, term, owner_run, .. } = link_request;
        if store.is_some() && self.identity.is_twin(*term, *owner_run) {
            let (overtaken, term) = (self.overtaken.clone(), *term);
            tokio::spawn(async move {
                tokio::time::sleep(TWIN_ANSWER_TIME).await;
                overtaken.set(term);
            });
        }
    }
}

impl LinkHandler for OwnerLinks {
    fn answer(&self, link_request: LinkRequest) -> Result<HttpResponse, ApiError> {
        let OwnerIdentity { name, term, run } = &self.identity;
        if link_request.store.as_ref().is_some_and(|store| store != name) {
            return Err(ApiError::conflict("other_store", "this daemon has another store"));
        }
        if link_request.store.is_some() && link_request.term > *term {
            self.overtaken.set(link_request.term);
        }
        if self.overtaken.met_term().is_some() {
            let detail = format!("the store has an owner of a higher term than {term}: this daemon stops");
            return Err(ApiError::conflict("overtaken", detail));
        }
        self.look_for_twin(&link_request);
        let response = match link_request.stream {
            LinkStream::Status => {
                let stats = self.engine.replication.stats();
                HttpResponse::json(
                    StatusCode::OK,
                    &ReplicationView {
                        store: name.clone(),
                        term: *term,
                        commit: self.engine.replication.begun(),
                        standbys: stats.standbys,
                        required: self.engine.replication.is_standby_required(),
                    },
                )
            }
            LinkStream::Base | LinkStream::Commits(_) => HttpResponse {
                link: Some(link_request),
                ..HttpResponse::empty(StatusCode::SWITCHING_PROTOCOLS)
                    .with(UPGRADE, HeaderValue::from_static(PROTOCOL))
                    .with(CONNECTION, HeaderValue::from_static("upgrade"))
            },
        };
        let name = HeaderValue::from_str(name).map_err(|_| ApiError::internal("the name is no header"))?;
        let response = response
            .with(HeaderName::from_static(STORE_HEADER), name)
            .with(HeaderName::from_static(TERM_HEADER), HeaderValue::from(*term));
        Ok(match run {
            Some(run) => response.with(HeaderName::from_static(OWNER_RUN_HEADER), HeaderValue::from(*run)),
            None => response,
        })
    }

    fn take_over(&self, link_request: LinkRequest, mut conn: Box<dyn Conn>) {
        let Ok((near, mut far)) = UnixStream::pair() else {
            return tracing::warn!("a standby was refused: no descriptors are left");
        };
        let (engine, key) = (self.engine.clone(), link_request.key);
        // The streams are written by threads that block. The pair between lets them, over TLS too.
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut conn, &mut far) => {}
                () = refused_key(&engine, key) => {
                    tracing::warn!("the link of a standby was ended: its key was revoked, has expired, or lost its scope");
                }
            }
        });
        let engine = self.engine.clone();
        tokio::spawn(async move {
            match link_request.stream {
                LinkStream::Commits(after) => {
                    let mark = after.map(|(number, run)| CommitMark { number, run });
                    stream_commits(near, engine, mark, ReplicaKind::Standby).await;
                }
                LinkStream::Base | LinkStream::Status => match backup(near, engine, true, true).await {
                    Ok(()) => tracing::info!("a standby has a copy"),
                    Err(error) => tracing::warn!(error, "a standby did not get a copy"),
                },
            }
        });
    }
}

/// Waits until the key of a link may not replicate any more.
async fn refused_key(engine: &Engine, key: Option<KeyId>) {
    let may = |key: KeyId| {
        let (registry, now) = (engine.store.registry(), engine.clock.now());
        registry.key(key).is_some_and(|key| key.may(Scope::Replicate) && !key.expired(now))
    };
    while key.is_some_and(may) {
        tokio::time::sleep(LOOK_AT_KEY_EVERY).await;
    }
}

/// The other machine, as a client sees it.
#[derive(Clone)]
pub struct OtherMachine {
    endpoint: HttpEndpoint,
    key_file: PathBuf,
}

/// The answer of the other machine.
pub struct LinkAnswer {
    pub status: StatusCode,
    /// The name of the other machine's store. Empty if the answer has none.
    pub store: String,
    /// The other machine's term. 0 if the answer has none.
    pub term: u64,
    /// The random number of the running owner. `None` if the other machine is no owner, or of an earlier version.
    pub owner_run: Option<u64>,
    /// The reason of a refusal.
    pub detail: String,
    /// The stream. `None` unless the status is 101.
    pub stream: Option<std::os::unix::net::UnixStream>,
}

impl LinkAnswer {
    /// The answer, unless the other machine refused the key.
    ///
    /// # Errors
    /// A sentence: it refused the key.
    pub fn of_known_key(self) -> Result<LinkAnswer, String> {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(format!("it refuses the key of standby.key_file with {}: {}", self.status, self.detail))
            }
            _ => Ok(self),
        }
    }
}

impl OtherMachine {
    /// The other machine of the settings. `None` if they name none.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn of(settings: &StandbySettings) -> Result<Option<OtherMachine>, DaemonError> {
        let Some(url) = &settings.of else { return Ok(None) };
        let Some(key_file) = settings.key_file.clone() else {
            return Err(DaemonError::Settings("standby.of needs standby.key_file too".to_owned()));
        };
        let endpoint = HttpEndpoint::parse(url).and_then(|endpoint| match &settings.ca_file {
            Some(ca) => endpoint.trusting_only(ca),
            None => Ok(endpoint),
        });
        let endpoint = endpoint.map_err(|error| DaemonError::Settings(format!("standby.of, ca_file: {error}")))?;
        Ok(Some(OtherMachine { endpoint, key_file }))
    }

    pub fn url(&self) -> &str {
        self.endpoint.written()
    }

    /// Asks the other machine who the owner is, or for a stream.
    ///
    /// # Errors
    /// A sentence: it does not answer, or the key cannot be read.
    pub async fn ask(&self, link_request: &LinkRequest) -> Result<LinkAnswer, String> {
        let key = tokio::fs::read_to_string(&self.key_file).await;
        let key = key.map_err(|error| format!("the file {} of the link's key: {error}", self.key_file.display()))?;
        let mut query = format!("/v1/replication?term={}", link_request.term);
        if let Some(store) = &link_request.store {
            query.push_str(&format!("&store={store}"));
        }
        match link_request.stream {
            LinkStream::Base => query.push_str("&base=true"),
            LinkStream::Commits(Some((number, run))) => query.push_str(&format!("&after={number}-{run}")),
            LinkStream::Commits(None) | LinkStream::Status => {}
        }
        let mut request = Request::get(query).header(AUTHORIZATION, format!("Bearer {}", key.trim()));
        if let Some(run) = link_request.owner_run {
            request = request.header(OWNER_RUN_HEADER, run);
        }
        if link_request.stream != LinkStream::Status {
            request = request.header(CONNECTION, "upgrade").header(UPGRADE, PROTOCOL);
        }
        let request = request.body(Full::new(Bytes::new())).map_err(|error| error.to_string())?;
        let answered = self.endpoint.upgrade(request).await?;
        let stream = match answered.stream {
            Some(mut stream) => {
                let (near, mut far) = UnixStream::pair().map_err(|error| error.to_string())?;
                tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut stream, &mut far).await) });
                let near = near.into_std().and_then(|near| near.set_nonblocking(false).map(|()| near));
                Some(near.map_err(|error| error.to_string())?)
            }
            None => None,
        };
        Ok(answer_of(&answered.response, stream))
    }
}

fn answer_of(response: &Response<Bytes>, stream: Option<std::os::unix::net::UnixStream>) -> LinkAnswer {
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let detail = problem["detail"].as_str().unwrap_or_default();
    LinkAnswer {
        status: response.status(),
        store: header(STORE_HEADER).to_owned(),
        term: header(TERM_HEADER).parse().unwrap_or(0),
        owner_run: header(OWNER_RUN_HEADER).parse().ok(),
        detail: format!("{} {detail}", response.status().as_u16()),
        stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_gives_way_to_a_higher_term_and_to_another_owner_of_its_own() {
        let own = OwnerIdentity { name: "a store".to_owned(), term: 4, run: Some(7) };
        let answer = |store: &str, term, owner_run| LinkAnswer {
            status: StatusCode::OK,
            store: store.to_owned(),
            term,
            owner_run,
            detail: String::new(),
            stream: None,
        };
        let met = |own: &OwnerIdentity, term, run| own.overtaking(&answer("a store", term, run));
        assert_eq!(met(&own, 5, None), Some(5));
        assert_eq!(met(&own, 4, Some(8)), Some(4), "two owners of one term");
        assert_eq!(met(&own, 4, Some(7)), None, "itself, behind an address of both machines");
        assert_eq!(met(&own, 4, None), None, "a restored copy, or an owner of an earlier version");
        assert_eq!(met(&own, 3, Some(8)), None, "the other one gives way");
        assert_eq!(own.overtaking(&answer("another", 4, Some(8))), None);
        let copy = OwnerIdentity { run: None, ..own };
        assert_eq!(met(&copy, 4, Some(8)), None, "a restored copy may serve beside its store");
        assert_eq!(met(&copy, 5, Some(8)), Some(5));
    }
}
