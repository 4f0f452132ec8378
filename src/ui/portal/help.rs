//! Help for the tenant: how a receiver verifies a request, in the languages of `docs/signatures.md`.

use http::StatusCode;
use maud::{Markup, html};

use crate::api::{ApiContext, ApiError, RequestContext, Step};
use crate::ui::frame::{Frame, Section};

const SIGNATURES: &str = include_str!("../../../docs/signatures.md");
/// The sections of the page that show a library each.
const LANGUAGES: [&str; 7] = ["Python", "JavaScript and TypeScript", "Rust", "Go", "Ruby", "PHP", "Java"];

/// `GET /ui/portal/help`.
pub fn show(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let frame = Frame::new(context, request, Section::Help);
    Ok(Step::Reply(frame.reply(StatusCode::OK, "Help", &page())))
}

/// The first program of a section. `None` if the section is missing or has none.
fn program(language: &str) -> Option<&'static str> {
    let section = SIGNATURES.split("\n## ").find_map(|section| section.strip_prefix(language)?.strip_prefix('\n'))?;
    let (_, fenced) = section.split_once("\n```")?;
    let (_, code) = fenced.split_once('\n')?;
    Some(code.split_once("\n```")?.0)
}

/// The page.
pub fn page() -> Markup {
    html! {
        .head {
            div {
                h1 { "How to check a request" }
                p.lead { "Every request is signed by the rules of Standard Webhooks. Answer 2xx once the event is safe with you." }
            }
        }
        section.panel aria-labelledby="need" {
            header { h2 #need { "What it takes" } }
            .pad {
                p {
                    "The secret of the webhook, which begins with " code { "whsec_" }
                    "; the body, byte for byte as it came in; and the headers " code { "webhook-id" } ", "
                    code { "webhook-timestamp" } " and " code { "webhook-signature" } "."
                }
                p {
                    "The same event can arrive twice. Keep the " code { "webhook-id" }
                    " of each event that you have processed, and skip it the second time."
                }
            }
        }
        @for language in LANGUAGES {
            @if let Some(program) = program(language) {
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

    #[test]
    fn every_language_of_the_docs_has_its_program() {
        for language in LANGUAGES {
            let program = program(language).unwrap_or_else(|| panic!("{language} has no program"));
            assert!(program.lines().count() > 4 && !program.contains("```"), "{language}: {program}");
        }
    }
}
