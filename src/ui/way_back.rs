//! The way back to the page that a form was sent from, as its browser names it.

use http::header::REFERER;

use crate::api::HttpRequest;

use super::routes::has_page;

/// The path and the query below `home`, such as `/ui/`, of the page that a form was sent from. `None` if the browser names
/// no page, or one that cannot be asked for again.
pub fn below<'a>(http_request: &'a HttpRequest, home: &str) -> Option<&'a str> {
    let (_, below) = http_request.header(REFERER)?.split_once(home)?;
    let path = below.split(['?', '#']).next().unwrap_or_default();
    has_page(&format!("{home}{path}")).then_some(below)
}
