//! `postrider verify`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cli_failures::{files, made, name, partition, spoil};
use crate::support::children;
use crate::support::process::start;

/// The exit code, stdout and stderr.
fn verify(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.arg("verify").arg(data).args(arguments).env_clear().env("POSTRIDER_CONFIG", "/dev/null");
    let output = children::output(command.envs(variables.iter().copied()));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_sound_store_is_said_to_be_one_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    let before = files(&data);
    let (code, out, err) = verify(&data, &[], &[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("everything is as it should be"), "{out}");
    let (code, out, _) = verify(&data, &["-o", "json"], &[]);
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &found["sound"], &found["files"]), (0, &true.into(), &2.into()), "{found}");
    assert!(found["rows"].as_u64().is_some_and(|rows| rows > 3), "{found}");
    assert!(files(&data) == before);
}

#[test]
fn a_backup_without_a_lock_on_a_medium_that_is_only_read_is_walked() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    fs::remove_file(data.join("lock")).expect("removed");
    for (path, _) in files(&data) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).expect("made read-only");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).expect("made read-only");
    let (code, out, err) = verify(&data, &[], &[]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("made writable");
    assert_eq!(code, 0, "{out}{err}");
    assert!(!data.join("lock").exists());
}

#[test]
fn damage_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a directory");
    for (number, whole_store) in [true, false].into_iter().enumerate() {
        let place = folder.path().join(number.to_string());
        fs::create_dir(&place).expect("made");
        let data = made(&place);
        let path = if whole_store { data.join("state.redb") } else { partition(&data) };
        spoil(&path);
        let before = files(&data);
        let (code, out, err) = verify(&data, &["-o", "json"], &[]);
        assert_eq!(code, 1, "{out}{err}");
        assert!(format!("{out}{err}").contains(name(&path)), "{out}{err}");
        assert!(!err.contains("panicked"), "{err}");
        if !whole_store {
            let found: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(found["sound"], false);
            assert!(found["problems"][0]["file"].as_str().is_some_and(|file| file.contains(name(&path))), "{found}");
        }
        assert!(files(&data) == before);
    }
}

#[test]
fn a_store_that_cannot_be_walked_is_named_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a directory");
    let nowhere = folder.path().join("nowhere");
    let (code, _, words) = verify(&nowhere, &[], &[]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("nowhere") && !nowhere.exists(), "{words}");
    let (code, _, words) = verify(folder.path(), &[], &[]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("there is no store here"), "{words}");
    assert_eq!(files(folder.path()).len(), 0);

    let data = made(folder.path());
    let other = ("POSTRIDER_MASTER_KEY", "another master key of more than 32 characters");
    let (code, _, words) = verify(&data, &[], &[other]);
    assert_eq!(code, 78, "{words}");
    assert!(words.contains("master key"), "{words}");

    let _running = start(&data, &folder.path().join("log"), &[]);
    let (code, _, words) = verify(&data, &[], &[]);
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("another postrider is running"), "{words}");
}
