//! The envelope of Svix's lists.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::step::Step;
use crate::store::{TwoWayPage, TwoWayWindow};

use super::ids::Noun;
use super::iterator::{self, IteratorPage, Travel};
use super::query::{AFTER, BEFORE, SvixQuery};
use crate::api::dialects::derived::ok;

/// A page of a list.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SvixListOf{T}")]
pub struct SvixList<T> {
    data: Vec<T>,
    /// The id of the last item. Null on an empty page.
    iterator: Option<String>,
    /// `-` and the id of the first item. Omitted on an empty page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    prev_iterator: Option<String>,
    /// Whether no further item follows in the direction of travel.
    done: bool,
}

/// The answer with a page of items, whose ids `id` writes.
pub fn shown<'a, T, V: Serialize>(
    page: &'a IteratorPage<T>,
    id: impl Fn(&T) -> String,
    view: impl Fn(&'a T) -> Result<V, ApiError>,
) -> Result<Step, ApiError> {
    shown_from(page, &id, &id, view)
}

/// The same, with iterators of their own: `next` writes the one that leads on.
pub fn shown_from<'a, T, V: Serialize>(
    page: &'a IteratorPage<T>,
    next: impl Fn(&T) -> String,
    id: impl Fn(&T) -> String,
    view: impl Fn(&'a T) -> Result<V, ApiError>,
) -> Result<Step, ApiError> {
    ok(&SvixList {
        data: page.rows.iter().map(view).collect::<Result<_, _>>()?,
        iterator: page.rows.last().map(next),
        prev_iterator: page.rows.first().map(|first| format!("-{}", id(first))),
        done: page.done,
    })
}

/// The window of a list of messages or attempts, and the direction in which its page is read.
pub fn window(query: &SvixQuery, noun: Noun) -> Result<TwoWayWindow, ApiError> {
    let travel = query.travel(noun)?;
    window_from(query, travel.as_ref())
}

pub fn window_from(query: &SvixQuery, travel: Option<&Travel<u128>>) -> Result<TwoWayWindow, ApiError> {
    let window = iterator::window(travel, query.time(&AFTER)?, query.time(&BEFORE)?);
    Ok(TwoWayWindow { from: window.from, to: window.to, is_rising: window.is_rising, limit: query.limit()? })
}

/// The answer with a page that the store read in the window's direction. A page that ended early goes on from the last
/// row that was examined.
pub fn window_page<'a, T, V: Serialize>(
    noun: Noun,
    window: TwoWayWindow,
    page: &'a TwoWayPage<T>,
    id: impl Fn(&T) -> u128,
    view: impl Fn(&'a T) -> Result<V, ApiError>,
) -> Result<Step, ApiError> {
    let mut data = page.rows.iter().map(view).collect::<Result<Vec<V>, ApiError>>()?;
    let mut ends = [page.rows.first().map(&id), page.examined.or(page.rows.last().map(&id))];
    if window.is_rising {
        data.reverse();
        ends.reverse();
    }
    // An empty page that ended early goes on in the same direction.
    let [first, last] = ends.map(|end| end.or(page.examined));
    ok(&SvixList {
        data,
        iterator: last.map(|id| noun.write_number(id)),
        prev_iterator: first.map(|id| format!("-{}", noun.write_number(id))),
        done: page.is_end,
    })
}
