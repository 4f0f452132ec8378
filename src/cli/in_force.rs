//! The settings in force: those of the running daemon by the control socket, or those of this process.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Exit;
use crate::config::{Loaded, RawSetting, Settings};
use crate::daemon::protocol;

/// Every setting with its value, without secrets, and its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsInForce {
    pub file: Option<String>,
    pub rows: Vec<SettingInForce>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingInForce {
    pub name: String,
    pub value: RawSetting,
    pub origin: String,
}

impl SettingsInForce {
    /// The settings of this process.
    pub fn of(loaded: &Loaded) -> SettingsInForce {
        let rows = loaded.rows().into_iter();
        let rows = rows.map(|row| SettingInForce {
            name: row.key.to_owned(),
            value: row.value,
            origin: row.origin.to_string(),
        });
        SettingsInForce { file: loaded.file.as_ref().map(|file| file.display().to_string()), rows: rows.collect() }
    }

    /// The settings of the daemon that runs on this data directory.
    ///
    /// # Errors
    /// No daemon of this version answers.
    pub fn of_daemon(data_dir: &Path) -> Result<SettingsInForce, Exit> {
        let text = protocol::settings_in_force(data_dir)?;
        let shown = serde_json::from_str(&text).ok().and_then(|value| SettingsInForce::read(&value));
        shown.ok_or_else(|| Exit::failed("the daemon is of another version and does not tell its settings"))
    }

    /// `here` with these values in place of its own. A secret that is masked as a whole stays that of `here`. A URL with
    /// a masked password is taken with its mask.
    pub fn onto(&self, here: &Settings) -> Settings {
        here.with_shown(self.rows.iter().map(|row| (row.name.as_str(), &row.value)))
    }

    /// Reads the text that `json` wrote.
    fn read(value: &Value) -> Option<SettingsInForce> {
        let rows = value["settings"].as_object()?.iter().map(|(name, row)| {
            let origin = row["origin"].as_str()?.to_owned();
            Some(SettingInForce { name: name.clone(), value: raw(&row["value"])?, origin })
        });
        Some(SettingsInForce { file: value["file"].as_str().map(str::to_owned), rows: rows.collect::<Option<_>>()? })
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let value: Value = match &row.value {
                RawSetting::Text(text) => text.as_str().into(),
                RawSetting::Whole(number) => (*number).into(),
                RawSetting::Switch(on) => (*on).into(),
                RawSetting::List(entries) => entries.as_slice().into(),
                RawSetting::Other(_) => Value::Null,
            };
            (row.name.clone(), json!({ "value": value, "origin": row.origin }))
        });
        json!({ "file": self.file, "settings": rows.collect::<Map<_, _>>() })
    }

    /// TOML that can be put into a settings file, each line with its origin behind it. The two keys themselves are no
    /// settings of the file, and stand there as comments.
    pub fn toml(&self) -> String {
        let (keys, settings): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|row| matches!(row.name.as_str(), "admin_key" | "master_key"));
        let line =
            |name: &str, row: &SettingInForce| format!("{:<44} # {}\n", format!("{name} = {}", row.value), row.origin);
        let mut text: String = keys.iter().map(|row| format!("# {}", line(&row.name, row))).collect();
        let mut section = "";
        for row in &settings {
            let (of, name) = row.name.rsplit_once('.').unwrap_or(("", &row.name));
            if of != section {
                section = of;
                text.push_str(&format!("\n[{section}]\n"));
            }
            text.push_str(&line(name, row));
        }
        text
    }

    /// Names of the settings whose values differ.
    pub fn differences(&self, other: &SettingsInForce) -> Vec<String> {
        let of_other = |name: &str| other.rows.iter().find(|row| row.name == name).map(|row| &row.value);
        let differs = |row: &&SettingInForce| of_other(&row.name) != Some(&row.value);
        self.rows.iter().filter(differs).map(|row| row.name.clone()).collect()
    }
}

fn raw(value: &Value) -> Option<RawSetting> {
    match value {
        Value::String(text) => Some(RawSetting::Text(text.clone())),
        Value::Number(number) => number.as_i64().map(RawSetting::Whole),
        Value::Bool(on) => Some(RawSetting::Switch(*on)),
        Value::Array(entries) => {
            let texts = entries.iter().map(|entry| entry.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(RawSetting::List)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags, Settings};

    #[test]
    fn the_settings_of_a_daemon_read_back_without_secrets() {
        let variables = [
            ("POSTRIDER_DELIVERY__ALLOW", "erp,10.0.0.0/8"),
            ("POSTRIDER_RETENTION", "7d"),
            ("POSTRIDER_METRICS__KEY", "hunter2"),
            ("POSTRIDER_ADMIN_KEY", "hunter3"),
        ];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(owned, |_| Err(std::io::ErrorKind::NotFound.into()));
        let loaded = Settings::load(&Flags::default(), &environment).expect("the settings are right");
        let shown = SettingsInForce::of(&loaded);
        let text = shown.json().to_string();
        assert!(!text.contains("hunter"), "{text}");
        let read = SettingsInForce::read(&serde_json::from_str(&text).expect("JSON")).expect("settings");
        assert_eq!(read, shown);
        let there = read.onto(&Settings::default());
        assert_eq!((there.retention_ms, &there.delivery), (loaded.settings.retention_ms, &loaded.settings.delivery));
        assert_eq!(there.metrics.key, None, "a mask is no key");
        assert_eq!(read.differences(&shown), Vec::<String>::new());
    }

    #[test]
    fn the_proxy_of_the_daemon_is_used_and_its_password_not_shown() {
        let loaded = |proxy: &str| {
            let variables = [("POSTRIDER_DELIVERY__PROXY".to_owned(), proxy.to_owned())];
            let environment = Environment::new(variables, |_| Err(std::io::ErrorKind::NotFound.into()));
            Settings::load(&Flags::default(), &environment).expect("the settings are right")
        };
        let onto = |of_daemon: &str, here: &str| {
            let there = SettingsInForce::of(&loaded(of_daemon)).onto(&loaded(here).settings).delivery.proxy;
            there.map(|proxy| proxy.expose().to_owned()).unwrap_or_default()
        };
        let its = "http://u:hunter2@proxy:3128";
        assert_eq!(onto(its, "http://other:1"), "http://u:********@proxy:3128");
        assert_eq!(onto(its, ""), "http://u:********@proxy:3128");
        assert_eq!(onto("", its), "", "the daemon has none");
        assert_eq!(onto(its, its), its);
    }
}
