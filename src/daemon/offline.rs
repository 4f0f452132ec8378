//! Operations on a store that no daemon has open.
//!
//! Invariant: afterwards every file of a data directory belongs to the owner of the directory, so that the daemon can
//! open it. An administrator runs them as root, and the daemon has another user.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use crate::config::{SecretSetting, Settings};
use crate::engine::clock::SystemRandomness;
use crate::store::admin::{
    self, AcceptedLoss, Compacted, Defect, FileCheck, LostPayloads, OnBackupProgress, OnVerifyProgress, UnappliedLog,
    VerifyReport,
};
use crate::store::{Disk, RealDisk};

use super::backup::PARTIAL;
use super::backup_repo::{self, BASE};
use super::keys::{self, KeyRotation};
use super::ownership::overtaken_error;
use super::{DaemonError, checked_lock, lock_folder, standby_log};

/// Changes the master key of a store that no daemon has open. `keys::rotate_master` does the work.
///
/// # Errors
/// There is no store, a daemon has it open, or the key in force does not open it. Nothing is changed.
pub fn rotate_master_key(settings: &Settings, new: Option<&SecretSetting>) -> Result<KeyRotation, DaemonError> {
    has_store(&settings.data_dir)?;
    let disk = lock_folder(&settings.data_dir)?;
    let rotated = keys::rotate_master(settings, new, &*disk, &SystemRandomness::default());
    hand_over(&settings.data_dir).and(rotated)
}

/// Compacts the files of a store that no daemon has open.
///
/// # Errors
/// There is no store, a daemon has it open, or a file fails. All files are whole.
pub fn compact(settings: &Settings, progress: OnBackupProgress<'_>) -> Result<Compacted, DaemonError> {
    has_store(&settings.data_dir)?;
    let compacted = admin::compact(&*lock_folder(&settings.data_dir)?, progress);
    hand_over(&settings.data_dir)?;
    Ok(compacted?)
}

/// Gives up the payloads that damaged blob files lack and the commits that a damaged write-ahead log lacks, so that a start
/// opens the store without them. Nothing is given up if nothing is damaged, or there is no store.
///
/// # Errors
/// A daemon has the store, a file of it does not open, or `state.redb` is older than its partitions.
pub fn accept_loss(data_dir: &Path) -> Result<(Vec<LostPayloads>, Option<AcceptedLoss>), DaemonError> {
    match has_store(data_dir) {
        Err(DaemonError::NoStore(_)) => return Ok((Vec::new(), None)),
        found => found?,
    }
    let disk = lock_folder(data_dir)?;
    admin::refuse_older_state(disk.clone())?;
    let mut payloads = admin::accept_lost_payloads(&*disk)?;
    let accepted = admin::accept_loss(&*disk)?;
    if accepted.is_some() {
        // The records before the damage may name payloads too.
        payloads.extend(admin::accept_lost_payloads(&*disk)?);
    }
    drop(disk);
    if accepted.is_some() || !payloads.is_empty() {
        hand_over(data_dir)?;
    }
    Ok((payloads, accepted))
}

/// The damage of the write-ahead log in words. `None` if nothing is damaged or there is no store. Nothing is changed.
///
/// # Errors
/// A daemon has the store, a file of it does not open, or `state.redb` is older than its partitions.
pub fn wal_damage(data_dir: &Path) -> Result<Option<String>, DaemonError> {
    match has_store(data_dir) {
        Err(DaemonError::NoStore(_)) => return Ok(None),
        found => found?,
    }
    Ok(admin::wal_damage(checked_lock(RealDisk::read_only(data_dir), data_dir)?)?)
}

/// The files of the store that do not open. `None` if there is no store. Nothing is changed.
///
/// # Errors
/// A daemon has the store, or its files cannot be listed.
pub fn check_files(data_dir: &Path) -> Result<Option<FileCheck>, DaemonError> {
    match has_store(data_dir) {
        Err(DaemonError::NoStore(_)) => return Ok(None),
        found => found?,
    }
    Ok(Some(admin::check_files(checked_lock(RealDisk::read_only(data_dir), data_dir)?)?))
}

/// Walks the store in the data directory, or in a backup that lies there like one, while no daemon has it. Nothing is
/// changed.
///
/// # Errors
/// There is no store, a daemon has it open, its master key is missing or another one, or `state.redb` does not open.
pub fn verify(settings: &Settings, progress: OnVerifyProgress<'_>) -> Result<VerifyReport, DaemonError> {
    if backup_repo::is_one(&settings.data_dir) {
        return verify_followed(settings, progress);
    }
    verify_store(settings, progress)
}

/// Verifies a follower's directory: the copy of every generation, and every record after it.
fn verify_followed(settings: &Settings, progress: OnVerifyProgress<'_>) -> Result<VerifyReport, DaemonError> {
    let mut all = VerifyReport::default();
    for generation in backup_repo::generations(&settings.data_dir)? {
        let name = format!("{:06}", generation.number);
        if generation.outline.whole.is_none() {
            // The generation is being made, or the next start of the follower removes it.
            all.unlisted.push(name);
            continue;
        }
        let copy = Settings { data_dir: generation.path.join(BASE), ..settings.clone() };
        let mut report = verify_store(&copy, progress)?;
        let disk = checked_lock(RealDisk::read_only(&generation.path), &generation.path)?;
        let mut records = 0;
        let walked = admin::walk_log(&*disk, |_| {
            records += 1;
            ControlFlow::Continue(())
        });
        if let Some(damage) = walked?.and_then(|walked| walked.damage) {
            let file = format!("../{}", damage.segment);
            report.problems.push(Defect { file, table: None, key: None, detail: damage.to_string() });
        }
        all.files += report.files + generation.outline.segments as usize;
        all.rows += report.rows + records;
        all.problems_left_out += report.problems_left_out;
        all.to_release += report.to_release;
        let below = |file: &str| match file.strip_prefix("../") {
            Some(segment) => format!("{name}/{segment}"),
            None => format!("{name}/{BASE}/{file}"),
        };
        all.unlisted.extend(report.unlisted.iter().map(|file| below(file)));
        all.problems
            .extend(report.problems.into_iter().map(|problem| Defect { file: below(&problem.file), ..problem }));
    }
    Ok(all)
}

fn verify_store(settings: &Settings, progress: OnVerifyProgress<'_>) -> Result<VerifyReport, DaemonError> {
    has_store(&settings.data_dir)?;
    let disk = checked_lock(RealDisk::read_only(&settings.data_dir), &settings.data_dir)?;
    let master_key = keys::stored_master_key(settings, &*disk)?;
    let mut report = admin::verify(disk, &master_key, progress)?;
    report.unapplied = standby_log::unapplied(&settings.data_dir)?;
    if let Some(damage) = report.unapplied.as_ref().and_then(|unapplied| unapplied.damage.as_ref()) {
        let file = format!("{}/{}", standby_log::LOG_FOLDER, damage.segment);
        report.problems.push(Defect { file, table: None, key: None, detail: damage.to_string() });
    }
    Ok(report)
}

/// The commits that only the log of the closed standby or node has. `None` for another store, or without a log. Nothing is
/// changed.
///
/// # Errors
/// A daemon has the store, there is none, or a file of it does not open.
pub fn unapplied(data_dir: &Path) -> Result<Option<UnappliedLog>, DaemonError> {
    has_store(data_dir)?;
    let _lock = checked_lock(RealDisk::read_only(data_dir), data_dir)?;
    standby_log::unapplied(data_dir)
}

/// Refuses the closed store of the data directory if the master key of the settings does not open it. Nothing is changed.
///
/// # Errors
/// The key is missing or another one, a daemon has the store, there is none, or it does not open.
pub fn check_master_key(settings: &Settings) -> Result<(), DaemonError> {
    has_store(&settings.data_dir)?;
    let disk = checked_lock(RealDisk::read_only(&settings.data_dir), &settings.data_dir)?;
    keys::check_master_key(settings, &*admin::without_writes(disk))
}

/// Refuses the closed store of the data directory if it has met a higher term, or another owner of its term. Nothing is
/// changed.
///
/// # Errors
/// It has, a daemon has the store, there is none, or it does not open.
pub fn refuse_overtaken(settings: &Settings) -> Result<(), DaemonError> {
    has_store(&settings.data_dir)?;
    let disk = checked_lock(RealDisk::read_only(&settings.data_dir), &settings.data_dir)?;
    let found = admin::term_and_role(&*admin::without_writes(disk))?;
    if found.overtaken_by == 0 { Ok(()) } else { Err(overtaken_error(settings, found)) }
}

/// Refuses a data directory in which a restore broke off, before a store begins there. A standby makes its copy anew and
/// needs no check.
///
/// # Errors
/// A restore broke off, or the disk fails.
pub fn refuse_broken_restore(data_dir: &Path, disk: &dyn Disk) -> Result<(), DaemonError> {
    let found = admin::has_store(disk).and_then(|has_store| Ok(!has_store && disk.exists(PARTIAL)?));
    match found.map_err(|source| DaemonError::Io { context: data_dir.display().to_string(), source })? {
        true => Err(DaemonError::RestoreBrokeOff(data_dir.display().to_string())),
        false => Ok(()),
    }
}

/// # Errors
/// There is no store, `state.redb` is missing beside partitions, or the directory cannot be read.
pub(super) fn has_store(data_dir: &Path) -> Result<(), DaemonError> {
    let disk = RealDisk::unlocked(data_dir);
    let shown = || data_dir.display().to_string();
    let found = admin::has_store(&disk).and_then(|has_store| Ok((has_store, admin::has_partitions(&disk)?)));
    match found.map_err(|source| DaemonError::Io { context: shown(), source })? {
        (true, _) => Ok(()),
        (false, false) => Err(DaemonError::NoStore(shown())),
        (false, true) => Err(DaemonError::StateMissing(data_dir.join(admin::STATE_FILE).display().to_string())),
    }
}

/// Gives files that another user made to the owner of the data directory.
///
/// # Errors
/// The files cannot be listed, or their owner cannot be changed.
pub(super) fn hand_over(data_dir: &Path) -> Result<(), DaemonError> {
    let failed = |path: &Path, source| DaemonError::Io { context: path.display().to_string(), source };
    let owner = fs::metadata(data_dir).map_err(|error| failed(data_dir, error))?;
    for folder in admin::FOLDERS.map(|folder| data_dir.join(folder)) {
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let path = entry.map_err(|error| failed(&folder, error))?.path();
            let is = fs::symlink_metadata(&path).map_err(|error| failed(&path, error))?;
            if (is.uid(), is.gid()) != (owner.uid(), owner.gid()) {
                lchown(&path, Some(owner.uid()), Some(owner.gid())).map_err(|error| failed(&path, error))?;
            }
        }
    }
    Ok(())
}
