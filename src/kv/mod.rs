//! Key-value storage over redb: the only floor that knows redb.
//!
//! It knows keys, tables and bytes, and no rule and no row type of the domain. The life of a batch:
//!
//! 1. A `WriteBatch` collects the changes of many commands over a `Snapshot`. Nothing is written yet.
//! 2. `Wal::append` writes the batch as one record and syncs it. The batch is durable.
//! 3. `Segment::insert` puts it into the `MemTable`. Readers see it: a `Snapshot` looks into the memtable, then into
//!    redb.
//! 4. `Segment::freeze` sets the memtable apart at the end of an epoch, and `Wal::rotate` goes on in the other half of
//!    the log.
//! 5. `Segment::flush` writes the frozen layers into redb in one durable commit, the checkpoint. It stores the epoch's
//!    number.
//! 6. After a crash `Segment::replay_wal` reads the epochs that redb does not contain back into the memtable.
//!
//! A payload above the limit of a row goes into the partition's `blobs` before step 2, and only its place into the
//! batch. `payload` reads both formats.
//!
//! A file that is not the active one has no log: `Segment::commit` makes a batch durable in redb directly. Below all of
//! this `checksums` verifies every page, and `disk` is the directory that a simulation replaces.
pub mod blob_range;
pub mod blob_storage;
pub mod blobs;
pub mod checksums;
pub mod codec;
pub mod direct_file;
pub mod disk;
pub mod disk_traffic;
pub mod error;
pub mod memtable;
pub mod payload;
pub mod read_only;
pub mod scan;
pub mod segment;
pub mod snapshot;
pub mod tables;
pub mod wal;
pub mod wal_head;
pub mod write_batch;
