//! Adds names to rows that have ids only: the webhook's name and the event's type. JSON stays as it came.

use std::collections::HashMap;

use serde_json::Value;

use super::client::{Call, Client};
use super::list;
use super::noun::{Noun, shown};

/// The member that holds the name of a row's webhook.
pub const WEBHOOK_NAME: &str = "webhook_name";
/// The member that holds the type of a row's event.
pub const EVENT_TYPE: &str = "event_type";

const PAGE_ROWS: u16 = 250;
const PAGES_MAX: usize = 20;
/// Maximum number of types that one call reads. Each is a request.
const TYPES_ASKED_MAX: usize = 50;
/// Maximum number of remembered names and types.
const REMEMBERED_MAX: usize = 10_000;

/// Names and types, as far as they were asked for.
#[derive(Default)]
pub struct RowNames {
    /// By id. An id without a name was asked for in vain.
    webhooks: HashMap<String, Option<String>>,
    /// The types, by the id of the event.
    types: HashMap<String, String>,
}

impl RowNames {
    /// Adds the name of each row's webhook. Where the key may not read webhooks, the id stands in its place.
    pub async fn add_webhooks(&mut self, client: &Client, rows: &mut [Value]) {
        let ids = rows.iter().filter_map(|row| row["webhook_id"].as_str());
        let unknown: Vec<String> = ids.filter(|id| !self.webhooks.contains_key(*id)).map(str::to_owned).collect();
        if !unknown.is_empty() {
            self.ask(client).await;
            if self.webhooks.len() > REMEMBERED_MAX {
                self.webhooks.clear();
            }
            for id in unknown {
                self.webhooks.entry(id).or_insert(None);
            }
        }
        for row in rows {
            let Some(id) = row["webhook_id"].as_str() else { continue };
            let name = self.webhooks.get(id).cloned().flatten();
            row[WEBHOOK_NAME] = name.unwrap_or_else(|| shown(Noun::Webhook.prefix(), id.to_owned())).into();
        }
    }

    async fn ask(&mut self, client: &Client) {
        let call = Call::get(&["webhooks"]).query("limit", Some(PAGE_ROWS));
        let mut next = Some(call.clone());
        for _ in 0..PAGES_MAX {
            let Some(asked) = next.take() else { return };
            let Ok(page) = list::page(client, &asked).await else { return };
            for row in page.rows() {
                if let (Some(id), Some(name)) = (row["id"].as_str(), row["name"].as_str()) {
                    self.webhooks.insert(id.to_owned(), Some(name.to_owned()));
                }
            }
            next = page.next_cursor.map(|cursor| call.with_query("cursor", &cursor));
        }
    }

    /// Adds the type of each row's event, which attempts lack, by asking for their deliveries.
    pub async fn add_types(&mut self, client: &Client, rows: &mut [Value]) {
        let mut asked = 0;
        for row in rows {
            let (Some(event), Some(delivery)) = (row["event_id"].as_str(), row["delivery_id"].as_str()) else {
                continue;
            };
            if !self.types.contains_key(event) && asked < TYPES_ASKED_MAX {
                asked += 1;
                let answer = client.value(Call::get(&["deliveries", delivery])).await;
                if let Some(kind) = answer.ok().and_then(|value| value[EVENT_TYPE].as_str().map(str::to_owned)) {
                    if self.types.len() > REMEMBERED_MAX {
                        self.types.clear();
                    }
                    self.types.insert(event.to_owned(), kind);
                }
            }
            if let Some(kind) = self.types.get(event) {
                row[EVENT_TYPE] = kind.as_str().into();
            }
        }
    }
}
