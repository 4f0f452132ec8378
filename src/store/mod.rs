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
mod commit_log;
mod effects;
mod event_names;
mod event_type_counts;
mod figures;
mod idempotency;
mod partitions;
mod read;
mod recent_figures;
mod registry;
mod replication;
mod secrets;
mod term;
mod verify;
mod writer;
mod writer_timing;

pub use crate::kv::disk::{Disk, LOCK_FILE, RealDisk};
pub use crate::kv::error::{Error, Result, lacks_space};
pub use crate::kv::payload::ROW_PAYLOAD_BYTES_MAX;
pub use apply::IdSource;
pub use command::{
    AppChange, AppSettings, Applied, AttemptReport, AuditEntry, Caller, Command, EventInput, FailureCause,
    IdempotencyKey, NewKey, PartitionCommand, Published, Receipt, Rejection, RetriedDelivery, StateCommand,
    TenantScope, WriteRequest, first_secret,
};
pub use effects::{AuditLine, Dispatch, Effects, FinalCounts, StateChange};
pub use event_names::EventName;
pub use idempotency::index::NEWEST_MAX as FINGERPRINTS_MAX;
pub use partitions::maintenance::{DroppedPartition, Maintained, ROUND_DROPPED_MAX, Retention};
pub use partitions::open::{Opened, open, open_in_cluster, open_with_ids};
pub use partitions::set::StoreOptions;
pub use partitions::sizes::StoreSizes;
pub use read::attempt_stream::AttemptPage;
pub use read::audit::{AuditFilter, AuditRow};
pub use read::counts::HourCount;
pub use read::details::{AttemptDetails, AttemptFilter, DeliveryDetails, DeliverySlice};
pub use read::due::{DueSlice, ExpiredDelivery, QUEUES_MAX};
pub use read::event_types::{EventTypeCount, EventTypePage};
pub use read::events_by_name::NamedPage;
pub use read::failed::{FailedPage, FailedPosition};
pub use read::figures::{Backlog, HourSpan, WebhookFigures};
pub use read::lists::Store;
pub use read::lookup::DueKey;
pub use read::query::{
    AnyOf, AttemptQuery, DeliveryQuery, EventQuery, INDEXED_ROWS_MAX, ListWindow, PAGE_BYTES_MAX, Page, Search,
    TimeSpan,
};
pub use read::replay_matches::MatchCount;
pub use read::two_way::{TwoWayPage, TwoWayWindow};
pub use read::waiting::{WaitingPage, WaitingPosition};
pub use recent_figures::RecentAttempts;
pub use registry::Registry;
pub use writer::{AppliedBatch, Writer};
pub use writer_timing::{RequestBatch, Tick, WriterHealth};

#[doc(hidden)]
pub use partitions::set::PartitionRow;
