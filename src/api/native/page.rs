//! The form of every list: `{"data": […], "next_cursor": "…" | null}`, newest first.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::cursor::{self, CursorKind};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::api::response::HttpResponse;
use crate::store::Page;

/// A page of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(inline, rename = "[{T}]", description = "")]
pub struct ListView<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

/// A page, each row shown by `show`.
pub fn response<'a, T, V: Serialize>(kind: CursorKind, page: &'a Page<T>, show: impl Fn(&'a T) -> V) -> HttpResponse {
    let list = ListView {
        data: page.rows.iter().map(show).collect(),
        next_cursor: page.next.map(|next| cursor::write(kind, next)),
    };
    HttpResponse::json(StatusCode::OK, &list)
}

/// One page of rows that are in memory, newest first: those after the cursor, up to the limit.
pub fn cut<T>(
    kind: CursorKind,
    query: &Params,
    newest_first: impl Iterator<Item = T>,
    position: impl Fn(&T) -> u128,
) -> Result<Page<T>, ApiError> {
    let (before, limit) = (query.cursor(kind)?, query.limit()?);
    let mut rows: Vec<T> =
        newest_first.filter(|row| before.is_none_or(|before| position(row) < before)).take(limit + 1).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(&position) } else { None };
    Ok(Page { rows, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::params::{EmptyValues, LIMIT, Param, cursor as cursor_of};

    const PAGE: &[Param] = &[LIMIT, cursor_of(CursorKind::Apps)];

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let rows = || (0..7_u128).rev();
        let mut seen = Vec::new();
        let mut query = "limit=3".to_owned();
        loop {
            let params = Params::parse(Some(&query), PAGE, EmptyValues::Refused).unwrap();
            let page = cut(CursorKind::Apps, &params, rows(), |row| *row).unwrap();
            seen.extend(page.rows);
            let Some(next) = page.next else { break };
            query = format!("limit=3&cursor={}", cursor::write(CursorKind::Apps, next));
        }
        assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0]);
    }
}
