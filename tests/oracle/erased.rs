//! Erased payloads are gone from the blob files: between the places that rows name there are only zeros.

use std::sync::Arc;

use postrider::kv::blobs::blobs_of;
use postrider::kv::payload::{erased_in, places_in};
use postrider::kv::segment::{OTHER_CACHE_BYTES, OpenMode, Segment};
use postrider::kv::wal::Wal;
use postrider::store::Disk;

use super::{Check, ensure};
use crate::support::disk::FaultyDisk;

/// Compares the blob files on a copy of the disk with the rows of their partitions, `active` with its log.
pub fn is_gone(disk: &FaultyDisk, active: u128) -> Check<u64> {
    let disk = disk.copy();
    let wal = Wal::open(&disk).map_err(|error| error.to_string())?;
    let mut bytes = 0;
    for name in disk.list("partitions").map_err(|error| error.to_string())? {
        let name = format!("partitions/{name}");
        let Some(id) = name.strip_prefix("partitions/").and_then(|name| name.strip_suffix(".redb")) else { continue };
        if disk.exists(&blobs_of(&name)).is_ok_and(|exists| exists) {
            let is_active = uuid::Uuid::try_parse(id).is_ok_and(|id| id.as_u128() == active);
            let left = left_in(&disk, &name, is_active.then_some((active, &wal)));
            bytes += left.map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(bytes)
}

/// Bytes of the payloads in one blob file.
fn left_in(disk: &FaultyDisk, name: &str, log: Option<(u128, &Wal)>) -> Check<u64> {
    let failed = |error: postrider::store::Error| error.to_string();
    let file = Arc::new(Segment::open(disk, name, OpenMode::Write, OTHER_CACHE_BYTES).map_err(failed)?);
    if let Some((partition, wal)) = log {
        file.replay_wal(partition, wal).map_err(failed)?;
        file.resume_blobs().map_err(failed)?;
    }
    let snapshot = file.snapshot().map_err(failed)?;
    let mut named = places_in(&snapshot).map_err(failed)?;
    let payload_bytes = named.iter().map(|place| u64::from(place.bytes)).sum();
    // Overwritten before the answer, and their rows go with the next commit.
    let erased = erased_in(&snapshot).map_err(failed)?;
    named.sort_unstable_by_key(|place| place.offset);
    let raw = disk.open(&blobs_of(name), false).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; file.blobs().end() as usize];
    raw.read(0, &mut bytes).map_err(|error| error.to_string())?;
    named.iter().for_each(|place| bytes[place.offset as usize..place.end() as usize].fill(0));
    for place in &erased {
        let is_named = named.iter().any(|other| other.offset < place.end() && place.offset < other.end());
        ensure!(!is_named, "{place:?} is erased and named");
    }
    let left = bytes.iter().position(|byte| *byte != 0);
    ensure!(left.is_none(), "an erased payload is left at {left:?}");
    Ok(payload_bytes)
}
