//! A store opens only with the key that it was made with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::security::support::Client;
use crate::support::process::{Program, files, refused, said_by, start};

const BAD_CONFIGURATION: i32 = 78;

fn store_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    files(folder).into_iter().filter(|(name, _)| name.ends_with(".redb")).collect()
}

/// The first key, which is not printed where no terminal is.
fn first_key(program: &Program, data: &Path) -> String {
    let key = fs::read_to_string(data.join("first-key")).expect("the first key").trim().to_owned();
    assert!(program.said.iter().all(|line| !line.contains(&key)), "the key must not be in the log of the service");
    assert!(program.said.iter().any(|line| line.contains(&format!("the first key is in {}", data.display()))));
    key
}

#[tokio::test]
async fn a_store_is_not_opened_without_its_own_master_key() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = start(&data, &log, &[]);
    let key = first_key(&program, &data);
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

    // Another key, given or in the file, is refused with a message, and no file is touched.
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

    // The key is lost. No new one is made for a store that it would not open.
    fs::remove_file(&file).expect("removed");
    let (code, words) = refused(&data, &log, &[]);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");
    assert!(words.contains("master.key is missing"), "{words}");
    assert!(!file.exists());
    assert_eq!(store_files(&data), before);

    // The key is put back, or given by a setting: all rows are there.
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

/// A webhook's secret as the API shows it. The daemon must open the store with the key that it finds.
async fn secret_of(data: &Path, log: &Path, variables: &[(&str, &str)], key: &str, webhook: &str) -> String {
    let program = start(data, log, variables);
    let answer = Client::new(program.address, key).get(&format!("/v1/webhooks/{webhook}/secret")).await.expect(200);
    program.stop();
    answer["secret"].as_str().expect("a secret").to_owned()
}

struct Sealed {
    _folder: tempfile::TempDir,
    data: std::path::PathBuf,
    log: std::path::PathBuf,
    key: String,
    webhook: String,
    secret: String,
}

/// A stopped store with one webhook.
async fn sealed(variables: &[(&str, &str)]) -> Sealed {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let program = start(&data, &log, variables);
    let key = first_key(&program, &data);
    let client = Client::new(program.address, &key);
    let made = client.post("/v1/webhooks", serde_json::json!({ "url": "https://example.com/" })).await.expect(201);
    program.stop();
    let text = |member: &str| made[member].as_str().expect("text").to_owned();
    Sealed { _folder: folder, data, log, key, webhook: text("id"), secret: text("secret") }
}

#[tokio::test]
async fn the_master_key_of_the_data_directory_is_changed_in_place() {
    let store = sealed(&[]).await;
    let file = store.data.join("master.key");
    let old = fs::read_to_string(&file).expect("the master key");
    let (code, said) = said_by(&store.data, &["key", "rotate-master"], &[]);
    assert_eq!(code, 0, "{said}");
    let new = fs::read_to_string(&file).expect("the master key");
    assert_ne!(new, old);
    assert!(!said.contains(new.trim()) && !said.contains(old.trim()), "{said}");
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    assert!(!store.data.join("master.next").exists());
    assert_eq!(secret_of(&store.data, &store.log, &[], &store.key, &store.webhook).await, store.secret);
    // The old key no longer opens the store.
    let (code, words) = refused(&store.data, &store.log, &[("POSTRIDER_MASTER_KEY", old.trim())]);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");
}

#[tokio::test]
async fn a_master_key_from_the_settings_is_changed_for_one_in_a_file() {
    let old = [("POSTRIDER_MASTER_KEY", "the first master key, which is long enough")];
    let store = sealed(&old).await;
    let file = store.data.join("../new.key");
    let new = [("POSTRIDER_MASTER_KEY_FILE", file.to_str().expect("text"))];
    let rotate = ["key", "rotate-master", "--new-key-file", file.to_str().expect("text")];
    for (written, code, what) in [("", 1, "new.key"), ("short", 2, "32 to 512")] {
        if !written.is_empty() {
            fs::write(&file, written).expect("written");
        }
        let (ended, said) = said_by(&store.data, &rotate, &old);
        assert_eq!(ended, code, "{said}");
        assert!(said.contains(what), "{said}");
    }
    fs::write(&file, "the second master key, which is long enough\n").expect("written");
    let (code, said) = said_by(&store.data, &["key", "rotate-master"], &old);
    assert_eq!(code, BAD_CONFIGURATION, "{said}");
    let wrong = [("POSTRIDER_MASTER_KEY", "a master key that opens nothing at all here")];
    let (code, said) = said_by(&store.data, &rotate, &wrong);
    assert_eq!(code, BAD_CONFIGURATION, "{said}");
    assert_eq!(secret_of(&store.data, &store.log, &old, &store.key, &store.webhook).await, store.secret);

    // Twice, as after a first change that was interrupted.
    for _ in 0..2 {
        let (code, said) = said_by(&store.data, &rotate, &old);
        assert_eq!(code, 0, "{said}");
    }
    let (code, words) = refused(&store.data, &store.log, &old);
    assert_eq!(code, BAD_CONFIGURATION, "{words}");
    assert_eq!(secret_of(&store.data, &store.log, &new, &store.key, &store.webhook).await, store.secret);
}

#[tokio::test]
async fn a_change_that_was_cut_leaves_the_old_key_or_the_new_one() {
    let store = sealed(&[]).await;
    let (file, next) = (store.data.join("master.key"), store.data.join("master.next"));
    let old = fs::read_to_string(&file).expect("the master key");
    // Interrupted after the new key was written and before the store was wrapped by it.
    fs::write(&next, "a key that was never used for anything at all\n").expect("written");
    assert_eq!(secret_of(&store.data, &store.log, &[], &store.key, &store.webhook).await, store.secret);
    assert_eq!(fs::read_to_string(&file).expect("the master key"), old);
    assert!(!next.exists(), "the next key is removed");
    // Interrupted after the store was wrapped by the new key and before that replaced the old one.
    let (code, said) = said_by(&store.data, &["key", "rotate-master"], &[]);
    assert_eq!(code, 0, "{said}");
    let new = fs::read_to_string(&file).expect("the master key");
    fs::rename(&file, &next).expect("renamed");
    fs::write(&file, &old).expect("written");
    assert_eq!(secret_of(&store.data, &store.log, &[], &store.key, &store.webhook).await, store.secret);
    assert_eq!(fs::read_to_string(&file).expect("the master key"), new);
    assert!(!next.exists(), "the next key became the key");
}

#[test]
fn the_master_key_is_not_changed_under_a_daemon_nor_where_there_is_no_store() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let (code, said) = said_by(&data, &["key", "rotate-master"], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no store") && said.contains("hint: ") && !data.exists(), "{said}");
    let _running = start(&data, &log, &[]);
    let before = fs::read(data.join("master.key")).expect("the master key");
    let (code, said) = said_by(&data, &["key", "rotate-master"], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another postrider is running"), "{said}");
    assert_eq!(fs::read(data.join("master.key")).expect("the master key"), before);
}

#[test]
fn planted_keys_and_open_directories_are_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log, elsewhere) = (folder.path().join("data"), folder.path().join("log"), folder.path().join("planted"));
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    fs::create_dir(&data).expect("made");
    for loose in [0o777, 0o775, 0o1777] {
        mode(&data, loose);
        let (code, words) = refused(&data, &log, &[]);
        assert!(code == BAD_CONFIGURATION && words.contains("chmod go-w"), "{code}: {words}");
    }
    mode(&data, 0o755);
    assert!(!data.join("state.redb").exists(), "nothing is made there");

    fs::write(&elsewhere, "pr_planted\n").expect("written");
    mode(&elsewhere, 0o600);
    for name in ["first-key", "master.key"] {
        std::os::unix::fs::symlink(&elsewhere, data.join(name)).expect("a link");
        let (code, words) = refused(&data, &log, &[]);
        assert!(code == BAD_CONFIGURATION && words.contains("symbolic link"), "{name}: {code}: {words}");
        fs::remove_file(data.join(name)).expect("removed");
        fs::write(data.join(name), "pr_planted\n").expect("written");
        mode(&data.join(name), 0o666);
        let (code, words) = refused(&data, &log, &[]);
        assert!(code == BAD_CONFIGURATION && words.contains("its mode is 666"), "{name}: {code}: {words}");
        fs::remove_file(data.join(name)).expect("removed");
        for entry in fs::read_dir(&data).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
    }
    start(&data, &log, &[]).stop();
}
