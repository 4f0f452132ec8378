//! The environment of the settings: variables and files, handed in so that tests replace both.
//!
//! It also decides which variables are settings, and which variables with a similar name belong to other programs.

use std::{collections::BTreeMap, fs::File, io, io::Read as _, path::Path};

use super::{ConfigError, SettingProblem, keys, service};

/// Maximum size of a settings or key file. A larger file is a mistake, such as a log or a disk image.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Postrider's variables that are not settings: those of the client verbs, the path of the file, and the keys.
pub const NOT_SETTINGS: [&str; 7] = [
    "POSTRIDER_URL",
    "POSTRIDER_TOKEN",
    "POSTRIDER_CLIENT_CERT",
    "POSTRIDER_CLIENT_KEY",
    "POSTRIDER_CONFIG",
    "POSTRIDER_ADMIN_KEY",
    "POSTRIDER_MASTER_KEY",
];

/// The short form of `POSTRIDER_LOG__LEVEL`.
pub const LOG: &str = "POSTRIDER_LOG";

/// Returns a file's text.
pub type Reader = dyn Fn(&Path) -> io::Result<String>;

/// The variables and the files that settings are read from.
pub struct Environment {
    variables: BTreeMap<String, String>,
    read: Box<Reader>,
}

impl Environment {
    /// `read` returns `NotFound` for a missing file.
    pub fn new(
        variables: impl IntoIterator<Item = (String, String)>,
        read: impl Fn(&Path) -> io::Result<String> + 'static,
    ) -> Self {
        Self { variables: variables.into_iter().collect(), read: Box::new(read) }
    }

    /// The variables of this process. A variable that is not UTF-8 gets replacement characters. If it is a setting, its
    /// reader refuses it.
    pub fn of_process() -> Self {
        Self::new(process_variables(), read_file)
    }

    /// The variables of this process around those that systemd gives to the packaged service.
    ///
    /// # Errors
    /// The file of the service's variables cannot be read.
    pub fn beside_service() -> Result<Self, ConfigError> {
        service::environment(process_variables(), read_file).map_err(|error| {
            let text = format!("cannot be read: {error}; run this as root");
            let place = service::SERVICE_VARIABLES_FILE.to_owned();
            ConfigError { problems: vec![SettingProblem { place, key: None, text }] }
        })
    }

    /// A variable's value. `None` if it is empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file's text.
    pub fn read(&self, path: &Path) -> io::Result<String> {
        (self.read)(path)
    }

    /// The variables that are settings, with their unchanged values.
    pub fn settings(&self) -> Vec<(&'static keys::SettingKey, &str, &str)> {
        let named = |name: &str| keys::KEYS.iter().find(|key| is_name_of(name, key));
        let each =
            self.variables.iter().filter_map(|(name, value)| Some((named(name)?, name.as_str(), value.as_str())));
        each.collect()
    }

    /// One problem for every variable that has the prefix of settings and is not one.
    pub fn strangers(&self) -> Vec<SettingProblem> {
        let known: Vec<String> = keys::KEYS.iter().map(keys::SettingKey::variable).collect();
        let ours = |name: &str| name == LOG || NOT_SETTINGS.contains(&name) || known.iter().any(|k| k == name);
        let strange = self
            .variables
            .iter()
            .filter(|(name, value)| name.starts_with("POSTRIDER_") && !ours(name) && !is_service_link(name, value));
        let problems = strange.map(|(name, _)| {
            let near = keys::nearest(name, known.iter().map(String::as_str).chain(NOT_SETTINGS));
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            let rule = "a.b of the file is POSTRIDER_A__B; `postrider config default` prints every setting";
            let text = format!("no setting has this name{hint} ({rule})");
            SettingProblem { place: name.clone(), key: None, text }
        });
        problems.collect()
    }
}

fn is_name_of(name: &str, key: &keys::SettingKey) -> bool {
    name == key.variable() || (name == LOG && key.name == "log.level")
}

/// Kubernetes and Docker links describe a service called `postrider` to every container beside it by variables such as
/// `POSTRIDER_SERVICE_HOST` and `POSTRIDER_PORT=tcp://…` (kubernetes.io, "Accessing the Service"). Postrider ignores
/// them.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let numbered_port = || {
        let (_, rest) = name.split_once("_PORT_")?;
        let (port, protocol) = rest.split_once('_')?;
        let protocol = protocol.split('_').next()?;
        Some(port.parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_url)
        || numbered_port().unwrap_or(false)
}

fn process_variables() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strangers(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(variables, |_| Err(io::ErrorKind::NotFound.into()));
        environment.strangers().iter().map(SettingProblem::to_string).collect()
    }

    #[test]
    fn a_variable_that_is_no_setting_is_named_with_the_nearest_one() {
        let found = strangers(&[("POSTRIDER_DELIVERY_ALLOW", "erp"), ("PATH", "/bin"), ("POSTRIDER_RETENTION", "1d")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("POSTRIDER_DELIVERY_ALLOW: no setting has this name"));
        assert!(found[0].contains("did you mean POSTRIDER_DELIVERY__ALLOW?"), "{}", found[0]);
    }

    #[test]
    fn the_variables_that_are_not_settings_are_no_strangers() {
        let ours: Vec<_> = NOT_SETTINGS.iter().chain([&LOG]).map(|name| (*name, "x")).collect();
        assert_eq!(strangers(&ours), Vec::<String>::new());
    }

    #[test]
    fn variables_of_an_orchestrator_about_its_services_are_ignored() {
        let links = [
            ("POSTRIDER_SERVICE_HOST", "10.96.0.7"),
            ("POSTRIDER_SERVICE_PORT", "8080"),
            ("POSTRIDER_SERVICE_PORT_HTTP", "8080"),
            ("POSTRIDER_PORT", "tcp://10.96.0.7:8080"),
            ("POSTRIDER_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
            ("POSTRIDER_PORT_8080_TCP_ADDR", "10.96.0.7"),
        ];
        assert_eq!(strangers(&links), Vec::<String>::new());
        assert_eq!(strangers(&[("POSTRIDER_PORT", "8080")]).len(), 1, "that one was meant as a setting");
    }
}
