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

pub use apply::Ids;
pub use command::{
    Applied, Caller, Command, Finished, Keep, NewEvent, NewKey, Order, Published, Reach, Receipt, Refusal,
};
pub use counts::HourCount;
pub use disk::{Disk, RealDisk};
pub use effects::{Dispatch, Effects, Finals, Noted, Told};
pub use error::{Error, Result};
pub use open::{Opened, open, open_with_ids};
pub use query::{AttemptQuery, DeliveryQuery, EventQuery, Page, Search, Window};
pub use reads::{AuditRow, Backlog, Figures, Store};
pub use registry::Registry;
pub use shelf::{Options, Partition};
pub use sizes::Sizes;
pub use views::{AttemptFacts, AttemptFilter, DeliveryFacts, DeliverySlice};
pub use writer::{Batch, Checkpoint, Writer};
