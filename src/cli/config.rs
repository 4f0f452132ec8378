//! `postrider config`: the settings without a daemon: are they right, what is in force, and from where.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit,
    screen::{Output, Screen},
};
use crate::config::{self, Environment, Flag, Flags, ListenSetting, Loaded, RawSetting, Settings, ValueSource};

/// The settings that are flags too, and the file; on every verb that starts or opens a store.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub struct SettingsFlags {
    /// Read this settings file; else $POSTRIDER_CONFIG, else /etc/postrider/postrider.toml where it exists
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where everything is kept (./postrider-data)
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where the API is served: address:port or unix:/path (127.0.0.1:8080)
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

impl SettingsFlags {
    /// The settings in force for this process.
    pub fn load(&self) -> Result<Loaded, config::ConfigError> {
        Settings::load(&self.flags(), &Environment::of_process())
    }

    /// The settings for a verb that works on files. They name the packaged service's store if no other is named and none is here.
    pub fn load_for_store(&self) -> Result<Settings, config::ConfigError> {
        let loaded = self.load()?;
        Ok(Settings { data_dir: data_dir_of(&loaded).to_owned(), ..loaded.settings })
    }

    /// As the loader takes them.
    pub(super) fn flags(&self) -> Flags {
        let flag = |flag, key, value: &Option<String>| value.clone().map(|value| Flag { flag, key, value });
        let values = [flag("--data-dir", "data_dir", &self.data_dir), flag("--listen", "listen", &self.listen)];
        Flags { config: self.config.clone(), values: values.into_iter().flatten().collect() }
    }
}

/// Where the packaged service keeps its data, for what is started by hand beside it.
pub(super) const SERVICE_DATA_DIR: &str = "/var/lib/postrider";

/// The data directory of the settings. The packaged service's if the settings name none and only that one exists.
pub(super) fn data_dir_of(loaded: &Loaded) -> &Path {
    let is_default = *loaded.origin("data_dir") == ValueSource::Default;
    let of_service = Path::new(SERVICE_DATA_DIR);
    // systemd makes it a link into a directory that only root may look into, and it may be moved away from its end.
    match is_default && !loaded.settings.data_dir.exists() && of_service.symlink_metadata().is_ok() {
        true => of_service,
        false => &loaded.settings.data_dir,
    }
}

/// How a client on this machine reaches what listens there.
pub(super) fn url_of(settings: &Settings) -> String {
    let scheme = if settings.server.tls_cert.is_some() { "https" } else { "http" };
    match (&settings.listen, &settings.server.public_url) {
        (_, Some(public)) if scheme == "https" => public.clone(),
        (ListenSetting::Unix(path), _) => format!("unix:{}", path.display()),
        (ListenSetting::Tcp(addr), _) if addr.ip().is_unspecified() => {
            let host = if addr.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            format!("{scheme}://{host}:{}", addr.port())
        }
        (ListenSetting::Tcp(addr), _) => format!("{scheme}://{addr}"),
    }
}

/// Check the settings, or show each value in force and its source
#[derive(Args, Debug)]
pub struct Config {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the settings can be used; every problem is told, with its place (exit code 78)
    Check,
    /// Print every setting with its origin, in the form of the settings file; keys are masked
    Show,
    /// Print the documented settings file with every default
    Default,
}

impl Config {
    pub fn run(self) -> Result<(), Exit> {
        let screen = self.output.screen();
        match self.action {
            Action::Check => check(screen, self.settings.load()),
            Action::Show => show(screen, &self.settings.load()?),
            Action::Default => screen.text(config::SETTINGS_FILE),
        }
    }
}

fn check(screen: Screen, loaded: Result<Loaded, config::ConfigError>) -> Result<(), Exit> {
    if screen.is_json() {
        let problems = loaded.as_ref().err().map(|error| error.problems.as_slice()).unwrap_or_default();
        let problems =
            problems.iter().map(|problem| json!({"place": problem.place, "key": problem.key, "detail": problem.text}));
        let problems: Vec<Value> = problems.collect();
        let file = loaded.as_ref().ok().and_then(|loaded| loaded.file.as_ref());
        screen.text(json!({"ok": problems.is_empty(), "file": file, "problems": problems}).to_string())?;
    }
    let explained = "`postrider config default` prints every setting with its explanation";
    let loaded = loaded.map_err(|error| Exit::from(error).hint(explained))?;
    screen.said(&match &loaded.file {
        Some(file) => format!("the settings are right ({})", file.display()),
        None => "the settings are right (no settings file)".to_owned(),
    })
}

fn show(screen: Screen, loaded: &Loaded) -> Result<(), Exit> {
    match screen.is_json() {
        true => screen.text(shown_as_json(loaded).to_string()),
        false => screen.text(shown_as_file(loaded)),
    }
}

fn shown_as_json(loaded: &Loaded) -> Value {
    let rows = loaded.rows().into_iter().map(|row| {
        let value = match row.value {
            RawSetting::Text(text) => text.into(),
            RawSetting::Whole(number) => number.into(),
            RawSetting::Switch(on) => on.into(),
            RawSetting::List(entries) => entries.into(),
            RawSetting::Other(_) => Value::Null,
        };
        (row.key.to_owned(), json!({"value": value, "origin": row.origin.to_string()}))
    });
    json!({"file": loaded.file, "settings": rows.collect::<serde_json::Map<_, _>>()})
}

/// TOML that can be put into a settings file, each line with its origin behind it. The two keys themselves are no
/// settings of the file, and stand there as comments.
fn shown_as_file(loaded: &Loaded) -> String {
    let (keys, settings): (Vec<_>, Vec<_>) =
        loaded.rows().into_iter().partition(|row| matches!(row.key, "admin_key" | "master_key"));
    let line = |name: &str, value: &RawSetting, origin: &ValueSource| {
        format!("{:<44} # {origin}\n", format!("{name} = {value}"))
    };
    let mut text: String = keys.iter().map(|row| format!("# {}", line(row.key, &row.value, &row.origin))).collect();
    let mut section = "";
    for row in &settings {
        let (of, name) = row.key.rsplit_once('.').unwrap_or(("", row.key));
        if of != section {
            section = of;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&line(name, &row.value, &row.origin));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_looked_for_where_it_listens() {
        let listening = |listen: &str| Settings { listen: listen.parse().expect("an address"), ..Settings::default() };
        assert_eq!(url_of(&listening("127.0.0.1:8080")), "http://127.0.0.1:8080");
        assert_eq!(url_of(&listening("0.0.0.0:80")), "http://127.0.0.1:80");
        assert_eq!(url_of(&listening("[::]:80")), "http://[::1]:80");
        assert_eq!(url_of(&listening("unix:/run/p.sock")), "unix:/run/p.sock");
        let mut secured = listening("0.0.0.0:443");
        secured.server.tls_cert = Some("cert.pem".into());
        assert_eq!(url_of(&secured), "https://127.0.0.1:443");
        secured.server.public_url = Some("https://hooks.example.com".into());
        assert_eq!(url_of(&secured), "https://hooks.example.com");
    }

    fn loaded(flags: &SettingsFlags, variables: &[(&str, &str)]) -> Loaded {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(owned, |_| Err(std::io::ErrorKind::NotFound.into()));
        Settings::load(&flags.flags(), &environment).expect("the settings are right")
    }

    #[test]
    fn flags_become_settings_with_their_own_origin() {
        let flags = SettingsFlags {
            data_dir: Some("/srv/p".into()),
            listen: Some("127.0.0.1:0".into()),
            ..SettingsFlags::default()
        };
        let loaded = loaded(&flags, &[]);
        assert_eq!(loaded.settings.data_dir, PathBuf::from("/srv/p"));
        assert_eq!(loaded.origin("data_dir"), &ValueSource::Flag("--data-dir"));
        assert_eq!(loaded.origin("listen"), &ValueSource::Flag("--listen"));
    }

    #[test]
    fn what_is_shown_can_be_put_into_a_file_again() {
        let variables = [("POSTRIDER_RETENTION", "7d"), ("POSTRIDER_ADMIN_KEY", "hunter2")];
        let loaded = loaded(&SettingsFlags::default(), &variables);
        let text = shown_as_file(&loaded);
        assert!(text.contains("retention = \"7d\"") && text.contains("# POSTRIDER_RETENTION"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let environment = Environment::new([], move |_| Ok(text.clone()));
        let again = Settings::load(&Flags::default(), &environment).expect("it is a settings file");
        let mut settings = loaded.settings.clone();
        settings.admin_key = None;
        assert_eq!(again.settings, settings);
    }

    #[test]
    fn shown_as_json_every_setting_has_value_and_origin() {
        let loaded = loaded(&SettingsFlags::default(), &[("POSTRIDER_DELIVERY__ALLOW", "erp")]);
        let value = shown_as_json(&loaded);
        let allow = &value["settings"]["delivery.allow"];
        assert_eq!(allow, &json!({"value": ["erp"], "origin": "POSTRIDER_DELIVERY__ALLOW"}));
        assert_eq!(value["settings"]["retention"], json!({"value": "31d", "origin": "default"}));
    }
}
