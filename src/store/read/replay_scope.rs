//! Decides which events, webhooks and callers a replay job covers.

use std::sync::Arc;

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

/// The job's webhooks that may receive an event: enabled or paused ones of the event's app.
pub(in crate::store) fn targets(registry: &Registry, spec: &JobSpec, event: &Event) -> Vec<Arc<Webhook>> {
    let wanted = |webhook: &&Arc<Webhook>| {
        let named: Option<WebhookId> = spec.webhook;
        named.is_none_or(|id| id == webhook.id)
            && spec.app.is_none_or(|app| app == event.app_id)
            && webhook.status != WebhookStatus::Disabled
    };
    registry.webhooks_of(event.app_id).filter(wanted).cloned().collect()
}

/// Whether a job replays an event to a webhook that already has `own` deliveries of it.
pub(in crate::store) fn chosen(
    spec: &JobSpec,
    webhook: &Arc<Webhook>,
    event: &Event,
    data: &[u8],
    own: &[&Delivery],
) -> bool {
    if spec.missing {
        let delivered = own.iter().any(|d| d.status == DeliveryStatus::Delivered || !d.status.is_final());
        return !delivered
            && fanout::decide(webhook, &event.attributes.event_type, &event.attributes.channels, data)
                == Decision::Wanted;
    }
    match spec.status {
        Some(status) => own.last().is_some_and(|d| d.status == status),
        None => own.last().is_some_and(|d| d.status.is_final()),
    }
}
