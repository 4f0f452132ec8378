//! `GET /v1/system`: the daemon and its machine.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::{ApiContext, HealthIssue};
use crate::api::doc::{doc, ok};
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::model::machine::{MachineState, StoreBytes};
use crate::model::{Scope, Time};

use super::routes::get;

pub const SYSTEM: Route = get(
    "/v1/system",
    Needs(Scope::Admin, read),
    doc(
        "getSystem",
        "daemon",
        "The daemon and its machine: disk, files, queues, commits, followers, clock",
        &[ok::<SystemView>("As they are now.")],
    ),
);

/// The daemon, its store and its machine.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "System")]
pub struct SystemView {
    version: &'static str,
    started_at: Time,
    ready: bool,
    /// Why events are not taken or not sent. Empty if the daemon is ready.
    reasons: Vec<HealthIssue>,
    /// Problems that need attention although the daemon is ready.
    warnings: Vec<HealthIssue>,
    /// Null if the disk does not say.
    disk_free_bytes: Option<u64>,
    /// Publishing is refused below this free space.
    min_free_bytes: u64,
    bytes: StoreBytesView,
    /// When the oldest event was received that can still be read.
    oldest_event: Option<Time>,
    retention_s: i64,
    partitions: usize,
    /// Publishes that wait to be written.
    queue: usize,
    queue_max: usize,
    /// Requests under way to all webhooks, and outcomes that are not durable yet.
    in_flight: usize,
    in_flight_max: usize,
    /// In milliseconds, of the latest 1,024 commits. Null before the first one.
    commit_p50_ms: Option<f64>,
    /// In milliseconds.
    commit_p99_ms: Option<f64>,
    /// Backups that follow every commit and have a whole copy.
    followers: usize,
    /// Bytes that wait for the follower that is furthest behind.
    follower_queue_bytes: usize,
    clock: SystemClockView,
}

/// Bytes of disk by part of the store.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct StoreBytesView {
    /// Webhooks, keys, apps, jobs and the audit log.
    state: u64,
    /// The write-ahead log.
    journal: u64,
    /// The partition that takes new events.
    active: u64,
    /// All earlier partitions.
    sealed: u64,
    total: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SystemClockView {
    now: Time,
    /// Retention stops while it is false.
    trusted: bool,
    /// Milliseconds by which the machine's clock is ahead of the time that is believed. Null if both agree.
    off_ms: Option<i64>,
}

/// `GET /v1/system`.
pub fn read(context: &mut ApiContext<'_>, _: &RequestContext<'_>) -> Result<Step, ApiError> {
    let state = context.health_source.machine();
    let (reasons, warnings) = (context.health_source.unready(), context.health_source.warnings());
    let view = view(&state, reasons, warnings, context.settings.retention_ms, context.now);
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &view)))
}

fn view(
    state: &MachineState,
    reasons: Vec<HealthIssue>,
    warnings: Vec<HealthIssue>,
    retention_ms: i64,
    now: Time,
) -> SystemView {
    let in_ms = |us: Option<u32>| us.map(|us| f64::from(us) / 1_000.0);
    let StoreBytes { state: of_state, journal, active, sealed } = state.store;
    SystemView {
        version: env!("CARGO_PKG_VERSION"),
        started_at: state.started_at,
        ready: reasons.is_empty(),
        reasons,
        warnings,
        disk_free_bytes: state.disk_free_bytes,
        min_free_bytes: state.min_free_bytes,
        bytes: StoreBytesView { state: of_state, journal, active, sealed, total: state.store.total() },
        oldest_event: state.oldest_event,
        retention_s: retention_ms / 1_000,
        partitions: state.partitions,
        queue: state.queue,
        queue_max: state.queue_max,
        in_flight: state.in_flight,
        in_flight_max: state.in_flight_max,
        commit_p50_ms: in_ms(state.commit_p50_us),
        commit_p99_ms: in_ms(state.commit_p99_us),
        followers: state.followers,
        follower_queue_bytes: state.follower_queue_bytes,
        clock: SystemClockView { now, trusted: state.clock_trusted, off_ms: state.clock_off_ms },
    }
}
