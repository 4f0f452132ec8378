//! Tests that the commits which only the log of a killed standby has are in its backup, its restore and its promotion.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{LOG_FOLDER, promote, random};
use crate::config::Settings;
use crate::daemon::backup::{backup, restore};
use crate::daemon::standby_log::unapplied;
use crate::daemon::{DaemonError, keys, options, verify};
use crate::engine::clock::SystemRandomness;
use crate::model::Time;
use crate::store::admin::{self, LogWriter, ReplicaBatch, ReplicaKind, Role, TermAndRole};
use crate::store::{self, Disk, NewKey, Opened, RealDisk, StateCommand, WriteRequest};

const NOW: Time = Time(1_772_704_800_000);
/// Commits that only the log has.
const COMMITS: u64 = 3;

fn of(data_dir: &Path) -> Settings {
    Settings { data_dir: data_dir.to_owned(), ..Settings::default() }
}

fn create_organization(opened: &mut Opened, name: &str) {
    let key = NewKey { name: name.into(), hash: [name.len() as u8; 32], ..NewKey::default() };
    let command = StateCommand::CreateOrganization { name: name.into(), key };
    assert!(opened.writer.apply(&[WriteRequest::internal(command)], NOW).results.remove(0).is_ok());
}

/// The data directory of a standby that was killed: its log has commits that its files lack.
fn killed(data_dir: &Path) -> Settings {
    let settings = of(data_dir);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(data_dir).unwrap());
    let key = keys::master_key(&settings, &*disk, &SystemRandomness::default()).unwrap();
    let mut opened = store::open(disk.clone(), options(&settings), &key, NOW, random()).unwrap();
    create_organization(&mut opened, "a");
    opened.writer.close().unwrap();
    drop(opened);
    // The files of the owner as they were when the standby copied them.
    let files = admin::files(&*disk).unwrap();
    let copied: Vec<Vec<u8>> = files.iter().map(|name| fs::read(data_dir.join(name)).unwrap()).collect();
    let mut opened = store::open(disk.clone(), options(&settings), &key, NOW, random()).unwrap();
    let follower = opened.writer.replication().follow(NOW, ReplicaKind::Standby).unwrap();
    (0..COMMITS).for_each(|n| create_organization(&mut opened, &"b".repeat(2 + n as usize)));
    let ReplicaBatch::Records(records) = follower.take(Duration::ZERO) else { panic!("it was disconnected") };
    drop(opened);
    files.iter().zip(copied).for_each(|(name, bytes)| fs::write(data_dir.join(name), bytes).unwrap());
    admin::set_term_and_role(&*disk, TermAndRole { term: 1, role: Role::Standby, overtaken_by: 0 }).unwrap();
    let log = RealDisk::folder(&data_dir.join(LOG_FOLDER)).unwrap();
    let mut writer = LogWriter::create(&log, 7, follower.from()).unwrap();
    for record in &records {
        writer.append(&log, &[&**record]).unwrap();
    }
    settings
}

fn organizations(settings: &Settings) -> usize {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(&settings.data_dir).unwrap());
    let key = keys::master_key(settings, &*disk, &SystemRandomness::default()).unwrap();
    store::open(disk, options(settings), &key, NOW, random()).unwrap().store.registry().organizations().count()
}

fn promoted(settings: &Settings, accepts_loss: bool) -> Result<super::PromotedStore, DaemonError> {
    promote(settings, Arc::new(RealDisk::lock(&settings.data_dir).unwrap()), accepts_loss)
}

#[test]
fn a_killed_standby_is_backed_up_and_restored_with_the_commits_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let settings = killed(&data_dir);
    let report = verify(&settings, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.unapplied.unwrap().commits, COMMITS);
    let to = folder.path().join("backup");
    backup(&settings, &to, false, &mut |_| {}).unwrap();
    for (from, name) in [(&to, "of the backup"), (&data_dir, "of the directory")] {
        let restored = of(&folder.path().join(name));
        restore(&restored, from, None, &mut |_| {}, &mut |_| {}).unwrap();
        assert_eq!(organizations(&restored), 4, "{name}");
    }
    assert_eq!(unapplied(&data_dir).unwrap().unwrap().commits, COMMITS, "nothing was changed");
    assert!(promoted(&settings, true).unwrap().kept.is_none());
    assert_eq!(organizations(&settings), 4);
}

#[test]
fn a_damaged_log_of_a_standby_is_named_and_given_up_only_if_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let settings = killed(&folder.path().join("data"));
    let log = settings.data_dir.join(LOG_FOLDER).join("000001.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&log, &bytes).unwrap();
    let report = verify(&settings, &mut |_| {}).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == "standby/000001.log"), "{:?}", report.problems);
    let to = folder.path().join("backup");
    let other = of(&folder.path().join("other"));
    for error in [
        backup(&settings, &to, false, &mut |_| {}).unwrap_err(),
        restore(&other, &settings.data_dir, None, &mut |_| {}, &mut |_| {}).unwrap_err(),
        promoted(&settings, false).map(drop).unwrap_err(),
    ] {
        let words = error.to_string();
        assert!(words.starts_with(&format!("{}: the log of the standby does not read", log.display())), "{words}");
    }
    assert!(!to.exists() && !other.data_dir.exists());
    let promoted = promoted(&settings, true).unwrap();
    let kept = promoted.kept.unwrap();
    assert_eq!(fs::read(kept.join("000001.log")).unwrap(), bytes, "no byte of it is removed");
    assert_eq!(organizations(&settings), 2, "the store has the commit before the damage");
}
