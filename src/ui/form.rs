//! Forms: fields as a browser posts them, accepted only with the token of their page.

use maud::{Markup, html};
use url::form_urlencoded;

use crate::api::{ApiContext, ApiError, FieldError, RequestContext};

use super::format::foreign;
use super::session::Session;

/// The name of the field with the token.
pub const TOKEN_FIELD: &str = "token";
/// The name of a button for another action. Its value is the token of that action, and comes only if it was pressed.
pub const OTHER_TOKEN_NAME: &str = "other-token";
/// The name of the field whose value becomes the `Idempotency-Key`.
pub const ONCE_FIELD: &str = "once";

/// Maximum number of mistakes that a page lists.
pub const MISTAKES_LISTED: usize = 20;

/// The mistakes of a form, each with its field.
pub fn mistakes(errors: &[FieldError]) -> Markup {
    html! {
        @for field_error in errors.iter().take(MISTAKES_LISTED) {
            p.wrong role="alert" { code { (foreign(&field_error.pointer)) } " " (foreign(&field_error.detail)) }
        }
    }
}

/// A field of one line with its label, and its mistakes below it. The placeholder is an example, if there is one.
pub fn line(name: &str, label: &str, example: &str, form: &PostedForm, errors: &[FieldError]) -> Markup {
    let wrong = is_wrong(name, errors);
    html! {
        label for=(name) { (label) }
        input id=(name) type="text" name=(name) value=(form.get(name)) placeholder=[Some(example).filter(|example| !example.is_empty())]
            aria-invalid=[wrong.then_some("true")]
            aria-describedby=[wrong.then(|| format!("wrong-{name}"))];
        (mistakes_of(name, errors))
    }
}

/// Whether a field has a mistake.
pub fn is_wrong(name: &str, errors: &[FieldError]) -> bool {
    errors.iter().any(|one| one.pointer.strip_prefix('/') == Some(name))
}

/// The mistakes of one field.
pub fn mistakes_of(name: &str, errors: &[FieldError]) -> Markup {
    let own = || errors.iter().filter(|one| one.pointer.strip_prefix('/') == Some(name));
    html! {
        @if own().next().is_some() {
            p.wrong id={ "wrong-" (name) } role="alert" { @for one in own() { (foreign(&one.detail)) ". " } }
        }
    }
}

/// The mistakes of all fields but these.
pub fn mistakes_beside(names: &[&str], errors: &[FieldError]) -> Markup {
    let others = errors.iter().filter(|one| !names.iter().any(|name| one.pointer.strip_prefix('/') == Some(name)));
    mistakes(&others.cloned().collect::<Vec<_>>())
}

/// The fields of a posted form, in their order.
#[derive(Debug, Clone, Default)]
pub struct PostedForm(Vec<(String, String)>);

impl PostedForm {
    /// The fields of a request with a session.
    ///
    /// # Errors
    /// 403 without the token of this form and this session.
    pub fn read(context: &ApiContext<'_>, request: &RequestContext<'_>) -> Result<PostedForm, ApiError> {
        let form = PostedForm::parse(&request.http.body);
        let action = request.http.path.strip_prefix("/ui/").unwrap_or_default();
        let pages = &context.settings.pages;
        let session = Session::of(request.http, pages, context.now);
        let has_token = |session: Session| {
            let mut tokens = form.all(TOKEN_FIELD).chain(form.all(OTHER_TOKEN_NAME));
            tokens.any(|token| session.has_token(pages, action, token))
        };
        match session.is_some_and(has_token) {
            true => Ok(form),
            false => Err(ApiError::forbidden(
                "form_token_wrong",
                "this form is not of your session, or of an earlier one: load its page again, and send it from there",
            )),
        }
    }

    pub fn parse(body: &[u8]) -> PostedForm {
        let pairs = form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned()));
        PostedForm(pairs.collect())
    }

    /// A form with these fields, for a page that shows one before it is posted.
    pub fn filled(fields: impl IntoIterator<Item = (&'static str, String)>) -> PostedForm {
        PostedForm(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The first value of a field. Empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value.as_str())
    }

    /// The same form with this value in place of every value of a field. An empty value removes the field.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> PostedForm {
        let others = self.0.iter().filter(|(given, _)| given != name).cloned();
        PostedForm(others.chain((!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))).collect())
    }

    /// All fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }
}
