//! Tasks in the background: the replays of the organization, and the erasure of an app's messages.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::api::step::Step;
use crate::model::Time;
use crate::model::job::{Job, JobId, JobStatus};
use crate::store::ListWindow;

use super::errors::absent;
use super::ids::{self, Noun};
use super::iterator::item_page;
use super::list;
use super::query::{SvixQuery, TASK, TASK_STATUS};
use crate::api::dialects::derived::ok;

/// Number of the newest tasks that a list shows.
const LISTED_MAX: usize = 1_000;

/// A task in the background.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SvixTask {
    id: String,
    #[schemars(extend("enum" = ["running", "finished", "failed"]))]
    status: &'static str,
    #[schemars(extend("enum" = ["endpoint.recover", "endpoint.replay", "endpoint.bulk-replay", "application.purge_content"]))]
    task: &'static str,
    updated_at: Time,
}

impl SvixTask {
    pub fn new(job: &Job) -> Self {
        SvixTask {
            id: Noun::Task.write(job.id),
            status: match job.status {
                JobStatus::Running => "running",
                JobStatus::Done => "finished",
                JobStatus::Cancelled => "failed",
            },
            task: match () {
                () if job.spec.erasing => "application.purge_content",
                () if job.spec.missing => "endpoint.replay",
                () if job.spec.retrying => "endpoint.recover",
                () => "endpoint.bulk-replay",
            },
            updated_at: job.finished_at.unwrap_or(job.created_at),
        }
    }
}

/// A task in the background, with its counts.
#[derive(Serialize, JsonSchema)]
pub struct SvixBackgroundTask {
    #[serde(flatten)]
    task: SvixTask,
    data: SvixTaskCounts,
}

/// Counts of a task.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct SvixTaskCounts {
    /// Messages that it is for.
    matched: u64,
    /// Messages that it made a delivery for. One that waited for a retry is sent at once and is in `matched` only.
    sent: u64,
    /// How many of `sent` were delivered.
    delivered: u64,
    /// How many of `sent` failed for good.
    failed: u64,
    /// Messages whose payload it erased. Omitted by tasks that send.
    #[serde(rename = "messagesPurged", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    messages_purged: Option<u64>,
}

impl SvixBackgroundTask {
    fn new(job: &Job) -> Self {
        let data = SvixTaskCounts {
            matched: job.matched,
            sent: job.created,
            delivered: job.delivered,
            failed: job.failed + job.cancelled,
            messages_purged: job.spec.erasing.then_some(job.matched),
        };
        SvixBackgroundTask { task: SvixTask::new(job), data }
    }
}

/// `GET /api/v1/background-task`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let query = SvixQuery::read(request)?;
    let (limit, is_ascending, travel) = (query.limit()?, query.is_ascending(false)?, query.travel(Noun::Task)?);
    let (status, task) = (query.text(&TASK_STATUS), query.text(&TASK));
    let window = ListWindow::newest(LISTED_MAX);
    let jobs = context.store.jobs(request.tenant(), window)?.rows.into_iter();
    let wanted = jobs.filter(|job| {
        let shown = SvixTask::new(job);
        status.is_none_or(|status| status == shown.status) && task.is_none_or(|task| task == shown.task)
    });
    let page = match is_ascending {
        true => item_page(wanted.rev(), travel.as_ref(), limit, |job, place| job.id.as_u128().cmp(place)),
        false => item_page(wanted, travel.as_ref(), limit, |job, place| place.cmp(&job.id.as_u128())),
    };
    list::shown(&page, |job| Noun::Task.write(job.id), |job| Ok(SvixBackgroundTask::new(job)))
}

/// `GET /api/v1/background-task/{task_id}`.
pub fn get(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: JobId = Noun::Task.read(ids::name_in_path(request, "task_id")?).ok_or_else(absent)?;
    let job = context.store.job(request.tenant(), id)?.ok_or_else(absent)?;
    ok(&SvixBackgroundTask::new(&job))
}
