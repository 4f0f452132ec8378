//! `postrider backup` and `restore` as an operator uses them: for a running daemon under load, for a stopped one, and
//! their refusals.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::children;
use crate::support::installation::Installation;

/// Part of every published event.
const MARK: &str = "findme";
const RESTORED_SETTINGS: &str = "min_free_bytes = 0\n";

/// Publishes `count` events and gives their ids.
fn publish(installation: &Installation, count: u32) -> Vec<String> {
    let data = format!("{{\"mark\":\"{MARK}\"}}");
    let sent =
        installation.says(&["send", "--type", "a", "--data", &data, "--count", &count.to_string(), "-o", "json"]);
    let answers = serde_json::Deserializer::from_str(&sent).into_iter::<serde_json::Value>().flatten();
    let rows = answers.flat_map(|answer| answer["data"].as_array().cloned().unwrap_or_default());
    let ids: Vec<String> = rows.filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids.len(), count as usize, "{sent}");
    ids
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// An installation whose data directory is the restored backup.
fn restored(backup: &Path) -> Installation {
    let installation = Installation::with(RESTORED_SETTINGS);
    installation.says(&["restore", text(backup)]);
    installation
}

/// Names of all files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_of_a_running_daemon_has_all_that_was_acknowledged_before_it_began() {
    let installation = Installation::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let webhook = installation.json(&["webhook", "create", &url, "--name", "nobody there"]);
    let before = publish(&installation, 50);
    let key = fs::read_to_string(installation.data_dir().join("first-key")).expect("a key");
    let backup = installation.folder.path().join("backup");
    // The leftover of an earlier backup that was killed.
    fs::create_dir(installation.folder.path().join("backup.partial")).expect("a folder");
    fs::write(installation.folder.path().join("backup.partial/state.redb"), "half").expect("a file");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                publish(&installation, 20);
            }
        });
        let said = installation.says(&["backup", text(&backup)]);
        done.store(true, Ordering::Relaxed);
        assert!(said.starts_with("the backup is in "), "{said}");
    });
    assert_eq!(names(&backup), ["first-key", "lock", "master.key", "partitions", "state.redb"]);
    assert!(!installation.folder.path().join("backup.partial").exists());
    // Restoring verifies all of it.
    let mut other = restored(&backup);
    other.variables.push(("POSTRIDER_TOKEN".into(), key.trim().into()));
    other.serve();
    fs::write(other.data_dir().join("first-key"), &key).expect("the key");
    for id in &before {
        assert_eq!(other.json(&["event", "get", id])["id"], id.as_str());
    }
    assert_eq!(other.json(&["webhook", "get", webhook["id"].as_str().expect("an id")])["name"], "nobody there");
    other.stop();
}

#[tokio::test]
async fn a_backup_of_a_stopped_store_is_the_same_and_one_killed_is_too() {
    for end in ["TERM", "KILL"] {
        let mut installation = Installation::start();
        let before = publish(&installation, 30);
        installation.signal(end);
        installation.daemon.take().expect("a daemon").wait().expect("an end");
        let backup = installation.folder.path().join("backup");
        installation.says(&["backup", &format!("{}/", text(&backup)), "--without-key"]);
        assert_eq!(names(&backup), ["journal", "lock", "partitions", "state.redb"]);
        let key = fs::read_to_string(installation.data_dir().join("first-key")).expect("a key");

        let mut other = Installation::with(RESTORED_SETTINGS);
        let (code, said) = other.fails(&["restore", text(&backup)]);
        assert_eq!(code, 78, "without its key: {said}");
        assert!(!other.data_dir().exists(), "{:?}", names(&other.data_dir()));
        fs::create_dir(other.data_dir()).expect("a folder");
        fs::copy(installation.data_dir().join("master.key"), other.data_dir().join("master.key")).expect("the key");
        other.says(&["restore", text(&backup)]);
        fs::write(other.data_dir().join("first-key"), key).expect("the key");
        other.serve();
        assert_eq!(other.json(&["event", "get", &before[29]])["id"], before[29].as_str());
    }
}

/// The command without the right of root to write everywhere.
fn unprivileged(command: Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(command.get_program()).args(command.get_args());
    let set = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    wrapped.env_clear().envs(set);
    wrapped
}

#[tokio::test]
async fn a_stopped_store_that_is_only_read_is_backed_up_and_walked() {
    let mut installation = Installation::start();
    publish(&installation, 5);
    installation.stop();
    let data = installation.data_dir();
    let set_modes = |of_folder: u32, of_lock: u32| {
        let _ = fs::set_permissions(data.join("lock"), fs::Permissions::from_mode(of_lock));
        fs::set_permissions(&data, fs::Permissions::from_mode(of_folder)).expect("set");
    };
    let run = |words: &[&str]| {
        let mut command = installation.command();
        command.args(words);
        let output = children::output(&mut unprivileged(command));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    set_modes(0o500, 0o400);
    // A process that reads the store has a shared lock.
    let backup = installation.folder.path().join("locked");
    assert_eq!(run(&["backup", text(&backup)]), (Some(0), String::new()));
    assert_eq!(run(&["verify"]), (Some(0), String::new()));
    assert_eq!(run(&["verify", text(&backup)]), (Some(0), String::new()));
    let owner = fs::File::open(data.join("lock")).expect("the lock");
    owner.try_lock().expect("no process has the lock");
    let (code, said) = run(&["backup", text(&installation.folder.path().join("of a daemon"))]);
    assert!(code == Some(69) && said.contains("is in use"), "{code:?} {said}");
    drop(owner);

    set_modes(0o700, 0o600);
    fs::remove_file(data.join("lock")).expect("removed");
    set_modes(0o500, 0o400);
    assert_eq!(run(&["backup", text(&installation.folder.path().join("unlocked"))]), (Some(0), String::new()));
    assert!(!data.join("lock").exists());
    set_modes(0o700, 0o600);
}

#[tokio::test]
async fn a_restore_refuses_a_directory_with_a_store_or_a_part_of_one() {
    let mut installation = Installation::start();
    publish(&installation, 5);
    let backup = installation.folder.path().join("backup");
    installation.says(&["backup", text(&backup)]);
    let (code, said) = installation.fails(&["backup", text(&backup)]);
    assert!(code == 1 && said.contains("is there already"), "{code} {said}");
    let (code, said) = installation.fails(&["restore", text(&backup)]);
    assert!(code == 1 && said.contains("another postrider is running"), "{code} {said}");
    let (code, said) = Installation::with("").fails(&["restore", text(&installation.data_dir())]);
    assert!(code == 1 && said.contains("another postrider is running"), "{code} {said}");
    let (code, said) = installation.fails(&["compact"]);
    assert!(code == 1 && said.contains("another postrider is running"), "{code} {said}");
    installation.stop();
    let compacted = installation.json(&["compact"]);
    assert!(compacted["files"] == 2 && compacted["bytes_after"].as_u64() <= compacted["bytes_before"].as_u64());
    let (code, said) = installation.fails(&["restore", text(&backup)]);
    assert!(code == 1 && said.contains("there is a store already"), "{code} {said}");
    fs::remove_file(installation.data_dir().join("state.redb")).expect("removed");
    let (code, said) = installation.fails(&["restore", text(&backup)]);
    assert!(code == 1 && said.contains("part of one"), "{code} {said}");
    let empty = Installation::with("");
    let (code, said) = empty.fails(&["restore", text(empty.folder.path())]);
    assert!(code == 1 && said.contains("there is no backup here"), "{code} {said}");
    let (code, said) = empty.fails(&["backup", "elsewhere"]);
    assert!(code == 1 && said.contains("there is no store here"), "{code} {said}");
}

#[tokio::test]
async fn a_damaged_backup_is_not_put_in_place() {
    let installation = Installation::start();
    publish(&installation, 200);
    let backup = installation.folder.path().join("backup");
    installation.says(&["backup", text(&backup)]);
    let partition = backup.join("partitions").join(&names(&backup.join("partitions"))[0]);
    let mut bytes = fs::read(&partition).expect("a partition");
    let marks: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(MARK.as_bytes())).collect();
    assert!(!marks.is_empty(), "the published events are in it");
    marks.into_iter().for_each(|at| bytes[at] ^= 0x10);
    fs::write(&partition, bytes).expect("written");
    let other = Installation::with(RESTORED_SETTINGS);
    let (code, said) = other.fails(&["restore", text(&backup)]);
    assert!(code == 1 && said.contains("in the backup"), "{code} {said}");
    assert!(!other.data_dir().exists(), "{:?}", names(&other.data_dir()));
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_or_breaks_off_leaves_no_backup() {
    let mut installation = Installation::start();
    installation.stop();
    let lock = fs::File::open(installation.data_dir().join("lock")).expect("the lock");
    lock.try_lock().expect("no process has the lock");
    let backup = installation.folder.path().join("backup");
    let (code, said) = installation.fails(&["backup", text(&backup)]);
    assert!(code == 69 && said.contains("no daemon answers") && !said.contains("cluster"), "{code} {said}");
    // A node of a cluster that stands by has no socket either.
    let own = installation.variables.len();
    installation.variables.push(("POSTRIDER_CLUSTER__LOG".into(), "postgres://127.0.0.1/postrider".into()));
    installation.variables.push(("POSTRIDER_CLUSTER__URL".into(), "http://127.0.0.1:1".into()));
    for words in [&["backup", text(&backup)][..], &["promote"]] {
        let (code, said) = installation.fails(words);
        assert!(code == 69 && said.contains("postrider cluster status"), "{code} {said}");
    }
    installation.variables.truncate(own);
    // A stream that ends in the middle of `state.redb`.
    let control = UnixListener::bind(installation.data_dir().join("control")).expect("a socket");
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = control.accept().expect("a client");
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).expect("a greeting");
        let name = b"state.redb";
        let head = [b"F".as_slice(), &1_u32.to_le_bytes(), &1_u32.to_le_bytes(), &10_u16.to_le_bytes(), name];
        stream.write_all(&head.concat()).expect("taken");
    });
    let (code, said) = installation.fails(&["backup", text(&backup)]);
    assert!(code == 1 && said.contains("the backup: "), "{code} {said}");
    daemon.join().expect("it spoke");
    assert!(!names(installation.folder.path()).iter().any(|name| name.starts_with("backup")), "nothing is left");
}
