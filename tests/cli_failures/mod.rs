//! The program on a damaged or occupied data directory: it names the fault and the file, ends with its exit code, and
//! changes nothing. `tests/api/bad_disk.rs` has faults of a disk while the daemon runs, and `tests/oracle` has power
//! cuts.

mod output;
mod refused;
mod units;
mod verify;

use std::fs;
use std::path::Path;

use crate::support::process::{files, start};

/// A data directory that a daemon has made and closed, with its two keys.
fn made(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    start(&data, &folder.join("log"), &[]).stop();
    data
}

/// The one partition of a store that was just made.
fn partition(data: &Path) -> std::path::PathBuf {
    let mut found = fs::read_dir(data.join("partitions")).expect("a directory");
    found.next().expect("a partition").expect("an entry").path()
}

fn name(path: &Path) -> &str {
    path.file_name().expect("a name").to_str().expect("text")
}

/// Alters a byte of a row that every file has, at any position.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).expect("bytes");
    let key = b"schema";
    let places: Vec<usize> = (0..bytes.len() - key.len()).filter(|at| bytes[*at..].starts_with(key)).collect();
    assert!(!places.is_empty(), "no row is found in {path:?}");
    places.into_iter().for_each(|at| bytes[at] ^= 0x20);
    fs::write(path, bytes).expect("written");
}
