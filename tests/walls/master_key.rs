//! A store opens with the key that it was made with, and with no other.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::process::{Program, refused, start};
use crate::support::Client;

const BAD_CONFIGURATION: i32 = 78;

/// Every file below `folder` with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).expect("bytes")));
        }
    }
    files.sort();
    files
}

fn store_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    files(folder).into_iter().filter(|(name, _)| name.ends_with(".redb")).collect()
}

fn first_key(program: &Program) -> String {
    let line = program.said.iter().find(|line| line.contains("shown this once")).expect("the first key");
    line.rsplit(' ').next().expect("a word").to_owned()
}

#[tokio::test]
async fn a_store_is_not_opened_without_its_own_master_key() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = start(&data, &log, &[]);
    let key = first_key(&program);
    let client = Client::new(program.address, &key);
    let made = client.post("/v1/webhooks", serde_json::json!({ "url": "https://example.com/" })).await.expect(201);
    program.stop();

    for name in ["master.key", "first-key"] {
        let mode = fs::metadata(data.join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&data).expect("a directory").permissions().mode() & 0o777, 0o700);
    let before = store_files(&data);
    assert!(!before.is_empty());

    // Another key, given or in the file: refused, in words, and nothing is touched.
    let other = ("POSTRIDER_MASTER_KEY", "another master key of more than 32 characters");
    let (code, words) = refused(&data, &log, &[other]);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");
    assert!(words.contains("the master key does not open this store"), "{words}");
    assert!(words.contains("POSTRIDER_MASTER_KEY"), "{words}");
    assert!(!words.contains(other.1), "{words}");
    let file = data.join("master.key");
    let right = fs::read(&file).expect("the master key");
    fs::write(&file, "another master key of more than 32 characters").expect("written");
    let (code, words) = refused(&data, &log, &[]);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");

    // Lost: no new one is made over a store that it would not open.
    fs::remove_file(&file).expect("removed");
    let (code, words) = refused(&data, &log, &[]);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");
    assert!(words.contains("master.key is missing"), "{words}");
    assert!(!file.exists());
    assert_eq!(store_files(&data), before);

    // Put back, or given as what it was: everything is there.
    let given = String::from_utf8(right.clone()).expect("text").trim().to_owned();
    let program = start(&data, &log, &[("POSTRIDER_MASTER_KEY", &given)]);
    let client = Client::new(program.address, &key);
    let path = format!("/v1/webhooks/{}/secret", made["id"].as_str().expect("an id"));
    assert_eq!(client.get(&path).await.expect(200)["secret"], made["secret"]);
    program.stop();
    fs::write(&file, right).expect("written");
    start(&data, &log, &[]).stop();
}

#[test]
fn a_second_daemon_on_the_same_directory_ends_at_once() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let _running = start(&data, &log, &[]);
    let (code, words) = refused(&data, &folder.path().join("second"), &[]);
    assert_eq!(code, 1);
    assert!(words.contains("another postrider is running"), "{words}");
}
