//! The target of a new replay: a webhook, or an app for all of its webhooks.
//!
//! The form lists some of them. The others are written.

use std::sync::Arc;

use maud::{Markup, html};

use crate::api::ApiContext;
use crate::model::webhook::WebhookStatus;
use crate::model::{App, AppId, Webhook, WebhookId};
use crate::store::{Registry, TenantScope};
use crate::ui::form::PostedForm;
use crate::ui::format;
use crate::ui::frame::Frame;

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
    /// Whether the first one is chosen unless the form names another: the list that led here is of one app.
    pub has_one_app: bool,
}

impl ReplayTargets {
    /// The targets within `tenant` for this form.
    pub fn of(context: &ApiContext<'_>, tenant: TenantScope, form: &PostedForm) -> ReplayTargets {
        let mut apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
        let mut webhooks = context.registry.webhooks_within(tenant);
        let mut listed: Vec<_> = apps.by_ref().take(TARGETS_LISTED).map(|app| of_app(app)).collect();
        let has_one_app = listed.len() == 1;
        listed.extend(webhooks.by_ref().take(TARGETS_LISTED).map(|webhook| of_webhook(webhook)));
        let are_all = apps.next().is_none() && webhooks.next().is_none();
        let chosen = form.get("webhook");
        if chosen.is_empty() || listed.iter().any(|(value, _)| value == chosen) {
            return ReplayTargets { listed, written: (!are_all).then(String::new), has_one_app };
        }
        match named(context, tenant, chosen) {
            Some(target) => {
                listed.push(target);
                ReplayTargets { listed, written: (!are_all).then(String::new), has_one_app }
            }
            // A text that names nothing stays in its field, with the mistake.
            None => ReplayTargets { listed, written: Some(chosen.to_owned()), has_one_app },
        }
    }
}

impl ReplayTargets {
    /// Whether the form asks for its target: it names none of the list, and several apps could be meant.
    pub fn asks(&self, form: &PostedForm) -> bool {
        !self.has_one_app && !self.listed.iter().any(|(value, _)| value == form.get("webhook"))
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

/// The target of a replay, as its pages name it.
pub struct ReplayTarget {
    /// Empty if there is none.
    pub name: String,
    pub paused: PausedTarget,
}

/// The paused webhooks of a target, to which nothing is sent before they are resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausedTarget {
    None,
    One(WebhookId),
    OfApp(AppId, usize),
}

impl PausedTarget {
    /// The paused webhooks of a webhook, or of an app.
    pub fn of(
        registry: &Registry,
        tenant: TenantScope,
        webhook: Option<WebhookId>,
        app: Option<AppId>,
    ) -> PausedTarget {
        let is_paused = |webhook: &&Arc<Webhook>| webhook.status == WebhookStatus::Paused;
        if let Some(id) = webhook {
            let paused = registry.webhook(tenant, id).filter(is_paused);
            return paused.map_or(PausedTarget::None, |_| PausedTarget::One(id));
        }
        let Some(app) = app else { return PausedTarget::None };
        match registry.webhooks_within(TenantScope { app: Some(app), ..tenant }).filter(is_paused).count() {
            0 => PausedTarget::None,
            count => PausedTarget::OfApp(app, count),
        }
    }

    /// Says that waiting deliveries are sent once they are resumed.
    pub fn note(self, frame: &Frame) -> Markup {
        match self {
            PausedTarget::None => html! {},
            PausedTarget::One(id) => html! {
                p.note {
                    span {
                        "The " a href=(frame.link(&format!("webhooks/{id}"))) { "webhook" }
                        " is paused. What waits for it is sent once it is resumed."
                    }
                }
            },
            PausedTarget::OfApp(app, count) => html! {
                p.note {
                    span {
                        a href=(frame.link(&format!("webhooks?state=paused&app={app}"))) {
                            (format::counted(count as u64, "webhook", "webhooks"))
                        }
                        " of the app " @if count == 1 { "is" } @else { "are" }
                        " paused. What waits for a paused one is sent once it is resumed."
                    }
                }
            },
        }
    }
}

/// The target of the form.
pub fn target_of(context: &ApiContext<'_>, tenant: TenantScope, form: &PostedForm) -> ReplayTarget {
    let Some((value, name)) = named(context, tenant, form.get("webhook")) else {
        return ReplayTarget { name: String::new(), paused: PausedTarget::None };
    };
    let (webhook, app) = match value.strip_prefix(APP_TARGET) {
        Some(app) => (None, app.parse().ok()),
        None => (value.parse().ok(), None),
    };
    ReplayTarget { name, paused: PausedTarget::of(&context.registry, tenant, webhook, app) }
}
