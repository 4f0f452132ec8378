//! The way back to the page that a form was sent from, as its browser names it.

use http::header::REFERER;

use crate::api::HttpRequest;

/// The last parts of the paths that only take forms.
const FORMS: [&str; 10] =
    ["test", "secret", "count", "pause", "resume", "enable", "retry", "cancel", "stop", "portal-link"];

/// The path and the query below `home`, such as `/ui/`, of the page that a form was sent from. `None` if the browser names
/// no page, or one that cannot be asked for again.
pub fn below<'a>(http_request: &'a HttpRequest, home: &str) -> Option<&'a str> {
    let (_, below) = http_request.header(REFERER)?.split_once(home)?;
    let path = below.split(['?', '#']).next().unwrap_or_default();
    is_page(path).then_some(below)
}

fn is_page(path: &str) -> bool {
    !matches!(path, "apps/new" | "keys/new") && !FORMS.contains(&path.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_form_is_no_page() {
        assert!(["", "webhooks", "webhooks/x/edit", "replays/new"].into_iter().all(is_page));
        assert!(!["apps/new", "webhooks/x/test", "replays/count"].into_iter().any(is_page));
    }
}
