//! The store: the rows of the domain in key-value files, synchronous.
//!
//! The writer (`writer`) applies commands (`apply/`) to write batches, and `commit` makes a batch durable. `read/` answers
//! queries from snapshots. `partitions/` begins, archives and drops the files of a day. `kv/` below stores bytes by key.
//!
//! Other floors use the names of this file and of `admin`. All other modules are private.

pub mod admin;
mod apply;
mod backup;
mod checkpoints;
mod command;
mod commit;
mod effects;
mod event_names;
mod figures;
mod idempotency;
mod partitions;
mod read;
mod registry;
mod replication;
mod schedule;
mod secrets;
mod verify;
mod writer;

pub use crate::kv::disk::{Disk, RealDisk};
pub use crate::kv::error::{Error, Result};
pub use apply::IdSource;
pub use command::{
    Applied, AttemptReport, AuditEntry, Caller, Command, EventInput, FailureCause, IdempotencyKey, NewKey,
    PartitionCommand, Published, Receipt, Rejection, RetriedDelivery, StateCommand, TenantScope, WriteRequest,
    first_secret,
};
pub use effects::{AuditLine, Dispatch, Effects, FinalCounts, StateChange};
pub use event_names::EventName;
pub use partitions::maintenance::{DroppedPartition, Maintained, ROUND_DROPPED_MAX, Retention};
pub use partitions::open::{Opened, open, open_with_ids};
pub use partitions::set::StoreOptions;
pub use partitions::sizes::StoreSizes;
pub use read::audit::{AuditFilter, AuditRow};
pub use read::counts::HourCount;
pub use read::details::{AttemptDetails, AttemptFilter, DeliveryDetails, DeliverySlice};
pub use read::due::{DueSlice, ExpiredDelivery};
pub use read::failed::{FailedPage, FailedPosition};
pub use read::lists::{Backlog, Store, WebhookFigures};
pub use read::lookup::DueKey;
pub use read::named::NamedPage;
pub use read::query::{AnyOf, AttemptQuery, DeliveryQuery, EventQuery, ListWindow, Page, Search, TimeSpan};
pub use read::waiting::{WaitingPage, WaitingPosition};
pub use registry::Registry;
pub use schedule::{RequestBatch, Tick, WriterHealth};
pub use writer::{AppliedBatch, Writer};

#[doc(hidden)]
pub use partitions::set::PartitionRow;
