//! The dialects: the published API shapes of vendors over the one store.
//!
//! A client that is written for one of them reads its webhooks and events here unchanged. `docs/dialects.md` gives the
//! source of every field.
//!
//! Invariant: a dialect renames and reshapes rows of the store. It knows no table, no clock and no other dialect, and
//! every path below its prefix has its error envelope.

mod derived;
mod devdraft;
mod dfns;
pub mod doc;
mod everlytic;
mod instantly;
mod sentdm;
mod svix;
mod webhook_input;
mod writes;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

use crate::model::job::JobId;
use crate::model::{ApiKey, AppId, AttemptId, DeliveryId, EventId, Id, OrganizationId, Time, Webhook, WebhookId};
use crate::rules::signing;
use crate::store::Registry;

pub use doc::DialectDoc;

use super::auth;
use super::doc::RouteDoc;
use super::error::ApiError;
use super::media::BodyRule;
use super::route::{ApiMount, Identify, LenientRules, Render, Route, RouteAccess, RouteMethod};

/// The webhooks of a dialect.
#[derive(Clone, Copy)]
pub struct WebhookPreset {
    /// Gives a new webhook the defaults of the dialect's webhooks.
    pub apply: fn(&mut Webhook),
    /// Programs of receivers with the vendor's libraries: Markdown with a section for each language, as in
    /// `docs/signatures.md`.
    pub receivers: &'static str,
}

impl WebhookPreset {
    /// A new webhook of the organization with the dialect's defaults.
    pub fn webhook(&self, org: OrganizationId) -> Webhook {
        let mut webhook = Webhook::new(org, AppId::MIN);
        (self.apply)(&mut webhook);
        webhook
    }
}

/// One vendor's shape.
pub struct Dialect {
    /// The name in the setting `dialects.<name>`.
    pub name: &'static str,
    /// Prefix of the dialect's paths. The path itself and every path below it belong to the dialect, and so do the
    /// routes that lie elsewhere.
    pub prefix: &'static str,
    pub routes: &'static [Route],
    pub identify: Identify,
    pub render: Render,
    pub doc: &'static DialectDoc,
    /// `None` if an unknown parameter is a mistake.
    pub lenient: Option<LenientRules>,
    /// The defaults of the webhooks that a tenant makes in a portal opened by this dialect. `None` for the native ones.
    pub preset: Option<WebhookPreset>,
    /// Reads an id as the dialect writes it. `None` for any other text, and for a UUID.
    pub read_id: fn(&str) -> Option<DialectObject>,
}

/// An object that an id of a dialect names, whether it exists or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialectObject {
    App(AppId),
    Webhook(WebhookId),
    Event(EventId),
    Delivery(DeliveryId),
    Attempt(AttemptId),
    Replay(JobId),
}

/// All dialects. No other file of `src` names them outside their folders (`tests/dialects/sixth.rs`).
pub static DIALECTS: [&Dialect; 6] =
    [&instantly::DIALECT, &dfns::DIALECT, &everlytic::DIALECT, &sentdm::DIALECT, &devdraft::DIALECT, &svix::DIALECT];

/// A setting of one dialect whose value is a list.
#[derive(Clone, Copy)]
pub struct DialectList {
    /// The name of the setting in the section `dialects`.
    pub name: &'static str,
    /// The form of an entry, for the error.
    pub form: &'static str,
    pub is_entry: fn(&str) -> bool,
}

/// All such lists.
pub static DIALECT_LISTS: [DialectList; 1] = [dfns::CREDENTIALS];

/// The mounts of the enabled dialects, for `Api::new`.
pub fn mounts(is_on: impl Fn(&str) -> bool) -> Vec<ApiMount> {
    DIALECTS.iter().filter(|dialect| is_on(dialect.name)).map(|dialect| dialect.mount()).collect()
}

/// The object that a text names in the form of some dialect, enabled or not: headers of requests have such ids too.
pub fn object_of(text: &str) -> Option<DialectObject> {
    DIALECTS.iter().find_map(|dialect| (dialect.read_id)(text))
}

/// The preset of the dialect with this name. `None` if there is no such dialect, or if it has none.
pub fn preset(name: &str) -> Option<WebhookPreset> {
    DIALECTS.iter().find(|dialect| dialect.name == name)?.preset
}

/// The programs of receivers for requests with the headers that a dialect signs its webhooks by. `None` if no dialect has
/// them.
pub fn receivers_of(headers: &[&str]) -> Option<&'static str> {
    let names = |preset: &WebhookPreset| signing::header_names(&preset.webhook(Id::MIN).signature, false);
    DIALECTS.iter().filter_map(|dialect| dialect.preset).find(|preset| names(preset) == headers).map(|it| it.receivers)
}

impl Dialect {
    /// The dialect's mount. The vendors' clients send a null parameter as an empty value.
    pub fn mount(&self) -> ApiMount {
        let mount = ApiMount::new(self.name, self.prefix, self.routes, self.identify, self.render);
        mount.without_empty_values().with_leniency(self.lenient)
    }
}

/// A `GET` route.
const fn get(path: &'static str, access: RouteAccess, doc: RouteDoc) -> Route {
    Route::new(RouteMethod::Get, path, access, BodyRule::None, doc)
}

/// The one value of a header that holds a credential. `None` if the header is missing, empty or repeated.
fn credential<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut given = headers.get_all(name).iter();
    let value = given.next().filter(|_| given.next().is_none())?;
    value.to_str().ok().filter(|text| !text.is_empty())
}

/// The live key with this text. 401 that asks for `scheme` if there is none.
fn key_of(text: Option<&str>, registry: &Registry, now: Time, scheme: &'static str) -> Result<Arc<ApiKey>, ApiError> {
    let missing = || ApiError::unauthorized("credentials_missing", "there are no credentials");
    let found = text.ok_or_else(missing).and_then(|text| auth::key_of(text, registry, now));
    found.map_err(|api_error| challenge(api_error, scheme))
}

/// The same error with another challenge (RFC 9110 section 11.6.1).
fn challenge(mut api_error: ApiError, scheme: &'static str) -> ApiError {
    api_error.headers.retain(|(name, _)| name != header::WWW_AUTHENTICATE);
    api_error.with(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
}

/// The number of pages that `rows` rows fill.
fn pages(rows: u64, page_size: u64) -> u64 {
    rows.div_ceil(page_size)
}
