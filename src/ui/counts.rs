//! The numbers beside the links to lists: deliveries that wait, and deliveries that failed.

use crate::api::{ApiContext, ApiError};
use crate::model::WebhookId;
use crate::store::{TenantScope, TimeSpan};

use super::format;

/// Maximum number of failed deliveries that a page counts.
const COUNTED_MAX: usize = 1_000;

/// The number of failed deliveries that ended within `ended`, of a webhook or of all: `41`, or `1,000+`. `None` if it is not
/// known without a walk.
pub fn failed(
    context: &ApiContext<'_>,
    owner: (TenantScope, Option<WebhookId>),
    ended: TimeSpan,
) -> Result<Option<String>, ApiError> {
    let count = context.store.failed_count(owner, ended, COUNTED_MAX + 1, context.now)?;
    Ok(count.map(|count| match count {
        0..=COUNTED_MAX => format::count(count as u64),
        _ => format!("{}+", format::count(COUNTED_MAX as u64)),
    }))
}

/// The number of deliveries that wait, of a webhook or of all.
pub fn waiting(context: &ApiContext<'_>, owner: (TenantScope, Option<WebhookId>)) -> Result<u64, ApiError> {
    Ok(match owner {
        (_, Some(webhook)) => context.store.sums(webhook, context.now)?.open(),
        (tenant, None) => context.store.tenant_open(tenant, context.now)?,
    })
}
