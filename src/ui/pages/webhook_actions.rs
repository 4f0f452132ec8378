//! The actions of a person on a webhook: pause, resume, enable, send, reveal, rotate, delete.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::api::native::webhooks;
use crate::api::route::Handler;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::Webhook;
use crate::ui::form::PostedForm;
use crate::ui::format::foreign;
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, member, relay};
use crate::ui::respond::{html as html_response, see_other};

/// Relays to `handler`, then shows `to` of the webhook, relative to the form's action.
fn act(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    handler: Handler,
    body: String,
    to: String,
) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    relay(context, request, &ApiCall { handler, body, form: Some(&form) }, move |_| see_other(&to))
}

/// `POST /ui/webhooks/{id}/pause`.
pub fn pause(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    act(context, request, webhooks::pause, String::new(), back(request, "paused"))
}

/// `POST /ui/webhooks/{id}/resume`.
pub fn resume(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    act(context, request, webhooks::resume, String::new(), back(request, "resumed"))
}

/// `POST /ui/webhooks/{id}/enable`.
pub fn enable(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    act(context, request, webhooks::update, json!({ "status": "enabled" }).to_string(), back(request, "enabled"))
}

/// The webhook's page, relative to the form's action `webhooks/{id}/…`.
fn back(request: &RequestContext<'_>, done: &str) -> String {
    format!("../{}?done={done}", request.path.get("id"))
}

/// `POST /ui/webhooks/{id}/delete`.
pub fn delete(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let webhook = webhooks::in_path(context, request)?;
    if form.get("name") != webhook.name {
        let frame = Frame::new(context, request, Section::Webhooks);
        let content = delete_page(&webhook, Some("This is not its name."), &frame);
        return Ok(Step::Reply(frame.reply(StatusCode::UNPROCESSABLE_ENTITY, "Delete", &content)));
    }
    let call = ApiCall { handler: webhooks::remove, body: String::new(), form: Some(&form) };
    relay(context, request, &call, |_| see_other("../../webhooks?done=deleted"))
}

/// `GET /ui/webhooks/{id}/delete`.
pub fn ask_delete(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Delete", &delete_page(&webhook, None, &frame))))
}

/// The page that asks before a webhook is deleted.
pub fn delete_page(webhook: &Webhook, said: Option<&str>, frame: &Frame) -> Markup {
    let path = format!("webhooks/{}/delete", webhook.id);
    let fields = html! {
        p { "Its waiting deliveries are cancelled. What was delivered stays readable until its time is over." }
        label for="name" { "Type its name to delete it" }
        input #name type="text" name="name" autocomplete="off" required;
        @if let Some(said) = said { p.wrong role="alert" { (said) } }
        .acts {
            button.btn.danger type="submit" { "Delete" }
            a.btn href=(frame.link(&format!("webhooks/{}", webhook.id))) { "Keep it" }
        }
    };
    html! {
        .head { div { h1 { "Delete " (foreign(&webhook.name)) } } }
        section.panel { (frame.form("pad fields", &path, &fields)) }
    }
}

/// `GET /ui/webhooks/{id}/rotate`.
pub fn ask_rotate(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Rotate the secret", &rotate_page(&webhook, &frame))))
}

/// The page that asks before a secret is rotated.
pub fn rotate_page(webhook: &Webhook, frame: &Frame) -> Markup {
    let fields = html! {
        p {
            "A new secret is made. The old one signs beside it for the time below, so that the receiver can change over."
        }
        label for="overlap" { "Overlap" }
        select #overlap name="overlap_s" {
            option value="0" { "None: the old one is not to be used any more" }
            option value="3600" { "1 hour" }
            option value="86400" selected { "24 hours" }
            option value="604800" { "7 days" }
        }
        .acts {
            button.btn.main type="submit" { "Rotate" }
            a.btn href=(frame.link(&format!("webhooks/{}", webhook.id))) { "Leave it" }
        }
    };
    html! {
        .head { div { h1 { "Rotate the secret of " (foreign(&webhook.name)) } } }
        section.panel { (frame.form("pad fields", &format!("webhooks/{}/rotate", webhook.id), &fields)) }
    }
}

/// `POST /ui/webhooks/{id}/rotate`.
pub fn rotate(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    // A text that is no number is for the API to refuse.
    let overlap_s = match (form.get("overlap_s"), form.get("overlap_s").parse::<u64>()) {
        ("", _) => Value::Null,
        (_, Ok(seconds)) => seconds.into(),
        (text, Err(_)) => text.into(),
    };
    secrets(context, request, webhooks::rotate_secret, json!({ "overlap_s": overlap_s }).to_string(), &form)
}

/// `POST /ui/webhooks/{id}/secret`: shows the secrets once. The API writes it into the audit.
pub fn reveal(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    secrets(context, request, webhooks::secret, String::new(), &form)
}

fn secrets(
    context: &mut ApiContext<'_>,
    request: &RequestContext<'_>,
    handler: Handler,
    body: String,
    form: &PostedForm,
) -> Result<Step, ApiError> {
    let webhook = webhooks::in_path(context, request)?;
    let frame = Frame::new(context, request, Section::Webhooks);
    let call = ApiCall { handler, body, form: Some(form) };
    relay(context, request, &call, move |response| {
        let current = member(&response, "secret").as_str().unwrap_or_default().to_owned();
        let mut texts = vec![(current, None)];
        texts.extend(member(&response, "previous").as_array().into_iter().flatten().map(secret_of));
        let content = secrets_page(&webhook, &texts, &frame);
        Ok(html_response(StatusCode::OK, frame.page("Secret", &content)))
    })
}

fn secret_of(row: &Value) -> (String, Option<String>) {
    let text = |name: &str| row[name].as_str().map(str::to_owned);
    (text("secret").unwrap_or_default(), text("expires_at"))
}

/// The page with the secrets, newest first, each with the end of its time.
pub fn secrets_page(webhook: &Webhook, secrets: &[(String, Option<String>)], frame: &Frame) -> Markup {
    html! {
        .head {
            div {
                h1 { "Secret of " (foreign(&webhook.name)) }
                p.lead { "Shown this once, and gone when you leave this page. That it was shown is in the audit." }
            }
            .acts { a.btn href=(frame.link(&format!("webhooks/{}", webhook.id))) { "Back" } }
        }
        section.panel {
            dl.facts {
                @for (text, until) in secrets {
                    div {
                        dt { @if until.is_some() { "Old" } @else { "Current" } }
                        dd {
                            code data-copy="" { (foreign(text)) }
                            @if let Some(until) = until { p.muted { "signs until " (foreign(until)) } }
                        }
                    }
                }
            }
        }
    }
}
