//! Compaction: gives back the dead space of all files while no daemon has the store.
//!
//! Invariant: no row changes. redb moves pages in commits of its own, so a cut leaves a whole file that the next open
//! repairs.

use std::sync::Arc;

use crate::kv::blobs::blobs_of;
use crate::kv::disk::Disk;
use crate::kv::error::{Result, io};
use crate::kv::payload::places_in;
use crate::kv::segment::{ACTIVE_CACHE_BYTES, OpenMode, Segment, catch_panic};
use crate::store::backup::{BackupProgress, OnBackupProgress};
use crate::store::partitions::set::{PARTITIONS, STATE_FILE, first_of};

/// The sizes of all files before and after, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    pub files: usize,
    pub before: u64,
    pub after: u64,
}

/// Compacts the files one after the other. The progress counts the bytes of the compacted files.
///
/// # Errors
/// A file does not open, or the disk fails. The files before it are compacted, and all files are whole.
pub fn compact(disk: &dyn Disk, progress: OnBackupProgress<'_>) -> Result<Compacted> {
    let mut names: Vec<String> = vec![STATE_FILE.into()];
    let partitions = disk.list(PARTITIONS).map_err(|error| io(PARTITIONS, error))?;
    names.extend(
        partitions.into_iter().filter(|name| first_of(name).is_some()).map(|name| format!("{PARTITIONS}/{name}")),
    );
    let mut done = Compacted::default();
    for name in &names {
        progress(BackupProgress { file_number: done.files + 1, files: names.len(), bytes: done.before });
        done.before += occupied(disk, name)?;
        catch_panic(name, || compact_file(disk, name))??;
        done.after += occupied(disk, name)?;
        done.files += 1;
    }
    Ok(done)
}

/// Compacts a file, and gives back the space of payloads that no row names.
fn compact_file(disk: &dyn Disk, name: &str) -> Result<()> {
    let file = Arc::new(Segment::open(disk, name, OpenMode::Write, ACTIVE_CACHE_BYTES)?);
    if name != STATE_FILE {
        // Places that only the write-ahead log names lie behind all that redb names.
        file.blobs().release_all_but(places_in(&file.snapshot()?)?)?;
    }
    Arc::into_inner(file).map_or(Ok(()), Segment::compact)
}

/// Bytes of disk that a file and the blob file beside it occupy.
fn occupied(disk: &dyn Disk, name: &str) -> Result<u64> {
    let blobs = blobs_of(name);
    let mut bytes = disk.occupied_bytes(name).map_err(|error| io(name, error))?;
    if disk.exists(&blobs).map_err(|error| io(&blobs, error))? {
        bytes += disk.occupied_bytes(&blobs).map_err(|error| io(&blobs, error))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::verify::tests::{NOW, apply, store};
    use crate::store::verify::verify;
    use crate::store::{EventInput, PartitionCommand, RealDisk, WriteRequest};

    #[test]
    fn a_compacted_store_is_smaller_and_has_every_row() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = store(&folder);
        let app = opened.store.registry().apps.keys().next().copied();
        for n in 0..40 {
            let mut event = EventInput { app, ..EventInput::new("a", "x".repeat(100_000)) };
            event.attributes.event_id = Some(format!("large {n}"));
            let fresh = apply(&mut opened, WriteRequest::internal(PartitionCommand::Publish(vec![event]))).1;
            opened.writer.checkpoint().unwrap();
            // The payload is removed, and its space stays in the file.
            apply(&mut opened, WriteRequest::internal(PartitionCommand::CancelEvent { id: fresh[0].event.id }));
            apply(&mut opened, WriteRequest::internal(PartitionCommand::EraseEvent { id: fresh[0].event.id }));
        }
        opened.writer.roll(NOW).unwrap();
        drop(opened);
        let disk = Arc::new(RealDisk::lock(folder.path()).unwrap());
        let before = verify(disk.clone(), &[7; 32], &mut |_| {}).unwrap();
        let mut seen = 0;
        let done = compact(&*disk, &mut |progress| seen = progress.file_number).unwrap();
        assert_eq!((done.files, seen), (3, 3));
        assert!(done.after < done.before, "{done:?}");
        let sizes: u64 = disk
            .list(PARTITIONS)
            .unwrap()
            .iter()
            .map(|n| disk.occupied_bytes(&format!("{PARTITIONS}/{n}")).unwrap())
            .sum();
        assert_eq!(sizes + disk.occupied_bytes(STATE_FILE).unwrap(), done.after);
        let after = verify(disk, &[7; 32], &mut |_| {}).unwrap();
        assert!(after.is_sound(), "{after:?}");
        assert_eq!(after.rows, before.rows);
    }
}
