//! Ids as Svix writes them, and the paths that name objects by id or `uid`.

use std::sync::Arc;

use crate::api::context::ApiContext;
use crate::api::dialects::DialectObject;
use crate::api::error::ApiError;
use crate::api::request_context::RequestContext;
use crate::model::ksuid;
use crate::model::{App, AppId, AttemptId, Event, EventId, Id, Webhook};
use crate::store::{EventName, EventQuery, ListWindow, TenantScope};

use super::errors::{absent, wrong_path};

/// Maximum length of a `uid`, an event id or a name of an event type, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// A noun of Svix's API with ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    App,
    Endpoint,
    Message,
    Attempt,
    Task,
}

impl Noun {
    pub const fn prefix(self) -> &'static str {
        match self {
            Noun::App => "app_",
            Noun::Endpoint => "ep_",
            Noun::Message => "msg_",
            Noun::Attempt => "atmpt_",
            Noun::Task => "qtask_",
        }
    }

    /// The text of an id.
    pub fn write<K>(self, id: Id<K>) -> String {
        self.write_number(id.as_u128())
    }

    pub fn write_number(self, id: u128) -> String {
        format!("{}{}", self.prefix(), ksuid::encode(id))
    }

    /// The id that `write` shows as this text.
    pub fn read<K>(self, text: &str) -> Option<Id<K>> {
        text.strip_prefix(self.prefix()).and_then(ksuid::decode).map(Id::from_u128)
    }

    /// The place of an id in a list, whether it exists or not.
    pub fn place(self, text: &str) -> Option<u128> {
        text.strip_prefix(self.prefix()).and_then(ksuid::floor)
    }

    /// The regular expression of an id.
    pub fn pattern(self) -> String {
        format!("^{}[0-9A-Za-z]{{{}}}$", self.prefix(), ksuid::KSUID_DIGITS)
    }
}

/// The object that an id names.
pub fn object(text: &str) -> Option<DialectObject> {
    let (noun, _) = text.split_once('_')?;
    match noun {
        "app" => Noun::App.read(text).map(DialectObject::App),
        "ep" => Noun::Endpoint.read(text).map(DialectObject::Webhook),
        "msg" => Noun::Message.read(text).map(DialectObject::Event),
        "atmpt" => Noun::Attempt.read(text).map(DialectObject::Attempt),
        "qtask" => Noun::Task.read(text).map(DialectObject::Replay),
        _ => None,
    }
}

/// Whether a text is 1 to 256 of the characters of a `uid`.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A name in the path. 422 if it has a character that no name has.
pub fn name_in_path<'a>(request: &'a RequestContext<'_>, part: &str) -> Result<&'a str, ApiError> {
    let text = request.path.get(part);
    match is_name(text) {
        true => Ok(text),
        false => Err(wrong_path(part, "must be 1 to 256 of a-z, A-Z, 0-9, '_', '.', '-'")),
    }
}

/// Whether the path is of the operational webhooks, which names no app.
pub fn is_operational(request: &RequestContext<'_>) -> bool {
    request.path.get("app_id").is_empty()
}

/// The app of the organization's operational webhooks. `None` before the first of them is made.
pub fn operational_app(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Option<Arc<App>> {
    let tenant = request.tenant();
    let id = context.registry.organization(tenant.org)?.operational_app_id?;
    context.registry.app(tenant, id).cloned()
}

/// The app in the path, by id or `uid`. In a path without one the app of the operational webhooks.
pub fn app(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<Arc<App>, ApiError> {
    if is_operational(request) {
        return operational_app(context, request).ok_or_else(absent);
    }
    let name = name_in_path(request, "app_id")?;
    find_app(context, request, name).ok_or_else(absent)
}

/// The app by id, alias or `uid`, if the caller may see it.
pub fn find_app(context: &ApiContext<'_>, request: &RequestContext<'_>, name: &str) -> Option<Arc<App>> {
    let tenant = request.tenant();
    if let Some(id) = Noun::App.read::<App>(name)
        && let Some(app) = context.registry.app(tenant, id)
    {
        return Some(app.clone());
    }
    let by_alias = context.registry.app_by_alias(tenant.org, name);
    by_alias
        .or_else(|| context.registry.app_by_uid(tenant.org, name))
        .filter(|app| tenant.covers(app.org_id, app.id))
        .cloned()
}

/// The app in the path and the endpoint of it.
pub fn endpoint(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<(Arc<App>, Arc<Webhook>), ApiError> {
    let app = app(context, request)?;
    let name = name_in_path(request, "endpoint_id")?;
    let webhook = find_endpoint(context, app.id, name).ok_or_else(absent)?;
    Ok((app, webhook))
}

/// The endpoint of an app by id, alias or `uid`.
pub fn find_endpoint(context: &ApiContext<'_>, app: AppId, name: &str) -> Option<Arc<Webhook>> {
    let by_id = Noun::Endpoint.read::<Webhook>(name).and_then(|id| context.registry.webhook_by_id(id));
    let by_other =
        || context.registry.webhook_by_alias(app, name).or_else(|| context.registry.webhook_by_uid(app, name));
    by_id.filter(|webhook| webhook.app_id == app).or_else(by_other).cloned()
}

/// The scope of one app.
pub fn within(app: &App) -> TenantScope {
    TenantScope { org: app.org_id, app: Some(app.id) }
}

/// The app in the path and the message of it, by id or event id.
pub fn message(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<(Arc<App>, Event), ApiError> {
    let app = app(context, request)?;
    let name = name_in_path(request, "msg_id")?;
    let event = find_message(context, &app, name)?.ok_or_else(absent)?;
    Ok((app, event))
}

/// The message of an app by id or event id.
pub fn find_message(context: &ApiContext<'_>, app: &App, name: &str) -> Result<Option<Event>, ApiError> {
    let tenant = within(app);
    if let Some(id) = Noun::Message.read::<Event>(name) {
        return Ok(context.store.event(tenant, id, context.now)?);
    }
    let mut before = None;
    loop {
        let query = EventQuery {
            tenant,
            event_type: None,
            event_id: Some(name.to_owned()),
            subject: None,
            search: None,
            window: ListWindow { before, ..ListWindow::newest(1) },
        };
        let mut page = context.store.named_events(&query, EventName::EventId(name), context.now)?;
        match (page.rows.pop(), page.next) {
            (None, Some(next)) => before = Some(next),
            (found, _) => return Ok(found),
        }
    }
}

/// The attempt in the path. `None` for text that is no id.
pub fn attempt_in_path(request: &RequestContext<'_>) -> Result<Option<AttemptId>, ApiError> {
    Ok(Noun::Attempt.read(name_in_path(request, "attempt_id")?))
}

/// The text of a message's id.
pub fn message_text(id: EventId) -> String {
    Noun::Message.write(id)
}
