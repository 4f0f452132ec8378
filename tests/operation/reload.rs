//! SIGHUP: live settings are applied, the others are named, and wrong settings change nothing.

use std::fs;

use crate::support::installation::{Installation, eventually};

#[tokio::test]
async fn live_settings_are_applied_and_the_rest_is_named() {
    let installation = Installation::start();
    let blocked = ["webhook", "create", "http://127.0.0.2:9000/", "--name", "x"];
    installation.says(&blocked);
    let settings = "min_free_bytes = 0\nretention = \"7d\"\n[delivery]\nallow = []\n[log]\nlevel = \"debug\"\n";
    fs::write(installation.settings_file(), settings).expect("written");
    installation.signal("HUP");
    let changed = "a setting has changed, which needs a restart";
    let taken = eventually("the reload", || {
        let rows = installation.logged("a setting was taken over");
        (rows.len() == 2).then_some(rows)
    })
    .await;
    let taken: Vec<_> = taken.into_iter().map(|row| row["fields"]["key"].clone()).collect();
    assert_eq!(taken, ["delivery.allow", "log.level"]);
    let named = installation.logged(changed).pop().expect("a line");
    assert_eq!(named["fields"]["key"], "retention");
    assert_eq!(named["fields"]["value"], "\"7d\"");
    assert!(named["fields"]["origin"].as_str().expect("text").ends_with("postrider.toml:2"), "{named}");
    // The API uses the new list at once.
    let (code, said) = installation.fails(&blocked);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("url"), "{said}");
}

#[tokio::test]
async fn settings_that_are_wrong_change_nothing_and_say_where() {
    let mut installation = Installation::start();
    fs::write(installation.settings_file(), "[delivery]\nalow = []\n").expect("written");
    installation.signal("HUP");
    let message = "a setting is wrong; all settings stay as they are";
    let told = eventually("the complaint", || installation.logged(message).pop()).await;
    let problem = told["fields"]["problem"].as_str().expect("text");
    assert!(problem.contains("postrider.toml:2: alow:") && problem.contains("did you mean allow?"), "{problem}");
    installation.says(&["webhook", "create", "http://127.0.0.2:9000/"]);
    installation.stop();
}

#[tokio::test]
async fn a_closed_way_is_closed_for_deliveries_too_and_opened_again() {
    let installation = Installation::start();
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", receiver.local_addr().expect("an address"));
    let webhook = installation.json(&["webhook", "create", &url, "--retry-schedule", "none"]);
    let id = webhook["id"].as_str().expect("an id").to_owned();
    fs::write(installation.settings_file(), "min_free_bytes = 0\n[delivery]\nallow = []\n").expect("written");
    installation.signal("HUP");
    eventually("the reload", || installation.logged("a setting was taken over").pop()).await;
    installation.says(&["send", "--type", "a.b", "--data", "{}"]);
    let attempt = eventually("an attempt", || {
        installation.json(&["webhook", "attempts", &id])["data"].as_array().and_then(|rows| rows.first().cloned())
    })
    .await;
    assert_eq!(attempt["outcome"], "blocked_address", "{attempt}");
}
