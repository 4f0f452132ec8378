//! Two machines as an operator runs them: an owner and its standby as processes, with breaks, a kill and a promotion.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::support::installation::{Installation, eventually};
use crate::support::ports::ReservedPort;

/// Exit code of a store that has an owner of a higher term elsewhere.
const OVERTAKEN: i32 = 76;

/// Two machines that name each other.
struct Pair {
    owner: Installation,
    standby: Installation,
    _ports: [ReservedPort; 2],
}

fn machine(port: &ReservedPort, more: &str) -> Installation {
    let mut installation =
        Installation::with(&format!("min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n{more}"));
    installation.variables.push(("POSTRIDER_LISTEN".into(), port.address().to_string()));
    installation
}

fn set_standby(installation: &Installation, of: &ReservedPort, key: &Path, required: bool) {
    let text = format!(
        "min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n[standby]\nof = \"http://{}\"\nkey_file = {:?}\nrequired = {required}\n",
        of.address(),
        key.display().to_string(),
    );
    fs::write(installation.settings_file(), text).expect("the settings");
}

fn get(url: &str, path: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("an address");
    let Ok(mut stream) = TcpStream::connect(address) else { return (0, String::new()) };
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let answer = asked.and_then(|()| std::io::read_to_string(stream)).unwrap_or_default();
    (answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
}

fn metric(installation: &Installation, name: &str) -> Option<f64> {
    let (_, text) = get(&installation.url, "/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

async fn is_in_step(standby: &Installation) {
    eventually("the standby has everything", || {
        let connected = metric(standby, "postrider_standby_connected")? == 1.0;
        let whole = metric(standby, "postrider_standby_whole")? == 1.0;
        (connected && whole && metric(standby, "postrider_standby_behind_commits")? == 0.0).then_some(())
    })
    .await;
}

impl Pair {
    /// An owner with a key for its standby, and the standby, which has a whole copy.
    async fn start(required: bool) -> Pair {
        let ports = [ReservedPort::new(), ReservedPort::new()];
        let (mut owner, mut standby) = (machine(&ports[0], ""), machine(&ports[1], ""));
        owner.serve();
        let made = owner.json(&["key", "create", "standby", "--scope", "replicate"]);
        let key = owner.folder.path().join("standby.key");
        fs::write(&key, made["key"].as_str().expect("a key")).expect("the key's file");
        set_standby(&standby, &ports[0], &key, required);
        fs::create_dir(standby.data_dir()).expect("a directory");
        for name in ["master.key", "first-key"] {
            fs::copy(owner.data_dir().join(name), standby.data_dir().join(name)).expect("the keys of the store");
        }
        standby.serve();
        is_in_step(&standby).await;
        owner.stop();
        set_standby(&owner, &ports[1], &key, required);
        owner.serve();
        is_in_step(&standby).await;
        Pair { owner, standby, _ports: ports }
    }
}

/// The doctor finds no fault of a standby that is well.
fn the_doctor_is_content_with(standby: &Installation) {
    let output = standby.output(&["doctor", "-o", "json"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = said["checks"].as_array().expect("checks");
    let status = |check: &str| checks.iter().find(|row| row["check"] == check).map(|row| row["status"].clone());
    assert_eq!([status("daemon"), status("standby")], [Some("OK".into()), Some("OK".into())], "{checks:#?}");
    // The test made the directory, with the mode of any directory.
    let others = || checks.iter().filter(|row| row["check"] != "data_dir");
    assert!(others().all(|row| row["status"] != "FAIL"), "{checks:#?}");
}

fn publish(installation: &Installation, name: &str) -> String {
    let said = installation.json(&["send", "--type", "a", "--data", "{}", "--event-id", name]);
    said["id"].as_str().expect("an id").to_owned()
}

fn events(installation: &Installation) -> Vec<String> {
    let said = installation.says(&["event", "list", "--all", "-o", "json"]);
    let rows = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut ids: Vec<String> = rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_promoted_standby_has_all_that_was_acknowledged_and_the_former_owner_stops() {
    let Pair { mut owner, mut standby, _ports } = Pair::start(true).await;
    let mut acknowledged: Vec<String> = (0..5).map(|n| publish(&owner, &format!("event-{n}"))).collect();
    acknowledged.sort();
    let (status, told) = get(&standby.url, "/v1/events");
    assert!(
        status == 503 && told.contains("\"code\":\"standby\"") && told.contains("postrider-owner: http://"),
        "{told}"
    );
    assert_eq!(get(&standby.url, "/healthz").0, 200);
    assert!(get(&standby.url, "/readyz").1.contains("\"code\":\"standby\""));
    the_doctor_is_content_with(&standby);
    // A reload comes when the store is its own.
    let file = fs::OpenOptions::new().append(true).open(standby.settings_file());
    file.and_then(|mut file| file.write_all(b"[log]\nlevel = \"debug\"\n")).expect("written");
    standby.signal("HUP");
    let noted = "the settings are read again once this machine owns the store";
    eventually("the signal is noted", || standby.logged(noted).pop()).await;
    let mut killed = owner.daemon.take().expect("the owner");
    killed.kill().expect("a kill");
    killed.wait().expect("an end");
    let said = standby.json(&["promote"]);
    assert_eq!((said["term"].as_u64(), said["running"].as_bool()), (Some(2), Some(true)));
    eventually("the promoted one serves", || (get(&standby.url, "/readyz").0 == 200).then_some(())).await;
    assert!(get(&standby.url, "/readyz").1.contains("standby_missing"), "reads go on, and changes wait for a standby");
    assert_eq!(events(&standby), acknowledged);
    let taken = eventually("the reload", || standby.logged("a setting was taken over").pop()).await;
    assert_eq!(taken["fields"]["key"], "log.level");
    // The former owner comes back, hears of the other, and stops for good.
    owner.serve();
    let mut overtaken = owner.daemon.take().expect("the former owner");
    let code = eventually("it stops", || overtaken.try_wait().expect("a process")).await;
    assert_eq!(code.code(), Some(OVERTAKEN), "{}", owner.log());
    let (code, said) = owner.fails(&["serve"]);
    assert!(code == OVERTAKEN && said.contains("of term 1") && said.contains("of term 2"), "{said}");
    // With its store out of the way it becomes the standby.
    let old = owner.data_dir().with_extension("old");
    fs::rename(owner.data_dir(), &old).expect("moved");
    fs::create_dir(owner.data_dir()).expect("a directory");
    fs::copy(old.join("master.key"), owner.data_dir().join("master.key")).expect("the key");
    owner.serve();
    is_in_step(&owner).await;
    publish(&standby, "after");
    owner.stop();
    standby.stop();
}

#[tokio::test]
async fn a_standby_resumes_by_number_and_an_isolated_owner_acknowledges_nothing() {
    let Pair { mut owner, mut standby, _ports } = Pair::start(true).await;
    publish(&owner, "one");
    let copies = |standby: &Installation| standby.logged("copying the owner's store").len();
    assert_eq!(copies(&standby), 1, "the owner's restart needs no copy");
    standby.stop();
    let (code, said) = owner.fails(&["send", "--type", "a", "--data", "{}", "--event-id", "two"]);
    assert!(code != 0 && said.contains("standby"), "{said}");
    assert_eq!(get(&owner.url, "/healthz").0, 200);
    assert!(!events(&owner).is_empty(), "reads go on");
    standby.serve();
    is_in_step(&standby).await;
    // A loaded machine may confirm too late. The answer says that the request may be repeated.
    let words = ["send", "--type", "a", "--data", "{}", "--event-id", "two"];
    eventually("the second event", || owner.output(&words).status.success().then_some(())).await;
    assert_eq!(copies(&standby), 1, "the standby resumed by number");
    standby.stop();
    // A stopped standby is promoted too. The copy that it had begun goes.
    let partial = standby.data_dir().join("partial");
    fs::create_dir_all(partial.join("partitions")).expect("a copy that was begun");
    let said = standby.json(&["promote"]);
    assert_eq!((said["term"].as_u64(), said["running"].as_bool()), (Some(2), Some(false)));
    let (code, said) = standby.fails(&["promote"]);
    assert!(code == 1 && said.contains("an owner's already"), "{said}");
    assert!(!partial.exists(), "the copy that was begun");
    let (code, said) = owner.fails(&["promote"]);
    assert!(code == 1 && said.contains("an owner's already, of term 1"), "{said}");
    assert_eq!(
        (owner.logged("this daemon was not promoted").len(), owner.logged("a backup was not taken").len()),
        (1, 0)
    );
    owner.stop();
    let seen = events_of_promoted(&mut standby);
    assert_eq!(seen.len(), 2);
}

fn events_of_promoted(standby: &mut Installation) -> Vec<String> {
    standby.serve();
    let seen = events(standby);
    standby.stop();
    seen
}

#[tokio::test]
async fn a_standby_with_a_copy_refuses_another_master_key() {
    let Pair { mut owner, mut standby, _ports } = Pair::start(false).await;
    standby.stop();
    let file = standby.data_dir().join("master.key");
    let own = fs::read(&file).expect("the key");
    fs::write(&file, "another key of thirty-two bytes or more").expect("another key");
    for words in ["serve", "promote"] {
        let (code, said) = standby.fails(&[words]);
        let path = file.display().to_string();
        assert!(code == 78 && said.contains(&path) && said.contains("put the key back"), "{words}: {code} {said}");
    }
    fs::write(&file, own).expect("the key");
    standby.serve();
    is_in_step(&standby).await;
    standby.stop();
    owner.stop();
}

#[tokio::test]
async fn the_master_key_changes_on_one_machine_after_the_other() {
    let Pair { mut owner, mut standby, _ports } = Pair::start(false).await;
    owner.stop();
    owner.says(&["key", "rotate-master"]);
    owner.serve();
    is_in_step(&standby).await;
    publish(&owner, "between");
    standby.stop();
    let (new, file) = (owner.data_dir().join("master.key"), standby.data_dir().join("master.key"));
    standby.says(&["key", "rotate-master", "--new-key-file", &new.display().to_string()]);
    let (code, said) = standby.fails(&["serve"]);
    assert!(code == 78 && said.contains("does not open the store"), "{said}");
    fs::copy(&new, &file).expect("the new key");
    standby.serve();
    is_in_step(&standby).await;
    publish(&owner, "after");
    is_in_step(&standby).await;
    assert_eq!(standby.logged("copying the owner's store").len(), 1, "the first copy only");
    owner.stop();
    assert_eq!(standby.json(&["promote"])["running"], true);
    eventually("the promoted one serves", || (get(&standby.url, "/readyz").0 == 200).then_some(())).await;
    assert_eq!(events(&standby).len(), 2);
    standby.stop();
}

/// Copies a data directory of a stopped daemon.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => copy_dir(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).expect("copied")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn two_owners_of_one_term_stop_until_one_is_chosen() {
    let Pair { mut owner, mut standby, _ports } = Pair::start(false).await;
    owner.stop();
    standby.stop();
    // Another standby of the same owner, on its machine.
    fs::rename(owner.data_dir(), owner.data_dir().with_extension("old")).expect("moved");
    copy_dir(&standby.data_dir(), &owner.data_dir());
    for machine in [&mut owner, &mut standby] {
        assert_eq!(machine.json(&["promote"])["term"], 2);
        machine.serve();
    }
    for machine in [&mut owner, &mut standby] {
        let mut daemon = machine.daemon.take().expect("a daemon");
        let code = eventually("it stops", || daemon.try_wait().expect("a process")).await;
        assert_eq!(code.code(), Some(OVERTAKEN), "{}", machine.log());
        let (code, said) = machine.fails(&["serve"]);
        assert!(code == OVERTAKEN && said.contains("of term 2") && said.contains("keep one"), "{said}");
    }
    // The chosen one has a higher term, and the other copies its store.
    assert_eq!(owner.json(&["promote"])["term"], 3);
    owner.serve();
    let old = standby.data_dir().with_extension("old");
    fs::rename(standby.data_dir(), &old).expect("moved");
    fs::create_dir(standby.data_dir()).expect("a directory");
    fs::copy(old.join("master.key"), standby.data_dir().join("master.key")).expect("the key");
    standby.serve();
    is_in_step(&standby).await;
    standby.stop();
    owner.stop();
}

#[tokio::test]
async fn a_directory_without_a_store_stays_as_it_is() {
    let installation = Installation::with("min_free_bytes = 0\n");
    fs::create_dir_all(installation.data_dir()).expect("a directory");
    for words in [&["promote"][..], &["cluster", "init"]] {
        let (code, said) = installation.fails(words);
        assert!(code == 1 && said.contains("there is no store here"), "{words:?}: {code} {said}");
        assert_eq!(fs::read_dir(installation.data_dir()).expect("a directory").count(), 0, "{words:?}");
    }
}

#[tokio::test]
async fn a_key_without_the_scope_and_another_protocol_are_refused() {
    let installation = Installation::start();
    let (status, _) = get(&installation.url, "/v1/replication");
    assert_eq!(status, 401);
    let made = installation.json(&["key", "create", "other", "--scope", "admin"]);
    let address = installation.url.strip_prefix("http://").expect("an address");
    let ask = |key: &str, more: &str| {
        let mut stream = TcpStream::connect(address).expect("the daemon");
        let head = format!("GET /v1/replication HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n");
        stream.write_all(format!("{head}{more}connection: close\r\n\r\n").as_bytes()).expect("asked");
        std::io::read_to_string(stream).expect("an answer")
    };
    let denied = ask(made["key"].as_str().expect("a key"), "");
    assert!(denied.starts_with("HTTP/1.1 403") && denied.contains("scope_missing"), "{denied}");
    let own = fs::read_to_string(installation.data_dir().join("first-key")).expect("a key");
    let told = ask(own.trim(), "");
    assert!(
        told.starts_with("HTTP/1.1 200") && told.contains("\"term\":1") && told.contains("\"standbys\":0"),
        "{told}"
    );
    let other = ask(own.trim(), "upgrade: websocket\r\n");
    assert!(other.starts_with("HTTP/1.1 426"), "{other}");
}

#[tokio::test]
async fn a_revoked_key_loses_the_link_that_it_has_opened() {
    let mut pair = Pair::start(false).await;
    pair.owner.says(&["key", "revoke", "standby"]);
    eventually("the standby is not followed", || {
        (metric(&pair.standby, "postrider_standby_connected")? == 0.0).then_some(())
    })
    .await;
    let refused = |line: &Value| line["fields"]["why"].as_str().is_some_and(|why| why.contains("standby.key_file"));
    let message = "the owner is not followed; trying again";
    eventually("the log names the key", || pair.standby.logged(message).into_iter().find(refused)).await;
    pair.standby.stop();
    pair.owner.stop();
}
