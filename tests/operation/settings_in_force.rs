//! `config show` and `doctor` tell the settings that the running daemon uses.

use std::fs;

use crate::support::installation::{Installation, eventually};

#[tokio::test]
async fn the_settings_in_force_are_those_of_the_running_daemon() {
    let mut installation = Installation::with("min_free_bytes = 0\n[delivery]\nallow = [\"127.0.0.0/8\"]\n");
    installation.variables = vec![
        ("POSTRIDER_METRICS__KEY".to_owned(), "hunter2".to_owned()),
        ("POSTRIDER_DELIVERY__PROXY".to_owned(), "http://user:hunter3@127.0.0.1:9".to_owned()),
    ];
    installation.serve();
    // A shell beside the daemon has not the variables that its service has, and others.
    installation.variables = vec![("POSTRIDER_RETENTION".to_owned(), "7d".to_owned())];
    let shown = installation.json(&["config", "show"]);
    assert_eq!(shown["source"], "running daemon");
    assert_eq!(shown["settings"]["retention"]["value"], "31d");
    assert_eq!(shown["settings"]["metrics.key"]["origin"], "POSTRIDER_METRICS__KEY");
    let text = installation.says(&["config", "show"]);
    assert!(text.starts_with("# from the running daemon on "), "{text}");
    assert!(!text.contains("hunter") && !shown.to_string().contains("hunter"), "{text}");
    let own = installation.json(&["config", "show", "--offline"]);
    assert_eq!((&own["source"], &own["settings"]["retention"]["value"]), (&"this process".into(), &"7d".into()));
    let told = installation.output(&["doctor", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let rows = told["checks"].as_array().expect("a list");
    let settings = rows.iter().filter(|row| row["check"] == "settings").map(|row| row["detail"].to_string());
    let differ = { settings }.find(|detail| detail.contains("from the running daemon")).expect("a line");
    assert!(differ.contains("retention, delivery.proxy, metrics.key"), "{differ}");

    fs::write(installation.settings_file(), "min_free_bytes = 0\n[delivery]\nallow = [\"erp\"]\n").expect("written");
    installation.signal("HUP");
    eventually("the reload", || {
        let shown = installation.json(&["config", "show"]);
        (shown["settings"]["delivery.allow"]["value"] == serde_json::json!(["erp"])).then_some(())
    })
    .await;
    // Another directory than that of the daemon, as beside `serve --dev`.
    let elsewhere = installation.folder.path().join("elsewhere").display().to_string();
    let output = installation.output(&["config", "show", "--data-dir", &elsewhere]);
    let (shown, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(shown.starts_with(&format!("# of this process: no daemon answers at {elsewhere}/control")), "{shown}");
    let its = installation.data_dir().display().to_string();
    assert!(noted.contains(&installation.url) && noted.contains(&format!("config show --data-dir {its}")), "{noted}");
    installation.stop();
    assert_eq!(installation.json(&["config", "show"])["source"], "this process");
}
