//! Keys that an operator could lose: after a restore, and when every key is gone. Keys that could be seen on the network.

use std::fs;

use crate::support::installation::Installation;

fn first_key(installation: &Installation) -> String {
    fs::read_to_string(installation.data_dir().join("first-key")).expect("a key").trim().to_owned()
}

#[tokio::test]
async fn a_restore_puts_the_first_key_back_and_says_where() {
    let mut installation = Installation::start();
    let key = first_key(&installation);
    let backup = installation.folder.path().join("backup");
    let place = backup.to_str().expect("text").to_owned();
    installation.says(&["backup", &place]);
    installation.stop();
    fs::rename(installation.data_dir(), installation.folder.path().join("before")).expect("moved away");
    let said = installation.says(&["restore", &place]);
    let file = installation.data_dir().join("first-key");
    assert!(said.contains(&format!("the first key is in {}", file.display())), "{said}");
    assert!(!said.contains(&key), "the key itself is not shown");
    assert_eq!(first_key(&installation), key);
    installation.serve();
    assert_eq!(installation.json(&["key", "list"])["data"][0]["name"], "first");

    // A backup without keys cannot put it back. The command names the way out.
    let bare = installation.folder.path().join("bare");
    let place = bare.to_str().expect("text").to_owned();
    installation.says(&["backup", &place, "--without-key"]);
    assert!(!bare.join("first-key").exists() && !bare.join("master.key").exists());
    installation.stop();
    fs::rename(installation.data_dir(), installation.folder.path().join("before-too")).expect("moved away");
    fs::create_dir(installation.data_dir()).expect("a folder");
    fs::copy(backup.join("master.key"), installation.data_dir().join("master.key")).expect("the master key");
    let said = installation.says(&["restore", &place]);
    assert!(said.contains("without a file of the first key") && said.contains("POSTRIDER_ADMIN_KEY"), "{said}");
    assert!(!installation.data_dir().join("first-key").exists());
}

#[tokio::test]
async fn an_owner_who_lost_every_key_sets_a_new_one_and_revokes_the_lost_ones() {
    let mut installation = Installation::start();
    let lost = first_key(&installation);
    installation.stop();
    fs::remove_file(installation.data_dir().join("first-key")).expect("lost");
    let own = "pr_of-the-owner";
    installation.variables.push(("POSTRIDER_ADMIN_KEY".to_owned(), own.to_owned()));
    installation.serve();
    let keys = installation.json(&["key", "list", "--token", own]);
    let rows = keys["data"].as_array().expect("rows").iter();
    assert_eq!(rows.filter_map(|key| key["name"].as_str()).collect::<Vec<_>>(), ["admin", "first"]);
    installation.says(&["key", "revoke", "first", "--token", own]);
    let (code, said) = installation.fails(&["key", "list", "--token", &lost]);
    assert!(code == 1 && said.contains("there is no such key"), "{code} {said}");
}

#[tokio::test]
async fn plain_http_that_other_machines_reach_is_told_in_the_log_and_by_the_doctor() {
    let message =
        |installation: &Installation| installation.log().matches("the API speaks plain HTTP on an address").count();
    let mut installation = Installation::start();
    assert_eq!(message(&installation), 0, "{}", installation.log());
    installation.stop();
    installation.variables.push(("POSTRIDER_LISTEN".to_owned(), "0.0.0.0:0".to_owned()));
    installation.serve();
    assert_eq!(message(&installation), 1, "{}", installation.log());
    let output = installation.output(&["doctor", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listener = found["checks"].as_array().expect("checks").iter().find(|check| check["check"] == "listener");
    let listener = listener.expect("the check");
    assert_eq!(listener["status"], "WARN", "{listener}");
    assert!(listener["fix"].as_str().is_some_and(|fix| fix.contains("server.tls_cert")), "{listener}");
}

#[test]
fn two_listeners_on_one_address_are_found_before_a_start() {
    let installation = Installation::with("listen = \"127.0.0.1:8080\"\n[metrics]\nlisten = \"127.0.0.1:8080\"\n");
    let mut command = installation.command();
    command.env_remove("POSTRIDER_LISTEN").args(["config", "check"]);
    let output = crate::support::children::output(&mut command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("metrics.listen") && said.contains("is the address of listen too"), "{said}");
}
