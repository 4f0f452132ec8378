//! A new webhook, and changing one: the fields of the API in four groups, with each mistake at its field.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use crate::api::auth::sha256;
use crate::api::native::{webhook_fields, webhooks};
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::Webhook;
use crate::model::webhook::{DeliveryOrder, SignatureScheme};
use crate::ui::form::PostedForm;
use crate::ui::frame::{Frame, Section};
use crate::ui::portal_words as words;
use crate::ui::relay::{ApiCall, member, relay};
use crate::ui::respond::{html as html_response, see_other};
use crate::ui::write::{counted, foreign};

/// Choices of `field_set`, beside the one that the webhook has.
const FIELD_SETS: [&str; 4] = ["standard", "raw", "flat", "legacy"];
const METHODS: [&str; 5] = ["post", "put", "patch", "get", "delete"];

/// The name of the field that says which values the form was loaded with.
const LOADED_FIELD: &str = "loaded";
/// Letters of a digest in it.
const DIGEST_CHARS: usize = 16;
/// Mistakes of one field that the form shows.
const MISTAKES_SHOWN: usize = 5;

/// The form with its values and mistakes.
pub struct WebhookFormView {
    /// `None` for a new webhook.
    pub webhook: Option<std::sync::Arc<Webhook>>,
    pub form: PostedForm,
    /// A digest of every value that the form was loaded with, by field. Empty for a new webhook.
    pub loaded: String,
    pub errors: Vec<FieldError>,
    /// Ids and names of the apps that a new webhook can belong to.
    pub apps: Vec<(String, String)>,
}

fn apps(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Vec<(String, String)> {
    let tenant = request.tenant();
    let apps = context.registry.apps().filter(|app| tenant.covers(app.org_id, app.id));
    apps.map(|app| (app.id.to_string(), app.name.clone())).collect()
}

/// `GET /ui/webhooks/new`.
pub fn new(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Webhooks);
    let apps = apps(context, request);
    let form = frame.preset().map(|webhook| fields_of(&webhook)).unwrap_or_default();
    let view = WebhookFormView { webhook: None, form, loaded: String::new(), errors: Vec::new(), apps };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "New webhook", &page(&view, &frame))))
}

/// `GET /ui/webhooks/{id}/edit`.
pub fn edit(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let form = fields_of(&webhook);
    let loaded = digests(&form);
    let view = WebhookFormView { webhook: Some(webhook), form, loaded, errors: Vec::new(), apps: Vec::new() };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Edit", &page(&view, &frame))))
}

/// The fields of a webhook as the form shows them.
fn fields_of(webhook: &Webhook) -> PostedForm {
    let steps: Vec<String> = webhook.retry_schedule_s.iter().map(u32::to_string).collect();
    let order = match webhook.ordered {
        DeliveryOrder::No => "false",
        DeliveryOrder::Webhook => "true",
        DeliveryOrder::Key => "key",
    };
    let scheme = |scheme: &SignatureScheme| format!("{scheme:?}").to_lowercase();
    let schemes: Vec<String> = webhook.signature.iter().map(scheme).collect();
    let signature = if schemes.is_empty() { "none".to_owned() } else { schemes.join(",") };
    PostedForm::filled([
        ("name", webhook.name.clone()),
        ("description", webhook.description.clone().unwrap_or_default()),
        ("url", webhook.url.clone()),
        ("event_types", webhook.event_types.join("\n")),
        ("channels", webhook.channels.join("\n")),
        ("filter", webhook.filter.clone().unwrap_or_default()),
        ("method", format!("{:?}", webhook.method).to_lowercase()),
        ("field_set", format!("{:?}", webhook.field_set).to_lowercase()),
        ("signature", signature),
        ("retry_schedule_s", steps.join(", ")),
        ("timeout_ms", webhook.timeout_ms.to_string()),
        ("max_in_flight", webhook.max_in_flight.to_string()),
        ("rate_limit_per_s", webhook.rate_limit_per_s.map(|rate| rate.to_string()).unwrap_or_default()),
        ("ordered", order.to_owned()),
        ("disable_after_s", webhook.disable_after_s.to_string()),
    ])
}

/// `name:digest` of every field, for `is_untouched`.
fn digests(form: &PostedForm) -> String {
    let digests: Vec<String> = form.fields().map(|(name, value)| format!("{name}:{}", digest(value))).collect();
    digests.join(" ")
}

/// A digest of a field's value as a browser sends it: with lines that end in CR LF.
fn digest(value: &str) -> String {
    let mut hex: String =
        sha256(&[value.replace("\r\n", "\n").trim().as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(DIGEST_CHARS);
    hex
}

/// Whether the field has the value that the form was loaded with. It is then not sent, so that the form never rewrites a
/// value that it cannot show exactly, or that has changed since.
fn is_untouched(form: &PostedForm, name: &str) -> bool {
    let pairs = form.get(LOADED_FIELD).split(' ').filter_map(|pair| pair.split_once(':'));
    pairs.into_iter().any(|(loaded, hash)| loaded == name && hash == digest(form.get(name)))
}

/// The JSON of the form. A new webhook leaves out empty fields. A changed one leaves out untouched fields, and sets
/// empty ones to their empty value.
fn json_of(form: &PostedForm, is_new: bool) -> String {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value, empty: Option<Value>| match (form.get(name).trim().is_empty(), empty) {
        _ if !is_new && is_untouched(form, name) => {}
        (false, _) => drop(body.insert(name.to_owned(), value)),
        (true, Some(empty)) if !is_new && form.has(name) => drop(body.insert(name.to_owned(), empty)),
        _ => {}
    };
    let text = |name: &str| Value::from(form.get(name).trim());
    // A channel may contain spaces and commas, which a type cannot.
    let list = |name: &str| {
        let is_end = |c: char| c == '\n' || name == "event_types" && (c == ',' || c.is_whitespace());
        let items = form.get(name).split(is_end).map(str::trim);
        json!(items.filter(|item| !item.is_empty()).collect::<Vec<_>>())
    };
    // A number that cannot be read goes on as text, so that the API says where it is wrong.
    let number =
        |text: &str| serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| text.into(), Value::Number);
    for name in ["name", "url", "method", "field_set"] {
        put(name, text(name), None);
    }
    put("description", text("description"), Some(Value::Null));
    for name in ["event_types", "channels"] {
        put(name, list(name), Some(json!([])));
    }
    let filter = serde_json::from_str::<Value>(form.get("filter")).unwrap_or_else(|_| text("filter"));
    put("filter", filter, Some(Value::Null));
    let schemes = match form.get("signature") {
        "none" => json!("none"),
        schemes => json!(schemes.split(',').collect::<Vec<_>>()),
    };
    put("signature", schemes, None);
    let steps =
        form.get("retry_schedule_s").split(|c: char| c == ',' || c.is_whitespace()).filter(|step| !step.is_empty());
    put("retry_schedule_s", steps.map(seconds).collect(), None);
    for name in ["timeout_ms", "max_in_flight", "disable_after_s"] {
        put(name, number(form.get(name).trim()), None);
    }
    put("rate_limit_per_s", number(form.get("rate_limit_per_s").trim()), Some(Value::Null));
    let order = match form.get("ordered") {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        other => other.into(),
    };
    put("ordered", order, None);
    if is_new {
        put("app_id", text("app_id"), None);
        put("secret", text("secret"), None);
        let headers = form.get("headers").lines().filter_map(|line| line.split_once(':'));
        let headers: Map<String, Value> =
            headers.map(|(name, value)| (name.trim().to_owned(), value.trim().into())).collect();
        put("headers", Value::Object(headers), None);
    }
    Value::Object(body).to_string()
}

/// The JSON of a new webhook with the preset's value of each member that it lacks.
fn with_preset(body: String, preset: Option<&Webhook>) -> String {
    let (Some(preset), Ok(Value::Object(given))) = (preset, serde_json::from_str(&body)) else { return body };
    let mut members = webhook_fields::chosen(preset);
    members.extend(given);
    Value::Object(members).to_string()
}

/// A step of a schedule in seconds: `300`, `5m`, `2h`. Another text stays, so that the API says where it is wrong.
fn seconds(step: &str) -> Value {
    let (digits, factor) = match step.char_indices().last() {
        Some((at, 's')) => (&step[..at], 1),
        Some((at, 'm')) => (&step[..at], 60),
        Some((at, 'h')) => (&step[..at], 3_600),
        Some((at, 'd')) => (&step[..at], 86_400),
        _ => (step, 1),
    };
    digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor)).map_or_else(|| step.into(), Value::from)
}

/// `POST /ui/webhooks/new`: makes it, and shows its secret once.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let body = with_preset(json_of(&form, true), frame.preset().as_ref());
    let call = ApiCall { handler: webhooks::create, body, form: Some(&form) };
    let made = relay(context, request, &call, move |response| {
        let id = member(&response, "id").as_str().unwrap_or_default().to_owned();
        let secret = member(&response, "secret").as_str().map(str::to_owned);
        let name = member(&response, "name").as_str().unwrap_or_default().to_owned();
        let content = created_page(&id, &name, secret.as_deref(), &frame);
        Ok(html_response(StatusCode::CREATED, frame.page("New webhook", &content)))
    });
    corrected(context, request, None, form, made)
}

/// `POST /ui/webhooks/{id}/edit`.
pub fn update(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let webhook = webhooks::in_path(context, request)?;
    let call = ApiCall { handler: webhooks::update, body: json_of(&form, false), form: Some(&form) };
    let to = format!("../{}?done=saved", webhook.id);
    let made = relay(context, request, &call, move |_| see_other(&to));
    corrected(context, request, Some(webhook), form, made)
}

/// The form with its mistakes, if there are any.
fn corrected(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    webhook: Option<std::sync::Arc<Webhook>>,
    form: PostedForm,
    done: Result<Step, ApiError>,
) -> Result<Step, ApiError> {
    match done {
        Err(api_error) if !api_error.errors.is_empty() => {
            let frame = Frame::new(context, request, Section::Webhooks);
            let apps = apps(context, request);
            let loaded = form.get(LOADED_FIELD).to_owned();
            let errors = match frame.portal {
                Some(_) => api_error.errors.into_iter().map(words::mistake).collect(),
                None => api_error.errors,
            };
            let view = WebhookFormView { webhook, form, loaded, errors, apps };
            Ok(Step::Reply(frame.reply(api_error.status, "Webhook", &page(&view, &frame))))
        }
        other => other,
    }
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
    fn errors_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a FieldError> {
        self.errors.iter().filter(move |error| error.pointer.trim_start_matches('/').split('/').next() == Some(name))
    }

    fn wrong(&self, name: &str) -> Markup {
        let mistakes = self.errors_of(name).count();
        html! {
            @if mistakes > 0 {
                div id={ "wrong-" (name) } {
                    @for error in self.errors_of(name).take(MISTAKES_SHOWN) { p.wrong { (foreign(&error.detail)) } }
                    @if mistakes > MISTAKES_SHOWN {
                        p.wrong { (counted((mistakes - MISTAKES_SHOWN) as u64, "further mistake", "further mistakes")) }
                    }
                }
            }
        }
    }

    fn described(&self, name: &str) -> Option<String> {
        self.errors_of(name).next().map(|_| format!("wrong-{name}"))
    }

    fn input(&self, name: &str, words: &str, hint: &str) -> Markup {
        html! {
            label for=(name) { (words) }
            input id=(name) type="text" name=(name) value=(self.form.get(name)) placeholder=(hint) autocomplete="off"
                aria-invalid=[self.described(name).map(|_| "true")] aria-describedby=[self.described(name)];
            (self.wrong(name))
        }
    }

    fn area(&self, name: &str, words: &str, hint: &str) -> Markup {
        html! {
            label for=(name) { (words) }
            textarea id=(name) name=(name) rows="3" placeholder=(hint) spellcheck="false"
                aria-describedby=[self.described(name)] { (self.form.get(name)) }
            (self.wrong(name))
        }
    }

    fn choice(&self, name: &str, words: &str, choices: &[(&str, &str)]) -> Markup {
        html! {
            label for=(name) { (words) }
            select id=(name) name=(name) {
                @for (value, shown) in choices {
                    option value=(value) selected[self.form.get(name) == *value] { (foreign(shown)) }
                }
            }
            (self.wrong(name))
        }
    }
}

/// The page.
pub fn page(view: &WebhookFormView, frame: &Frame) -> Markup {
    let path =
        view.webhook.as_ref().map_or("webhooks/new".to_owned(), |webhook| format!("webhooks/{}/edit", webhook.id));
    let back = view.webhook.as_ref().map_or("webhooks".to_owned(), |webhook| format!("webhooks/{}", webhook.id));
    let fields = html! {
        @if !view.errors.is_empty() {
            div.note.bad role="alert" { p { "Nothing was saved: "
                (counted(view.errors.len() as u64, "value is wrong.", "values are wrong.")) } }
        }
        @if !view.loaded.is_empty() { input type="hidden" name=(LOADED_FIELD) value=(view.loaded); }
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
    html! {
        fieldset {
            legend { "Receiver" }
            (view.input("url", "URL", "https://hooks.example.com/in"))
            (view.input("name", "Name", "from the host of the URL"))
            (view.input("description", "Description", ""))
            @if view.webhook.is_none() && view.apps.len() > 1 { (view.choice("app_id", "App", &apps)) }
        }
    }
}

fn event_fields(view: &WebhookFormView) -> Markup {
    html! {
        fieldset {
            legend { "Events" }
            (view.area("event_types", "Types, one a line", "all; or order.* and invoice.paid"))
            details open[view.errors_of("filter").next().is_some()] {
                summary { "Channels and filter" }
                (view.area("channels", "Channels, one a line", "all"))
                (view.area("filter", "Filter, as JSON", "{\"path\": \"/total\", \"gte\": 100}"))
            }
        }
    }
}

fn request_fields(view: &WebhookFormView) -> Markup {
    let pairs = |values: &[&'static str]| values.iter().map(|value| (*value, *value)).collect::<Vec<_>>();
    let own = view.form.get("field_set");
    let mut field_sets: Vec<(&str, &str)> = pairs(&FIELD_SETS);
    if !own.is_empty() && !FIELD_SETS.contains(&own) {
        field_sets.push((own, own));
    }
    let mut signatures = vec![
        ("standard", "Standard Webhooks"),
        ("ed25519", "Standard Webhooks, Ed25519"),
        ("standard,ed25519", "both"),
        ("none", "unsigned"),
    ];
    let own = view.form.get("signature");
    if !own.is_empty() && !signatures.iter().any(|(schemes, _)| *schemes == own) {
        signatures.push((own, own));
    }
    html! {
        fieldset {
            legend { "Request" }
            details {
                summary { "Method, body, signature, headers" }
                (view.choice("method", "Method", &pairs(&METHODS)))
                (view.choice("field_set", "Body", &field_sets))
                (view.choice("signature", "Signature", &signatures))
                @if view.webhook.is_none() {
                    (view.area("headers", "Headers, one a line", "x-tenant: acme"))
                    (view.input("secret", "Secret", "a new one is made"))
                }
            }
        }
    }
}

fn sending_fields(view: &WebhookFormView) -> Markup {
    let orders =
        [("false", "no order"), ("true", "one after another"), ("key", "one after another for each ordering key")];
    html! {
        fieldset {
            legend { "Sending" }
            (view.input("retry_schedule_s", "Retries after", "5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h"))
            details {
                summary { "Time limit, rate, order, switching off" }
                (view.input("timeout_ms", "Time limit, ms", "15000"))
                (view.input("max_in_flight", "Requests at once", "16"))
                (view.input("rate_limit_per_s", "Requests a second", "no limit"))
                (view.choice("ordered", "Order", &orders))
                (view.input("disable_after_s", "Switched off after seconds of failures", "432000"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_webhook_sends_filled_fields_only_and_a_changed_one_empties() {
        let form = PostedForm::parse(
            b"url=https%3A%2F%2Fa.example&event_types=a.*%0D%0Ab%2Cc&description=&timeout_ms=x&\
              retry_schedule_s=5s+2h%2C7",
        );
        let new: Value = serde_json::from_str(&json_of(&form, true)).unwrap();
        assert_eq!(
            new,
            json!({
                "url": "https://a.example", "event_types": ["a.*", "b", "c"], "timeout_ms": "x",
                "retry_schedule_s": [5, 7_200, 7],
            })
        );
        let changed: Value = serde_json::from_str(&json_of(&form, false)).unwrap();
        assert_eq!(changed["description"], Value::Null);
        assert!(changed.get("filter").is_none(), "a field that the form lacks stays as it is");
    }

    #[test]
    fn a_changed_webhook_sends_touched_fields_only() {
        let mut webhook = Webhook::new(crate::model::Id::MIN, crate::model::Id::MIN);
        webhook.name = "erp, invoices".to_owned();
        webhook.url = "https://a.example".to_owned();
        webhook.channels = vec!["north sea".to_owned(), "a, b".to_owned()];
        webhook.event_types = vec!["a.*".to_owned(), "b.c".to_owned()];
        webhook.filter = Some("{ \"path\": \"/total\",  \"gte\": 1e2 }".to_owned());
        let form = fields_of(&webhook);
        let loaded = digests(&form);
        let posted = |name: &str, value: &str| {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            body.append_pair(LOADED_FIELD, &loaded);
            for (field, old) in form.fields() {
                body.append_pair(field, &if field == name { value } else { old }.replace('\n', "\r\n"));
            }
            serde_json::from_str::<Value>(&json_of(&PostedForm::parse(body.finish().as_bytes()), false)).unwrap()
        };
        assert_eq!(posted("none", ""), json!({}));
        assert_eq!(posted("name", "erp"), json!({ "name": "erp" }));
        assert_eq!(posted("description", "new"), json!({ "description": "new" }));
        assert_eq!(posted("channels", "north sea\na, b\nc"), json!({ "channels": ["north sea", "a, b", "c"] }));
        assert_eq!(posted("channels", ""), json!({ "channels": [] }));
        assert_eq!(posted("filter", " "), json!({ "filter": null }));
    }

    #[test]
    fn mistakes_of_a_field_are_shown_up_to_a_bound() {
        let mistake = |n: usize| FieldError::new(format!("/event_types/{n}"), "must be a pattern");
        let view = WebhookFormView {
            webhook: None,
            form: PostedForm::default(),
            loaded: String::new(),
            errors: (0..1_000).map(mistake).collect(),
            apps: Vec::new(),
        };
        let shown = event_fields(&view).into_string();
        assert_eq!(shown.matches("must be a pattern").count(), MISTAKES_SHOWN);
        assert!(shown.contains("995 further mistakes"), "{shown}");
        assert_eq!(shown.matches("id=\"wrong-event_types\"").count(), 1);
    }

    #[test]
    fn an_unsigned_webhook_is_asked_for_in_the_words_of_the_api() {
        let form = PostedForm::parse(b"signature=none");
        let asked: Value = serde_json::from_str(&json_of(&form, false)).unwrap();
        assert_eq!(asked, json!({ "signature": "none" }));
    }
}
