//! Replays: durable jobs that send past events again (docs/api.md).

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::context::ApiContext;
use crate::api::cursor::CursorKind;
use crate::api::doc::{answer, doc, ok};
use crate::api::error::{ApiError, FieldError};
use crate::api::fields::{self, FieldErrors, JsonObject};
use crate::api::limits::{EVENT_TYPES_MAX, STATUS_CODES_MAX};
use crate::api::media::BodyRule;
use crate::api::params::{FROM, LIMIT, TO, cursor};
use crate::api::request_context::RequestContext;
use crate::api::response::HttpResponse;
use crate::api::route::Route;
use crate::api::route::RouteAccess::Scope as Needs;
use crate::api::step::Step;
use crate::api::stored_answers;
use crate::model::job::{Job, JobId, JobSpec, JobStatus};
use crate::model::webhook::WebhookStatus;
use crate::model::{
    AppId, AttemptOutcome, DeliveryStatus, EventId, LastDeliveryFilter, Scope, StatusCodes, Time, Webhook, WebhookId,
};
use crate::store::{Applied, MatchCount, Receipt, StateCommand};

use super::page::{self, ListView};
use super::publish::{AppLookup, app};
use super::routes::{get, post};
use super::webhook_form::{read_pattern, read_rate};

pub const CREATE_REPLAY: Route = post(
    "/v1/replays",
    Needs(Scope::DeliveriesRetry, create),
    BodyRule::Json,
    doc(
        "createReplay",
        "replays",
        "Send past events again",
        &[answer::<JobView>(202, "The job runs."), ok::<MatchedView>("A dry run: how many events it would be.")],
    )
    .takes("NewReplay"),
);

pub const LIST_REPLAYS: Route = get(
    "/v1/replays",
    Needs(Scope::DeliveriesRetry, list),
    doc("listReplays", "replays", "List replays", &[ok::<ListView<JobView>>("Newest first.")]),
)
.with_query(&[FROM, TO, LIMIT, cursor(CursorKind::Replays)]);

pub const READ_REPLAY: Route = get(
    "/v1/replays/{id}",
    Needs(Scope::DeliveriesRetry, read),
    doc("getReplay", "replays", "Read a replay", &[ok::<JobView>("The job as it stands.")]),
);

pub const CANCEL_REPLAY: Route = post(
    "/v1/replays/{id}/cancel",
    Needs(Scope::DeliveriesRetry, cancel),
    BodyRule::OptionalJson,
    doc("cancelReplay", "replays", "Stop a replay", &[ok::<JobView>("The cancelled job.")]).takes("Nothing"),
);

/// A replay.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Replay")]
pub struct JobView {
    id: JobId,
    webhook_id: Option<WebhookId>,
    app_id: Option<AppId>,
    status: JobStatus,
    matched: u64,
    created: u64,
    delivered: u64,
    failed: u64,
    /// Deliveries of it that were cancelled.
    cancelled: u64,
    created_at: Time,
    finished_at: Option<Time>,
    /// The time up to which the events have been examined. Null before the first.
    position_at: Option<Time>,
    request: ReplayRequestView,
}

/// The conditions of a replay, beside its webhook or app.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ReplayRequestView {
    from: Option<Time>,
    to: Option<Time>,
    /// Types and patterns. Empty for all.
    types: Vec<String>,
    status: Option<DeliveryStatus>,
    outcome: Vec<AttemptOutcome>,
    /// Codes and classes such as `5xx`. Empty for all.
    status_code: Vec<String>,
    ended_from: Option<Time>,
    ended_to: Option<Time>,
    missing: bool,
    /// Waiting deliveries are sent now: the same ones become due.
    waiting: bool,
    /// The payloads of the app's events are erased, and nothing is sent. Svix's API begins such a job.
    erasing: bool,
    rate_per_s: Option<f64>,
}

/// The number of deliveries that a replay would make.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Matched")]
pub struct MatchedView {
    matched: u64,
    /// Whether the count ended early, after 20,000 examined rows, so that more may match.
    at_least: bool,
}

impl JobView {
    fn new(job: &Job) -> Self {
        JobView {
            id: job.id,
            webhook_id: job.spec.webhook,
            app_id: job.spec.app,
            status: job.status,
            matched: job.matched,
            created: job.created,
            delivered: job.delivered,
            failed: job.failed,
            cancelled: job.cancelled,
            created_at: job.created_at,
            finished_at: job.finished_at,
            position_at: (job.position > EventId::MIN).then(|| job.position.time()),
            request: ReplayRequestView {
                from: job.spec.from,
                to: job.spec.to,
                types: job.spec.types.clone(),
                status: job.spec.status,
                outcome: job.spec.last.outcomes.clone(),
                status_code: job.spec.last.status_codes.iter().map(StatusCodes::text).collect(),
                ended_from: job.spec.last.ended_from,
                ended_to: job.spec.last.ended_to,
                missing: job.spec.missing,
                waiting: job.spec.waiting,
                erasing: job.spec.erasing,
                rate_per_s: job.spec.rate_per_s,
            },
        }
    }
}

/// `POST /v1/replays`.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let mut object = request.object()?;
    let mut field_errors = FieldErrors::new();
    let dry_run = object.optional("dry_run", &mut field_errors, fields::boolean).unwrap_or(false);
    let spec = read_spec(&mut object, context, request, &mut field_errors)?;
    object.finish(&mut field_errors);
    fields::into_result(field_errors)?;
    check_webhook(context, request, &spec)?;
    if dry_run {
        return count(context, request, &spec);
    }
    Ok(Step::apply(request.write(StateCommand::CreateJob { spec })?, |applied| shown(StatusCode::ACCEPTED, applied)))
}

/// A replay for a disabled webhook would send nothing, so it is refused.
fn check_webhook(context: &ApiContext<'_>, request: &RequestContext<'_>, spec: &JobSpec) -> Result<(), ApiError> {
    let webhook = spec.webhook.and_then(|id| context.registry.webhook(request.tenant(), id));
    match webhook.map_or(Ok(false), |webhook| is_refused(context, request, webhook))? {
        false => Ok(()),
        true => Err(ApiError::conflict("webhook_disabled", "the webhook of this replay is disabled; enable it first")),
    }
}

/// Whether the webhook is disabled, so that nothing would be sent to it. An earlier answer to the same request is given again
/// all the same.
pub fn is_refused(context: &ApiContext<'_>, request: &RequestContext<'_>, webhook: &Webhook) -> Result<bool, ApiError> {
    Ok(webhook.status == WebhookStatus::Disabled && !stored_answers::is_answered(context, request)?)
}

fn read_spec(
    object: &mut JsonObject<'_>,
    context: &ApiContext<'_>,
    request: &RequestContext<'_>,
    field_errors: &mut FieldErrors,
) -> Result<JobSpec, ApiError> {
    let uuid = |raw: &_| fields::text(raw)?.parse().map_err(|_| "must be a UUID".to_owned());
    let webhook: Option<WebhookId> = object.optional("webhook_id", field_errors, uuid);
    let place = AppLookup { registry: &context.registry, tenant: request.tenant() };
    let app = app(object, &place, field_errors)?;
    match (webhook, app) {
        (None, None) if field_errors.is_empty() => {
            field_errors.push(FieldError::new("/webhook_id", "is required, or app_id in its place"))
        }
        (Some(_), Some(_)) => field_errors.push(FieldError::new("/app_id", "must not stand beside webhook_id")),
        _ => {}
    }
    if webhook.is_some_and(|id| context.registry.webhook(request.tenant(), id).is_none()) {
        return Err(ApiError {
            errors: vec![FieldError::new("/webhook_id", "not found")],
            ..ApiError::not_found("webhook")
        });
    }
    let from = object.optional("from", field_errors, fields::time);
    let to = object.optional("to", field_errors, fields::time);
    if from.zip(to).is_some_and(|(from, to)| to < from) {
        field_errors.push(FieldError::new("/to", "must not lie before from"));
    }
    let types = object.strings("types", field_errors, EVENT_TYPES_MAX, read_pattern);
    let status = object.optional("status", field_errors, |raw| {
        let read = DeliveryStatus::parse(&fields::text(raw)?).filter(|status| status.is_final());
        read.ok_or_else(|| {
            "must be delivered, failed or cancelled: a replay would send an open delivery twice. Send it now with \
             `waiting`, or with POST /v1/deliveries/{id}/retry"
                .to_owned()
        })
    });
    let missing = object.optional("missing", field_errors, fields::boolean).unwrap_or(false);
    if missing && status.is_some() {
        field_errors.push(FieldError::new("/missing", "must not stand beside status: what is missing has none"));
    }
    let last = read_last(object, field_errors);
    if missing && last != LastDeliveryFilter::default() {
        let detail = "must not stand beside outcome, status_code, ended_from or ended_to: what is missing has none";
        field_errors.push(FieldError::new("/missing", detail));
    }
    let rate_per_s = object.optional("rate_per_s", field_errors, read_rate);
    let waiting = object.optional("waiting", field_errors, fields::boolean).unwrap_or(false);
    if waiting && (missing || status.is_some() || last.ended_from.is_some() || last.ended_to.is_some()) {
        let detail = "must not stand beside status, missing, ended_from or ended_to: an open delivery has not ended";
        field_errors.push(FieldError::new("/waiting", detail));
    }
    let types = types.unwrap_or_default();
    Ok(JobSpec { webhook, app, from, to, types, status, missing, rate_per_s, last, waiting, ..JobSpec::default() })
}

/// The conditions for an event's last delivery, beside its status.
fn read_last(object: &mut JsonObject<'_>, field_errors: &mut FieldErrors) -> LastDeliveryFilter {
    let outcome = |text: &str| AttemptOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
    let outcomes = object.strings("outcome", field_errors, AttemptOutcome::ALL.len(), |raw| {
        let read = fields::text(raw)?;
        outcome(&read).map(|_| read).ok_or_else(|| "must be an outcome of an attempt, such as timeout".to_owned())
    });
    let status_codes = object.strings("status_code", field_errors, STATUS_CODES_MAX, |raw| {
        let read = fields::text(raw)?;
        let what = "must be a status code from 100 to 599 or a class such as 5xx, as a text";
        StatusCodes::parse(&read).map(|_| read).ok_or_else(|| what.to_owned())
    });
    let ended_from = object.optional("ended_from", field_errors, fields::time);
    let ended_to = object.optional("ended_to", field_errors, fields::time);
    if ended_from.zip(ended_to).is_some_and(|(from, to)| to < from) {
        field_errors.push(FieldError::new("/ended_to", "must not lie before ended_from"));
    }
    LastDeliveryFilter {
        outcomes: outcomes.unwrap_or_default().iter().filter_map(|text| outcome(text)).collect(),
        status_codes: status_codes.unwrap_or_default().iter().filter_map(|text| StatusCodes::parse(text)).collect(),
        ended_from,
        ended_to,
    }
}

/// Answers a dry run, which changes nothing. Only an `Idempotency-Key` needs a command.
fn count(context: &ApiContext<'_>, request: &RequestContext<'_>, spec: &JobSpec) -> Result<Step, ApiError> {
    if let Some(stored) = stored_answers::response(context, request)? {
        return Ok(Step::Reply(stored));
    }
    let MatchCount { matched, at_least } = context.store.matching(request.tenant(), spec, context.now)?;
    Ok(stored_answers::storing(request)?(HttpResponse::json(StatusCode::OK, &MatchedView { matched, at_least })))
}

fn shown(status: StatusCode, applied: Applied) -> Result<HttpResponse, ApiError> {
    match applied.receipt {
        Receipt::Job(job) => Ok(HttpResponse::json(status, &JobView::new(&job))),
        _ => Err(super::unexpected()),
    }
}

fn in_path(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Job, ApiError> {
    let id: JobId = request.id("replay")?;
    context.store.job(request.tenant(), id)?.ok_or_else(|| ApiError::not_found("replay"))
}

/// `GET /v1/replays`.
pub fn list(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let page = context.store.jobs(request.tenant(), request.query.window(CursorKind::Replays)?)?;
    Ok(Step::Reply(page::response(CursorKind::Replays, &page, JobView::new)))
}

/// `GET /v1/replays/{id}`.
pub fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &JobView::new(&in_path(context, request)?))))
}

/// `POST /v1/replays/{id}/cancel`.
pub fn cancel(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    request.no_fields()?;
    let id = in_path(context, request)?.id;
    Ok(Step::apply(request.write(StateCommand::CancelJob { id })?, |applied| shown(StatusCode::OK, applied)))
}
