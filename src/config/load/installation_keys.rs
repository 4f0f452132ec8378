//! The two keys of an installation: the administrator's, and the one that seals secrets. Each comes from a variable, a
//! file or a systemd credential, in this order. Their text appears in no message.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Loader, keys};
use crate::config::{Environment, SecretSetting, ValueSource};

const ADMIN_KEY_BYTES_MAX: usize = 512;
const MASTER_KEY_BYTES_MIN: usize = 32;
const MASTER_KEY_BYTES_MAX: usize = 512;

/// A master key from the text of a file or a variable, without surrounding white space.
///
/// # Errors
/// The text is too short to be random, or too long. The error does not contain it.
pub fn master_key_of(text: &str) -> Result<SecretSetting, String> {
    let text = text.trim();
    match (MASTER_KEY_BYTES_MIN..=MASTER_KEY_BYTES_MAX).contains(&text.len()) {
        true => Ok(SecretSetting::new(text.to_owned())),
        false => Err(format!(
            "should have {MASTER_KEY_BYTES_MIN} to {MASTER_KEY_BYTES_MAX} characters; `openssl rand -base64 32` makes one"
        )),
    }
}

impl Loader {
    pub(super) fn admin_key(&mut self, environment: &Environment) {
        let source = KeySource {
            name: "admin_key",
            file_setting: "admin_key_file",
            variable: "POSTRIDER_ADMIN_KEY",
            credential: "admin-key",
        };
        let Some((text, origin)) = self.key(&source, self.settings.admin_key_file.clone(), environment) else {
            return;
        };
        if text.len() > ADMIN_KEY_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("should be visible ASCII without spaces, at most {ADMIN_KEY_BYTES_MAX} bytes");
            return self.problem(&origin, source.name, problem);
        }
        self.settings.admin_key = Some(SecretSetting::new(text));
    }

    pub(super) fn master_key(&mut self, environment: &Environment) {
        let source = KeySource {
            name: "master_key",
            file_setting: "master_key_file",
            variable: "POSTRIDER_MASTER_KEY",
            credential: "master-key",
        };
        let Some((text, origin)) = self.key(&source, self.settings.master_key_file.clone(), environment) else {
            return;
        };
        match master_key_of(&text) {
            Ok(key) => self.settings.master_key = Some(key),
            Err(problem) => self.problem(&origin, source.name, problem),
        }
    }

    /// The secret of the tokens of a Svix server, from the file of its setting.
    pub(super) fn foreign_token_secret(&mut self, environment: &Environment) {
        const NAME: &str = keys::FOREIGN_SECRET_FILE;
        let Some(path) = self.settings.foreign_tokens.secret_file.clone() else { return };
        let text = match environment.read(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) => {
                return self.problem(&self.origin(NAME), NAME, format!("cannot read {}: {error}", path.display()));
            }
        };
        if text.is_empty() {
            return self.problem(&self.origin(NAME), NAME, format!("{} is empty", path.display()));
        }
        self.settings.foreign_tokens.secret = Some(SecretSetting::new(text));
    }

    /// The key's text without surrounding white space. It comes from the variable, else from the file that a setting
    /// names, else from the credential. Also records the source.
    fn key(
        &mut self,
        source: &KeySource,
        file: Option<PathBuf>,
        environment: &Environment,
    ) -> Option<(String, ValueSource)> {
        let of_file = self.origin(source.file_setting);
        if let Some(key) = environment.filled(source.variable) {
            if matches!(of_file, ValueSource::Env(_)) && file.is_some() {
                let text = format!("is set besides {of_file}; set one of them");
                self.problem(&ValueSource::Env(source.variable.to_owned()), source.name, text);
            }
            return self.filled(source, key, ValueSource::Env(source.variable.to_owned()));
        }
        if let Some(path) = file {
            return match environment.read(&path) {
                Ok(text) => self.filled(source, &text, of_file),
                Err(error) => {
                    let text = format!("cannot read {}: {error}", path.display());
                    self.problem(&of_file, source.file_setting, text);
                    None
                }
            };
        }
        let path = Path::new(environment.filled("CREDENTIALS_DIRECTORY")?).join(source.credential);
        let origin = ValueSource::Credential(source.credential);
        match environment.read(&path) {
            Ok(text) => self.filled(source, &text, origin),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                self.problem(&origin, source.name, format!("cannot read {}: {error}", path.display()));
                None
            }
        }
    }

    fn filled(&mut self, source: &KeySource, text: &str, origin: ValueSource) -> Option<(String, ValueSource)> {
        let text = text.trim();
        if text.is_empty() {
            self.problem(&origin, source.name, "is empty".to_owned());
            return None;
        }
        self.origins.insert(source.name, origin.clone());
        Some((text.to_owned(), origin))
    }
}

/// The names under which one of the two keys is found.
struct KeySource {
    name: &'static str,
    file_setting: &'static str,
    variable: &'static str,
    credential: &'static str,
}
