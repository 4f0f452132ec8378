//! Keys: the list, a new one that is shown once, and revoking.

use std::sync::Arc;

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use crate::api::native::keys;
use crate::api::{ApiContext, ApiError, FieldError, RequestContext, Step};
use crate::model::{ApiKey, Scope};
use crate::ui::form::{PostedForm, mistakes};
use crate::ui::format::{self, foreign};
use crate::ui::frame::{Frame, Section};
use crate::ui::relay::{ApiCall, corrected, member, relay};
use crate::ui::respond::{html as html_response, see_other};

/// `GET /ui/keys`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Keys);
    let content = page(&own_keys(context, request), &PostedForm::default(), &[], &frame);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Keys", &content)))
}

/// The keys that a caller may see, newest first.
fn own_keys(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Vec<Arc<ApiKey>> {
    let tenant = request.tenant();
    let covers = |key: &&Arc<ApiKey>| key.org_id == tenant.org && tenant.app.is_none_or(|own| key.app_id == Some(own));
    context.registry.keys().rev().filter(covers).cloned().collect()
}

/// The page, with the form of a new key as it was filled, and its mistakes.
pub fn page(rows: &[Arc<ApiKey>], form: &PostedForm, errors: &[FieldError], frame: &Frame) -> Markup {
    html! {
        .head { div { h1 { "Keys" } p.lead { "A key is shown once, when it is made. Only its hash is kept." } } }
        section.panel {
            table {
                caption.vh { "Keys, newest first" }
                thead { tr {
                    th scope="col" { "Key" } th.big scope="col" { "Scopes" } th.num.big scope="col" { "Made" }
                    th.num.big scope="col" { "Expires" } th scope="col" { span.vh { "Actions" } }
                } }
                tbody { @for key in rows { (row(key, frame)) } }
            }
        }
        @if frame.may(Scope::KeysWrite) { (new_form(form, errors, frame)) }
    }
}

fn row(key: &ApiKey, frame: &Frame) -> Markup {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    html! {
        tr {
            td {
                b { (foreign(&key.name)) }
                @if key.id == frame.key.id { " " span.muted { "(this session)" } }
                span.sub.mono { (key.id) }
            }
            td.big { (scopes.join(", ")) @if key.app_id.is_some() { span.sub { "one app only" } } }
            td.num.big.nowrap { (format::moment(key.created_at, frame.now)) }
            td.num.big.nowrap { @match key.expires_at { Some(at) => (format::moment(at, frame.now)), None => "never" } }
            td.num {
                @if frame.may(Scope::KeysWrite) {
                    a href=(frame.link(&format!("keys/{}/revoke", key.id))) { "Revoke…" }
                }
            }
        }
    }
}

fn new_form(form: &PostedForm, errors: &[FieldError], frame: &Frame) -> Markup {
    let fields = html! {
        label for="name" { "Name" }
        input #name type="text" name="name" value=(form.get("name")) required;
        fieldset {
            legend { "Scopes" }
            @for scope in Scope::ALL.into_iter().filter(|scope| frame.may(*scope)) {
                @let word = scope.as_str();
                label.check {
                    input type="checkbox" name="scope[]" value=(word) checked[form.all("scope[]").any(|one| one == word)];
                    " " (word)
                }
            }
        }
        (mistakes(errors))
        .acts { button.btn.main type="submit" { "Make a key" } }
    };
    html! { section.panel { header { h2 { "New key" } } (frame.form("pad fields", "keys/new", &fields)) } }
}

/// `POST /ui/keys/new`: shows the key once.
pub fn create(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let scopes: Vec<&str> = form.all("scope[]").collect();
    let body = json!({ "name": form.get("name").trim(), "scopes": scopes }).to_string();
    let frame = Frame::new(context, request, Section::Keys);
    let made = relay(context, request, &ApiCall { handler: keys::create, body, form: Some(&form) }, move |response| {
        let text = member(&response, "key").as_str().unwrap_or_default().to_owned();
        let content = html! {
            .head {
                div { h1 { "The new key" } p.lead { "Shown this once, and gone when you leave this page." } }
                .acts { a.btn href=(frame.link("keys")) { "Back" } }
            }
            section.panel { dl.facts { div { dt { "Key" } dd { code data-copy="" { (foreign(&text)) } } } } }
        };
        Ok(html_response(StatusCode::CREATED, frame.page("New key", &content)))
    });
    let (frame, rows) = (Frame::new(context, request, Section::Keys), own_keys(context, request));
    corrected(made, move |api_error| {
        frame.reply(api_error.status, "Keys", &page(&rows, &form, &api_error.errors, &frame))
    })
}

/// `GET /ui/keys/{id}/revoke`.
pub fn ask_revoke(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let tenant = request.tenant();
    let key = request.path.get("id").parse().ok().and_then(|id| context.registry.key(id).cloned());
    let key = key.filter(|key| key.org_id == tenant.org && tenant.app.is_none_or(|own| key.app_id == Some(own)));
    let key = key.ok_or_else(|| ApiError::not_found("key"))?;
    let frame = Frame::new(context, request, Section::Keys);
    let fields = html! {
        p { "Programs that use this key get 401 at once, and its sessions here end." }
        .acts { button.btn.danger type="submit" { "Revoke" } a.btn href=(frame.link("keys")) { "Keep it" } }
    };
    let content = html! {
        .head { div { h1 { "Revoke " (foreign(&key.name)) } } }
        section.panel { (frame.form("pad fields", &format!("keys/{}/revoke", key.id), &fields)) }
    };
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Revoke", &content)))
}

/// `POST /ui/keys/{id}/revoke`.
pub fn revoke(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let form = PostedForm::read(context, request)?;
    let call = ApiCall { handler: keys::revoke, body: String::new(), form: Some(&form) };
    relay(context, request, &call, |_| see_other("../../keys?done=revoked"))
}
