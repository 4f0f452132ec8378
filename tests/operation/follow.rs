//! `postrider backup --follow` as an operator uses it: beside a daemon under load, killed and restarted on either side,
//! and restored at any commit.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::children;
use crate::support::installation::{Installation, eventually};

const RESTORED_SETTINGS: &str = "min_free_bytes = 0\n";

/// The program while it follows.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Follower {
    fn start(installation: &Installation, to: &Path, more: &[&str]) -> Follower {
        let words = [&["backup", "--follow", text(to), "-o", "json"], more].concat();
        let mut child = children::spawn(installation.command().args(words).stdout(Stdio::piped()));
        let lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        Follower { child, lines }
    }

    /// Reads until a line of this kind.
    fn news(&mut self, kind: &str) -> Value {
        for line in self.lines.by_ref().map_while(Result::ok) {
            let news: Value = serde_json::from_str(&line).expect("JSON");
            if news["news"] == kind {
                return news;
            }
        }
        panic!("it ended before {kind}: {:?}", self.child.wait());
    }

    fn signal(&self, name: &str) {
        children::signal(&self.child, name);
    }

    /// Sends SIGTERM and returns the exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().expect("an end").code()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Publishes `count` events one after another, in commits of their own or together with others. Returns their ids in
/// order.
fn publish(installation: &Installation, count: usize) -> Vec<String> {
    let one = |_| {
        let said = installation.json(&["send", "--type", "a", "--data", "{\"mark\":1}"]);
        said["id"].as_str().expect("an id").to_owned()
    };
    (0..count).map(one).collect()
}

/// The content of a restored and verified copy, as its own daemon shows it.
fn restored(live: &Path, at: Option<u64>, key: &str) -> BTreeSet<String> {
    let mut installation = Installation::with(RESTORED_SETTINGS);
    let at = at.map(|at| at.to_string());
    let mut words = vec!["restore", text(live)];
    words.extend(at.iter().flat_map(|at| ["--at", at]));
    let said = installation.says(&words);
    assert!(said.contains("as it was after commit "), "{said}");
    installation.variables.push(("POSTRIDER_TOKEN".into(), key.into()));
    installation.serve();
    fs::write(installation.data_dir().join("first-key"), key).expect("the key");
    let listed = rows(&installation.says(&["event", "list", "--all", "-o", "json"]));
    installation.stop();
    listed.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

/// Rows, one per line.
fn rows(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The generations, oldest first.
fn listed(installation: &Installation, live: &Path) -> Vec<Value> {
    rows(&installation.says(&["restore", "--list", text(live), "-o", "json"]))
}

fn key_of(installation: &Installation) -> String {
    fs::read_to_string(installation.data_dir().join("first-key")).expect("a key").trim().to_owned()
}

fn live_in(installation: &Installation) -> PathBuf {
    installation.folder.path().join("live")
}

fn metric(installation: &Installation, name: &str) -> f64 {
    let address = installation.url.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(address).expect("the daemon");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let answer = std::io::read_to_string(stream).expect("an answer");
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().parse().expect("a number")
}

/// Whether the events are the first published ones, without a gap.
fn is_beginning(found: &BTreeSet<String>, published: &[String]) -> bool {
    *found == published[..found.len().min(published.len())].iter().cloned().collect()
}

#[tokio::test]
async fn every_commit_can_be_restored_after_kills_of_daemon_and_follower() {
    let mut installation = Installation::start();
    let (key, live) = (key_of(&installation), live_in(&installation));
    let mut published = publish(&installation, 10);
    let mut follower = Follower::start(&installation, &live, &[]);
    // Under load during the base and after it.
    let done = AtomicBool::new(false);
    let more = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut ids = Vec::new();
            while !done.load(Ordering::Relaxed) {
                ids.extend(publish(&installation, 5));
            }
            ids
        });
        assert_eq!(follower.news("begun")["generation"], 1);
        assert_eq!(follower.news("whole")["generation"], 1);
        done.store(true, Ordering::Relaxed);
        publishing.join().expect("the publisher ended well")
    });
    published.extend(more);
    published.extend(publish(&installation, 10));
    assert_eq!(metric(&installation, "postrider_backup_followers"), 1.0);
    let all: BTreeSet<String> = published.iter().cloned().collect();
    eventually("the follower has it all", || (restored(&live, None, &key) == all).then_some(())).await;
    // A second follower is refused the directory.
    let (code, said) = installation.fails(&["backup", "--follow", text(&live)]);
    assert!(code == 1 && said.contains("another process writes to it"), "{code} {said}");

    follower.signal("KILL");
    drop(follower);
    let first = &listed(&installation, &live)[0];
    let (from, to) = (first["from"].as_u64().expect("a number"), first["to"].as_u64().expect("a number"));
    assert!(from < to && first["state"] == "whole", "{first}");
    let counts: Vec<usize> = [from, from + (to - from) / 2, to - 1, to, to + 100]
        .into_iter()
        .map(|at| {
            let found = restored(&live, Some(at), &key);
            assert!(is_beginning(&found, &published), "commit {at}: {} events", found.len());
            found.len()
        })
        .collect();
    assert!(counts.is_sorted() && counts[0] < counts[2] && counts[3] == published.len(), "{counts:?}");
    assert_eq!(counts[4], published.len(), "the last commit before a later number");
    let (code, said) =
        Installation::with(RESTORED_SETTINGS).fails(&["restore", text(&live), "--at", "1970-01-01T00:00:00Z"]);
    assert!(code == 1 && said.contains("the first commit here is "), "{code} {said}");
    let said = installation.says(&["verify", text(&live)]);
    assert!(said.contains("everything is as it should be"), "{said}");

    // Another follower continues in the same directory, and outlives the daemon.
    let mut follower = Follower::start(&installation, &live, &["--keep", "1"]);
    assert_eq!(follower.news("whole")["generation"], 2);
    assert_eq!(follower.news("removed")["generation"], 1);
    published.extend(publish(&installation, 5));
    installation.signal("KILL");
    installation.daemon.take().expect("a daemon").wait().expect("an end");
    follower.news("interrupted");
    let found = restored(&live, None, &key);
    assert!(is_beginning(&found, &published) && found.len() + 5 >= published.len(), "{}", found.len());
    installation.serve();
    published.extend(publish(&installation, 10));
    let all: BTreeSet<String> = published.iter().cloned().collect();
    eventually("the follower has it all", || (restored(&live, None, &key) == all).then_some(())).await;
    installation.stop();
    assert_eq!(follower.stop(), Some(0));
    assert_eq!(restored(&live, None, &key), all);
}

#[tokio::test]
async fn a_generation_goes_on_over_orderly_restarts_and_any_commit_of_it_can_be_restored() {
    let mut installation = Installation::start();
    let (key, live) = (key_of(&installation), live_in(&installation));
    let mut follower = Follower::start(&installation, &live, &[]);
    follower.news("whole");
    let mut published = publish(&installation, 5);
    for _ in 0..2 {
        installation.stop();
        follower.news("interrupted");
        installation.serve();
        assert!(follower.news("resumed")["commit"].as_u64().is_some());
        published.extend(publish(&installation, 5));
    }
    let all: BTreeSet<String> = published.iter().cloned().collect();
    eventually("the follower has it all", || (restored(&live, None, &key) == all).then_some(())).await;
    let generations = listed(&installation, &live);
    assert_eq!(generations.len(), 1, "no other copy was made: {generations:?}");
    let (from, to) =
        (generations[0]["from"].as_u64().expect("a number"), generations[0]["to"].as_u64().expect("a number"));
    for at in from..=to {
        let found = restored(&live, Some(at), &key);
        assert!(is_beginning(&found, &published), "commit {at}: {} events", found.len());
    }
    // A store that was set back to an earlier moment has another history, which does not follow the last commit.
    installation.stop();
    follower.news("interrupted");
    fs::rename(installation.data_dir(), installation.data_dir().with_extension("old")).expect("moved");
    installation.says(&["restore", text(&live), "--at", &(from + 1).to_string()]);
    fs::write(installation.data_dir().join("first-key"), &key).expect("the key");
    installation.serve();
    assert_eq!(follower.news("whole")["generation"], 2);
    assert_eq!(follower.stop(), Some(0));
    let said = installation.says(&["verify", text(&live)]);
    assert!(said.contains("everything is as it should be"), "{said}");
    // The restored store is a copy until it is promoted.
    let is_copy = |installation: &Installation| installation.says(&["ready", "-o", "json"]).contains("restored_copy");
    let warned = |installation: &Installation| installation.log().matches("this store is a restored copy").count();
    assert!(is_copy(&installation) && warned(&installation) == 1, "{}", installation.log());
    let (code, said) = installation.fails(&["promote"]);
    assert!(code == 1 && said.contains("a restored copy is promoted while it is stopped"), "{code} {said}");
    installation.stop();
    assert_eq!(installation.json(&["promote"])["term"], 2);
    installation.serve();
    assert!(!is_copy(&installation) && warned(&installation) == 1, "{}", installation.log());
}

#[tokio::test]
async fn another_base_is_made_after_a_time_without_a_gap_and_old_ones_go() {
    let installation = Installation::start();
    let (key, live) = (key_of(&installation), live_in(&installation));
    let mut follower = Follower::start(&installation, &live, &["--new-base-every", "1ms", "--keep", "2"]);
    let mut published = Vec::new();
    while follower.news("removed")["generation"] != 3 {
        published.extend(publish(&installation, 3));
    }
    assert_eq!(follower.stop(), Some(0));
    let whole: Vec<Value> = listed(&installation, &live).into_iter().filter(|row| row["state"] == "whole").collect();
    assert_eq!(whole.len(), 2, "{whole:?}");
    let (older, newer) = (&whole[0], &whole[1]);
    assert!(older["to"].as_u64() >= newer["from"].as_u64(), "no commit falls between them: {whole:?}");
    let found = restored(&live, older["from"].as_u64(), &key);
    assert!(is_beginning(&found, &published));
    assert!(restored(&live, None, &key).len() >= found.len());
}

#[tokio::test]
async fn a_torn_end_is_the_end_and_damage_is_refused_with_a_way_out() {
    let installation = Installation::start();
    let (key, live) = (key_of(&installation), live_in(&installation));
    let mut follower = Follower::start(&installation, &live, &[]);
    follower.news("whole");
    let published = publish(&installation, 20);
    let all: BTreeSet<String> = published.iter().cloned().collect();
    eventually("the follower has it all", || (restored(&live, None, &key) == all).then_some(())).await;
    assert_eq!(follower.stop(), Some(0));
    let log = live.join("000001").join("000001.log");
    let bytes = fs::read(&log).expect("a log");

    fs::write(&log, &bytes[..bytes.len() - 3]).expect("written");
    let found = restored(&live, None, &key);
    assert!(is_beginning(&found, &published) && found.len() < published.len(), "{}", found.len());
    let said = installation.says(&["verify", text(&live)]);
    assert!(said.contains("everything is as it should be"), "{said}");

    let mut altered = bytes.clone();
    let middle = bytes.len() * 3 / 4;
    altered[middle] ^= 4;
    fs::write(&log, &altered).expect("written");
    let (code, said) = installation.fails(&["verify", text(&live)]);
    assert!(code == 1 && said.contains("one thing is not as it should be"), "{code} {said}");
    let empty = Installation::with(RESTORED_SETTINGS);
    let (code, said) = empty.fails(&["restore", text(&live)]);
    assert!(code == 1 && said.contains("000001.log") && said.contains("from byte "), "{code} {said}");
    assert!(!empty.data_dir().exists());
    let at = said.split("--at ").nth(1).and_then(|rest| rest.split('`').next()).expect("a way out");
    let found = restored(&live, at.parse().ok(), &key);
    assert!(is_beginning(&found, &published) && found.len() < published.len(), "{}", found.len());

    fs::write(&log, &bytes).expect("written");
    assert_eq!(restored(&live, None, &key), all);
    let plain = installation.folder.path().join("plain");
    installation.says(&["backup", text(&plain)]);
    let (code, said) = empty.fails(&["restore", text(&plain), "--at", "1"]);
    assert!(code == 1 && said.contains("a plain backup is of one moment"), "{code} {said}");
    let (code, said) = installation.fails(&["restore", "--list", text(&plain)]);
    assert!(code == 1 && said.contains("no directory that --follow has made"), "{code} {said}");
    let (code, said) = installation.fails(&["backup", "--follow", text(&plain)]);
    assert!(code == 1 && said.contains("neither empty nor"), "{code} {said}");
    let (code, said) = installation.fails(&["restore", text(&live), "--data-dir", text(&live)]);
    assert!(code == 1, "{code} {said}");
}

#[tokio::test]
async fn a_follower_that_confirms_nothing_is_disconnected_and_publishing_goes_on() {
    let installation = Installation::start();
    let mut silent = UnixStream::connect(installation.data_dir().join("control")).expect("the daemon");
    let greeting = format!("postrider {} follow\n", env!("CARGO_PKG_VERSION"));
    silent.write_all(greeting.as_bytes()).expect("said");
    // The confirmation of a commit says that the copy is whole.
    silent.write_all(&0_u64.to_le_bytes()).expect("confirmed");
    eventually("the follower is connected", || {
        (metric(&installation, "postrider_backup_followers") == 1.0).then_some(())
    })
    .await;
    let large = installation.folder.path().join("large.json");
    fs::write(&large, format!("\"{}\"", "x".repeat(1_000_000))).expect("a file");
    let data = format!("@{}", text(&large));
    let send = ["send", "--type", "a", "--data", &data];
    // The first commit waits for no confirmation, and exceeds the socket's buffer.
    installation.says(&send);
    let mut waiting = children::spawn(installation.command().args(send).stdout(Stdio::null()));
    let behind = || metric(&installation, "postrider_backup_follower_queue_bytes");
    eventually("the second commit waits for the first", || (behind() > 1_000_000.0).then_some(())).await;
    // The wait ends when the follower is disconnected.
    assert!(waiting.wait().expect("an end").success());
    assert_eq!(publish(&installation, 2).len(), 2);
    assert_eq!(metric(&installation, "postrider_backup_followers_cut_total"), 1.0);
    assert_eq!(
        metric(&installation, "postrider_backup_follower_queue_bytes"),
        0.0,
        "the queue of the follower is freed"
    );
    eventually("the follower is disconnected", || {
        (metric(&installation, "postrider_backup_followers") == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_follower_waits_for_another_backup_to_end() {
    let installation = Installation::start();
    let large = installation.folder.path().join("large.json");
    fs::write(&large, format!("\"{}\"", "x".repeat(1_000_000))).expect("a file");
    installation.says(&["send", "--type", "a", "--data", &format!("@{}", text(&large)), "--count", "10"]);
    // A backup that is begun and not read keeps the snapshot.
    let mut other = UnixStream::connect(installation.data_dir().join("control")).expect("the daemon");
    let greeting = format!("postrider {} backup\n", env!("CARGO_PKG_VERSION"));
    other.write_all(greeting.as_bytes()).expect("said");
    other.read_exact(&mut [0; 1]).expect("the backup begins");
    let mut follower = Follower::start(&installation, &live_in(&installation), &[]);
    let why = follower.news("no_base")["why"].to_string();
    assert!(why.contains("another one is being taken"), "{why}");
    drop(other);
    assert_eq!(follower.news("whole")["generation"], 1, "a generation without a copy leaves nothing");
    assert_eq!(follower.stop(), Some(0));
}

#[tokio::test]
async fn following_needs_a_daemon_to_begin_with() {
    let mut installation = Installation::start();
    installation.stop();
    let (code, said) = installation.fails(&["backup", "--follow", text(&live_in(&installation))]);
    assert!(code == 69 && said.contains("no daemon answers"), "{code} {said}");
    assert!(!live_in(&installation).exists());
    let (code, said) = Installation::with("").fails(&["backup", "--follow", "elsewhere"]);
    assert!(code == 1 && said.contains("there is no store here"), "{code} {said}");
}
