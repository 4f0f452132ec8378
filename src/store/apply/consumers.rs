//! Remembers the positions of consumers of a webhook's feed.

use serde_json::json;

use crate::kv::tables::{self, Table};
use crate::model::feed_consumer::FeedConsumer;
use crate::model::id::WebhookId;
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, Receipt};

/// Maximum number of remembered consumers of a webhook.
pub const CONSUMERS_MAX: usize = 100;

impl StateBatch<'_> {
    /// Stores the position of a consumer. A position from before the last seek changes nothing.
    pub(super) fn put_consumer(
        &mut self,
        by: Option<&Caller>,
        id: WebhookId,
        name: &str,
        consumer: FeedConsumer,
    ) -> ApplyResult<Receipt> {
        let webhook = self.webhook_within(by, id)?;
        let key = tables::consumer(id, name);
        let known = self.write_batch.get::<FeedConsumer>(Table::Consumers, &key)?;
        let own = self.write_batch.keys(Table::Consumers, id.as_bytes(), CONSUMERS_MAX)?;
        if known.is_none() && own.len() >= CONSUMERS_MAX {
            return Err(conflict("consumers_full", &format!("a webhook has at most {CONSUMERS_MAX} consumers")));
        }
        let seeks = known.map_or(0, |known| known.seeks);
        if seeks > consumer.seeks {
            return Ok(Receipt::Done);
        }
        self.write_batch.put(Table::Consumers, key, &consumer);
        if consumer.seeks > seeks {
            let to = json!({ "consumer": name, "position": consumer.position });
            self.note(by, AuditSubject::webhook(&webhook), "webhook.seek", &id.to_string(), to);
        }
        Ok(Receipt::Done)
    }

    /// Forgets the consumers of a removed webhook.
    pub(super) fn forget_consumers(&mut self, id: WebhookId) -> ApplyResult<()> {
        for key in self.write_batch.keys(Table::Consumers, id.as_bytes(), CONSUMERS_MAX)? {
            self.write_batch.remove(Table::Consumers, key);
        }
        Ok(())
    }
}
