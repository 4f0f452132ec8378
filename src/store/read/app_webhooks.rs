//! Finds the deliveries and attempts of one app: by the indexes of its webhooks, merged, or among all rows.
//!
//! Invariant: the merged webhooks are all that had a delivery in the partition. A removed webhook is noted with its app for
//! as long as its deliveries are kept. Rows of partitions from before the first note are found among all.

use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::tables::{self, Table};
use crate::model::Time;
use crate::model::id::{AppId, WebhookId};
use crate::store::partitions::index_start::{self, IndexStart, LaterIndex};
use crate::store::partitions::set::PartitionSet;
use crate::store::read::newest_first::NewestFirst;

#[cfg(test)]
mod tests;

/// Maximum number of webhooks whose indexes are merged. Each costs a lookup in each partition that a page reaches.
pub const MERGED_WEBHOOKS_MAX: usize = 100;

/// The rows that belong to webhooks: their table, and its index by webhook.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct WebhookRows {
    pub rows: Table,
    pub by_webhook: Table,
}

pub(in crate::store) const DELIVERIES: WebhookRows =
    WebhookRows { rows: Table::Deliveries, by_webhook: Table::DeliveriesByWebhook };
pub(in crate::store) const ATTEMPTS: WebhookRows =
    WebhookRows { rows: Table::Attempts, by_webhook: Table::AttemptsByWebhook };

/// The tables in which each partition lists the rows of one webhook, of one app, or all rows. If it is the table of all
/// rows, the caller leaves out those of other apps.
pub(in crate::store) struct AppWebhooks {
    /// `None` for all rows.
    indexed: Option<(Vec<WebhookId>, IndexStart)>,
}

impl AppWebhooks {
    /// The rows of `webhook`, or else of the webhooks of `app`. All rows if there is no app, or if the app has more
    /// than `MERGED_WEBHOOKS_MAX` webhooks.
    pub fn of(partition_set: &PartitionSet, webhook: Option<WebhookId>, app: Option<AppId>) -> Result<AppWebhooks> {
        if let Some(webhook) = webhook {
            let complete = IndexStart { at: Time::ZERO, partition: 0 };
            return Ok(AppWebhooks { indexed: Some((vec![webhook], complete)) });
        }
        let Some(app) = app else { return Ok(AppWebhooks { indexed: None }) };
        let registry = partition_set.registry();
        let own = registry.webhooks_of(app).map(|webhook| webhook.id);
        let mut webhooks: Vec<WebhookId> = own.take(MERGED_WEBHOOKS_MAX + 1).collect();
        let state = partition_set.state()?.snapshot()?;
        let (from, to) = (tables::pair(app, WebhookId::MIN), tables::pair(app, WebhookId::MAX));
        let bounds = (std::ops::Bound::Included(from.as_slice()), std::ops::Bound::Included(to.as_slice()));
        state.scan(Table::RemovedOfApp, bounds, Direction::Down, |key, _| {
            webhooks.extend(tables::last_id(key));
            Ok(if webhooks.len() > MERGED_WEBHOOKS_MAX { ScanStep::Stop } else { ScanStep::Go })
        })?;
        if webhooks.len() > MERGED_WEBHOOKS_MAX {
            return Ok(AppWebhooks { indexed: None });
        }
        // A removal that is committed between the two reads is in both.
        webhooks.sort_unstable();
        webhooks.dedup();
        Ok(AppWebhooks { indexed: Some((webhooks, index_start::stored(partition_set, LaterIndex::RemovedWebhooks)?)) })
    }

    /// The tables and the prefixes of keys in the partition that begins with `first`.
    pub fn sources(&self, rows: WebhookRows, first: u128) -> Vec<(Table, &[u8])> {
        match &self.indexed {
            Some((webhooks, start)) if start.at == Time::ZERO || !start.lacks_entries(first) => {
                webhooks.iter().map(|webhook| (rows.by_webhook, webhook.as_bytes().as_slice())).collect()
            }
            _ => vec![(rows.rows, &[])],
        }
    }

    /// The ids of the rows below `before`, newest first.
    pub fn newest_first<'a>(
        &self,
        partition_set: &'a PartitionSet,
        rows: WebhookRows,
        before: u128,
    ) -> NewestFirst<'a> {
        NewestFirst::by_all(partition_set, |first| self.sources(rows, first), before)
    }
}
