//! Lists: pages, all pages, and the filters that deliveries and attempts share.

use clap::{Args, builder::PossibleValuesParser};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Exit,
    client::{Call, Client},
    moment::{self, Direction},
    row_names::{self, RowNames},
    screen::{self, Screen},
    table::{Column, Table},
};
use crate::model::AttemptOutcome;

/// Every status of a delivery.
pub const DELIVERY_STATUSES: [&str; 5] = ["pending", "retrying", "delivered", "failed", "cancelled"];

/// The part of a list to print.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Paging")]
pub struct Paging {
    /// Rows of a page, 1 to 250
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=250), value_name = "N")]
    pub limit: u16,
    /// Go on where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// Every page; with `-o json` one row a line
    #[arg(long)]
    pub all: bool,
}

/// The filters that deliveries and attempts share.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Filters")]
pub struct Filters {
    /// The delivery's status; or several of them with commas between
    #[arg(long, value_name = "STATUS", value_parser = DELIVERY_STATUSES, value_delimiter = ',')]
    pub status: Vec<String>,
    /// The event's type
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// The last HTTP status, or a class such as 5xx; or several of them with commas between
    #[arg(long, value_name = "CODE")]
    pub status_code: Option<String>,
    /// The last outcome, such as timeout; or several of them with commas between
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = outcomes())]
    pub outcome: Vec<String>,
    #[command(flatten)]
    pub span: Span,
    /// Part of a type, error or URL (of deliveries also of a subject), or a whole id or status code
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
}

/// A span of time.
#[derive(Args, Clone, Debug)]
pub struct Span {
    /// Not before this: 2026-11-22T03:29:00Z, 2026-11-22, or 24h (ago)
    #[arg(long, value_name = "MOMENT")]
    pub from: Option<String>,
    /// Before this, in the same form
    #[arg(long, value_name = "MOMENT")]
    pub to: Option<String>,
}

impl Span {
    /// Both ends in the API's form.
    pub fn read(&self) -> Result<(Option<String>, Option<String>), Exit> {
        let read = |flag, end| moment::read_optional(flag, end, Direction::Back);
        Ok((read("--from", self.from.as_ref())?, read("--to", self.to.as_ref())?))
    }
}

/// Reads an outcome of an attempt or a delivery.
pub fn outcomes() -> PossibleValuesParser {
    PossibleValuesParser::new(AttemptOutcome::ALL.map(AttemptOutcome::as_str))
}

/// The values of a flag that takes several, as the API reads them. `None` without one.
pub fn any_of(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(","))
}

impl Filters {
    /// Adds the filters to a call.
    pub fn onto(&self, call: Call) -> Result<Call, Exit> {
        let (from, to) = self.span.read()?;
        Ok(call
            .query("status", any_of(&self.status))
            .query("type", self.kind.as_ref())
            .query("status_code", self.status_code.as_ref())
            .query("outcome", any_of(&self.outcome))
            .query("from", from)
            .query("to", to)
            .query("search", self.search.as_ref()))
    }
}

/// One page of a list. Rows keep their bytes.
#[derive(Deserialize)]
pub struct Page {
    pub data: Vec<Box<RawValue>>,
    #[serde(default)]
    pub next_cursor: Option<String>,
    /// When the index of the list began. `None` if it has every row.
    #[serde(default)]
    pub indexed_from: Option<String>,
}

impl Page {
    /// The rows read.
    pub fn rows(&self) -> Vec<Value> {
        let read = |row: &RawValue| serde_json::from_str(row.get()).unwrap_or_default();
        self.data.iter().map(|row| read(row)).collect()
    }

    /// Prints the rows: one a line as they came, or below the table that the first rows began.
    pub async fn show(
        &self,
        client: &Client,
        screen: Screen,
        shown: &mut Shown,
        columns: &'static [Column],
    ) -> Result<(), Exit> {
        if screen.is_json() {
            return self.data.iter().try_for_each(|row| screen.text(row.get()));
        }
        let mut rows = self.rows();
        if columns.iter().any(|column| column.field == row_names::WEBHOOK_NAME) {
            shown.names.add_webhooks(client, &mut rows).await;
        }
        match &shown.table {
            Some(table) => screen.rows(table, &rows)?,
            None if rows.is_empty() => {}
            None => shown.table = Some(screen.table(columns, &rows)?),
        }
        Ok(())
    }
}

/// The part of a list that was printed, for its further pages.
#[derive(Default)]
pub struct Shown {
    /// `None` as long as there was no row.
    table: Option<Table>,
    names: RowNames,
}

/// Asks for one page.
pub async fn page(client: &Client, call: &Call) -> Result<Page, Exit> {
    let answer = client.call(call.clone()).await?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| Exit::failed(format!("the answer is not the list that was expected: {error}")))
}

/// Prints the list that `call` requests.
pub async fn print(
    client: &Client,
    screen: Screen,
    call: Call,
    paging: &Paging,
    columns: &'static [Column],
) -> Result<(), Exit> {
    let call = call.query("limit", Some(paging.limit)).query("cursor", paging.cursor.as_ref());
    if screen.is_json() && !paging.all {
        return screen.text(client.call(call).await?.body);
    }
    let mut shown = Shown::default();
    let mut page = page(client, &call).await?;
    page.show(client, screen, &mut shown, columns).await?;
    while let Some(cursor) = page.next_cursor.as_ref().filter(|_| paging.all) {
        page = self::page(client, &call.with_query("cursor", cursor)).await?;
        page.show(client, screen, &mut shown, columns).await?;
    }
    // On stderr, because it is not part of the list.
    if let Some(from) = page.indexed_from.as_ref().filter(|_| !screen.is_json()) {
        let words = "an earlier version recorded the rows before it, which come last and take longer to find";
        screen::note(&format!("the index of this list begins at {from}: {words}\n"));
    }
    match page.next_cursor {
        _ if screen.is_json() => {}
        Some(cursor) => screen::note(&format!("more: --cursor {cursor}, or --all\n")),
        None if shown.table.is_none() => screen::note("nothing found\n"),
        None => {}
    }
    Ok(())
}
