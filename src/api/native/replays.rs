//! Replays: durable jobs that send past events again (api.md section 3).

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use crate::api::ask::Ask;
use crate::api::call::Reply;
use crate::api::context::Context;
use crate::api::cursor::Kind;
use crate::api::fault::{Fault, Flaw};
use crate::api::fields::{self, Flaws, Object};
use crate::api::idempotency;
use crate::api::step::Step;
use crate::model::{AppId, DeliveryStatus, Time, WebhookId};
use crate::rules::patterns;
use crate::store::job::{Job, JobId, JobSpec, JobStatus};
use crate::store::{Applied, Command, Receipt};

use super::page;
use super::publish::{Place, app};
use super::webhook_form::{EVENT_TYPES_MAX, read_rate};

#[derive(Serialize)]
struct JobView {
    id: JobId,
    webhook_id: Option<WebhookId>,
    app_id: Option<AppId>,
    status: JobStatus,
    matched: u64,
    created: u64,
    delivered: u64,
    failed: u64,
    created_at: Time,
    finished_at: Option<Time>,
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
            created_at: job.created_at,
            finished_at: job.finished_at,
        }
    }
}

/// `POST /v1/replays`.
pub fn create(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let mut object = ask.object()?;
    let mut flaws = Flaws::new();
    let dry_run = object.optional("dry_run", &mut flaws, fields::boolean).unwrap_or(false);
    let spec = read_spec(&mut object, context, ask, &mut flaws)?;
    object.finish(&mut flaws);
    fields::judge(flaws)?;
    if dry_run {
        return count(context, ask, &spec);
    }
    Ok(Step::apply(ask.order(Command::CreateJob { spec })?, |applied| shown(StatusCode::ACCEPTED, applied)))
}

fn read_spec(
    object: &mut Object<'_>,
    context: &Context<'_>,
    ask: &Ask<'_>,
    flaws: &mut Flaws,
) -> Result<JobSpec, Fault> {
    let uuid = |raw: &_| fields::text(raw)?.parse().map_err(|_| "must be a UUID".to_owned());
    let webhook: Option<WebhookId> = object.optional("webhook_id", flaws, uuid);
    let place = Place { registry: &context.registry, reach: ask.reach() };
    let app = app(object, &place, flaws)?;
    match (webhook, app) {
        (None, None) if flaws.is_empty() => flaws.push(Flaw::new("/webhook_id", "is required, or app_id in its place")),
        (Some(_), Some(_)) => flaws.push(Flaw::new("/app_id", "must not stand beside webhook_id")),
        _ => {}
    }
    if webhook.is_some_and(|id| context.registry.webhook(ask.reach(), id).is_none()) {
        return Err(Fault { errors: vec![Flaw::new("/webhook_id", "not found")], ..Fault::not_found("webhook") });
    }
    let from = object.optional("from", flaws, fields::time);
    let to = object.optional("to", flaws, fields::time);
    if from.zip(to).is_some_and(|(from, to)| to < from) {
        flaws.push(Flaw::new("/to", "must not lie before from"));
    }
    let types = object.strings("types", flaws, EVENT_TYPES_MAX, |raw| {
        let text = fields::text(raw)?;
        match patterns::is_pattern(&text) {
            true => Ok(text),
            false => Err("must be an event type, or one ending in .* or .**, or *".to_owned()),
        }
    });
    let status = object.optional("status", flaws, |raw| {
        let read = DeliveryStatus::parse(&fields::text(raw)?);
        read.ok_or_else(|| "must be pending, retrying, delivered, failed or cancelled".to_owned())
    });
    let missing = object.optional("missing", flaws, fields::boolean).unwrap_or(false);
    if missing && status.is_some() {
        flaws.push(Flaw::new("/missing", "must not stand beside status: what is missing has none"));
    }
    let rate_per_s = object.optional("rate_per_s", flaws, read_rate);
    Ok(JobSpec { webhook, app, from, to, types: types.unwrap_or_default(), status, missing, rate_per_s })
}

/// A dry run changes nothing, so that nothing but `Idempotency-Key` makes a command of it.
fn count(context: &Context<'_>, ask: &Ask<'_>, spec: &JobSpec) -> Result<Step, Fault> {
    if let Some(kept) = kept(context, ask)? {
        return Ok(Step::Reply(kept));
    }
    let matched = context.store.matching(ask.reach(), spec, context.now)?;
    Ok(keeping(ask)?(Reply::json(StatusCode::OK, &json!({ "matched": matched }))))
}

/// The first answer to this request, where no command made it and `Idempotency-Key` kept it.
pub fn kept(context: &Context<'_>, ask: &Ask<'_>) -> Result<Option<Reply>, Fault> {
    let Some(keep) = ask.keep()? else { return Ok(None) };
    let Some(applied) = context.store.kept(&keep, context.now)? else { return Ok(None) };
    let mut reply = kept_reply(applied)?;
    idempotency::mark(&mut reply);
    Ok(Some(reply))
}

fn kept_reply(applied: Applied) -> Result<Reply, Fault> {
    match applied.receipt {
        Receipt::Kept(body) => Ok(Reply::new(StatusCode::OK, "application/json", body)),
        _ => Err(super::unexpected()),
    }
}

/// How an answer that no command made is given: kept before, if `Idempotency-Key` asks for it.
pub fn keeping(ask: &Ask<'_>) -> Result<impl FnOnce(Reply) -> Step + Send + use<>, Fault> {
    let order = ask.keep()?.map(|_| ask.order(Command::KeepAnswer { body: Bytes::new() })).transpose()?;
    Ok(move |reply: Reply| match order {
        None => Step::Reply(reply),
        Some(order) => {
            let command = Command::KeepAnswer { body: reply.body };
            Step::apply(crate::store::Order { command, ..order }, kept_reply)
        }
    })
}

fn shown(status: StatusCode, applied: Applied) -> Result<Reply, Fault> {
    match applied.receipt {
        Receipt::Job(job) => Ok(Reply::json(status, &JobView::new(&job))),
        _ => Err(super::unexpected()),
    }
}

fn in_path(context: &Context<'_>, ask: &Ask<'_>) -> Result<Job, Fault> {
    let id: JobId = ask.id("replay")?;
    context.store.job(ask.reach(), id)?.ok_or_else(|| Fault::not_found("replay"))
}

/// `GET /v1/replays`.
pub fn list(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    let page = context.store.jobs(ask.reach(), ask.query.window(Kind::Replays)?)?;
    Ok(Step::Reply(page::reply(Kind::Replays, &page, JobView::new)))
}

/// `GET /v1/replays/{id}`.
pub fn read(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    Ok(Step::Reply(Reply::json(StatusCode::OK, &JobView::new(&in_path(context, ask)?))))
}

/// `POST /v1/replays/{id}/cancel`.
pub fn cancel(context: &mut Context<'_>, ask: &Ask<'_>) -> Result<Step, Fault> {
    ask.no_fields()?;
    let id = in_path(context, ask)?.id;
    Ok(Step::apply(ask.order(Command::CancelJob { id })?, |applied| shown(StatusCode::OK, applied)))
}
