//! `postrider tail`: what happens, as it happens. Asks again and again; keeps only what it needs to say nothing twice.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{
    Exit,
    client::{Call, Client, Remote},
    delivery,
    list::{self, Page},
    screen::Screen,
    table::{Column, Table},
};

/// Rows of one look. Over all webhooks, this many of the newest deliveries are watched.
const LOOK_ROWS: u16 = 250;
/// How far one look goes back for what happened since the last one; a burst above it is cut, and said so.
const LOOK_PAGES_MAX: usize = 20;
/// Remembered deliveries and attempts; above what one look can show.
const SEEN_MAX: usize = 10_000;

const EXAMPLES: &str = "\
Examples:
  postrider tail
  postrider tail --webhook 0191d5c8-… --status failed
  postrider tail -o json | jq .error";

/// Follow deliveries, or the attempts of one webhook, as they happen
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Tail {
    /// Follow this webhook's attempts; without it, the newest deliveries to all
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Option<String>,
    /// Only those with this status, for instance failed
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Part of a type, error, URL or subject
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Begin with this many that are there already
    #[arg(short = 'n', long, default_value_t = 10, value_name = "N",
        value_parser = clap::value_parser!(u16).range(0..=250))]
    lines: u16,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    interval: u64,
    /// Say what is there, and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Tail {
    pub async fn run(self) -> Result<(), Exit> {
        let (client, screen) = (self.remote.client()?, self.remote.screen());
        let columns = match self.webhook {
            Some(_) => delivery::ATTEMPT_COLUMNS,
            None => delivery::COLUMNS,
        };
        let mut printer = Printer { screen, columns, table: None };
        let mut seen = Seen::default();
        let mut first = seen.news(self.look(&client, &seen).await?);
        first.drain(..first.len().saturating_sub(usize::from(self.lines)));
        printer.print(first)?;
        if self.once {
            return Ok(());
        }
        loop {
            tokio::time::sleep(Duration::from_secs(self.interval)).await;
            let rows = self.look(&client, &seen).await?;
            printer.print(seen.news(rows))?;
        }
    }

    fn call(&self) -> Call {
        let call = match &self.webhook {
            Some(id) => Call::get(&["webhooks", id, "attempts"]),
            None => Call::get(&["deliveries"]),
        };
        call.query("status", self.status.as_ref())
            .query("type", self.kind.as_ref())
            .query("search", self.search.as_ref())
            .query("limit", Some(LOOK_ROWS))
    }

    /// The newest rows. Goes on to older pages until one holds something seen before; the first look is one page.
    async fn look(&self, client: &Client, seen: &Seen) -> Result<Vec<Row>, Exit> {
        let call = self.call();
        let mut page = list::page(client, &call).await?;
        let mut rows = rows(&page);
        for _ in 1..LOOK_PAGES_MAX {
            let known = seen.is_empty() || rows.iter().any(|row| seen.knows(&row.id));
            let Some(cursor) = page.next_cursor.filter(|_| !known) else {
                return Ok(rows);
            };
            page = list::page(client, &call.with_query("cursor", &cursor)).await?;
            rows.extend(self::rows(&page));
        }
        eprintln!("too much at once: some are not shown");
        Ok(rows)
    }
}

/// A row as it came, and what tells whether it was shown as it is now.
struct Row {
    id: String,
    state: String,
    value: Value,
    raw: String,
}

fn rows(page: &Page) -> Vec<Row> {
    let each = page.rows().into_iter().zip(&page.data).map(|(value, raw)| Row {
        id: value["id"].as_str().unwrap_or_default().to_owned(),
        // An attempt never changes and has neither; a delivery changes with each attempt.
        state: format!("{} {}", value["attempts"], value["status"]),
        value,
        raw: raw.get().to_owned(),
    });
    each.collect()
}

/// What was shown, by id, with the state it was shown in.
#[derive(Default)]
struct Seen {
    states: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn knows(&self, id: &str) -> bool {
        self.states.contains_key(id)
    }

    /// Of rows that come newest first, those that are new or have changed, oldest first.
    fn news(&mut self, rows: Vec<Row>) -> Vec<Row> {
        rows.into_iter().rev().filter(|row| self.is_news(row)).collect()
    }

    fn is_news(&mut self, row: &Row) -> bool {
        let before = self.states.insert(row.id.clone(), row.state.clone());
        if before.is_none() {
            self.order.push_back(row.id.clone());
        }
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.states.remove(&oldest);
        }
        before.as_ref() != Some(&row.state)
    }
}

/// Prints rows below each other; the first ones settle the columns.
struct Printer {
    screen: Screen,
    columns: &'static [Column],
    table: Option<Table>,
}

impl Printer {
    fn print(&mut self, rows: Vec<Row>) -> Result<(), Exit> {
        if self.screen.is_json() {
            return rows.iter().try_for_each(|row| self.screen.text(&row.raw));
        }
        let values: Vec<Value> = rows.into_iter().map(|row| row.value).collect();
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

    fn told(seen: &mut Seen, rows: Vec<Row>) -> Vec<String> {
        seen.news(rows).into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn only_what_is_new_or_changed_is_told_oldest_first() {
        let mut seen = Seen::default();
        assert_eq!(told(&mut seen, vec![row("b", "1"), row("a", "1")]), ["a", "b"]);
        assert_eq!(told(&mut seen, vec![row("c", "1"), row("b", "2"), row("a", "1")]), ["b", "c"]);
        assert_eq!(told(&mut seen, vec![row("c", "1"), row("b", "2")]), Vec::<String>::new());
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut seen = Seen::default();
        for n in 0..SEEN_MAX + 5 {
            seen.is_news(&row(&n.to_string(), ""));
        }
        assert_eq!((seen.states.len(), seen.order.len()), (SEEN_MAX, SEEN_MAX));
        assert!(!seen.knows("4") && seen.knows("5"));
    }
}
