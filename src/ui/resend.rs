//! Forms that a browser sends again, as after the back button: their `once` finds the first answer, or another request.

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};

use crate::api::{ApiError, HttpResponse, RequestContext};

use super::form::{ONCE_FIELD, PostedForm};
use super::format::foreign;
use super::frame::{alone, portal_alone};
use super::page_query::PageQuery;
use super::respond;

/// The word of `?done=…` for a form that had been sent before.
pub const SENT_BEFORE: &str = "sent-before";
/// The code of the error for a key that was used with another request.
const REUSED: &str = "idempotency_key_reused";
/// The code of the error for a first answer that contained a secret and is no longer stored.
const EXPIRED: &str = "answer_expired";

/// A form as it came, and a new value for its `once`.
pub struct Resend {
    fields: Vec<(String, String)>,
    once: String,
    up: String,
    is_portal: bool,
}

impl Resend {
    pub fn of(request: &RequestContext<'_>, form: &PostedForm, random: [u8; 16]) -> Resend {
        let fields = form.fields().filter(|(name, _)| *name != ONCE_FIELD);
        let slashes = request.http.path.bytes().filter(|byte| *byte == b'/').count();
        Resend {
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            once: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            up: "../".repeat(slashes.saturating_sub(2)),
            is_portal: request.principal.portal_link.is_some(),
        }
    }

    /// The answer to a form that had been sent before, from the one that it got first. A page of a secret is not shown
    /// again.
    ///
    /// # Errors
    /// 500 if the address of the next page cannot be a header.
    pub fn after(&self, mut first: HttpResponse) -> Result<HttpResponse, ApiError> {
        let Some(to) = first.headers.get(LOCATION).and_then(|to| to.to_str().ok()).map(str::to_owned) else {
            return Ok(self.gone());
        };
        let to =
            HeaderValue::from_str(&repeated(&to)).map_err(|_| ApiError::internal("the address of the next page"))?;
        first.headers.insert(LOCATION, to);
        Ok(first)
    }

    /// The page in place of an error, if the form had been sent before.
    ///
    /// # Errors
    /// Any other error, as it is.
    pub fn in_place_of(&self, api_error: ApiError) -> Result<HttpResponse, ApiError> {
        match api_error.code {
            REUSED => Ok(self.page(StatusCode::CONFLICT, "An old form", &self.again())),
            EXPIRED => Ok(self.gone()),
            _ => Err(api_error),
        }
    }

    fn gone(&self) -> HttpResponse {
        let content = html! {
            .card {
                h1 { "Sent before" }
                p {
                    "This form had been sent before, so nothing was done now. Its answer was shown once, and is not shown \
                     again."
                }
                a.btn href=(self.home()) { @if self.is_portal { "Webhooks" } @else { "Overview" } }
            }
        };
        self.page(StatusCode::CONFLICT, "Sent before", &content)
    }

    /// A form with the same input that counts as a new one. Without `action` it posts to the address of this page.
    fn again(&self) -> Markup {
        html! {
            form.card method="post" {
                h1 { "An old form" }
                p {
                    "This form had been sent before with another content, so nothing was done now. Your input is kept: \
                     send it as a new form, or look at the present state first."
                }
                @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
                input type="hidden" name=(ONCE_FIELD) value=(self.once);
                button.btn.main type="submit" { "Send it as a new form" }
                a.btn href=(self.home()) { @if self.is_portal { "Webhooks" } @else { "Overview" } }
                @for (name, value) in self.fields.iter().filter(|(name, value)| is_shown(name, value)) {
                    p.hint { code { (foreign(name)) } " " (foreign(value)) }
                }
            }
        }
    }

    fn home(&self) -> String {
        match (self.is_portal, self.up.as_str()) {
            (true, up) => format!("{up}portal/"),
            (false, "") => "./".to_owned(),
            (false, up) => up.to_owned(),
        }
    }

    fn page(&self, status: StatusCode, title: &str, content: &Markup) -> HttpResponse {
        let page = if self.is_portal { portal_alone } else { alone };
        respond::html(status, page(title, &self.up, content))
    }
}

/// Whether the page repeats a field in clear: tokens and secrets stay hidden.
fn is_shown(name: &str, value: &str) -> bool {
    !value.is_empty()
        && !["token", "secret", "auth", "header", "key", "password"].iter().any(|word| name.contains(word))
}

/// The address of the page behind a form, with the notice that the form had been sent before.
fn repeated(to: &str) -> String {
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    format!("{path}{}", PageQuery::parse(query).with("done", SENT_BEFORE).link())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_form_does_not_repeat_its_notice() {
        assert_eq!(repeated("../w1?done=paused"), "../w1?done=sent-before");
        assert_eq!(repeated("w1"), "w1?done=sent-before");
        assert_eq!(
            repeated("../deliveries?status=failed&done=retried"),
            "../deliveries?status=failed&done=sent-before"
        );
    }

    #[test]
    fn an_old_form_keeps_its_input_and_gets_a_new_value_for_once() {
        let form = [("token", "t"), ("name", "<new>"), ("secret", "whsec_x")];
        let fields = form.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let resend = Resend { fields, once: "fresh".to_owned(), up: "../".to_owned(), is_portal: false };
        let page = resend.again().into_string();
        assert!(page.contains("name=\"once\" value=\"fresh\"") && page.contains("name=\"token\" value=\"t\""));
        assert!(page.contains("name=\"name\" value=\"&lt;new&gt;\"") && page.contains("</code> &lt;new&gt;"), "{page}");
        assert_eq!(page.matches("whsec_x").count(), 1, "hidden only");
    }
}
