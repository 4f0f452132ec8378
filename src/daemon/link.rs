//! The link between the machines of one store, over the API's listener.
//!
//! The owner answers `GET /v1/replication` and streams a copy of the store, or every commit after one. The frames are those
//! of a follower (`follow/stream.rs`).
//!
//! Invariant: an owner that meets a higher term of its store stops. It serves no link after that.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HeaderName, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::DaemonError;
use super::control::{backup, stream_commits};
use crate::api::ApiError;
use crate::api::link::{LinkRequest, LinkStream, PROTOCOL, STORE_HEADER, TERM_HEADER};
use crate::api::native::replication::ReplicationView;
use crate::api::response::HttpResponse;
use crate::config::StandbySettings;
use crate::engine::Engine;
use crate::engine::network::Conn;
use crate::http_client::HttpEndpoint;
use crate::server::links::LinkHandler;
use crate::store::Store;
use crate::store::admin::{CommitMark, ReplicationMode};

/// Purpose of the derived key that names a store.
const NAME_PURPOSE: &str = "postrider store name";
/// Bytes of the derived key that the name shows.
const NAME_BYTES: usize = 16;

/// The name of a store: the same on every machine that has its data key.
pub(super) fn store_name(store: &Store) -> String {
    store.derived_key(NAME_PURPOSE)[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The higher term that an owner has met.
#[derive(Debug, Default)]
pub struct OvertakenSignal {
    term: AtomicU64,
    met: Notify,
}

impl OvertakenSignal {
    /// Notes a higher term.
    pub fn set(&self, term: u64) {
        self.term.fetch_max(term, Ordering::AcqRel);
        self.met.notify_one();
    }

    /// Waits for a higher term, and returns it.
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

/// The owner's end of links.
pub struct OwnerLinks {
    engine: Arc<Engine>,
    pub name: String,
    pub term: u64,
    pub overtaken: Arc<OvertakenSignal>,
}

impl OwnerLinks {
    pub fn new(engine: Arc<Engine>, term: u64, overtaken: Arc<OvertakenSignal>) -> OwnerLinks {
        let name = store_name(&engine.store);
        OwnerLinks { engine, name, term, overtaken }
    }
}

impl LinkHandler for OwnerLinks {
    fn answer(&self, link_request: LinkRequest) -> Result<HttpResponse, ApiError> {
        if link_request.store.as_ref().is_some_and(|store| *store != self.name) {
            return Err(ApiError::conflict("other_store", "this daemon has another store"));
        }
        if link_request.store.is_some() && link_request.term > self.term {
            self.overtaken.set(link_request.term);
        }
        if self.overtaken.met_term().is_some() {
            let detail = format!("the store has an owner of a higher term than {}: this daemon stops", self.term);
            return Err(ApiError::conflict("overtaken", detail));
        }
        let response = match link_request.stream {
            LinkStream::Status => {
                let stats = self.engine.replication.stats();
                HttpResponse::json(
                    StatusCode::OK,
                    &ReplicationView {
                        store: self.name.clone(),
                        term: self.term,
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
        let name = HeaderValue::from_str(&self.name).map_err(|_| ApiError::internal("the name is no header"))?;
        Ok(response
            .with(HeaderName::from_static(STORE_HEADER), name)
            .with(HeaderName::from_static(TERM_HEADER), HeaderValue::from(self.term)))
    }

    fn take_over(&self, link_request: LinkRequest, mut conn: Box<dyn Conn>) {
        let Ok((near, mut far)) = UnixStream::pair() else {
            return tracing::warn!("a standby was refused: no descriptors are left");
        };
        // The streams are written by threads that block. The pair between lets them, over TLS too.
        tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut conn, &mut far).await) });
        let engine = self.engine.clone();
        tokio::spawn(async move {
            match link_request.stream {
                LinkStream::Commits(after) => {
                    let mark = after.map(|(number, run)| CommitMark { number, run });
                    stream_commits(near, engine, mark, ReplicationMode::Standby).await;
                }
                LinkStream::Base | LinkStream::Status => match backup(near, engine, true, true).await {
                    Ok(()) => tracing::info!("a standby has a copy"),
                    Err(error) => tracing::warn!(error, "a standby did not get a copy"),
                },
            }
        });
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
    /// The name of its store. Empty if it does not say.
    pub store: String,
    /// Its term. 0 if it does not say.
    pub term: u64,
    /// The reason of a refusal.
    pub detail: String,
    /// The stream. `None` unless the status is 101.
    pub stream: Option<std::os::unix::net::UnixStream>,
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
        let key = key.map_err(|error| format!("{}: {error}", self.key_file.display()))?;
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
        detail: format!("{} {detail}", response.status().as_u16()),
        stream,
    }
}
