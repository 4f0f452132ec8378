//! Help for the tenant: how a receiver verifies a request, in the languages of `docs/signatures.md`, with the libraries of
//! the vendor whose headers the requests have.
//!
//! Invariant: it states the headers and the bodies of the tenant's own webhooks. Without one it states those of a webhook
//! that the tenant would make.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::dialects;
use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::model::webhook::FieldSet;
use crate::model::{Scope, Webhook};
use crate::rules::signing;
use crate::ui::format::{counted, foreign};
use crate::ui::frame::{Frame, Section};

const SIGNATURES: &str = include_str!("../../../docs/signatures.md");
/// The sections of the page that show a library each.
const LANGUAGES: [&str; 7] = ["Python", "JavaScript and TypeScript", "Rust", "Go", "Ruby", "PHP", "Java"];

/// Maximum number of webhooks that are named beside their headers.
const NAMES_SHOWN: usize = 5;

/// The requests of the webhooks that are signed and written alike.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestForm {
    /// The header with the id of the event first, and the one with the signature last.
    pub headers: Vec<&'static str>,
    pub field_set: FieldSet,
    /// The names of the webhooks.
    pub webhooks: Vec<String>,
}

impl RequestForm {
    /// The forms of the webhooks' requests, in the order of the webhooks.
    pub fn of<'w>(webhooks: impl Iterator<Item = &'w Webhook>, has_standard_names: bool) -> Vec<RequestForm> {
        let mut forms: Vec<RequestForm> = Vec::new();
        for webhook in webhooks {
            let headers = signing::header_names(&webhook.signature, has_standard_names);
            let field_set = webhook.field_set;
            match forms.iter_mut().find(|form| form.headers == headers && form.field_set == field_set) {
                Some(form) => form.webhooks.push(webhook.name.clone()),
                None => forms.push(RequestForm { headers, field_set, webhooks: vec![webhook.name.clone()] }),
            }
        }
        forms
    }

    /// Whether the headers are those of Standard Webhooks under other names.
    fn is_renamed(&self) -> bool {
        self.headers.len() == STANDARD.len() && !self.headers.iter().any(|name| STANDARD.contains(name))
    }
}

/// The page with a program for each language: of the vendor, if all webhooks have the headers that its libraries read, else of
/// Standard Webhooks.
fn programs(forms: &[RequestForm]) -> &'static str {
    let own: Vec<_> = forms.iter().map(|form| dialects::receivers_of(&form.headers)).collect();
    match own.as_slice() {
        [Some(first), others @ ..] if others.iter().all(|other| *other == Some(first)) => first,
        _ => SIGNATURES,
    }
}

/// The headers of Standard Webhooks, which the libraries read.
const STANDARD: [&str; 3] = [signing::WEBHOOK_ID, signing::WEBHOOK_TIMESTAMP, signing::WEBHOOK_SIGNATURE];

/// `GET /ui/portal/help`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Help);
    let has_standard_names = context.settings.pages.portal.has_standard_names;
    let own = context.registry.webhooks_within(request.tenant()).filter(|_| request.may(Scope::WebhooksRead));
    let mut forms = RequestForm::of(own.map(|webhook| &**webhook), has_standard_names);
    if forms.is_empty() {
        let tenant = request.tenant();
        let new = frame.preset().unwrap_or_else(|| Webhook::new(tenant.org, tenant.app.unwrap_or_default()));
        forms = RequestForm::of(std::iter::once(&new), has_standard_names);
    }
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Help", &page(&forms))))
}

fn words(names: &[&str]) -> Markup {
    html! {
        @for (at, name) in names.iter().enumerate() {
            @if at > 0 { @if at + 1 == names.len() { " and " } @else { ", " } }
            code { (name) }
        }
    }
}

/// The headers and the body of one form. Several forms name their webhooks.
fn request_form(form: &RequestForm, is_only: bool, reads_standard: bool) -> Markup {
    let first = form.headers.first().copied().unwrap_or_default();
    html! {
        @if !is_only {
            h3 {
                (foreign(&form.webhooks[..form.webhooks.len().min(NAMES_SHOWN)].join(", ")))
                @if form.webhooks.len() > NAMES_SHOWN {
                    ", and " (counted((form.webhooks.len() - NAMES_SHOWN) as u64, "further one", "further ones"))
                }
            }
        }
        p {
            "The secret of the webhook, which begins with " code { "whsec_" }
            "; the body, byte for byte as it came in; and the headers " (words(&form.headers)) "."
        }
        @if reads_standard && form.is_renamed() {
            p {
                "The libraries below read " (words(&STANDARD)) ": hand them the three values under these names. The text "
                "that is signed is made in the same way."
            }
        }
        @match form.field_set {
            FieldSet::Standard => {
                p { "The body is a JSON object with " (words(&["id", "type", "timestamp", "data"])) "." }
            }
            FieldSet::Raw => {
                p { "The body is the data of the event alone, without " (words(&["type", "data"])) " around it." }
            }
            _ => {}
        }
        p {
            "The same event can arrive twice. Keep the " code { (first) }
            " of each event that you have processed, and skip it the second time."
        }
    }
}

/// The first program of a section of a page. `None` if the section is missing or has none.
fn program(page: &'static str, language: &str) -> Option<&'static str> {
    let section = page.split("\n## ").find_map(|section| section.strip_prefix(language)?.strip_prefix('\n'))?;
    let (_, fenced) = section.split_once("\n```")?;
    let (_, code) = fenced.split_once('\n')?;
    Some(code.split_once("\n```")?.0)
}

/// The page.
pub fn page(forms: &[RequestForm]) -> Markup {
    let programs = programs(forms);
    html! {
        .head {
            div {
                h1 { "How to check a request" }
                p.lead { "Every request is signed by the rules of Standard Webhooks. Answer 2xx once the event is safe with you." }
            }
        }
        section.panel aria-labelledby="need" {
            header { h2 #need { "What it takes" } }
            .pad { @for form in forms { (request_form(form, forms.len() == 1, programs == SIGNATURES)) } }
        }
        @for language in LANGUAGES {
            @if let Some(program) = program(programs, language) {
                section.panel {
                    header { h2 { (language) } }
                    .pad { pre tabindex="0" { code { (program) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> impl Iterator<Item = &'static str> {
        let presets = dialects::DIALECTS.iter().filter_map(|dialect| dialect.preset);
        [SIGNATURES].into_iter().chain(presets.map(|preset| preset.receivers))
    }

    #[test]
    fn every_language_of_the_docs_has_its_program() {
        for language in LANGUAGES {
            for page in pages() {
                let program = program(page, language).unwrap_or_else(|| panic!("{language} has no program"));
                assert!(program.lines().count() > 4 && !program.contains("```"), "{language}: {program}");
            }
        }
    }
}
