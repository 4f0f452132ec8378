//! The tables of both kinds of files, and the functions that build and read their keys.
//!
//! Keys are big-endian byte strings, so that they sort by their meaning.
//!
//! ```text
//! state.redb        small rows that live long
//!   organizations   organization                       -> Organization
//!   apps            app                                -> App
//!   keys            key                                -> ApiKey
//!   webhooks        webhook                            -> Webhook, sealed
//!   removed         webhook                            -> time of its removal
//!   partitions      first id                           -> PartitionRow
//!   totals          webhook                            -> Sums of the archived partitions
//!   states          webhook                            -> WebhookState at the time its partition was archived
//!   state_answers   SHA-256 of key, route and name     -> stored answer, sealed
//!   jobs            job                                -> Job
//!   audit           audit id                           -> AuditRow
//!   event_types     organization, name                 -> EventType
//!   consumers       webhook, name                      -> FeedConsumer
//!   removed_of_app  app, webhook                       -> time of its removal, as long as its deliveries are kept
//!
//! partitions/<first id>.redb   all rows of the events of one span of time
//!   events          event                              -> Event                     appended
//!   data            event, chunk number                -> bytes of `data`, or their place in the blob file  appended
//!   deliveries      delivery                           -> Delivery                  appended, later changed in place
//!   of_webhook      webhook, delivery                  -> nothing                   in runs
//!   of_event        event, delivery                    -> nothing: replays only, since published deliveries follow their event
//!   due             webhook, due ms, delivery          -> nothing                   in runs
//!   queue           webhook, key hash, delivery        -> nothing: ordered deliveries, the queue head included
//!   attempts        attempt                            -> Attempt                   appended
//!   tried           webhook, attempt                   -> nothing                   in runs
//!   figures         webhook, 0                         -> sums and running state
//!   figures         webhook, hour                      -> counts of that hour by the minute
//!   event_keys      event or other id of its span, kind -> fingerprint of `event_id` or `Idempotency-Key`  appended
//!   answers         SHA-256 of key, route and name     -> stored answer, sealed
//!   ends            expires_at ms, delivery            -> nothing: open deliveries that expire
//!   names           run, hash, event                   -> nothing: events by `event_id` and by `subject`  in runs of time
//!   failed          owner, completed_at ms, delivery   -> nothing: failed deliveries, by webhook, app and organization
//!   of_app          app, event                         -> nothing: events of other apps than the default one  in runs
//!   types           owner, event type, hour            -> events of that hour by the minute, by app and organization
//! meta              name                               -> schema, data key, epoch of the write-ahead log, end of the blob file
//!
//! journal           the write-ahead log of the active partition: see `wal.rs`
//! partitions/<first id>.blobs   payloads above 8 KiB: see `blobs.rs`
//! partitions/<first id>-<last id>.fingerprints   a copy of the fingerprints of `event_keys`: see `store/idempotency/run_file.rs`
//! ```

use redb::TableDefinition;
use smallvec::SmallVec;

use crate::model::Time;
use crate::model::id::{DeliveryId, EventId, Id, OrganizationId, WebhookId};

/// redb's definition of a table: keys and values are byte strings.
pub type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// A table of either kind of file. `name` gives its stored name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Meta,
    Organizations,
    Apps,
    Keys,
    Webhooks,
    Tombstones,
    Partitions,
    Totals,
    States,
    StateAnswers,
    Jobs,
    Audit,
    Events,
    Data,
    Deliveries,
    DeliveriesByWebhook,
    ReplaysByEvent,
    Due,
    Queue,
    Attempts,
    AttemptsByWebhook,
    Figures,
    IdempotencyKeys,
    Answers,
    Expiries,
    FailedByOwner,
    EventsByName,
    EventTypes,
    EventTypeRegistry,
    EventsByApp,
    Consumers,
    RemovedOfApp,
}

/// The number of tables.
pub const TABLES: usize = Table::RemovedOfApp as usize + 1;

/// Every table, at the index of its own number.
pub const ALL_TABLES: [Table; TABLES] = {
    let mut all = [Table::Meta; TABLES];
    let mut at = 0;
    while at < STATE_TABLES.len() {
        all[STATE_TABLES[at] as usize] = STATE_TABLES[at];
        at += 1;
    }
    at = 0;
    while at < PARTITION_TABLES.len() {
        all[PARTITION_TABLES[at] as usize] = PARTITION_TABLES[at];
        at += 1;
    }
    all
};

/// The tables of `state.redb`.
pub const STATE_TABLES: [Table; 15] = [
    Table::Meta,
    Table::Organizations,
    Table::Apps,
    Table::Keys,
    Table::Webhooks,
    Table::Tombstones,
    Table::Partitions,
    Table::Totals,
    Table::States,
    Table::StateAnswers,
    Table::Jobs,
    Table::Audit,
    Table::EventTypeRegistry,
    Table::Consumers,
    Table::RemovedOfApp,
];

/// The tables of a partition's file.
pub const PARTITION_TABLES: [Table; 18] = [
    Table::Meta,
    Table::Events,
    Table::Data,
    Table::Deliveries,
    Table::DeliveriesByWebhook,
    Table::ReplaysByEvent,
    Table::Due,
    Table::Queue,
    Table::Attempts,
    Table::AttemptsByWebhook,
    Table::Figures,
    Table::IdempotencyKeys,
    Table::Answers,
    Table::Expiries,
    Table::FailedByOwner,
    Table::EventsByName,
    Table::EventTypes,
    Table::EventsByApp,
];

impl Table {
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Organizations => "organizations",
            Table::Apps => "apps",
            Table::Keys => "keys",
            Table::Webhooks => "webhooks",
            Table::Tombstones => "removed",
            Table::Partitions => "partitions",
            Table::Totals => "totals",
            Table::States => "states",
            Table::StateAnswers => "state_answers",
            Table::Jobs => "jobs",
            Table::Audit => "audit",
            Table::Events => "events",
            Table::Data => "data",
            Table::Deliveries => "deliveries",
            Table::DeliveriesByWebhook => "of_webhook",
            Table::ReplaysByEvent => "of_event",
            Table::Due => "due",
            Table::Queue => "queue",
            Table::Attempts => "attempts",
            Table::AttemptsByWebhook => "tried",
            Table::Figures => "figures",
            Table::IdempotencyKeys => "event_keys",
            Table::Answers => "answers",
            Table::Expiries => "ends",
            Table::FailedByOwner => "failed",
            Table::EventsByName => "names",
            Table::EventTypes => "types",
            Table::EventTypeRegistry => "event_types",
            Table::EventsByApp => "of_app",
            Table::Consumers => "consumers",
            Table::RemovedOfApp => "removed_of_app",
        }
    }

    pub const fn definition(self) -> Definition {
        TableDefinition::new(self.name())
    }

    /// Whether new keys come in runs, each behind the existing keys of a webhook or another owner. Each run is written through a cursor.
    pub const fn is_in_runs(self) -> bool {
        matches!(
            self,
            Table::DeliveriesByWebhook
                | Table::AttemptsByWebhook
                | Table::Due
                | Table::FailedByOwner
                | Table::EventsByApp
        )
    }

    /// Whether files of earlier versions lack the table. A file gets the table with its first row, and until then the
    /// table reads as empty.
    pub const fn is_later_addition(self) -> bool {
        matches!(
            self,
            Table::FailedByOwner
                | Table::EventsByName
                | Table::EventTypes
                | Table::EventTypeRegistry
                | Table::EventsByApp
                | Table::Consumers
                | Table::RemovedOfApp
        )
    }

    /// Whether new keys are always or mostly the greatest. Those are written through a cursor at the end.
    pub const fn is_appended(self) -> bool {
        matches!(
            self,
            Table::Events
                | Table::Data
                | Table::Deliveries
                | Table::Attempts
                | Table::IdempotencyKeys
                | Table::EventsByName
        )
    }
}

/// A key in memory. A key of ids and times has at most 40 bytes and needs no allocation.
pub type Key = SmallVec<[u8; 40]>;

fn joined<const N: usize>(parts: [&[u8]; N]) -> Key {
    let mut key = Key::new();
    parts.into_iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The key of one id.
pub fn one<K>(id: Id<K>) -> Key {
    Key::from_slice(id.as_bytes())
}

/// The key of a partition, by its first id.
pub fn partition(first: u128) -> Key {
    Key::from_slice(&first.to_be_bytes())
}

/// The key of two ids, such as a webhook and one of its deliveries.
pub fn pair<A, B>(first: Id<A>, second: Id<B>) -> Key {
    joined([first.as_bytes().as_slice(), second.as_bytes()])
}

/// The key of a chunk of an event's data.
pub fn chunk(event: EventId, number: u16) -> Key {
    joined([event.as_bytes().as_slice(), &number.to_be_bytes()])
}

/// The key of a due entry. The webhook comes first, so that a webhook's backlog never stands before another's.
pub fn due(webhook: WebhookId, at: Time, delivery: DeliveryId) -> Key {
    joined([webhook.as_bytes().as_slice(), &at.0.max(0).to_be_bytes(), delivery.as_bytes()])
}

/// The webhook, due time and delivery of a due entry's key.
pub fn read_due(key: &[u8]) -> Option<(WebhookId, Time, DeliveryId)> {
    let (webhook, rest) = key.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    Some((Id::from_bytes(*webhook), Time(i64::from_be_bytes(*at)), Id::from_bytes(rest.try_into().ok()?)))
}

/// The key of a delivery's expiry.
pub fn expiry(at: Time, delivery: DeliveryId) -> Key {
    joined([at.0.max(0).to_be_bytes().as_slice(), delivery.as_bytes()])
}

/// The time and delivery of an expiry's key.
pub fn read_expiry(key: &[u8]) -> Option<(Time, DeliveryId)> {
    let (at, delivery) = key.split_first_chunk::<8>()?;
    Some((Time(i64::from_be_bytes(*at)), Id::from_bytes(delivery.try_into().ok()?)))
}

/// The key of a failed delivery under its webhook, its app or its organization.
pub fn failed<K>(owner: Id<K>, ended_at: Time, delivery: DeliveryId) -> Key {
    joined([owner.as_bytes().as_slice(), &ended_at.0.max(0).to_be_bytes(), delivery.as_bytes()])
}

/// The time and delivery of a failed delivery's key.
pub fn read_failed(key: &[u8]) -> Option<(Time, DeliveryId)> {
    read_expiry(key.get(16..)?)
}

/// The key of an event under the hash of its `event_id` or `subject`, within a run of events.
pub fn name(run: u32, hash: u64, event: EventId) -> Key {
    joined([run.to_be_bytes().as_slice(), &hash.to_be_bytes(), event.as_bytes()])
}

/// The run, hash and event of a name's key.
pub fn read_name(key: &[u8]) -> Option<(u32, u64, EventId)> {
    let (run, rest) = key.split_first_chunk::<4>()?;
    let (hash, event) = rest.split_first_chunk::<8>()?;
    Some((u32::from_be_bytes(*run), u64::from_be_bytes(*hash), Id::from_bytes(event.try_into().ok()?)))
}

/// The key of a delivery in an ordered queue. There is one queue for each webhook and ordering key.
pub fn queue(webhook: WebhookId, key_hash: u64, delivery: DeliveryId) -> Key {
    joined([webhook.as_bytes().as_slice(), &key_hash.to_be_bytes(), delivery.as_bytes()])
}

/// The parts of a queue's key.
pub fn read_queue(key: &[u8]) -> Option<(WebhookId, u64, DeliveryId)> {
    let (webhook, rest) = key.split_first_chunk::<16>()?;
    let (hash, delivery) = rest.split_first_chunk::<8>()?;
    Some((Id::from_bytes(*webhook), u64::from_be_bytes(*hash), Id::from_bytes(delivery.try_into().ok()?)))
}

/// The key of a webhook's figures in an hour. Hour 0 holds the sums.
pub fn figures(webhook: WebhookId, hour: u32) -> Key {
    joined([webhook.as_bytes().as_slice(), &hour.to_be_bytes()])
}

/// The key of an event type's counts in an hour. The byte after the type is lower than those of types.
pub fn event_type(owner: &[u8; 16], event_type: &str, hour: u32) -> Key {
    joined([owner.as_slice(), event_type.as_bytes(), &[0], &hour.to_be_bytes()])
}

/// The key behind all hours of an event type. Without a type: behind all types of the owner.
pub fn event_type_end(owner: &[u8; 16], event_type: Option<&str>) -> Vec<u8> {
    let (text, end) = event_type.map_or(("", u8::MAX), |text| (text, 1));
    [owner.as_slice(), text.as_bytes(), &[end]].concat()
}

/// The key of an organization's event type in the registry.
pub fn registered_type(org: OrganizationId, name: &str) -> Key {
    joined([org.as_bytes().as_slice(), name.as_bytes()])
}

/// The key of a consumer of a webhook's feed.
pub fn consumer(webhook: WebhookId, name: &str) -> Key {
    joined([webhook.as_bytes().as_slice(), name.as_bytes()])
}

/// The type and the hour of an event type's key.
pub fn read_event_type(key: &[u8]) -> Option<(&str, u32)> {
    let (text, hour) = key.get(16..)?.split_last_chunk::<4>()?;
    let text = std::str::from_utf8(text.strip_suffix(&[0])?).ok()?;
    Some((text, u32::from_be_bytes(*hour)))
}

/// The last id of a composite key.
pub fn last_id<K>(key: &[u8]) -> Option<Id<K>> {
    key.last_chunk::<16>().map(|bytes| Id::from_bytes(*bytes))
}

/// The first id of a key.
pub fn first_id<K>(key: &[u8]) -> Option<Id<K>> {
    key.first_chunk::<16>().map(|bytes| Id::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_stands_at_its_own_number() {
        for (number, table) in ALL_TABLES.into_iter().enumerate() {
            assert_eq!(table as usize, number, "{}", table.name());
        }
    }
}
