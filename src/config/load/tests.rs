//! Tests of the layers together: precedence, sources, problems, and that the shipped file has the defaults.

use std::{collections::BTreeMap, io};

use super::keys::MASK;
use super::*;
use crate::config::{LogFormat, SecretSetting};

/// Variables and files of a test. `config` is the text of the default settings file.
struct TestInputs<'a> {
    config: Option<&'a str>,
    variables: &'a [(&'a str, &'a str)],
    files: &'a [(&'a str, &'a str)],
    flags: Flags,
}

fn given() -> TestInputs<'static> {
    TestInputs { config: None, variables: &[], files: &[], flags: Flags::default() }
}

impl TestInputs<'_> {
    fn load(self) -> Result<Loaded, ConfigError> {
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let mut files = owned(self.files);
        files.extend(self.config.map(|text| (SETTINGS_FILE_PATH.to_owned(), text.to_owned())));
        let environment = Environment::new(owned(self.variables), move |path| {
            let text = path.to_str().and_then(|path| files.get(path)).cloned();
            text.ok_or(io::ErrorKind::NotFound.into())
        });
        Settings::load(&self.flags, &environment)
    }

    fn problems(self) -> Vec<String> {
        let error = self.load().expect_err("these settings are wrong");
        error.problems.iter().map(SettingProblem::to_string).collect()
    }
}

fn flag(flag: &'static str, key: &'static str, value: &str) -> Flag {
    Flag { flag, key, value: value.to_owned() }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let loaded = given().load().expect("nothing is set");
    let settings = &loaded.settings;
    assert_eq!(settings, &Settings::default());
    assert_eq!(settings.data_dir, PathBuf::from("./postrider-data"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((settings.retention_ms, settings.idempotency_window_ms), (31 * 86_400_000, 86_400_000));
    assert_eq!((settings.partition_max_bytes, settings.min_free_bytes), (1 << 30, 256 << 20));
    assert_eq!((settings.shutdown_timeout_s, settings.max_event_bytes), (10, 1 << 20));
    assert_eq!(settings.delivery.max_in_flight, 1000);
    assert!(settings.delivery.allow.is_empty() && settings.delivery.deny.is_empty());
    assert!(!settings.delivery.https_only && settings.server.public_url.is_none());
    assert!(DIALECTS.iter().all(|dialect| settings.dialects.contains(dialect.name)), "{:?}", settings.dialects);
    assert_eq!(settings.dialects.len(), DIALECTS.len());
    assert!(settings.admin_key.is_none() && settings.master_key.is_none());
    assert!(settings.metrics.listen.is_none() && settings.metrics.key.is_none());
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("info", LogFormat::Auto));
    assert!(loaded.rows().iter().all(|row| row.origin == ValueSource::Default));
    assert_eq!(loaded.file, None);
}

#[test]
fn a_partition_that_each_commit_would_fill_is_refused() {
    let with = |config: &'static str| TestInputs { config: Some(config), ..given() };
    let said = with("partition_max_bytes = \"15MiB\"\n").problems().join("\n");
    assert!(said.contains("partition_max_bytes") && said.contains("16MiB"), "{said}");
    assert!(with("partition_max_bytes = \"16MiB\"\n").load().is_ok());
}

#[test]
fn the_shipped_file_changes_nothing_and_uncommented_gives_exactly_the_defaults() {
    let shipped = TestInputs { config: Some(SETTINGS_FILE), ..given() }.load().expect("it is valid");
    assert_eq!(shipped.settings, Settings::default());
    assert!(shipped.rows().iter().all(|row| row.origin == ValueSource::Default));

    let text = uncommented(SETTINGS_FILE);
    let all = TestInputs { config: Some(&text), ..given() }.load().expect("it is valid uncommented");
    assert_eq!(all.settings, Settings::default());
    let lines: Vec<&str> = text.lines().collect();
    for row in all.rows() {
        let ValueSource::File { line, .. } = row.origin else { panic!("{} is not in the file", row.key) };
        let name = row.key.rsplit('.').next().expect("a name");
        assert_eq!(lines[line - 1], format!("{name} = {}", row.value), "as the file writes it");
    }
    assert_eq!(all.rows().len(), keys::KEYS.len());
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let config = "listen = \"127.0.0.1:1\"\nretention = \"3d\"\nmax_event_bytes = 4096\n";
    let mut settings = TestInputs {
        config: Some(config),
        variables: &[("POSTRIDER_LISTEN", "127.0.0.1:2"), ("POSTRIDER_RETENTION", "2d")],
        ..given()
    };
    settings.flags.values.push(flag("--listen", "listen", "127.0.0.1:3"));
    let loaded = settings.load().expect("all of it is valid");
    assert_eq!(loaded.settings.listen.to_string(), "127.0.0.1:3");
    assert_eq!(loaded.settings.retention_ms, 2 * 86_400_000);
    assert_eq!(loaded.settings.max_event_bytes, 4096);
    assert_eq!(loaded.origin("listen"), &ValueSource::Flag("--listen"));
    assert_eq!(loaded.origin("retention"), &ValueSource::Env("POSTRIDER_RETENTION".into()));
    let file = ValueSource::File { path: SETTINGS_FILE_PATH.into(), line: 3 };
    assert_eq!(loaded.origin("max_event_bytes"), &file);
    assert_eq!(loaded.origin("min_free_bytes"), &ValueSource::Default);
}

#[test]
fn lists_come_comma_separated_from_the_environment_and_empty_is_none() {
    let config = "[delivery]\nallow = [\"erp\"]\ndeny = [\"10.9.0.0/16\"]\n";
    let variables = [("POSTRIDER_DELIVERY__ALLOW", "10.0.0.0/8, *.corp.internal"), ("POSTRIDER_DELIVERY__DENY", "")];
    let loaded = TestInputs { config: Some(config), variables: &variables, ..given() }.load().expect("valid");
    assert_eq!(loaded.settings.delivery.allow, ["10.0.0.0/8", "*.corp.internal"]);
    assert_eq!(loaded.settings.delivery.deny, Vec::<String>::new());
}

#[test]
fn every_problem_of_every_layer_is_reported_with_its_place() {
    let mut wrong = TestInputs {
        config: Some("retention = \"31\"\n\n[log]\nformat = \"xml\"\nlevle = \"info\"\n"),
        variables: &[("POSTRIDER_DELIVERY__MAX_IN_FLIGHT", "0"), ("POSTRIDER_DATADIR", "/x")],
        ..given()
    };
    wrong.flags.values.push(flag("--listen", "listen", "8080"));
    let problems = wrong.problems();
    let expected = [
        "/etc/postrider/postrider.toml:1: retention: \"31\" is not a duration from 1s to 3653d",
        "/etc/postrider/postrider.toml:4: log.format: \"xml\" is not auto, text, json or journald",
        "/etc/postrider/postrider.toml:5: levle: no such setting of [log]; did you mean level?",
        "POSTRIDER_DELIVERY__MAX_IN_FLIGHT: delivery.max_in_flight: \"0\" is not a whole number from 1",
        "POSTRIDER_DATADIR: no setting has this name; did you mean POSTRIDER_DATA_DIR?",
        "--listen: listen: \"8080\" is not an address with a port",
    ];
    for text in expected {
        assert!(problems.iter().any(|problem| problem.starts_with(text)), "{text}\nin {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let flags = Flags { config: Some("/nowhere.toml".into()), ..Flags::default() };
    let problems = TestInputs { flags, ..given() }.problems();
    assert!(problems[0].starts_with("--config: cannot read the settings file /nowhere.toml"), "{problems:?}");
    let variables = [("POSTRIDER_CONFIG", "/nowhere.toml")];
    let problems = TestInputs { variables: &variables, ..given() }.problems();
    assert!(problems[0].starts_with("POSTRIDER_CONFIG: cannot read"), "{problems:?}");

    let flags = Flags { config: Some("/a.toml".into()), ..Flags::default() };
    let files = [("/a.toml", "retention = \"1d\""), ("/b.toml", "retention = \"2d\"")];
    let variables = [("POSTRIDER_CONFIG", "/b.toml")];
    let loaded = TestInputs { flags, variables: &variables, files: &files, config: Some("retention = 9") }.load();
    let loaded = loaded.expect("only the file of the flag is read");
    assert_eq!(loaded.settings.retention_ms, 86_400_000);
    assert_eq!(loaded.file, Some("/a.toml".into()));
}

#[test]
fn the_window_follows_the_retention_unless_it_was_set() {
    let short = [("POSTRIDER_RETENTION", "10s")];
    let loaded = TestInputs { variables: &short, ..given() }.load().expect("the default window is lowered");
    assert_eq!(loaded.settings.idempotency_window_ms, 10_000);
    let variables = [("POSTRIDER_RETENTION", "10s"), ("POSTRIDER_IDEMPOTENCY_WINDOW", "11s")];
    let problems = TestInputs { variables: &variables, ..given() }.problems();
    assert_eq!(
        problems,
        [
            "POSTRIDER_IDEMPOTENCY_WINDOW: idempotency_window: is longer than the retention, 10s (from POSTRIDER_RETENTION)"
        ]
    );
}

#[test]
fn a_certificate_needs_its_key() {
    let problems = TestInputs { config: Some("[server]\ntls_cert = \"/c.pem\""), ..given() }.problems();
    assert_eq!(
        problems,
        ["/etc/postrider/postrider.toml:2: server.tls_cert: is set without server.tls_key; set both, or none"]
    );
}

/// `serve` would refuse them, so `config check` and SIGHUP do.
#[test]
fn a_second_machine_needs_its_other_settings() {
    let problems = |config: &'static str| TestInputs { config: Some(config), ..given() }.problems();
    for (config, expected) in [
        ("[standby]\nof = \"http://a:1\"", "2: standby.of: is set without standby.key_file; set both, or none"),
        (
            "[cluster]\nlog = \"postgres://a/b\"",
            "2: cluster.log: is set without cluster.url, the URL of this node's API for the other nodes",
        ),
        (
            "[cluster]\nlog = \"postgres://a/b\"\nurl = \"http://n:1\"\n[standby]\nof = \"http://a:1\"\nkey_file = \"/k\"",
            "2: cluster.log: is set beside standby.of: a node of a cluster has no standby of its own",
        ),
    ] {
        assert_eq!(problems(config), [format!("/etc/postrider/postrider.toml:{expected}")], "{config}");
    }
}

#[test]
fn systemd_gives_the_data_directory_unless_another_source_does() {
    let variables = [("STATE_DIRECTORY", "/var/lib/postrider:/var/lib/other")];
    let loaded = TestInputs { variables: &variables, ..given() }.load().expect("valid");
    assert_eq!(loaded.settings.data_dir, PathBuf::from("/var/lib/postrider"));
    assert_eq!(loaded.origin("data_dir"), &ValueSource::Env("STATE_DIRECTORY".into()));
    let loaded = TestInputs { variables: &variables, config: Some("data_dir = \"/srv/p\""), ..given() }.load();
    assert_eq!(loaded.expect("valid").settings.data_dir, PathBuf::from("/srv/p"));
}

#[test]
fn the_keys_come_from_variable_then_file_then_credential_and_are_masked() {
    let files = [
        ("/k/admin", " from-file \n"),
        ("/cred/admin-key", "from-credential"),
        ("/cred/master-key", "0123456789abcdef0123456789abcdef\n"),
    ];
    let config = Some("admin_key_file = \"/k/admin\"");
    let admin = |loaded: &Loaded| loaded.settings.admin_key.clone().map(|key| key.expose().to_owned());

    let variables = [("CREDENTIALS_DIRECTORY", "/cred"), ("POSTRIDER_ADMIN_KEY", "from-variable")];
    let loaded = TestInputs { variables: &variables, files: &files, config, ..given() }.load().expect("valid");
    assert_eq!(admin(&loaded).as_deref(), Some("from-variable"));
    assert!(loaded.rows().iter().any(|row| row.key == "admin_key" && row.value == RawSetting::Text(MASK.into())));

    let loaded = TestInputs { variables: &variables[..1], files: &files, config, ..given() }.load().expect("valid");
    assert_eq!(admin(&loaded).as_deref(), Some("from-file"));
    let loaded = TestInputs { variables: &variables[..1], files: &files, ..given() }.load().expect("valid");
    assert_eq!(admin(&loaded).as_deref(), Some("from-credential"));
    assert_eq!(loaded.origin("master_key"), &ValueSource::Credential("master-key"));
    assert!(loaded.settings.master_key.is_some());
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let both = [("POSTRIDER_ADMIN_KEY", "a"), ("POSTRIDER_ADMIN_KEY_FILE", "/k")];
    let problems = TestInputs { variables: &both, ..given() }.problems();
    assert_eq!(problems, ["POSTRIDER_ADMIN_KEY: admin_key: is set besides POSTRIDER_ADMIN_KEY_FILE; set one of them"]);

    let spaced = [("POSTRIDER_ADMIN_KEY", "two words"), ("POSTRIDER_MASTER_KEY", "short")];
    let problems = TestInputs { variables: &spaced, ..given() }.problems();
    assert!(problems[0].starts_with("POSTRIDER_ADMIN_KEY: admin_key: should be visible ASCII"), "{problems:?}");
    assert!(problems[1].starts_with("POSTRIDER_MASTER_KEY: master_key: should have 32 to 512"), "{problems:?}");
    assert!(problems.iter().all(|text| !text.contains("two words") && !text.contains("short")), "{problems:?}");

    let problems = TestInputs { config: Some("\nmaster_key_file = \"/gone\""), ..given() }.problems();
    assert!(problems[0].starts_with("/etc/postrider/postrider.toml:2: master_key_file: cannot read /gone"));
}

#[test]
fn secrets_of_the_file_are_masked_too() {
    let loaded = TestInputs { config: Some("[metrics]\nkey = \"hunter2\""), ..given() }.load().expect("valid");
    assert_eq!(loaded.settings.metrics.key, Some(SecretSetting::new("hunter2")));
    let shown: String = loaded.rows().iter().map(|row| format!("{} = {}\n", row.key, row.value)).collect();
    assert!(shown.contains("metrics.key = \"********\"") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_password_of_the_proxy_is_shown_nowhere() {
    let variables = [("POSTRIDER_DELIVERY__PROXY", "http://user:hunter2@proxy:3128")];
    let loaded = TestInputs { variables: &variables, ..given() }.load().expect("valid");
    let shown: String = loaded.rows().iter().map(|row| format!("{} = {}\n", row.key, row.value)).collect();
    assert!(shown.contains("delivery.proxy = \"http://user:********@proxy:3128\"\n"), "{shown}");
    let plain = given().load().expect("valid");
    let changed = plain.changes(&loaded);
    assert_eq!(changed[0].value, RawSetting::Text("http://user:********@proxy:3128".to_owned()));
    assert_eq!(plain.with_live_of(&loaded).settings.delivery, loaded.settings.delivery, "a reload has the whole one");
    assert!(!format!("{shown}{:?}{changed:?}", loaded.settings).contains("hunter2"));
    for wrong in ["proxy = \"http://user:hunter2@proxy/x\"", "proxy = [\"hunter2\"]", "no_proxy = [\"a:1\"]"] {
        let config = format!("[delivery]\n{wrong}\n");
        let problems = TestInputs { config: Some(&config), ..given() }.problems();
        assert!(problems[0].starts_with("/etc/postrider/postrider.toml:2: delivery."), "{problems:?}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn a_log_filter_has_a_short_name() {
    let variables = [("POSTRIDER_LOG", "warn,postrider::engine=debug")];
    let loaded = TestInputs { variables: &variables, ..given() }.load().expect("valid");
    assert_eq!(loaded.settings.log.level, "warn,postrider::engine=debug");
    for wrong in ["loud", "postrider=loud", "info,,", "=", "5x"] {
        let variables = [("POSTRIDER_LOG__LEVEL", wrong)];
        let problems = TestInputs { variables: &variables, ..given() }.problems();
        assert!(problems[0].contains("is not error, warn, info"), "{wrong}: {problems:?}");
    }
}

#[test]
fn changes_name_their_source_and_whether_a_running_daemon_applies_them() {
    let loaded = |config| TestInputs { config: Some(config), ..given() }.load().expect("right");
    let before = loaded("retention = \"7d\"\n[delivery]\nallow = [\"erp\"]\n[metrics]\nkey = \"a\"\n");
    let after = loaded("retention = \"8d\"\n[delivery]\nallow = []\n[metrics]\nkey = \"b\"\n");
    let changes: Vec<_> = before.changes(&after).into_iter().map(|c| (c.key, c.live, c.value.to_string())).collect();
    let expected = [
        ("retention", false, "\"8d\"".to_owned()),
        ("delivery.allow", true, "[]".to_owned()),
        ("metrics.key", true, format!("\"{MASK}\"")),
    ];
    assert_eq!(changes, expected);
    assert!(before.changes(&before).is_empty());
    let next = before.with_live_of(&after);
    assert!(next.settings.delivery.allow.is_empty() && next.settings.retention_ms == 7 * 86_400_000);
    let left: Vec<_> = next.changes(&after).into_iter().map(|change| change.key).collect();
    assert_eq!(left, ["retention"], "told again until there was a restart");
    let admin = |key| TestInputs { variables: &[("POSTRIDER_ADMIN_KEY", key)], ..given() }.load().expect("right");
    let changes = admin("one").changes(&admin("two"));
    assert_eq!(changes.iter().map(|c| (c.key, c.live)).collect::<Vec<_>>(), [("admin_key", false)]);
}

#[test]
fn the_file_says_of_every_setting_whether_sighup_takes_it_over() {
    // A setting's comment is the block of comment lines directly above it. Adjacent settings share one.
    let (mut comment, mut said) = (String::new(), BTreeMap::new());
    let mut in_settings = false;
    for line in SETTINGS_FILE.lines() {
        let setting = keys::KEYS.iter().find(|key| {
            let name = key.name.rsplit('.').next().unwrap_or(key.name);
            line.strip_prefix("# ").is_some_and(|line| line.starts_with(&format!("{name} = ")))
                && !said.contains_key(key.name)
        });
        match setting {
            Some(key) => {
                said.insert(key.name, comment.contains("SIGHUP takes it over"));
                in_settings = true;
            }
            None => {
                if in_settings || !line.starts_with('#') {
                    comment.clear();
                }
                in_settings = false;
                comment.push_str(line);
            }
        }
    }
    for key in keys::KEYS.iter() {
        assert_eq!(said.get(key.name), Some(&key.live), "{}", key.name);
    }
}

#[test]
fn two_listeners_on_one_address_are_a_problem_with_both_places() {
    let both = |listen: &str, metrics: &str| {
        let config = format!("listen = \"{listen}\"\n[metrics]\nlisten = \"{metrics}\"\n");
        let problems = TestInputs { config: Some(&config), ..given() }.load().err();
        problems
            .map(|error| error.problems.iter().map(SettingProblem::to_string).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    for (listen, metrics) in [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "0.0.0.0:8080"),
        ("[::]:8080", "0.0.0.0:8080"),
        ("[::1]:8080", "[::]:8080"),
        ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
        ("unix:/run/a", "unix:/run/a"),
    ] {
        let problems = both(listen, metrics);
        assert_eq!(problems.len(), 1, "{listen} and {metrics}: {problems:?}");
        let problem = &problems[0];
        assert!(problem.contains("metrics.listen") && problem.contains("postrider.toml:3"), "{problem}");
        assert!(problem.contains("postrider.toml:1"), "{problem}");
    }
    for (listen, metrics) in [
        ("127.0.0.1:8080", "127.0.0.1:9100"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:8080", "127.0.0.2:8080"),
        ("0.0.0.0:8080", "[::1]:8080"),
        ("unix:/run/a", "unix:/run/b"),
        ("unix:/run/a", "127.0.0.1:8080"),
    ] {
        assert_eq!(both(listen, metrics), Vec::<String>::new(), "{listen} and {metrics}");
    }
}

#[test]
fn the_tokens_of_another_server_are_verified_by_a_file_for_one_of_its_organizations() {
    let settings = given().load().unwrap().settings.foreign_tokens;
    assert!(settings.secret.is_none() && settings.organization.is_none());
    let id = "01a22893-2f3c-7a5b-8a0e-5e0f6d1b2c3d";
    let config = format!(
        "[dialects]\nsvix_jwt_secret_file = \"/s\"\nsvix_jwt_org = \"org_1\"\nsvix_jwt_organization = \"{id}\"\n"
    );
    let files = [("/s", " a secret \n"), ("/empty", " \n")];
    let loaded = TestInputs { config: Some(&config), files: &files, ..given() }.load().unwrap();
    let tokens = &loaded.settings.foreign_tokens;
    assert_eq!(tokens.secret, Some(SecretSetting::new("a secret".to_owned())), "without white space at its ends");
    assert_eq!((tokens.org.as_str(), tokens.organization.unwrap().to_string().as_str()), ("org_1", id));
    let row = loaded.rows().into_iter().find(|row| row.key == "dialects.svix_jwt_secret_file").unwrap();
    assert_eq!(row.value, RawSetting::Text("/s".into()), "the file's name is shown, and not the secret");
    for (path, text) in [("/none", "cannot read /none"), ("/empty", "/empty is empty")] {
        let variables = [("POSTRIDER_DIALECTS__SVIX_JWT_SECRET_FILE", path)];
        let problems = TestInputs { variables: &variables, files: &files, ..given() }.problems();
        assert!(problems.len() == 1 && problems[0].contains(text), "{problems:?}");
        assert!(problems[0].contains("svix_jwt_secret_file") || problems[0].contains(variables[0].0), "{problems:?}");
    }
    for (name, value) in [("ORGANIZATION", "x"), ("ORG", "")] {
        let name = format!("POSTRIDER_DIALECTS__SVIX_JWT_{name}");
        let problems = TestInputs { variables: &[(name.as_str(), value)], ..given() }.problems();
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
    }
}
