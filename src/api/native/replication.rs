//! `GET /v1/replication`: the owner of a store for its standby, as a document or as a stream.

use http::StatusCode;
use http::header::{CONNECTION, UPGRADE};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::doc::{AnswerDoc, doc, ok};
use crate::api::error::ApiError;
use crate::api::link::{LinkRequest, LinkStream, OWNER_RUN_HEADER, PROTOCOL};
use crate::api::params::{Param, ParamValues, wrong};
use crate::api::request::HttpRequest;
use crate::api::request_context::RequestContext;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::Scope;

use super::routes::get;

pub const REPLICATION: Route = get(
    "/v1/replication",
    Needs(Scope::Replicate, read),
    doc(
        "getReplication",
        "daemon",
        "The owner of the store; with `Upgrade: postrider-replication/1` its stream for a standby",
        &[
            ok::<ReplicationView>("Without `Upgrade`."),
            AnswerDoc {
                status: 101,
                schema: None,
                media_types: &[],
                description: "The connection is the stream. Its frames are for a standby of this version or the next.",
            },
        ],
    ),
)
.with_query(QUERY)
.inline();

const STORE_CHARS_MAX: usize = 64;
const AFTER: Param = Param::new(
    "after",
    ParamValues::Pattern(|| "^[0-9]{1,20}-[0-9]{1,19}$".to_owned()),
    "The last commit that the standby has, as number and run. The stream goes on after it if it can.",
);
const BASE: Param = Param::new("base", ParamValues::Boolean, "Whether the stream is a copy of the store.");
const STORE: Param = Param::new(
    "store",
    ParamValues::VisibleAscii { chars_max: STORE_CHARS_MAX },
    "The name of the store that the standby has.",
);
const TERM: Param = Param::whole("term", 0, u32::MAX, "The term of that store.");
/// The query of the route.
const QUERY: &[Param] = &[AFTER, BASE, STORE, TERM];

/// The owner of a store.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Replication")]
pub struct ReplicationView {
    /// The name of the store. A standby has the same.
    pub store: String,
    /// Number of this owner among all owners of the store.
    pub term: u64,
    /// Number of the last commit.
    pub commit: u64,
    /// Standbys that are connected and have a whole copy.
    pub standbys: usize,
    /// Whether an answer waits until a standby has its commit.
    pub required: bool,
}

/// `GET /v1/replication`.
pub fn read(_: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let after = request.query.bounded_text(&AFTER)?.map(|text| mark(&text).ok_or(text));
    let after = after.transpose().map_err(|_| wrong(AFTER.name, "is no number and run of a commit"))?;
    let is_base = request.query.boolean(&BASE)?.unwrap_or(false);
    let stream = match (wants_stream(request.http)?, is_base) {
        (false, _) => LinkStream::Status,
        (true, true) => LinkStream::Base,
        (true, false) => LinkStream::Commits(after),
    };
    let store = request.query.bounded_text(&STORE)?;
    let term = request.query.number(&TERM)?.unwrap_or(0).into();
    let owner_run = request.http.header(OWNER_RUN_HEADER).and_then(|run| run.parse().ok());
    Ok(Step::Link(LinkRequest { stream, store, term, owner_run, key: Some(request.principal.key.id) }))
}

/// The number and the run of `after`.
fn mark(text: &str) -> Option<(u64, i64)> {
    let (number, run) = text.split_once('-')?;
    Some((number.parse().ok()?, run.parse().ok()?))
}

/// Whether the request asks for a stream.
///
/// # Errors
/// 426 if it asks for another protocol.
fn wants_stream(http_request: &HttpRequest) -> Result<bool, ApiError> {
    let Some(protocol) = http_request.headers.get(UPGRADE) else { return Ok(false) };
    let asks = http_request.header(CONNECTION).is_some_and(|words| words.to_ascii_lowercase().contains("upgrade"));
    if asks && protocol == PROTOCOL {
        return Ok(true);
    }
    let detail = format!("the only protocol to upgrade to is {PROTOCOL}");
    Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail))
}
