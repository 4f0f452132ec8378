//! The filters in force on a list, each with a link that removes it, and links to longer spans of time.

use maud::{Markup, html};

use super::format::foreign;
use super::page_query::{LASTS, PageQuery};

/// The filters of `names` that are in force. `text_of` gives the text that a value is shown as.
pub fn chips(page_query: &PageQuery, names: &[&str], text_of: impl Fn(&str, &str) -> String) -> Markup {
    html! {
        @for &name in names {
            @if let Some(value) = page_query.get(name) {
                span.chip {
                    (name) b { (foreign(&text_of(name, value))) }
                    a href=(page_query.with(name, "").link()) aria-label={ "Remove the filter on " (name) } { "×" }
                }
            }
        }
    }
}

/// Links to longer spans of time. Empty if the list has no span.
pub fn wider(page_query: &PageQuery) -> Markup {
    let names = ["last", "from", "to"];
    if names.iter().all(|name| page_query.get(name).is_none()) {
        return Markup::default();
    }
    let own = LASTS.iter().position(|(value, ..)| page_query.get("last") == Some(value));
    let next = own.and_then(|own| LASTS.get(own + 1));
    let any = names.iter().fold(page_query.clone(), |page_query, name| page_query.with(name, ""));
    html! {
        p.filters {
            @if let Some((value, words, _)) = next {
                a.btn.small href=(page_query.with("last", value).link()) { "Look at the last " (words) }
            }
            a.btn.small href=(any.link()) { "Look at any time" }
        }
    }
}

/// The content of a list in which nothing passes its filters: the sentence, the filters, and the ways out.
pub fn none_passes(
    said: &str,
    page_query: &PageQuery,
    names: &[&str],
    text_of: impl Fn(&str, &str) -> String,
) -> Markup {
    html! {
        p { (said) }
        p.filters { (chips(page_query, names, text_of)) }
        (wider(page_query))
        p { a href="?" { "Show all" } }
    }
}
