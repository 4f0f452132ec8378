//! The store: the rows of the domain in key-value files, synchronous.
//!
//! The writer (`writer`) applies commands (`apply/`) to write batches, and `commit` makes a batch durable. `read/` answers
//! queries from snapshots. `partitions/` begins, archives and drops the files of a day. `kv/` below stores bytes by key.

pub mod apply;
pub mod backup;
pub mod command;
pub mod commit;
pub mod effects;
pub mod figures;
pub mod idempotency;
pub mod job;
pub mod partitions;
pub mod read;
pub mod registry;
pub mod replication;
pub mod secrets;
pub mod verify;
pub mod writer;

pub use crate::kv::disk::{Disk, RealDisk};
pub use crate::kv::error::{Error, Result};
pub use apply::IdSource;
pub use command::{
    Applied, AttemptMade, Caller, Command, EventInput, FailureCause, IdempotencyKey, NewKey, PartitionCommand,
    Published, Receipt, Rejection, StateCommand, TenantScope, WriteRequest,
};
pub use commit::Checkpoint;
pub use effects::{AuditLine, Dispatch, Effects, FinalCounts, StateChange};
pub use partitions::open::{Opened, open, open_with_ids};
pub use partitions::set::{Partition, StoreOptions};
pub use partitions::sizes::StoreSizes;
pub use read::audit::AuditRow;
pub use read::counts::HourCount;
pub use read::details::{AttemptDetails, AttemptFilter, DeliveryDetails, DeliverySlice};
pub use read::lists::{Backlog, Store, WebhookFigures};
pub use read::query::{AttemptQuery, DeliveryQuery, EventQuery, ListWindow, Page, Search};
pub use registry::Registry;
pub use writer::{AppliedBatch, Writer};
