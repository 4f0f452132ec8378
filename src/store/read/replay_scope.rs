//! Decides which events, webhooks and callers a replay job covers.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::id::{AppId, WebhookId};
use crate::model::webhook::{Webhook, WebhookStatus};
use crate::model::{Delivery, DeliveryStatus, Event};
use crate::rules::fanout::{self, Decision};
use crate::rules::patterns;

use crate::model::job::{Job, JobSpec};
use crate::store::command::TenantScope;
use crate::store::registry::Registry;

/// Whether a job lies within `tenant`.
pub(in crate::store) fn job_within(registry: &Registry, tenant: TenantScope, job: &Job) -> bool {
    job.org_id == tenant.org && tenant.app.is_none_or(|own| app_of(registry, &job.spec) == Some(own))
}

/// The app of a job. `None` if the job's webhook was removed.
pub(in crate::store) fn app_of(registry: &Registry, spec: &JobSpec) -> Option<AppId> {
    spec.app.or_else(|| spec.webhook.and_then(|id| registry.webhooks.get(&id)).map(|webhook| webhook.app_id))
}

/// Whether an event matches a job's time range and types.
pub(in crate::store) fn covers(spec: &JobSpec, event: &Event) -> bool {
    spec.from.is_none_or(|from| event.received_at >= from)
        && spec.to.is_none_or(|to| event.received_at < to)
        && (spec.types.is_empty()
            || spec.types.iter().any(|pattern| patterns::matches(pattern, &event.attributes.event_type)))
}

/// Whether a job can send: its one webhook exists and is enabled or paused. A job over an app always can.
pub(in crate::store) fn has_target(registry: &Registry, spec: &JobSpec) -> bool {
    let is_sending = |id| registry.webhooks.get(&id).is_some_and(|webhook| webhook.status != WebhookStatus::Disabled);
    spec.webhook.is_none_or(is_sending)
}

/// The job's webhooks that may receive an event: enabled or paused ones of the event's app.
pub(in crate::store) fn targets(registry: &Registry, spec: &JobSpec, event: &Event) -> Vec<Arc<Webhook>> {
    if spec.app.is_some_and(|app| app != event.app_id) {
        return Vec::new();
    }
    let may_receive = |webhook: &&Arc<Webhook>| webhook.status != WebhookStatus::Disabled;
    match spec.webhook {
        Some(id) => {
            let own = registry.webhooks.get(&id).filter(|webhook| webhook.app_id == event.app_id);
            own.filter(may_receive).cloned().into_iter().collect()
        }
        None => registry.webhooks_of(event.app_id).filter(may_receive).cloned().collect(),
    }
}

/// The webhooks of a job over waiting deliveries, by their ids: those that send, or are paused.
pub(in crate::store) fn waiting_webhooks(registry: &Registry, spec: &JobSpec) -> Vec<WebhookId> {
    let one = spec.webhook.and_then(|id| registry.webhooks.get(&id));
    let of_app = spec.app.into_iter().flat_map(|app| registry.webhooks_of(app));
    let may_send = |webhook: &&Arc<Webhook>| webhook.status != WebhookStatus::Disabled;
    let mut ids: Vec<WebhookId> = one.into_iter().chain(of_app).filter(may_send).map(|webhook| webhook.id).collect();
    ids.sort_unstable();
    ids
}

/// The webhook of a job that replays earlier deliveries: only events with a delivery to it can match.
pub(in crate::store) fn replayed_webhook(spec: &JobSpec) -> Option<WebhookId> {
    spec.webhook.filter(|_| !spec.missing)
}

/// Whether a job replays an event to a webhook that already has `own` deliveries of it. `data` reads the payload, which
/// only a filter needs.
pub(in crate::store) fn chosen<E>(
    spec: &JobSpec,
    webhook: &Arc<Webhook>,
    event: &Event,
    own: &[&Delivery],
    data: impl FnOnce() -> Result<Bytes, E>,
) -> Result<bool, E> {
    if spec.missing {
        let delivered = own.iter().any(|d| d.status == DeliveryStatus::Delivered || !d.status.is_final());
        let is_wanted = |data: &[u8]| {
            fanout::decide(webhook, &event.attributes.event_type, &event.attributes.channels, data) == Decision::Wanted
        };
        return Ok(!delivered && is_wanted(&data()?));
    }
    // Jobs of an older version may name a status that is not final.
    let has_status = |one: &Delivery| spec.status.is_none_or(|status| one.status == status);
    let is_over = own.iter().all(|one| one.status.is_final());
    Ok(is_over && deciding(own).is_some_and(|one| has_status(one) && spec.last.passes(one)))
}

/// The delivery of an event that says how the event ended at a webhook: the last one that succeeded, or else the last
/// one. So an event is delivered if any delivery of it is.
pub(in crate::store) fn deciding<'a>(own: &[&'a Delivery]) -> Option<&'a Delivery> {
    own.iter().rev().find(|one| one.status == DeliveryStatus::Delivered).or(own.last()).copied()
}
