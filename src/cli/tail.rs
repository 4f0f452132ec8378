//! `postrider tail`: prints attempts or deliveries as they are made. It polls, and stores only enough to print no row
//! twice.
//!
//! Attempts are listed by webhook, so those of all webhooks are asked for where a webhook says that it was tried since
//! the last poll. The cost of a poll grows with the number of attempts, and not with the number of webhooks.
//!
//! A daemon that is restarted is waited for. The next poll begins after the last attempt that was printed, so none is
//! missed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{
    Exit,
    client::{Call, Client, Remote},
    delivery, duration,
    list::{self, Page},
    noun::Noun,
    reconnect::until_answered,
    resolve,
    row_names::{self, RowNames},
    screen::{self, Screen},
    table::{Column, Table, id, number, text, time, word},
};

/// A shorter interval would keep the daemon busy.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Rows of one page.
const LOOK_ROWS: u16 = 250;
/// Maximum pages of one poll. A burst above them is cut, and a line says so.
const LOOK_PAGES_MAX: usize = 20;
/// Maximum stored deliveries and attempts, more than one poll can show.
const SEEN_MAX: usize = 10_000;
/// Webhooks whose latest attempts the first poll shows.
const FIRST_WEBHOOKS_MAX: usize = 20;

const EXAMPLES: &str = "\
Examples:
  postrider tail
  postrider tail --webhook invoices --status failed
  postrider tail --deliveries
  postrider tail -o json | jq .error";

/// Columns for attempts of several webhooks. The least important comes last, because a narrow screen omits it.
const COLUMNS: &[Column] = &[
    time("STARTED (UTC)", "started_at"),
    word("OUTCOME", "outcome"),
    number("CODE", "status_code"),
    text("WEBHOOK", row_names::WEBHOOK_NAME),
    text("TYPE", row_names::EVENT_TYPE),
    text("ERROR", "error"),
    id("DELIVERY", "delivery_id", Noun::Delivery),
    number("NO", "number"),
    number("MS", "response_time_ms"),
];

/// Follow attempts as they are made, to all webhooks or to one
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Tail {
    /// Follow this webhook's attempts only: its name, or the beginning of its id
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Option<String>,
    /// Follow deliveries instead of attempts: the newest 250 of them, each again when it changes
    #[arg(long, conflicts_with = "webhook")]
    deliveries: bool,
    /// Only those of deliveries with this status; or several of them with commas between
    #[arg(long, value_name = "STATUS", value_parser = list::DELIVERY_STATUSES, value_delimiter = ',')]
    status: Vec<String>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Part of a type, error or URL, or a whole id or status code
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Begin with this many that are there already
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u16).range(0..=250))]
    lines: u16,
    /// Time between two looks
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = interval)]
    interval: Duration,
    /// Print the attempts that exist, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: Remote,
}

fn interval(text: &str) -> Result<Duration, String> {
    duration::read(text)?
        .checked_sub(INTERVAL_MIN)
        .map_or_else(|| Err("less than 100ms".into()), |more| Ok(more + INTERVAL_MIN))
}

impl Tail {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let columns = match (self.deliveries, &self.webhook) {
            (true, _) => delivery::COLUMNS,
            (false, Some(_)) => delivery::ATTEMPT_COLUMNS,
            (false, None) => COLUMNS,
        };
        let webhook = resolve::optional(&client, Noun::Webhook, self.webhook.as_ref()).await?;
        let this = Tail { webhook, ..self };
        let mut printer = Printer { screen, columns, table: None, names: RowNames::default() };
        let (mut seen, mut tried) =
            (Seen { never_changes: !this.deliveries, ..Seen::default() }, LastAttempts::default());
        let mut first = seen.news(this.poll(&client, &seen, &mut tried).await?);
        first.drain(..first.len().saturating_sub(usize::from(this.lines)));
        printer.print(&client, first).await?;
        if this.once {
            return Ok(());
        }
        loop {
            tokio::time::sleep(this.interval).await;
            let rows = until_answered(async || {
                // A poll that fails half-way is repeated as a whole.
                let mut now_tried = tried.clone();
                let rows = this.poll(&client, &seen, &mut now_tried).await?;
                tried = now_tried;
                Ok(rows)
            });
            printer.print(&client, seen.news(rows.await?)).await?;
        }
    }

    /// The rows that may be new, newest first.
    async fn poll(&self, client: &Client, seen: &Seen, tried: &mut LastAttempts) -> Result<Vec<Row>, Exit> {
        if self.deliveries {
            return self.rows(client, Call::get(&["deliveries"]), seen).await;
        }
        if let Some(id) = &self.webhook {
            return self.rows(client, Call::get(&["webhooks", id, "attempts"]), seen).await;
        }
        let is_first = tried.is_empty();
        let mut of = tried.since(webhooks(client).await?);
        if is_first {
            of.truncate(FIRST_WEBHOOKS_MAX);
        }
        let mut rows = Vec::new();
        for id in of {
            rows.extend(self.rows(client, Call::get(&["webhooks", &id, "attempts"]), seen).await?);
        }
        // Ids rise with the time at which an attempt was recorded.
        rows.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(rows)
    }

    /// The newest rows of a list. It reads older pages until one contains a row seen before. The first poll reads one
    /// page.
    async fn rows(&self, client: &Client, of: Call, seen: &Seen) -> Result<Vec<Row>, Exit> {
        let call = of
            .query("status", list::any_of(&self.status))
            .query("type", self.kind.as_ref())
            .query("search", self.search.as_ref())
            .query("limit", Some(LOOK_ROWS));
        let mut page = list::page(client, &call).await?;
        let mut rows = rows(&page);
        for _ in 1..LOOK_PAGES_MAX {
            // A row of the first poll is not new.
            let known = seen.is_empty() || rows.iter().any(|row| seen.knows(&row.id) || seen.is_old(&row.id));
            let Some(cursor) = page.next_cursor.filter(|_| !known) else {
                return Ok(rows);
            };
            page = list::page(client, &call.with_query("cursor", &cursor)).await?;
            rows.extend(self::rows(&page));
        }
        screen::note("too much at once: some are not shown\n");
        Ok(rows)
    }
}

/// Every webhook with the time of its last attempt, the latest first. Webhooks without an attempt are omitted.
async fn webhooks(client: &Client) -> Result<Vec<(String, String)>, Exit> {
    let call = Call::get(&["webhooks"]).query("limit", Some(LOOK_ROWS));
    let (mut webhooks, mut next) = (Vec::new(), Some(call.clone()));
    while let Some(page) = next.take() {
        let page = list::page(client, &page).await?;
        for row in page.rows() {
            if let (Some(id), Some(at)) = (row["id"].as_str(), row["last_attempt_at"].as_str()) {
                webhooks.push((id.to_owned(), at.to_owned()));
            }
        }
        next = page.next_cursor.map(|cursor| call.with_query("cursor", &cursor));
    }
    webhooks.sort_by(|a, b| b.1.cmp(&a.1));
    Ok(webhooks)
}

/// When each webhook was last tried, as of the last poll.
#[derive(Clone, Default)]
struct LastAttempts {
    at: HashMap<String, String>,
    /// Webhooks that are read once more, because another attempt may have been recorded in the same millisecond.
    again: HashSet<String>,
}

impl LastAttempts {
    fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// The webhooks that were tried since the last poll, or just before it.
    fn since(&mut self, now: Vec<(String, String)>) -> Vec<String> {
        let before = std::mem::take(&mut self.at);
        let again = std::mem::take(&mut self.again);
        let mut tried = Vec::new();
        for (id, at) in now {
            if before.get(&id) != Some(&at) {
                self.again.insert(id.clone());
                tried.push(id.clone());
            } else if again.contains(&id) {
                tried.push(id.clone());
            }
            self.at.insert(id, at);
        }
        tried
    }
}

/// A row as received, with the state by which a change is detected.
struct Row {
    id: String,
    state: String,
    value: Value,
    raw: String,
}

fn rows(page: &Page) -> Vec<Row> {
    let each = page.rows().into_iter().zip(&page.data).map(|(value, raw)| Row {
        id: value["id"].as_str().unwrap_or_default().to_owned(),
        // An attempt never changes and has neither member. A delivery changes with each attempt.
        state: format!("{} {}", value["attempts"], value["status"]),
        value,
        raw: raw.get().to_owned(),
    });
    each.collect()
}

/// The printed rows, by id, each with its state at the time.
#[derive(Default)]
struct Seen {
    states: HashMap<String, String>,
    order: VecDeque<String>,
    /// Whether rows never change. Then a row from before the first poll is not new, even if it was not printed.
    never_changes: bool,
    /// The greatest id of the first poll.
    floor: Option<String>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Whether the row existed at the first poll, printed or not.
    fn is_old(&self, id: &str) -> bool {
        self.floor.as_deref().is_some_and(|floor| id <= floor)
    }

    fn knows(&self, id: &str) -> bool {
        self.states.contains_key(id)
    }

    /// The new and changed ones of rows that come newest first, oldest first.
    fn news(&mut self, rows: Vec<Row>) -> Vec<Row> {
        let newest = rows.iter().map(|row| row.id.clone()).max();
        let news = rows.into_iter().rev().filter(|row| self.is_news(row)).collect();
        if self.never_changes && self.floor.is_none() {
            // Nothing is old if there was nothing at the first poll.
            self.floor = Some(newest.unwrap_or_default());
        }
        news
    }

    fn is_news(&mut self, row: &Row) -> bool {
        let missed = self.is_old(&row.id) && !self.knows(&row.id);
        let before = self.states.insert(row.id.clone(), row.state.clone());
        if before.is_none() {
            self.order.push_back(row.id.clone());
        }
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.states.remove(&oldest);
        }
        !missed && before.as_ref() != Some(&row.state)
    }
}

/// Prints rows below each other. The first ones determine the columns.
struct Printer {
    screen: Screen,
    columns: &'static [Column],
    table: Option<Table>,
    names: RowNames,
}

impl Printer {
    async fn print(&mut self, client: &Client, rows: Vec<Row>) -> Result<(), Exit> {
        if self.screen.is_json() {
            return rows.iter().try_for_each(|row| self.screen.text(&row.raw));
        }
        let mut values: Vec<Value> = rows.into_iter().map(|row| row.value).collect();
        let shows = |member| self.columns.iter().any(|column| column.field == member);
        if shows(row_names::WEBHOOK_NAME) {
            self.names.add_webhooks(client, &mut values).await;
        }
        if shows(row_names::EVENT_TYPE) {
            self.names.add_types(client, &mut values).await;
        }
        match &self.table {
            Some(table) => self.screen.rows(table, &values)?,
            None if values.is_empty() => {}
            None => self.table = Some(self.screen.table(self.columns, &values)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: &str) -> Row {
        Row { id: id.into(), state: state.into(), value: Value::Null, raw: String::new() }
    }

    fn printed(seen: &mut Seen, rows: Vec<Row>) -> Vec<String> {
        seen.news(rows).into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn a_first_poll_without_rows_hides_no_later_one() {
        let mut seen = Seen { never_changes: true, ..Seen::default() };
        let ids = |rows: Vec<Row>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(seen.news(Vec::new())), Vec::<String>::new());
        assert_eq!(ids(seen.news(vec![row("e", "")])), ["e"]);
        assert_eq!(ids(seen.news(vec![row("e", ""), row("d", "")])), ["d"]);
    }

    #[test]
    fn only_new_and_changed_rows_are_printed_oldest_first() {
        let mut seen = Seen::default();
        assert_eq!(printed(&mut seen, vec![row("b", "1"), row("a", "1")]), ["a", "b"]);
        assert_eq!(printed(&mut seen, vec![row("c", "1"), row("b", "2"), row("a", "1")]), ["b", "c"]);
        assert_eq!(printed(&mut seen, vec![row("c", "1"), row("b", "2")]), Vec::<String>::new());
    }

    #[test]
    fn only_webhooks_that_were_tried_since_are_looked_into_and_once_more() {
        let now = |a: &str, b: &str| vec![("a".to_owned(), a.to_owned()), ("b".to_owned(), b.to_owned())];
        let mut tried = LastAttempts::default();
        assert_eq!(tried.since(now("1", "1")), ["a", "b"]);
        assert_eq!(tried.since(now("1", "2")), ["a", "b"], "a is looked into once more");
        assert_eq!(tried.since(now("1", "2")), ["b"]);
        assert_eq!(tried.since(now("1", "2")), Vec::<String>::new());
        assert_eq!(tried.since(now("2", "2")), ["a"]);
    }

    #[test]
    fn rows_from_before_the_first_poll_are_not_new() {
        let mut seen = Seen { never_changes: true, ..Seen::default() };
        assert_eq!(printed(&mut seen, vec![row("e", "")]), ["e"]);
        assert_eq!(printed(&mut seen, vec![row("f", ""), row("c", ""), row("b", "")]), ["f"]);
        assert!(seen.is_old("e") && !seen.is_old("f"));
    }

    #[test]
    fn the_remembered_rows_have_a_bound() {
        let mut seen = Seen::default();
        for n in 0..SEEN_MAX + 5 {
            seen.is_news(&row(&n.to_string(), ""));
        }
        assert_eq!((seen.states.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
        assert!(!seen.knows("4") && seen.knows("5"));
    }
}
