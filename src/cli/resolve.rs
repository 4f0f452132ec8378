//! Whatever names an object on the command line becomes its id: the id with or without its prefix, its beginning, the name
//! or uid of a webhook, app or key, the `event_id` of an event.
//!
//! Invariant: a text that fits several objects is refused, with the objects it fits.

use serde_json::Value;

use super::client::{Call, Client};
use super::list::{self, Page};
use super::moment::rfc3339;
use super::noun::{self, Noun};
use super::table::one_line;
use super::{Exit, table};

/// Rows of a page, and pages that are looked through.
const PAGE_ROWS: u16 = 250;
const PAGES_MAX: usize = 20;
/// Hexadecimal digits that a beginning has at least: fewer name a span of hours.
const DIGITS_MIN: usize = 8;
/// Digits of an id's milliseconds.
const TIME_DIGITS: usize = 12;
/// An id and the moments of its row may be so far apart: attempts are recorded when they end.
const SLACK_MS: i64 = 180_000;
/// Webhooks whose attempts are looked through.
const WEBHOOKS_MAX: usize = 50;
/// Objects that an ambiguous text is told to fit.
const SHOWN_MAX: usize = 5;

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
    let found = match noun {
        Noun::Webhook | Noun::Key | Noun::App | Noun::Organization | Noun::Replay => {
            in_list(client, Call::get(&[noun.collection()]), |row| fits(row, text, bare)).await?
        }
        Noun::Event => {
            let call = Call::get(&["events"]).query("event_id", Some(text));
            let own = in_list(client, call, |row| if row["event_id"] == text { Fit::Exact } else { Fit::None }).await?;
            if own.is_empty() { by_beginning(client, &[Call::get(&["events"])], bare).await? } else { own }
        }
        Noun::Delivery => by_beginning(client, &[Call::get(&["deliveries"])], bare).await?,
        Noun::Attempt => by_beginning(client, &attempt_lists(client, bare).await?, bare).await?,
    };
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(match other.filter(|(_, rest)| span(rest).is_some()) {
            Some((other, _)) => noun::of_another_kind(text, noun, other),
            None => unknown(noun, text),
        }),
        several => Err(ambiguous(noun, text, several)),
    }
}

/// [`id`] of a flag that may be missing.
pub async fn optional(client: &Client, noun: Noun, text: Option<&String>) -> Result<Option<String>, Exit> {
    match text {
        Some(text) => id(client, noun, text).await.map(Some),
        None => Ok(None),
    }
}

/// How well a row fits.
#[derive(PartialEq, Eq)]
enum Fit {
    /// By its name, which ends the search for beginnings.
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
    for _ in 1..PAGES_MAX {
        take(&page, &fit, &mut exact, &mut begun);
        let Some(cursor) = page.next_cursor.take() else { return Ok(if exact.is_empty() { begun } else { exact }) };
        page = list::page(client, &call.with_query("cursor", &cursor)).await?;
    }
    take(&page, &fit, &mut exact, &mut begun);
    Ok(if exact.is_empty() { begun } else { exact })
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

/// The ids that begin with the text, in lists by time: the first digits of an id are its milliseconds.
async fn by_beginning(client: &Client, lists: &[Call], text: &str) -> Result<Vec<String>, Exit> {
    let Some((from, to)) = span(text) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for call in lists {
        let call = call.clone().query("from", Some(&from)).query("to", Some(&to));
        found.extend(in_list(client, call, |row| fits(row, text, text)).await?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The attempts of every webhook: there is no list of all.
async fn attempt_lists(client: &Client, text: &str) -> Result<Vec<Call>, Exit> {
    if span(text).is_none() {
        return Ok(Vec::new());
    }
    let webhooks = list::page(client, &Call::get(&["webhooks"]).query("limit", Some(WEBHOOKS_MAX))).await?;
    let ids = webhooks.rows().into_iter().filter_map(|row| row["id"].as_str().map(str::to_owned));
    Ok(ids.map(|id| Call::get(&["webhooks", &id, "attempts"])).collect())
}

/// The moments between which objects with such an id were made. `None` if the text is too short, or no beginning.
fn span(text: &str) -> Option<(String, String)> {
    let digits: String = text.chars().filter(|c| *c != '-').take(TIME_DIGITS).collect();
    if !is_beginning(text) || digits.len() < DIGITS_MIN {
        return None;
    }
    let ms = |fill: char| {
        let padded: String = digits.chars().chain(std::iter::repeat(fill)).take(TIME_DIGITS).collect();
        i64::from_str_radix(&padded, 16).ok()
    };
    Some((rfc3339((ms('0')? - SLACK_MS).max(0)), rfc3339(ms('f')? + SLACK_MS)))
}

fn shown(text: &str) -> String {
    one_line(text, 100)
}

fn unknown(noun: Noun, text: &str) -> Exit {
    let text = shown(text);
    let (means, hint) = match noun {
        Noun::Webhook | Noun::Key | Noun::App => {
            ("has this name, or an id that begins so", "lists them; a beginning needs 8 digits")
        }
        Noun::Event => ("has this event_id, or an id that begins so", "lists them; a beginning needs 8 digits"),
        Noun::Attempt => ("has an id that begins so", "… attempts` lists them; a beginning needs 8 digits"),
        _ => ("has an id that begins so", "lists them; a beginning needs 8 digits"),
    };
    let verb = match noun {
        Noun::Attempt => "`postrider delivery".to_owned(),
        noun => format!("`postrider {} list`", noun.command()),
    };
    Exit::failed(format!("`{text}`: no {} {means}", noun.command())).hint(format!("{verb} {hint}"))
}

fn ambiguous(noun: Noun, text: &str, several: &[String]) -> Exit {
    let mut message = format!("`{}` fits {} objects:", shown(text), several.len());
    for id in several.iter().take(SHOWN_MAX) {
        message.push_str(&format!("\n  {}{}", noun.prefix(), shown(id)));
    }
    Exit::usage(message).hint("give more of the id")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_span_of_time() {
        // 0x019cbd709d78 ms is 2026-03-05T10:00:01.144Z.
        let (from, to) = span("019cbd70-9d78-7").expect("a span");
        assert!(from.as_str() < "2026-03-05T10:00" && to.as_str() > "2026-03-05T10:00", "{from} {to}");
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
    fn every_refusal_says_what_to_do() {
        let exit = noun::of_another_kind("dlv_1", Noun::Event, Noun::Delivery);
        assert_eq!(exit.text().lines().next(), Some("error: dlv_1 is a delivery, and an event is needed here"));
        assert!(exit.text().contains("`postrider delivery get dlv_1`"), "{}", exit.text());
        assert!(unknown(Noun::Webhook, "x").text().contains("hint: `postrider webhook list` lists them"));
        let several = ambiguous(Noun::Event, "01", &["01a".into(), "01b".into()]).text();
        assert!(several.contains("fits 2 objects:\n  evt_01a\n  evt_01b\n"), "{several}");
    }
}
