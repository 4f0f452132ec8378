//! Resolves the text that names an object on the command line to its id. The text is an id with or without its prefix,
//! its beginning, the name or uid of a webhook, app or key, or the `event_id` of an event.
//!
//! Invariant: a text that fits several objects is refused, with the objects it fits. The uid of an app comes before names,
//! because it is unique.

use serde_json::Value;

use super::client::{Call, Client};
use super::list::{self, Page};
use super::moment::rfc3339;
use super::noun::{self, Noun};
use super::table::one_line;
use super::{Exit, table};
use crate::model::Time;

/// Maximum number of rows of a page.
const PAGE_ROWS: u16 = 250;
/// Minimum number of hexadecimal digits of a beginning: fewer stand for a span of hours.
const DIGITS_MIN: usize = 8;
/// Digits of an id's milliseconds.
const TIME_DIGITS: usize = 12;
/// Maximum number of objects that the error for an ambiguous text lists. The search ends behind them.
const SHOWN_MAX: usize = 5;
/// HTTP statuses of the API: the key lacks a scope, and there is no such object.
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

/// The id that `text` names.
///
/// # Errors
/// It names none, several, or an object of another kind.
pub async fn id(client: &Client, noun: Noun, text: &str) -> Result<String, Exit> {
    // The beginning of a name or of an `event_id` may look like a prefix, so names are compared with the whole text.
    let (bare, other) = match Noun::of_text(text) {
        Some((other, rest)) if other != noun => (text, Some((other, rest))),
        Some((_, rest)) => (rest, None),
        None => (text, None),
    };
    if let Some((other, _)) = other.filter(|(_, rest)| noun::is_id(rest)) {
        return Err(noun::of_another_kind(text, noun, other));
    }
    if noun::is_id(bare) {
        client.means(noun, bare);
        return Ok(bare.to_owned());
    }
    let found = find(client, noun, text, bare).await?;
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(match other.filter(|(_, rest)| span(rest).is_some()) {
            Some((other, _)) => noun::of_another_kind(text, noun, other),
            None => unknown(noun, text),
        }),
        several => Err(ambiguous(text, several.iter().map(|id| (noun, id)))),
    }
}

/// [`id`] of a flag that may be missing.
pub async fn optional(client: &Client, noun: Noun, text: Option<&String>) -> Result<Option<String>, Exit> {
    match text {
        Some(text) => id(client, noun, text).await.map(Some),
        None => Ok(None),
    }
}

/// The app of a flag that may be missing. If the key may not read apps, the text goes to the daemon as it is, which reads
/// ids and uids.
pub async fn app(client: &Client, text: Option<&String>) -> Result<Option<String>, Exit> {
    match optional(client, Noun::App, text).await {
        Err(exit) if exit.status == Some(FORBIDDEN) => Ok(text.cloned()),
        other => other,
    }
}

/// The id that `text` names, of any noun. A whole id needs no object, because the audit outlives them. `None` if
/// nothing has the name, or an id that begins so.
pub async fn of_any_noun(client: &Client, text: &str) -> Result<Option<String>, Exit> {
    let typed = Noun::of_text(text);
    let bare = typed.map_or(text, |(_, rest)| rest);
    if noun::is_id(bare) {
        return Ok(Some(bare.to_owned()));
    }
    let nouns = match typed.filter(|(_, rest)| span(rest).is_some()) {
        Some((noun, _)) => vec![noun],
        None => Noun::ALL.into_iter().filter(|noun| *noun != Noun::Organization).collect(),
    };
    let mut found = Vec::new();
    for noun in nouns {
        match find(client, noun, text, bare).await {
            Ok(ids) => found.extend(ids.into_iter().map(|id| (noun, id))),
            Err(exit) if exit.status == Some(FORBIDDEN) => {}
            Err(exit) => return Err(exit),
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [(_, only)] => Ok(Some(only.clone())),
        several => Err(ambiguous(text, several.iter().map(|(noun, id)| (*noun, id)))),
    }
}

/// The ids of the objects that `text` names. `bare` is the text without the prefix of an id.
async fn find(client: &Client, noun: Noun, text: &str, bare: &str) -> Result<Vec<String>, Exit> {
    match noun {
        Noun::App => {
            // One request, also if there are many apps.
            if let Some(id) = app_of_uid(client, text).await? {
                return Ok(vec![id]);
            }
            in_list(client, Call::get(&[noun.collection()]), |row| fits(row, text, bare)).await
        }
        Noun::Webhook | Noun::Key | Noun::Organization | Noun::Replay => {
            in_list(client, Call::get(&[noun.collection()]), |row| fits(row, text, bare)).await
        }
        Noun::Event => {
            let call = Call::get(&["events"]).query("event_id", Some(text));
            let own = in_list(client, call, |row| if row["event_id"] == text { Fit::Exact } else { Fit::None }).await?;
            if own.is_empty() { by_beginning(client, noun, bare).await } else { Ok(own) }
        }
        Noun::Delivery | Noun::Attempt => by_beginning(client, noun, bare).await,
        // The API has no list of them.
        Noun::PortalLink => Ok(Vec::new()),
    }
}

async fn app_of_uid(client: &Client, uid: &str) -> Result<Option<String>, Exit> {
    match client.value(Call::get(&["apps", uid])).await {
        Ok(app) => Ok(app["id"].as_str().filter(|_| app["uid"] == uid).map(str::to_owned)),
        Err(exit) if exit.status == Some(NOT_FOUND) => Ok(None),
        Err(exit) => Err(exit),
    }
}

/// How well a row fits.
#[derive(PartialEq, Eq)]
enum Fit {
    /// The name is the whole text, which ends the search for beginnings.
    Exact,
    Beginning,
    None,
}

/// `text` is compared with names, and `bare`, without the prefix of an id, with ids.
fn fits(row: &Value, text: &str, bare: &str) -> Fit {
    let is = |member: &str| row[member].as_str() == Some(text);
    let is_long = span(bare).is_some();
    let begins = row["id"].as_str().is_some_and(|id| is_long && id.starts_with(&bare.to_lowercase()));
    match (is("name") || is("uid"), begins) {
        (true, _) => Fit::Exact,
        (false, true) => Fit::Beginning,
        (false, false) => Fit::None,
    }
}

/// Whether the text can be the beginning of an id.
fn is_beginning(text: &str) -> bool {
    !text.is_empty() && text.len() <= 36 && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// The ids of the rows that fit: those by name, else those by their beginning.
async fn in_list(client: &Client, call: Call, fit: impl Fn(&Value) -> Fit) -> Result<Vec<String>, Exit> {
    let call = call.query("limit", Some(PAGE_ROWS));
    let (mut exact, mut begun) = (Vec::new(), Vec::new());
    let mut page = list::page(client, &call).await?;
    loop {
        take(&page, &fit, &mut exact, &mut begun);
        match page.next_cursor.take().filter(|_| exact.len() <= SHOWN_MAX) {
            Some(cursor) => page = list::page(client, &call.with_query("cursor", &cursor)).await?,
            None => return Ok(if exact.is_empty() { begun } else { exact }),
        }
    }
}

fn take(page: &Page, fit: impl Fn(&Value) -> Fit, exact: &mut Vec<String>, begun: &mut Vec<String>) {
    for row in page.rows() {
        let id = table::plain(&row["id"]);
        match fit(&row) {
            Fit::Exact => exact.push(id),
            Fit::Beginning => begun.push(id),
            Fit::None => {}
        }
    }
}

/// The ids that begin with the text. The first digits of an id are the milliseconds by which its list is read.
async fn by_beginning(client: &Client, noun: Noun, text: &str) -> Result<Vec<String>, Exit> {
    let Some((from, to)) = span(text) else { return Ok(Vec::new()) };
    let call = Call::get(&[noun.collection()]).query("from", Some(rfc3339(from))).query("limit", Some(PAGE_ROWS));
    // The stream of attempts is oldest first and has no end.
    let (call, cursor_name) = match noun {
        Noun::Attempt => (call, "after"),
        _ => (call.query("to", Some(rfc3339(to))), "cursor"),
    };
    let mut found = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let asked = cursor.as_ref().map_or_else(|| call.clone(), |cursor| call.with_query(cursor_name, cursor));
        let page = list::page(client, &asked).await?;
        let rows = page.rows();
        let begins = rows.iter().filter(|row| fits(row, text, text) == Fit::Beginning);
        found.extend(begins.filter_map(|row| row["id"].as_str().map(str::to_owned)));
        let is_past = rows.iter().any(|row| row["id"].as_str().and_then(span).is_some_and(|(at, _)| at >= to));
        // The cursor of the stream stays where it is at its end.
        let next = page.next_cursor.filter(|next| !is_past && cursor.as_ref() != Some(next));
        match next.filter(|_| found.len() <= SHOWN_MAX) {
            Some(next) => cursor = Some(next),
            None => return Ok(found),
        }
    }
}

/// The first millisecond of ids that begin so, and the first after them. `None` if the text is too short, or no beginning.
fn span(text: &str) -> Option<(i64, i64)> {
    let digits: String = text.chars().filter(|c| *c != '-').take(TIME_DIGITS).collect();
    if !is_beginning(text) || digits.len() < DIGITS_MIN {
        return None;
    }
    let ms = |fill: char| {
        let padded: String = digits.chars().chain(std::iter::repeat(fill)).take(TIME_DIGITS).collect();
        i64::from_str_radix(&padded, 16).ok()
    };
    Some((ms('0')?, ms('f')? + 1)).filter(|(_, to)| *to <= Time::MAX.0)
}

fn shown(text: &str) -> String {
    one_line(text, 100)
}

fn unknown(noun: Noun, text: &str) -> Exit {
    let means = match noun {
        Noun::Webhook | Noun::Key | Noun::App => "has this name or uid, or an id that begins so",
        Noun::Event => "has this event_id, or an id that begins so",
        _ => "has an id that begins so",
    };
    let command = noun.command();
    Exit::failed(format!("`{}`: no {command} {means}", shown(text)))
        .hint(format!("`postrider {command} list` lists them; a beginning needs 8 digits"))
}

/// The refusal of a text that [`of_any_noun`] finds no object for.
pub fn nothing_named(text: &str) -> Exit {
    let nouns = "webhook, app, key, event, delivery, attempt or replay";
    Exit::failed(format!("`{}`: no {nouns} has this name, or an id that begins so", shown(text)))
        .hint("an object that was removed needs its whole id; a beginning needs 8 digits")
}

fn ambiguous<'a>(text: &str, several: impl Iterator<Item = (Noun, &'a String)>) -> Exit {
    let several: Vec<String> = several.map(|(noun, id)| format!("\n  {}{}", noun.prefix(), shown(id))).collect();
    let count = match several.len() {
        count @ ..=SHOWN_MAX => count.to_string(),
        _ => format!("more than {SHOWN_MAX}"),
    };
    let listed: String = several.iter().take(SHOWN_MAX).map(String::as_str).collect();
    Exit::usage(format!("`{}` fits {count} objects:{listed}", shown(text))).hint("give more of the id")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_span_of_time() {
        // 0x019cbd709d78 ms is 2026-03-05T10:00:01.144Z.
        let ms = 0x019c_bd70_9d78;
        assert_eq!(span("019cbd70-9d78-7"), Some((ms, ms + 1)), "no more than the millisecond");
        assert_eq!(span("019cbd70"), Some((0x019c_bd70_0000, 0x019c_bd71_0000)));
        assert_eq!(span("ffffffff"), None, "no moment that the API reads");
        for wrong in ["019cbd7", "invoices", "", "019cbd70-9d78-7320-aa3a-de3497964cb8-0"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_fits_better_than_a_beginning() {
        let row = json!({"id": "019cbd70-9d78-7320-aa3a-de3497964cb8", "name": "invoices", "uid": "0"});
        let fits = |text| fits(&row, text, text);
        assert!(fits("invoices") == Fit::Exact && fits("0") == Fit::Exact);
        assert!(fits("019CBD70-9") == Fit::Beginning && fits("inv") == Fit::None && fits("019c") == Fit::None);
    }

    #[test]
    fn a_name_that_begins_like_a_prefix_is_compared_whole() {
        let row = |uid| json!({"id": "019cbd70-9d78-7320-aa3a-de3497964cb8", "uid": uid});
        assert!(fits(&row("app_1"), "app_1", "1") == Fit::Exact && fits(&row("1"), "app_1", "1") == Fit::None);
        assert!(fits(&row("x"), "app_019cbd70", "019cbd70") == Fit::Beginning);
        assert!(fits(&row("x"), "app_0", "0") == Fit::None);
    }

    #[test]
    fn every_refusal_has_a_hint() {
        let exit = noun::of_another_kind("dlv_1", Noun::Event, Noun::Delivery);
        assert_eq!(exit.text().lines().next(), Some("error: dlv_1 is a delivery, and an event is needed here"));
        assert!(exit.text().contains("`postrider delivery get dlv_1`"), "{}", exit.text());
        assert!(unknown(Noun::Webhook, "x").text().contains("hint: `postrider webhook list` lists them"));
        let ids = ["01a", "01b"].map(str::to_owned);
        let several = ambiguous("01", ids.iter().map(|id| (Noun::Event, id))).text();
        assert!(several.contains("fits 2 objects:\n  evt_01a\n  evt_01b\n"), "{several}");
        let many = ambiguous("01", ids.iter().cycle().take(9).map(|id| (Noun::Event, id))).text();
        assert!(many.contains("fits more than 5 objects:") && many.lines().count() == 7, "{many}");
    }
}
