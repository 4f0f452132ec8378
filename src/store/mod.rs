//! The store: what is written, how it is found again, and when it goes. The only floor that knows redb; synchronous.
//!
//! `writer` applies commands (`apply/`) to drafts of files (`draft`, `file`), `reads` and `due` read snapshots of them, `upkeep`
//! begins, counts and unlinks partitions. `tables` has all keys on one screen.

pub mod apply;
pub mod backup;
pub mod command;
pub mod compact;
mod counts;
pub mod dedup;
pub mod disk;
pub mod draft;
pub mod due;
pub mod effects;
pub mod error;
mod feed;
pub mod figures;
pub mod file;
pub mod follow;
pub mod job;
pub mod journal;
mod marks;
pub mod master_key;
mod mend;
mod merge;
mod open;
pub mod pages;
pub mod query;
pub mod reads;
mod recent;
pub mod registry;
pub mod row;
pub mod shelf;
mod sizes;
pub mod snapshot;
mod space;
pub mod tables;
pub mod upkeep;
pub mod vault;
pub mod verify;
mod views;
pub mod writer;

pub use apply::IdSource;
pub use command::{
    Applied, AttemptMade, Caller, Command, EventInput, IdempotencyKey, NewKey, Published, Receipt, Rejection,
    TenantScope, WriteRequest,
};
pub use counts::HourCount;
pub use disk::{Disk, RealDisk};
pub use effects::{AuditLine, Dispatch, Effects, FinalCounts, StateChange};
pub use error::{Error, Result};
pub use open::{Opened, open, open_with_ids};
pub use query::{AttemptQuery, DeliveryQuery, EventQuery, ListWindow, Page, Search};
pub use reads::{AuditRow, Backlog, Store, WebhookFigures};
pub use registry::Registry;
pub use shelf::{Partition, StoreOptions};
pub use sizes::StoreSizes;
pub use views::{AttemptDetails, AttemptFilter, DeliveryDetails, DeliverySlice};
pub use writer::{AppliedBatch, Checkpoint, Writer};
