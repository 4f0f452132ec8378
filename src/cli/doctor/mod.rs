//! `postrider doctor`: checks every part that can make deliveries fail, and names the cures. It works without a daemon.
//! If one is running, the doctor also asks it for its state.
//!
//! Invariant: it changes nothing, except by `--accept-clock`, and by one small file that it writes to measure the disk
//! and removes. It sends no request to a receiver. It connects to the proxy and sends no request.

mod cluster;
mod daemon;
mod files;
mod finding;
mod listeners;
mod machine;
mod proxy;
mod webhooks;

use std::path::{Path, PathBuf};

use clap::Args;

use self::finding::{Finding, report};
use super::client::{Call, Client};
use super::config::{data_dir_of, url_of};
use super::in_force::SettingsInForce;
use super::running;
use super::screen::Output;
use super::target::{self, FIRST_KEY_FILE};
use super::trusted_file::{self, OtherOwners};
use super::{Exit, SettingsFlags};
use crate::config::service::SERVICE_DATA_DIR;
use crate::config::{self, Loaded, Settings, ValueSource};

/// Find faults and their cures: settings, files, disk, clock, DNS, the daemon, failing webhooks
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  postrider doctor
  sudo postrider doctor                   beside the packaged service, with its data directory and its first key
  postrider doctor -o json | jq '.checks[] | select(.status != \"OK\")'
  postrider doctor --accept-clock         the clock is right: retention goes on

Exit codes: 0 nothing is a FAIL, 1 something is.")]
pub struct Doctor {
    /// Skip the checks that need the daemon
    #[arg(long, conflicts_with = "accept_clock")]
    offline: bool,
    /// Tell the daemon that the clock is right, so that retention goes on
    #[arg(long)]
    accept_clock: bool,
    /// The daemon; else the address of the settings' `listen`
    #[arg(long, env = "POSTRIDER_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// An API key; else the administrator's of the settings, or the first key in the data directory
    #[arg(long, env = "POSTRIDER_TOKEN", hide_env_values = true, value_name = "KEY")]
    token: Option<String>,
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    output: Output,
}

impl Doctor {
    pub async fn run(self) -> Result<(), Exit> {
        let screen = self.output.screen();
        let mut findings = Vec::new();
        let loaded = self.settings.load_beside_service();
        findings.extend(settings(&loaded));
        let mut place = match &loaded {
            Ok(loaded) => Site::of(loaded),
            // Checks with the defaults are better than none.
            Err(_) => Site {
                settings: Settings::default(),
                data_dir: Settings::default().data_dir,
                url: None,
                answers: false,
            },
        };
        if !self.offline {
            findings.extend(place.ask_daemon(loaded.as_ref().ok()));
        }
        if self.accept_clock {
            let answer = self.client(&place)?.call(Call::post(&["clock", "accept"])).await?;
            return screen.record(&answer.body);
        }
        findings.extend(files::check(&place));
        findings.extend(listeners::check(&place.settings));
        findings.extend(machine::check(&place).await);
        findings.extend(proxy::check(&place.settings.delivery).await);
        if let Ok(loaded) = &loaded {
            findings.extend(cluster::check(&loaded.settings).await);
        }
        if !self.offline {
            let client = self.client(&place)?;
            let answers = daemon::check(&client, &place, &mut findings).await;
            if answers {
                webhooks::check(&client, &place, &mut findings).await;
            }
        }
        report(screen, &findings)
    }

    fn client(&self, site: &Site) -> Result<Client, Exit> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let its_url = site.url.clone().unwrap_or_else(|| url_of(&site.settings));
        let url = given(&self.url).unwrap_or_else(|| its_url.clone());
        // A key of this machine goes only to the daemon of this machine, while it runs.
        let is_its = site.answers && target::is_same(&url, &its_url);
        let token = given(&self.token).or_else(|| site.token().filter(|_| is_its));
        Client::new(&url, token.as_deref())
    }
}

/// The installation that is checked.
struct Site {
    settings: Settings,
    /// The directory of the settings. The packaged service's if the settings name none and only that one exists.
    data_dir: PathBuf,
    /// The address of a daemon that was found by its record.
    url: Option<String>,
    /// Whether a daemon answers at the control socket of the directory.
    answers: bool,
}

impl Site {
    /// The data directory of the settings. If they name none and the default is missing, the only daemon of this user.
    fn of(loaded: &Loaded) -> Site {
        let settings = loaded.settings.clone();
        let data_dir = data_dir_of(loaded).to_owned();
        let is_named = *loaded.origin("data_dir") != ValueSource::Default || data_dir.symlink_metadata().is_ok();
        let running = if is_named { Ok(Vec::new()) } else { running::all(&trusted_file::runtime_dir()) };
        match running.as_deref() {
            Ok([only]) => {
                Site { settings, data_dir: only.data_dir.clone(), url: Some(only.url.clone()), answers: false }
            }
            _ => Site { settings, data_dir, url: None, answers: false },
        }
    }

    /// Takes over the settings in force of the daemon on the data directory. `None` if none answers.
    fn ask_daemon(&mut self, here: Option<&Loaded>) -> Option<Finding> {
        const CHECK: &str = "settings";
        let in_force = SettingsInForce::of_daemon(&self.data_dir).ok()?;
        self.answers = true;
        self.settings = in_force.onto(&self.settings);
        let file = in_force.file.as_ref().map_or("no settings file".to_owned(), Clone::clone);
        let source = format!("in force, from the running daemon ({file})");
        let differences = here.map(|here| in_force.differences(&SettingsInForce::of(here))).unwrap_or_default();
        Some(match differences.is_empty() {
            true => Finding::ok(CHECK, source),
            false => Finding::ok(CHECK, format!("{source}; read here, these differ: {}", differences.join(", "))),
        })
    }

    /// A key that may ask, where one can be read.
    fn token(&self) -> Option<String> {
        let admin = self.settings.admin_key.as_ref().map(|key| key.expose().to_owned());
        let file = self.data_dir.join(FIRST_KEY_FILE);
        let first = || trusted_file::read(&file, OtherOwners::OfTheDirectoryForRoot).ok()?.map(|(_, key)| key);
        admin.or_else(first).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
    }
}

fn settings(loaded: &Result<Loaded, config::ConfigError>) -> Vec<Finding> {
    match loaded {
        Ok(loaded) => {
            let from = loaded.file.as_ref().map_or("no settings file".to_owned(), |file| file.display().to_string());
            let is_service = loaded.settings.data_dir == Path::new(SERVICE_DATA_DIR);
            let service = if is_service { ", with the variables and credentials of the packaged service" } else { "" };
            vec![Finding::ok("settings", format!("they are right ({from}{service})"))]
        }
        Err(error) => {
            let each = error.problems.iter().map(|problem| {
                let fix = "mend it there; `postrider config default` prints every setting with its explanation";
                Finding::fail("settings", problem.to_string(), fix)
            });
            each.collect()
        }
    }
}
