//! Puts a node's store aside if it cannot continue with the log, so that none of its events is lost for good.
//!
//! Invariant: a store that is put aside is whole, and opens by itself as a restored copy does.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DaemonError, failed};
use crate::daemon::backup::sync;
use crate::model::Time;
use crate::store::admin::{self, Role, TermAndRole};
use crate::store::{Disk, RealDisk};

/// The folder of stores that were put aside, below the data directory.
const ORPHANS: &str = "orphans";

/// Moves the closed store of the data directory into a folder of its own below `orphans`, and returns the folder.
/// `commit` is the store's last commit. The master key stays where it is. If the move breaks off, the files that stay
/// in the data directory are no store.
///
/// # Errors
/// The disk fails.
pub(super) fn put_aside(data_dir: &Path, disk: &dyn Disk, commit: u64, now: Time) -> Result<PathBuf, DaemonError> {
    let term_and_role = admin::term_and_role(disk)?;
    let orphans = data_dir.join(ORPHANS);
    let folder = orphans.join(format!("commit-{commit}-{}", now.0));
    RealDisk::folder(&orphans).map_err(|source| failed(&orphans, source))?;
    let aside = RealDisk::folder(&folder).map_err(|source| failed(&folder, source))?;
    let partitions = folder.join("partitions");
    RealDisk::folder(&partitions).map_err(|source| failed(&partitions, source))?;
    // `state.redb` is the last in the list. It makes the others a store, so it is the first to go.
    for name in admin::files(disk)?.iter().rev() {
        let from = data_dir.join(name);
        fs::rename(&from, folder.join(name)).map_err(|source| failed(&from, source))?;
    }
    for changed in [&partitions, &folder, &orphans, &data_dir.join("partitions"), data_dir] {
        sync(changed)?;
    }
    admin::set_term_and_role(&aside, TermAndRole { role: Role::Copy, ..term_and_role })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::daemon::options;
    use crate::daemon::standby::random;
    use crate::store::open;

    #[test]
    fn a_store_that_is_put_aside_opens_by_itself_as_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let disk = std::sync::Arc::new(RealDisk::lock(&data_dir).unwrap());
        let (settings, key) = (Settings::default(), [7; 32]);
        drop(open(disk.clone(), options(&settings), &key, Time(1), random()).unwrap());
        let aside = put_aside(&data_dir, &*disk, 41, Time(1_000)).unwrap();
        assert_eq!(aside, data_dir.join("orphans/commit-41-1000"));
        assert!(!admin::has_store(&*disk).unwrap());
        drop(open(disk, options(&settings), &key, Time(1), random()).unwrap());
        let kept = std::sync::Arc::new(RealDisk::lock(&aside).unwrap());
        assert_eq!(admin::term_and_role(&*kept).unwrap().role, Role::Copy);
        open(kept, options(&settings), &key, Time(1), random()).unwrap();
    }
}
