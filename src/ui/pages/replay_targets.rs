//! The target of a new replay: a webhook, or an app for all of its webhooks.
//!
//! The form lists some of them. The others are written.

use crate::api::ApiContext;
use crate::model::{App, Webhook};
use crate::store::TenantScope;
use crate::ui::form::PostedForm;

/// The value of a target that is an app begins with this.
pub const APP_TARGET: &str = "app:";
/// The name of the field with a target that is written.
pub const WRITTEN_FIELD: &str = "other";

/// Maximum number of apps in the list, and of webhooks.
const TARGETS_LISTED: usize = 25;

/// The targets that the form of a replay offers.
pub struct ReplayTargets {
    /// Values and names: apps oldest first, then webhooks newest first, then the chosen one.
    pub listed: Vec<(String, String)>,
    /// The text of the field for a target that is not listed. `None` if all are listed.
    pub written: Option<String>,
}

impl ReplayTargets {
    /// The targets within `tenant` for this form.
    pub fn of(context: &ApiContext<'_>, tenant: TenantScope, form: &PostedForm) -> ReplayTargets {
        let mut apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
        let mut webhooks = context.registry.webhooks_within(tenant);
        let mut listed: Vec<_> = apps.by_ref().take(TARGETS_LISTED).map(|app| of_app(app)).collect();
        listed.extend(webhooks.by_ref().take(TARGETS_LISTED).map(|webhook| of_webhook(webhook)));
        let are_all = apps.next().is_none() && webhooks.next().is_none();
        let chosen = form.get("webhook");
        if chosen.is_empty() || listed.iter().any(|(value, _)| value == chosen) {
            return ReplayTargets { listed, written: (!are_all).then(String::new) };
        }
        match named(context, tenant, chosen) {
            Some(target) => {
                listed.push(target);
                ReplayTargets { listed, written: (!are_all).then(String::new) }
            }
            // A text that names nothing stays in its field, with the mistake.
            None => ReplayTargets { listed, written: Some(chosen.to_owned()) },
        }
    }
}

fn of_app(app: &App) -> (String, String) {
    (format!("{APP_TARGET}{}", app.id), format!("all webhooks of {}", app.name))
}

fn of_webhook(webhook: &Webhook) -> (String, String) {
    (webhook.id.to_string(), webhook.name.clone())
}

/// The value and the name of the target that a text names: the value of a target, or the id or uid of a webhook or app.
fn named(context: &ApiContext<'_>, tenant: TenantScope, text: &str) -> Option<(String, String)> {
    let app = |name: &str| context.registry.app_named(tenant, name).map(|app| of_app(app));
    match text.strip_prefix(APP_TARGET) {
        Some(name) => app(name),
        None => context.registry.webhook_named(tenant, text).map(|webhook| of_webhook(webhook)).or_else(|| app(text)),
    }
}

/// The form with the target that is written in place of the chosen one. If the text names nothing, it stays, and the
/// API refuses it.
pub fn resolved(context: &ApiContext<'_>, tenant: TenantScope, form: PostedForm) -> PostedForm {
    let written = form.get(WRITTEN_FIELD).trim().to_owned();
    if written.is_empty() {
        return form;
    }
    let value = named(context, tenant, &written).map_or(written, |(value, _)| value);
    form.with(WRITTEN_FIELD, "").with("webhook", &value)
}

/// The name of the form's target. Empty if there is none.
pub fn name_of(context: &ApiContext<'_>, tenant: TenantScope, form: &PostedForm) -> String {
    named(context, tenant, form.get("webhook")).map_or_else(String::new, |(_, name)| name)
}
