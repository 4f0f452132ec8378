//! The command line as a new user meets it: three commands without a flag, exit codes that name the failure, and verbs
//! that outlive a restart.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::children;
use crate::support::installation::{Installation, eventually};
use crate::support::ports::ReservedPort;

/// The wait for a line. On a busy machine it comes late, and if something is wrong it never comes.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// A verb that runs, and the lines of both its streams.
struct Running {
    child: Child,
    lines: Receiver<String>,
    read: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = children::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let (tell, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
            });
        }
        Self { child, lines, read: Vec::new() }
    }

    /// Reads on until a line that has `text`.
    fn line(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LINE_TIMEOUT);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} in\n{}", self.read.join("\n")));
            self.read.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    fn end(&mut self, signal: &str) {
        children::signal(&self.child, signal);
        assert!(self.child.wait().expect("an end").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program in an empty environment, but for the directories that a login sets.
fn fresh(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.args(words).env_clear().env("XDG_RUNTIME_DIR", folder).env("TMPDIR", folder);
    // The default port may belong to another test.
    command.env("POSTRIDER_LISTEN", "127.0.0.1:0").env("POSTRIDER_CONFIG", "/dev/null").current_dir(folder);
    command
}

#[test]
fn three_commands_work_without_a_flag_or_a_key() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut daemon = Running::start(&mut fresh(folder.path(), &["serve", "--dev"]));
    let listens = daemon.line("postrider: listening on ");
    daemon.line("listen --create");
    daemon.line("send a.b '{}'");
    let data = daemon.line("Data: ");
    let data = data.trim_start_matches("Data: ").split(';').next().expect("a path").to_owned();
    assert!(Path::new(&data).join("first-key").exists(), "{data}");

    let mut receiver = Running::start(&mut fresh(folder.path(), &["listen", "--create"]));
    receiver.line("receiving on ");
    let sent = children::output(&mut fresh(folder.path(), &["send", "a.b", "{}"]));
    let (out, err) = (String::from_utf8_lossy(&sent.stdout), String::from_utf8_lossy(&sent.stderr));
    assert!(sent.status.success(), "{err}");
    assert_eq!(err.lines().count(), 1, "said once: {err}");
    let url = listens.trim_start_matches("postrider: listening on ");
    assert!(err.starts_with(&format!("using {url} with the key in {data}/first-key")), "{err}");
    assert!(out.contains("a.b"), "{out}");
    receiver.line("#1  verified  -> 200");
    receiver.end("INT");
    let doctor = children::output(&mut fresh(folder.path(), &["doctor"]));
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let is_that_one = said.contains(&data) && said.contains("OK    daemon          it is ready");
    assert!(is_that_one, "the doctor looks at the daemon that runs: {said}");

    // The receiver's webhook is gone, and the next event is sent to no webhook.
    let sent = children::output(&mut fresh(folder.path(), &["send", "a.b"]));
    let err = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(sent.status.success() && err.contains("sent to no webhook: none that is enabled wants a.b"), "{err}");
    daemon.end("TERM");
    assert!(!Path::new(&data).exists(), "the data goes with the daemon");
    let left: Vec<_> = fs::read_dir(folder.path().join("postrider")).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_daemon_that_left_no_record_is_found_by_its_settings() {
    let folder = tempfile::tempdir().expect("a directory");
    let port = ReservedPort::new();
    let with_port = |words: &[&str]| {
        let mut command = fresh(folder.path(), words);
        command.env("POSTRIDER_LISTEN", port.address().to_string()).env("POSTRIDER_MIN_FREE_BYTES", "0");
        command
    };
    let mut daemon = Running::start(with_port(&["serve"]).env("XDG_RUNTIME_DIR", "/nonexistent"));
    daemon.line("postrider: listening on ");
    let stats = children::output(&mut with_port(&["stats"]));
    let err = String::from_utf8_lossy(&stats.stderr).into_owned();
    assert!(stats.status.success() && err.contains("with the key in ./postrider-data/first-key"), "{err}");
    // A key that another user could have planted is refused.
    let key = folder.path().join("postrider-data/first-key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("set");
    let stats = children::output(&mut with_port(&["stats"]));
    let err = String::from_utf8_lossy(&stats.stderr).into_owned();
    assert!(stats.status.code() == Some(78) && err.contains("is not to be trusted: other users may write it"), "{err}");
    daemon.end("TERM");
}

#[test]
fn a_key_goes_to_no_other_daemon() {
    let folder = tempfile::tempdir().expect("a directory");
    let mut daemon = Running::start(&mut fresh(folder.path(), &["serve", "--dev"]));
    daemon.line("postrider: listening on ");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", other.local_addr().expect("an address"));
    let asked = std::thread::spawn(move || {
        let (stream, _) = other.accept().expect("a request");
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    });
    let stats = children::output(&mut fresh(folder.path(), &["stats", "--url", &url]));
    assert!(!stats.status.success());
    let head = asked.join().expect("a request").join("\n").to_lowercase();
    assert!(head.starts_with("get /v1/stats") && !head.contains("authorization"), "{head}");
    daemon.end("TERM");
}

#[test]
fn a_verb_that_failed_ends_with_exit_code_1() {
    let installation = Installation::start();
    let dead = ReservedPort::new();
    let url = format!("http://{}/", dead.address());
    let webhook = installation.json(&["webhook", "create", &url, "--name", "dead", "--retry-schedule", "none"]);
    let id = webhook["id"].as_str().expect("an id");
    let (code, err) = installation.fails(&["webhook", "test", id]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("did not arrive: Connection refused"), "{err}");
    installation.says(&["send", "a.b"]);
    let (code, err) = installation.fails(&["replay", "--webhook", id, "--from", "1h", "--wait"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("1 of 1 deliveries failed"), "{err}");
}

#[test]
fn a_bad_signature_is_answered_401_unless_told_otherwise() {
    let installation = Installation::start();
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (flags, status) in [(&[][..], "401"), (&["--accept-bad-signatures"][..], "200")] {
        let words = [&["listen", "--secret", other][..], flags].concat();
        let mut receiver = Running::start(installation.command().args(&words));
        let url = receiver.line("receiving on ").trim_start_matches("receiving on ").to_owned();
        let webhook = installation.json(&["webhook", "create", &url, "--retry-schedule", "none"]);
        let test = installation.output(&["webhook", "test", webhook["id"].as_str().expect("an id")]);
        assert_eq!(test.status.code(), Some(i32::from(status == "401")));
        receiver.line(&format!("bad (no signature matches)  -> {status}"));
        receiver.end("INT");
    }
}

#[tokio::test]
async fn tail_and_feed_go_on_after_a_restart() {
    let port = ReservedPort::new();
    let mut installation = Installation::with("min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n");
    installation.variables.push(("POSTRIDER_LISTEN".into(), port.address().to_string()));
    installation.serve();
    let dead = ReservedPort::new();
    let url = format!("http://{}/", dead.address());
    let webhook = installation.json(&["webhook", "create", &url, "--retry-schedule", "none"]);
    let id = webhook["id"].as_str().expect("an id").to_owned();
    installation.says(&["send", "before.restart"]);
    let mut feed = Running::start(installation.command().args(["webhook", "feed", &id, "--follow", "-o", "json"]));
    let mut tail = Running::start(installation.command().args(["tail", "-o", "json", "-n", "10"]));
    feed.line("before.restart");
    let first = tail.line("connect_refused");
    installation.stop();
    feed.line("trying again");
    tail.line("trying again");
    installation.serve();
    installation.says(&["send", "after.restart"]);
    feed.line("after.restart");
    let second = tail.line("connect_refused");
    assert_ne!(first, second);
    assert_eq!(feed.read.iter().filter(|line| line.contains("before.restart")).count(), 1, "{:?}", feed.read);
}

/// The lines of a table without its head, each as its words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn objects_are_named_by_names_ids_and_their_beginnings() {
    let installation = Installation::start();
    let dead = ReservedPort::new();
    let url = format!("http://{}/", dead.address());
    let create = |name| installation.json(&["webhook", "create", &url, "--name", name, "--retry-schedule", "none"]);
    let (webhook, other) = (create("invoices"), create("orders"));
    let id = |value: &serde_json::Value| value["id"].as_str().expect("an id").to_owned();
    let event = installation.json(&["send", "a.b", "--event-id", "mine-1"]);
    let (whk, evt) = (id(&webhook), id(&event));
    for name in ["invoices", &whk, &format!("whk_{whk}"), &format!("whk_{}", &whk[..35])] {
        assert_eq!(installation.json(&["webhook", "get", name])["id"], webhook["id"], "{name}");
    }
    for name in ["mine-1", &evt, &format!("evt_{evt}"), &evt[..13]] {
        assert_eq!(installation.json(&["event", "get", name])["id"], event["id"], "{name}");
    }
    // People see names and types, and ids with the prefix of their kind.
    let list = installation.says(&["delivery", "list", "--webhook", "invoices"]);
    let several = ["pending,retrying,delivered,failed", "--status", "cancelled"];
    let filtered = [&["delivery", "list", "--webhook", "invoices", "--status"], several.as_slice()].concat();
    assert_eq!(installation.says(&filtered), list);
    let row = &rows(&list)[0];
    assert!(row[0].starts_with("dlv_") && row[2] == "a.b" && row[3] == "invoices", "{list}");
    let got = installation.says(&["delivery", "get", row[0]]);
    assert!(got.contains(&format!("whk_{whk}")) && got.contains(&format!("evt_{evt}")), "{got}");
    let why = installation.says(&["event", "get", "mine-1"]);
    let why: Vec<_> = why.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert!(why.iter().any(|line| line.starts_with(&["webhook", "decision", "reason", "webhook_id"])), "{why:?}");
    let whk_of_other = format!("whk_{}", id(&other));
    assert!(why.iter().any(|line| line[0] == "orders" && line.last() == Some(&&*whk_of_other)), "{why:?}");
}

#[test]
fn an_id_that_fits_nothing_several_or_another_kind_is_told() {
    let installation = Installation::start();
    let url = "https://hooks.example.com/in";
    let twice = ["twice", "twice"].map(|name| installation.json(&["webhook", "create", url, "--name", name]));
    let event = installation.json(&["send", "a.b"]);
    let delivery = installation.json(&["event", "deliveries", event["id"].as_str().expect("an id")]);
    let delivery = delivery["data"][0]["id"].as_str().expect("a delivery");
    let (code, err) = installation.fails(&["webhook", "get", "twice"]);
    assert!(code == 2 && err.contains("`twice` fits 2 objects:\n  whk_"), "{err}");
    let (code, err) = installation.fails(&["webhook", "get", "none"]);
    assert!(code == 1 && err.contains("hint: `postrider webhook list`"), "{err}");
    // With its prefix, and without.
    for text in [format!("dlv_{delivery}"), delivery.to_owned()] {
        let (code, err) = installation.fails(&["event", "get", &text]);
        let told = format!("dlv_{delivery} is a delivery, and an event is needed here");
        assert!(code == 2 && err.contains(&told), "{err}");
        assert!(err.contains(&format!("`postrider delivery get dlv_{delivery}` shows it")), "{err}");
    }
    drop(twice);
}

#[tokio::test]
async fn the_api_takes_ids_with_and_without_their_prefix() {
    let installation = Installation::start();
    let event = installation.json(&["send", "a.b"]);
    let id = event["id"].as_str().expect("an id");
    // The command line sends an id without its prefix, so this asks the API itself.
    let key = fs::read_to_string(installation.data_dir().join("first-key")).expect("a key");
    let status = |path: String| {
        use std::io::{Read as _, Write as _};
        let address = installation.url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        write!(stream, "{head}authorization: Bearer {}\r\n\r\n", key.trim()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    assert_eq!(status(format!("/v1/events/{id}")), "200");
    assert_eq!(status(format!("/v1/events/evt_{id}")), "200");
    assert_eq!(status(format!("/v1/deliveries?event_id=evt_{id}")), "200");
    assert_eq!(status(format!("/v1/events/dlv_{id}")), "404");
    assert_eq!(status(format!("/v1/deliveries?event_id=dlv_{id}")), "400");
}

#[test]
fn an_app_is_named_by_its_name_uid_id_and_beginning_wherever_one_is_taken() {
    let installation = Installation::start();
    let app = installation.json(&["app", "create", "--name", "Acme", "--uid", "acme-1"])["id"].clone();
    let id = app.as_str().expect("an id");
    let beginnings = [format!("app_{}", &id[..18]), id[..18].to_owned()];
    for name in ["Acme", "acme-1", id, &format!("app_{id}"), &beginnings[0], &beginnings[1]] {
        for words in [
            &["send", "a.b"][..],
            &["event", "list"],
            &["event", "types"],
            &["webhook", "list"],
            &["webhook", "create", "https://hooks.example.com/in"],
            &["delivery", "list"],
            &["attempt", "list"],
            &["stats"],
            &["stats", "series"],
            &["key", "create", "of-acme", "--scope", "events:read"],
            &["replay", "--from", "1h", "--dry-run"],
        ] {
            installation.says(&[words, &["--app", name]].concat());
        }
        let events = installation.json(&["event", "list", "--app", name]);
        assert_eq!(events["data"][0]["app_id"], app, "{name}: {events}");
        assert_eq!(
            installation.json(&["webhook", "create", "https://hooks.example.com/", "--app", name])["app_id"],
            app
        );
    }
    let mut receiver = Running::start(installation.command().args(["listen", "--create", "--app", "Acme"]));
    receiver.line("receiving on ");
    receiver.end("INT");
    assert!(installation.says(&["key", "list"]).contains(&format!("app_{id}")));
    let (code, err) = installation.fails(&["send", "a.b", "--app", "nobody"]);
    assert!(code == 1 && err.contains("hint: `postrider app list`"), "{err}");
    // A key that may not read apps can still name them as the API does.
    let key = installation.json(&["key", "create", "sender", "--scope", "events:write"])["key"].clone();
    let sent = installation.json(&["send", "a.b", "--app", "acme-1", "--token", key.as_str().expect("a key")]);
    assert_eq!(sent["app_id"], app, "{sent}");
}

#[test]
fn the_audit_is_filtered_by_names_and_beginnings() {
    let installation = Installation::start();
    let webhook = installation.json(&["webhook", "create", "https://hooks.example.com/in", "--name", "bad"]);
    let id = webhook["id"].as_str().expect("an id");
    installation.says(&["event-type", "create", "a.b"]);
    for target in ["bad", id, &format!("whk_{id}"), &format!("whk_{}", &id[..18]), &id[..18]] {
        let list = installation.says(&["audit", "--target", target]);
        assert!(list.contains("webhook.create") && list.contains(&format!("whk_{id}")), "{target}: {list}");
    }
    assert!(installation.says(&["audit", "--target", "a.b"]).contains("event_type.create"), "a target without an id");
    let (code, err) = installation.fails(&["audit", "--target", "nobody"]);
    assert!(code == 1 && err.contains("`nobody`: no webhook, app, key"), "{err}");
    let keys = installation.json(&["key", "list"]);
    let name = keys["data"][0]["name"].as_str().expect("a name");
    assert!(installation.says(&["audit", "--key", name]).contains("webhook.create"), "{keys}");
}

#[tokio::test]
async fn beginnings_are_found_among_many_ids_of_the_same_minutes() {
    const EVENTS: &str = "5100";
    let installation = Installation::start();
    let dead = ReservedPort::new();
    let url = format!("http://{}/", dead.address());
    let create =
        |name: &str| installation.says(&["webhook", "create", &url, "--name", name, "--retry-schedule", "none"]);
    create("first");
    installation.says(&["send", "a.b"]);
    let attempt = eventually("an attempt", || {
        let attempts = installation.json(&["attempt", "list"]);
        attempts["data"][0]["id"].as_str().map(str::to_owned)
    });
    let attempt = attempt.await;
    installation.says(&["webhook", "pause", "first"]);
    // More webhooks and rows than a few pages hold.
    (0..50).for_each(|n| drop(create(&format!("of-nothing-{n}"))));
    installation.says(&["send", "a.b", "--count", EVENTS]);
    let oldest = |noun: &str| {
        let rows = installation.says(&[noun, "list", "--all", "-o", "json"]);
        let last = rows.lines().next_back().expect("a row");
        let last = serde_json::from_str::<serde_json::Value>(last).expect("JSON");
        last["id"].as_str().expect("an id").to_owned()
    };
    let named =
        [("evt_", "event", oldest("event")), ("dlv_", "delivery", oldest("delivery")), ("att_", "attempt", attempt)];
    let is_found = |noun: &str, text: &str, id: &str| {
        let found = installation.output(&[noun, "get", text, "-o", "json"]);
        found.status.success() && String::from_utf8_lossy(&found.stdout).contains(&format!("\"id\":\"{id}\""))
    };
    let texts = named.iter().flat_map(|(prefix, noun, id)| {
        [format!("{prefix}{}", &id[..30]), id[..30].to_owned()].map(|text| (*noun, text, id.as_str()))
    });
    let missed: Vec<_> = texts.filter(|(noun, text, id)| !is_found(noun, text, id)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_usage_error_shows_the_needed_arguments_and_an_example() {
    let installation = Installation::start();
    let (code, err) = installation.fails(&["webhook", "rotate-secret"]);
    assert!(code == 2 && err.contains("Examples:\n  postrider webhook rotate-secret invoices"), "{err}");
    let is_needed = err.contains("--url <URL>") || err.contains("--token <KEY>");
    assert!(!is_needed, "variables give them: {err}");
}
