//! `postrider config`: checks the settings and shows the values in force with their sources, without a daemon.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit,
    in_force::SettingsInForce,
    running::{self, RunningDaemon},
    screen::{Output, Screen, note},
    trusted_file,
};
use crate::config::service::SERVICE_DATA_DIR;
use crate::config::{self, Environment, Flag, Flags, ListenSetting, Loaded, SettingProblem, Settings, ValueSource};
use crate::daemon;

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

    /// The settings in force for this process. Beside the packaged service, if no other store is named, those that systemd
    /// hands to the service: its variables, its data directory and its credentials.
    pub fn load_beside_service(&self) -> Result<Loaded, config::ConfigError> {
        let loaded = self.load();
        let names_file =
            self.config.is_some() || std::env::var_os("POSTRIDER_CONFIG").is_some_and(|name| !name.is_empty());
        let is_default = |loaded: &Loaded| *loaded.origin("data_dir") == ValueSource::Default;
        match &loaded {
            Ok(here) if !names_file && is_default(here) && data_dir_of(here) == Path::new(SERVICE_DATA_DIR) => {
                Settings::load(&self.flags(), &Environment::beside_service()?)
            }
            _ => loaded,
        }
    }

    /// The settings for a verb that works on files. They name the packaged service's store if no other is named and
    /// none is in the default place.
    pub fn load_for_store(&self) -> Result<Settings, config::ConfigError> {
        let loaded = self.load_beside_service()?;
        Ok(Settings { data_dir: data_dir_of(&loaded).to_owned(), ..loaded.settings })
    }

    /// As the loader takes them.
    pub(super) fn flags(&self) -> Flags {
        let flag = |flag, key, value: &Option<String>| value.clone().map(|value| Flag { flag, key, value });
        let values = [flag("--data-dir", "data_dir", &self.data_dir), flag("--listen", "listen", &self.listen)];
        Flags { config: self.config.clone(), values: values.into_iter().flatten().collect() }
    }
}

/// The data directory of the settings. The packaged service's if the settings name none and only that one exists.
pub(super) fn data_dir_of(loaded: &Loaded) -> &Path {
    let is_default = *loaded.origin("data_dir") == ValueSource::Default;
    let of_service = Path::new(SERVICE_DATA_DIR);
    // systemd makes it a link into a directory that only root can read, and the link may point to a missing directory.
    match is_default && !loaded.settings.data_dir.exists() && of_service.symlink_metadata().is_ok() {
        true => of_service,
        false => &loaded.settings.data_dir,
    }
}

/// The URL by which a client on this machine reaches the listener.
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
    #[command(after_help = "\
Examples:
  postrider config check
  postrider config check --config postrider.toml -o json")]
    Check,
    /// Print every setting in force with its origin, in the form of the settings file: those of the running daemon, or
    /// those of this process if none answers. Keys are masked
    #[command(after_help = "Examples:\n  postrider config show\n  postrider config show --offline -o json")]
    Show {
        /// Do not ask the daemon: print the settings that this process would start with
        #[arg(long)]
        offline: bool,
    },
    /// Print the documented settings file with every default
    #[command(after_help = "Examples:\n  postrider config default > postrider.toml")]
    Default,
}

impl Config {
    pub fn run(self) -> Result<(), Exit> {
        let screen = self.output.screen();
        match self.action {
            Action::Check => check(screen, self.settings.load().and_then(with_certificate)),
            Action::Show { offline } => show(screen, &self.settings.load()?, offline),
            Action::Default if screen.is_json() => {
                screen.text(SettingsInForce::of(&default_settings()?).json().to_string())
            }
            Action::Default => screen.text(config::SETTINGS_FILE),
        }
    }
}

/// The settings without a file, a variable or a flag.
fn default_settings() -> Result<Loaded, config::ConfigError> {
    let nothing = Environment::new([], |_| Err(std::io::ErrorKind::NotFound.into()));
    Settings::load(&Flags::default(), &nothing)
}

/// The settings, unless the files of their certificate cannot be used: a start reads them first.
fn with_certificate(loaded: Loaded) -> Result<Loaded, config::ConfigError> {
    match daemon::certificate(&loaded.settings) {
        Ok(_) => Ok(loaded),
        Err(error) => {
            let file = loaded.file.as_ref().map_or("settings".to_owned(), |file| file.display().to_string());
            let problem = SettingProblem { place: file, key: Some("server.tls_cert".into()), text: error.to_string() };
            Err(config::ConfigError { problems: vec![problem] })
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

/// Prints the settings in force, and from where they are: from the daemon of the data directory if one answers.
fn show(screen: Screen, loaded: &Loaded, is_offline: bool) -> Result<(), Exit> {
    let data_dir = data_dir_of(loaded);
    let asked = if is_offline { None } else { Some(SettingsInForce::of_daemon(data_dir)) };
    let (settings, source, head) = match asked {
        Some(Ok(settings)) => {
            (settings, "running daemon", format!("# from the running daemon on {}\n", data_dir.display()))
        }
        Some(Err(exit)) => {
            note_others(data_dir);
            (SettingsInForce::of(loaded), "this process", format!("# of this process: {}\n", exit.message()))
        }
        None => (SettingsInForce::of(loaded), "this process", "# of this process\n".to_owned()),
    };
    if screen.is_json() {
        let mut shown = settings.json();
        shown["source"] = source.into();
        return screen.text(shown.to_string());
    }
    screen.text(format!("{head}{}", settings.toml()))
}

/// Names the daemons of this user on stderr that run on other directories than `data_dir`: those of `serve --dev`, for example.
fn note_others(data_dir: &Path) {
    let here = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let others = running::all(&trusted_file::runtime_dir()).unwrap_or_default();
    for RunningDaemon { url, data_dir: its } in others.iter().filter(|daemon| daemon.data_dir != here) {
        let its = its.display();
        note(&format!(
            "note: a daemon runs at {url} with settings of its own: postrider config show --data-dir {its}\n"
        ));
    }
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
    fn shown_settings_can_be_put_into_a_file_again() {
        let variables = [("POSTRIDER_RETENTION", "7d"), ("POSTRIDER_ADMIN_KEY", "hunter2")];
        let loaded = loaded(&SettingsFlags::default(), &variables);
        let text = SettingsInForce::of(&loaded).toml();
        assert!(text.contains("retention = \"7d\"") && text.contains("# POSTRIDER_RETENTION"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let environment = Environment::new([], move |_| Ok(text.clone()));
        let again = Settings::load(&Flags::default(), &environment).expect("it is a settings file");
        let mut settings = loaded.settings.clone();
        settings.admin_key = None;
        assert_eq!(again.settings, settings);
    }

    #[test]
    fn the_defaults_can_be_shown_as_json() {
        let value = SettingsInForce::of(&default_settings().expect("the defaults are right")).json();
        assert_eq!(value["settings"]["retention"], json!({"value": "31d", "origin": "default"}));
    }

    #[test]
    fn shown_as_json_every_setting_has_value_and_origin() {
        let loaded = loaded(&SettingsFlags::default(), &[("POSTRIDER_DELIVERY__ALLOW", "erp")]);
        let value = SettingsInForce::of(&loaded).json();
        let allow = &value["settings"]["delivery.allow"];
        assert_eq!(allow, &json!({"value": ["erp"], "origin": "POSTRIDER_DELIVERY__ALLOW"}));
        assert_eq!(value["settings"]["retention"], json!({"value": "31d", "origin": "default"}));
    }
}
