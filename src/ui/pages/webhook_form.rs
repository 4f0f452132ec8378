//! A new webhook, and changing one: the fields of the API in four groups, with each mistake at its field.

use std::collections::BTreeMap;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::native::webhook_text::MASK;
use crate::api::native::{webhook_fields, webhooks};
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::{Scope, Webhook};
use crate::ui::form::PostedForm;
use crate::ui::format::{counted, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::portal_words as words;
use crate::ui::relay::{ApiCall, corrected, member, relay};
use crate::ui::respond::{html as html_response, see_other};

use super::webhook_values::{self as values, FormRequest, FormValue, VALUES, field_at, part_at};

/// Choices of `field_set`, beside the one that the webhook has.
const FIELD_SETS: [&str; 4] = ["standard", "raw", "flat", "legacy"];
const METHODS: [&str; 5] = ["post", "put", "patch", "get", "delete"];
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];

/// The fields of the folded group of the request.
const REQUEST_GROUP: [&str; 9] = [
    "method",
    "field_set",
    "content_type",
    "include_html",
    "encrypted",
    "signature",
    "headers",
    "secret_headers",
    "secret",
];

/// The fields of the folded group of the sending.
const SENDING_GROUP: [&str; 8] = [
    "timeout_ms",
    "success_rule",
    "handshake",
    "proxy",
    "max_in_flight",
    "rate_limit_per_s",
    "ordered",
    "disable_after_s",
];

/// Maximum number of apps to choose from. With more of them the app is written.
const APPS_LISTED: usize = 25;
/// Mistakes of one field that the form shows.
const MISTAKES_SHOWN: usize = 5;

/// The form with its values and mistakes.
pub struct WebhookFormView {
    /// `None` for a new webhook.
    pub webhook: Option<std::sync::Arc<Webhook>>,
    pub form: PostedForm,
    /// The hidden fields with the values that the form was loaded with. None for a new webhook.
    pub loaded: PostedForm,
    pub errors: Vec<FieldError>,
    /// Ids and names of the apps that a new webhook can belong to: one more than are listed, if there are more.
    pub apps: Vec<(String, String)>,
    /// Whether the caller may choose `proxy`.
    pub may_bypass: bool,
    /// The defaults of a new webhook by the portal link. `None` for the native ones.
    pub preset: Option<Webhook>,
}

fn apps(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Vec<(String, String)> {
    let tenant = request.tenant();
    let apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
    apps.take(APPS_LISTED + 1).map(|app| (app.id.to_string(), app.name.clone())).collect()
}

/// `GET /ui/webhooks/new`.
pub fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Webhooks);
    let form = frame.preset().map(|webhook| values::fields_of(&webhook)).unwrap_or_default();
    let view = WebhookFormView { form, ..WebhookFormView::of(context, request, &frame, None) };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "New webhook", &page(&view, &frame))))
}

/// `GET /ui/webhooks/{id}/edit`.
pub fn edit(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let form = values::fields_of(&webhook);
    let loaded = values::loaded(&form);
    let view = WebhookFormView { form, loaded, ..WebhookFormView::of(context, request, &frame, Some(webhook)) };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Edit", &page(&view, &frame))))
}

/// `POST /ui/webhooks/new`: makes it, and shows its secret once.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let FormRequest { body, mistakes } = values::request_of(&form, true);
    let body = with_preset(body, frame.preset().as_ref());
    let call = ApiCall { handler: webhooks::create, body, form: Some(&form) };
    let made = relay(context, request, &call, move |response| {
        let id = member(&response, "id").as_str().unwrap_or_default().to_owned();
        let secret = member(&response, "secret").as_str().map(str::to_owned);
        let name = member(&response, "name").as_str().unwrap_or_default().to_owned();
        let content = created_page(&id, &name, secret.as_deref(), &frame);
        Ok(html_response(StatusCode::CREATED, frame.page("New webhook", &content)))
    });
    shown_again(context, request, None, form, with_mistakes(made, mistakes))
}

/// The members of a request. Their texts stay as they are, so that numbers keep every digit.
type Members = BTreeMap<String, Box<RawValue>>;

fn members_of(body: &str) -> serde_json::Result<Members> {
    serde_json::from_str(body)
}

fn text_of(members: &Members) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// The members in which the preset differs from the native defaults.
fn chosen(preset: &Webhook) -> Members {
    members_of(&json!(webhook_fields::chosen(preset)).to_string()).unwrap_or_default()
}

/// The JSON of a new webhook with the preset's value of each member that it lacks.
fn with_preset(body: String, preset: Option<&Webhook>) -> String {
    let (Some(preset), Ok(mut members)) = (preset, members_of(&body)) else { return body };
    for (name, value) in chosen(preset) {
        members.entry(name).or_insert(value);
    }
    text_of(&members)
}

/// The JSON of a change with the preset's value in place of each null, which means a default.
fn with_preset_defaults(body: String, preset: Option<&Webhook>) -> String {
    let (Some(preset), Ok(mut members)) = (preset, members_of(&body)) else { return body };
    for (name, value) in chosen(preset) {
        members.entry(name).and_modify(|given| {
            if given.get() == "null" {
                *given = value;
            }
        });
    }
    text_of(&members)
}

/// `POST /ui/webhooks/{id}/edit`.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let webhook = webhooks::in_path(context, request)?;
    let FormRequest { body, mistakes } = values::request_of(&form, false);
    let frame = Frame::new(context, request, Section::Webhooks);
    let body = with_preset_defaults(body, frame.preset().as_ref());
    let call = ApiCall { handler: webhooks::update, body, form: Some(&form) };
    let to = format!("../{}?done=saved", webhook.id);
    let made = relay(context, request, &call, move |_| see_other(&to));
    shown_again(context, request, Some(webhook), form, with_mistakes(made, mistakes))
}

/// The mistakes that the form saw, in place of those that the API sees in the same members.
fn with_mistakes(done: Result<Step, ApiError>, mistakes: Vec<FieldError>) -> Result<Step, ApiError> {
    let member = |one: &FieldError| one.pointer.split('/').nth(1).map(str::to_owned);
    done.map_err(|mut api_error| {
        if !api_error.errors.is_empty() {
            api_error.errors.retain(|one| !mistakes.iter().any(|mistake| member(mistake) == member(one)));
            api_error.errors.extend(mistakes);
        }
        api_error
    })
}

/// The form with its mistakes, if there are any.
fn shown_again(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: Option<std::sync::Arc<Webhook>>,
    form: PostedForm,
    done: Result<Step, ApiError>,
) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Webhooks);
    let loaded = values::repeated(&form);
    let view = WebhookFormView { form, loaded, ..WebhookFormView::of(context, request, &frame, webhook) };
    corrected(done, move |api_error| {
        let errors = match frame.portal {
            Some(_) => api_error.errors.into_iter().map(words::mistake).collect(),
            None => api_error.errors,
        };
        frame.reply(api_error.status, "Webhook", &page(&WebhookFormView { errors, ..view }, &frame))
    })
}

/// The page after a webhook was made.
pub fn created_page(id: &str, name: &str, secret: Option<&str>, frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { (foreign(name)) " is made" }
                p.lead { "Its secret is shown this once. Give it to the receiver, which verifies signatures with it." }
            }
            .acts {
                (frame.button(&format!("webhooks/{id}/test"), "btn main", "Send a test"))
                a.btn href=(frame.link(&format!("webhooks/{id}"))) { "Open" }
            }
        }
        @if let Some(secret) = secret {
            section.panel { dl.facts { div { dt { "Secret" } dd { code data-copy="" { (foreign(secret)) } } } } }
        }
    }
}

impl WebhookFormView {
    /// An empty form.
    fn of(
        context: &ApiContext<'_>,
        request: &RequestContext<'_>,
        frame: &Frame,
        webhook: Option<std::sync::Arc<Webhook>>,
    ) -> WebhookFormView {
        WebhookFormView {
            apps: if webhook.is_none() { apps(context, request) } else { Vec::new() },
            webhook,
            form: PostedForm::default(),
            loaded: PostedForm::default(),
            errors: Vec::new(),
            may_bypass: frame.may(Scope::Admin) && frame.key.installation,
            preset: frame.preset(),
        }
    }

    fn errors_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a FieldError> {
        self.errors.iter().filter(move |error| field_at(&error.pointer) == name)
    }

    fn is_wrong(&self, name: &str) -> bool {
        self.errors_of(name).next().is_some()
    }

    /// Whether the form shows the field.
    fn has(&self, name: &str) -> bool {
        match name {
            "app_id" => self.webhook.is_none() && self.apps.len() > 1,
            "secret" => self.webhook.is_none(),
            "proxy" => self.may_bypass,
            _ => values::value_of(name).is_some(),
        }
    }

    /// A mistake, with the part of the field that it is about.
    fn mistake(&self, error: &FieldError) -> Markup {
        html! {
            p.wrong {
                @if let Some(part) = part_at(&self.form, &error.pointer) { code { (foreign(&part)) } " " }
                (foreign(&error.detail))
            }
        }
    }

    fn wrong(&self, name: &str) -> Markup {
        let mistakes = self.errors_of(name).count();
        html! {
            @if mistakes > 0 {
                div id={ "wrong-" (name) } {
                    @for error in self.errors_of(name).take(MISTAKES_SHOWN) { (self.mistake(error)) }
                    @if mistakes > MISTAKES_SHOWN {
                        p.wrong { (counted((mistakes - MISTAKES_SHOWN) as u64, "further mistake", "further mistakes")) }
                    }
                }
            }
        }
    }

    /// The meaning of an empty field and of a mask, below the field.
    fn hint(&self, field: &FormValue) -> Markup {
        let masked = self.form.get(field.name).contains(MASK);
        html! {
            @if !field.hint.is_empty() || masked {
                p.muted id={ "hint-" (field.name) } {
                    (values::hint_under(field, self.preset.as_ref()))
                    @if masked { " " code { (MASK) } " stands for a value that stays." }
                }
            }
        }
    }

    /// The ids of the elements that describe a field.
    fn described(&self, field: &FormValue) -> Option<String> {
        let name = field.name;
        let has_hint = !field.hint.is_empty() || self.form.get(name).contains(MASK);
        match (has_hint, self.is_wrong(name)) {
            (true, true) => Some(format!("wrong-{name} hint-{name}")),
            (false, true) => Some(format!("wrong-{name}")),
            (true, false) => Some(format!("hint-{name}")),
            (false, false) => None,
        }
    }

    /// A field to write in: one line, or an area. The placeholder is an example.
    fn written(&self, name: &str, example: &str) -> Markup {
        let Some(field) = values::value_of(name) else { return Markup::default() };
        let (wrong, described) = (self.is_wrong(name).then_some("true"), self.described(field));
        let example = Some(example).filter(|example| !example.is_empty());
        html! {
            label for=(name) { (field.label) }
            @if field.kind.is_area() {
                // A browser drops the first line break of an area.
                textarea id=(name) name=(name) rows="3" placeholder=[example] spellcheck="false"
                    aria-invalid=[wrong] aria-describedby=[described] { "\n" (self.form.get(name)) }
            } @else {
                input id=(name) type="text" name=(name) value=(self.form.get(name)) placeholder=[example]
                    autocomplete="off" aria-invalid=[wrong] aria-describedby=[described];
            }
            (self.hint(field))
            (self.wrong(name))
        }
    }

    fn choice(&self, name: &str, choices: &[(&str, &str)]) -> Markup {
        let Some(field) = values::value_of(name) else { return Markup::default() };
        let (wrong, described) =
            (self.is_wrong(name).then_some("true"), self.is_wrong(name).then(|| format!("wrong-{name}")));
        html! {
            label for=(name) { (field.label) }
            select id=(name) name=(name) aria-invalid=[wrong] aria-describedby=[described] {
                @for (value, shown) in choices {
                    option value=(value) selected[self.form.get(name) == *value] { (foreign(shown)) }
                }
            }
            (self.wrong(name))
        }
    }

    /// Folded fields, which are open if one of them is wrong.
    fn folded(&self, summary: &str, names: &[&str], fields: &Markup) -> Markup {
        html! {
            details open[names.iter().any(|name| self.is_wrong(name))] { summary { (summary) } (fields) }
        }
    }

    /// Says that nothing was saved, with links to the wrong fields. A mistake without a field is shown here.
    fn summary(&self) -> Markup {
        let wrong: Vec<_> = VALUES.iter().filter(|field| self.has(field.name) && self.is_wrong(field.name)).collect();
        let aside = self.errors.iter().filter(|error| !self.has(field_at(&error.pointer)));
        html! {
            @if !self.errors.is_empty() {
                div.note.bad role="alert" {
                    div {
                        p { "Nothing was saved: "
                            (counted(self.errors.len() as u64, "value is wrong.", "values are wrong.")) }
                        @if !wrong.is_empty() {
                            p {
                                "Look at "
                                @for (at, field) in wrong.iter().enumerate() {
                                    @if at > 0 { ", " }
                                    a href={ "#" (field.name) } { (field.short_label()) }
                                }
                                "."
                            }
                        }
                        @for error in aside.take(MISTAKES_SHOWN) {
                            p.wrong { code { (foreign(&error.pointer)) } " " (foreign(&error.detail)) }
                        }
                    }
                }
            }
        }
    }
}

/// The page.
pub fn page(view: &WebhookFormView, frame: &Frame) -> Markup {
    let path =
        view.webhook.as_ref().map_or("webhooks/new".to_owned(), |webhook| format!("webhooks/{}/edit", webhook.id));
    let back = view.webhook.as_ref().map_or("webhooks".to_owned(), |webhook| format!("webhooks/{}", webhook.id));
    let fields = html! {
        (view.summary())
        @for (name, value) in view.loaded.fields() { input type="hidden" name=(name) value=(value); }
        (receiver_fields(view))
        (event_fields(view))
        (request_fields(view))
        (sending_fields(view))
        .acts { button.btn.main type="submit" { "Save" } a.btn href=(frame.link(&back)) { "Leave it" } }
    };
    html! {
        .head {
            div {
                h1 {
                    @match &view.webhook { Some(webhook) => { "Edit " (foreign(&webhook.name)) } None => "New webhook" }
                }
                @if view.webhook.is_none() { p.lead { "Only the URL is needed. Everything else has a default." } }
            }
        }
        section.panel { (frame.form("pad fields", &path, &fields)) }
    }
}

fn receiver_fields(view: &WebhookFormView) -> Markup {
    let mut apps = vec![("", "The default app")];
    apps.extend(view.apps.iter().map(|(id, name)| (id.as_str(), name.as_str())));
    let own = html! {
        (view.written("uid", ""))
        (view.written("metadata", "{\"team\": \"billing\"}"))
    };
    html! {
        fieldset {
            legend { "Receiver" }
            (view.written("url", "https://hooks.example.com/in"))
            (view.written("name", ""))
            (view.written("description", ""))
            @if view.has("app_id") {
                @if view.apps.len() > APPS_LISTED {
                    (view.written("app_id", ""))
                } @else {
                    (view.choice("app_id", &apps))
                }
            }
            (view.folded("Your own name and data for it", &["uid", "metadata"], &own))
        }
    }
}

fn event_fields(view: &WebhookFormView) -> Markup {
    let folded = html! {
        (view.written("channels", ""))
        (view.written("filter", "{\"path\": \"/total\", \"gte\": 100}"))
    };
    html! {
        fieldset {
            legend { "Events" }
            (view.written("event_types", "order.* or invoice.paid"))
            (view.folded("Channels and filter", &["channels", "filter"], &folded))
        }
    }
}

/// The choices of a field whose words are the API's.
fn plain_choices(words: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    words.iter().map(|word| (*word, *word)).collect()
}

fn request_fields(view: &WebhookFormView) -> Markup {
    let own = view.form.get("field_set");
    let mut field_sets: Vec<(&str, &str)> = plain_choices(&FIELD_SETS);
    if !own.is_empty() && !FIELD_SETS.contains(&own) {
        field_sets.push((own, own));
    }
    let mut signatures = vec![
        ("standard", "Standard Webhooks: the shared secret"),
        ("ed25519", "Standard Webhooks: a public key only, Ed25519"),
        ("standard,ed25519", "Standard Webhooks: both"),
        ("none", "unsigned"),
    ];
    let own = view.form.get("signature");
    if !own.is_empty() && !signatures.iter().any(|(schemes, _)| *schemes == own) {
        signatures.push((own, own));
    }
    let request = html! {
        (view.choice("method", &plain_choices(&METHODS)))
        (view.choice("field_set", &field_sets))
        (view.choice("content_type", &plain_choices(&MEDIA_TYPES)))
        (view.choice("include_html", &[("false", "left out"), ("true", "kept")]))
        (view.choice("encrypted", &[("false", "none"), ("true", "the body as JWE")]))
        (view.choice("signature", &signatures))
        (view.written("headers", "x-tenant: acme"))
        (view.written("secret_headers", "x-api-key"))
        @if view.has("secret") { (view.written("secret", "")) }
    };
    let kinds = [
        ("", "none"),
        ("basic", "Basic: user and password"),
        ("bearer", "Bearer token"),
        ("header", "a secret header"),
    ];
    let credentials = html! {
        (view.choice("auth", &kinds))
        (view.written("auth_name", ""))
        (view.written("auth_secret", ""))
        (view.written("tls_ca", "-----BEGIN CERTIFICATE-----"))
        (view.written("tls_cert", "-----BEGIN CERTIFICATE-----"))
        (view.written("tls_key", "-----BEGIN PRIVATE KEY-----"))
    };
    html! {
        fieldset {
            legend { "Request" }
            (view.folded("Method, body, signature, headers", &REQUEST_GROUP, &request))
            (view.folded(
                "Authentication and certificates",
                &["auth", "auth_name", "auth_secret", "tls_ca", "tls_cert", "tls_key"],
                &credentials
            ))
        }
    }
}

fn sending_fields(view: &WebhookFormView) -> Markup {
    let orders =
        [("false", "no order"), ("true", "one after another"), ("key", "one after another for each ordering key")];
    let folded = html! {
        (view.written("timeout_ms", ""))
        (view.choice("success_rule", &[("2xx", "any 2xx"), ("200", "200 only")]))
        (view.choice("handshake", &[("false", "none"), ("true", "of CloudEvents, before the first request")]))
        @if view.has("proxy") {
            (view.choice("proxy", &[("default", "as the settings say"), ("none", "none: requests go there directly")]))
        }
        (view.written("max_in_flight", ""))
        (view.written("rate_limit_per_s", ""))
        (view.choice("ordered", &orders))
        (view.written("disable_after_s", ""))
    };
    html! {
        fieldset {
            legend { "Sending" }
            (view.written("retry_schedule_s", ""))
            (view.folded("Time limit, success, rate, order, switching off", &SENDING_GROUP, &folded))
        }
    }
}

#[cfg(test)]
mod tests;
