//! Checks of the files: whether they exist, and whether only their users can read them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Site;
use super::finding::Finding;
use crate::config::Settings;
use crate::daemon::{
    self, BROKEN_RESTORE_CURE, DaemonError, OVERTAKEN_CURE, STANDBY_LOG_CURE, STATE_MISSING_CURE, TWO_OWNERS_CURE,
};
use crate::server::{ServerTls, TlsFiles};
use crate::store;

const OF_OTHERS: u32 = 0o007;
const OTHER_USERS_BITS: u32 = 0o077;
/// Length of an administrator's key from which it is taken for random.
const ADMIN_KEY_CHARS_SAFE: usize = 32;

pub(super) fn check(site: &Site) -> Vec<Finding> {
    let mut findings = data_dir(&site.data_dir);
    findings.extend(store_files(&site.data_dir));
    findings.extend(write_ahead_log(&site.data_dir));
    findings.extend(standby_log(&site.data_dir));
    let settings = &site.settings;
    findings.extend(broken_restore(settings, &site.data_dir));
    findings.extend(master_key(settings, &site.data_dir));
    findings.extend(overtaken(settings, &site.data_dir));
    let key_files = [("admin_key_file", &settings.admin_key_file), ("master_key_file", &settings.master_key_file)];
    let tls = [("server.tls_key", &settings.server.tls_key)];
    for (name, file) in key_files.into_iter().chain(tls).filter_map(|(name, file)| Some((name, file.as_ref()?))) {
        findings.extend(secret_file(name, file));
    }
    findings.extend(admin_key(settings));
    let server = &settings.server;
    if let (Some(cert), Some(key)) = (&server.tls_cert, &server.tls_key) {
        let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: server.tls_client_ca.clone() };
        findings.push(match ServerTls::load(files) {
            Ok(_) => Finding::ok("tls", format!("{} and its key fit", cert.display())),
            Err(why) => Finding::fail("tls", why, "mend server.tls_cert and server.tls_key, then reload the daemon"),
        });
    }
    findings
}

fn data_dir(dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "data_dir";
    let shown = dir.display();
    let mode = match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => metadata.permissions().mode(),
        Ok(_) => {
            let fix = "give another data_dir, or move the file away";
            return vec![Finding::fail(CHECK, format!("{shown} is not a directory"), fix)];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let fix = "the first start makes it; if there should be data, look at data_dir (`postrider config show`)";
            return vec![Finding::warn(CHECK, format!("{shown} is not there"), fix)];
        }
        Err(error) => {
            let fix = "run this as root, or as the user that the daemon runs as";
            return vec![Finding::warn(CHECK, format!("{shown} cannot be looked into: {error}"), fix)];
        }
    };
    let mut findings = Vec::new();
    if mode & OTHER_USERS_BITS != 0 {
        let detail = format!("{shown} has mode {:o}: others of this machine can look into it", mode & 0o777);
        findings.push(Finding::fail(CHECK, detail, format!("chmod 700 {shown}")));
    }
    for name in ["first-key", "master.key", "state.redb", "journal"] {
        findings.extend(secret_file(CHECK, &dir.join(name)).filter(|_| dir.join(name).exists()));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{shown}, for its owner alone")));
    }
    findings
}

/// `None` without an administrator's key in the settings, and for one that is long enough.
fn admin_key(settings: &Settings) -> Option<Finding> {
    let chars = settings.admin_key.as_ref()?.expose().len();
    let detail = format!("the administrator's key has {chars} characters, and may be guessed");
    let fix = "give one with every right that is random: `printf 'pr_%s' \"$(openssl rand -hex 32)\"` makes one";
    (chars < ADMIN_KEY_CHARS_SAFE).then(|| Finding::warn("admin_key", detail, fix))
}

/// Nothing if the daemon has the store, or there is none to be looked into: other checks say so.
fn store_files(dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "store";
    let check = match daemon::check_files(dir) {
        Ok(Some(check)) => check,
        Err(missing @ DaemonError::StateMissing(_)) => {
            return vec![Finding::fail(CHECK, missing.to_string(), STATE_MISSING_CURE)];
        }
        Ok(None) => return Vec::new(),
        Err(error) if is_hidden(&error) => return Vec::new(),
        Err(error) => {
            let fix = "put the files back, or restore a backup into an empty data directory";
            return vec![Finding::fail(CHECK, format!("{}: {error}", dir.display()), fix)];
        }
    };
    let damaged = check.damaged.iter().map(|defect| {
        let fix = match defect.file.ends_with(".blobs") {
            true => "restore a backup; or `postrider serve --accept-loss` once, which gives up the lost payloads",
            false => "restore a backup; `postrider verify` says what else is damaged",
        };
        Finding::fail(CHECK, format!("{defect}"), fix)
    });
    let remade = check.remade.iter().map(|file| {
        Finding::warn(CHECK, format!("{file} is damaged"), "start the daemon: it makes the file again from its rows")
    });
    let mut findings: Vec<Finding> = damaged.chain(remade).collect();
    if findings.is_empty() {
        let detail = format!("all {} files open; `postrider verify` reads every row", check.files);
        findings.push(Finding::ok(CHECK, detail));
    }
    findings
}

/// `None` if the daemon has the store, or there is none to be looked into: other checks say so.
fn write_ahead_log(dir: &Path) -> Option<Finding> {
    const CHECK: &str = "write_ahead_log";
    let fix = "restore a backup; or `postrider serve --accept-loss` once, which says how much is lost";
    match daemon::wal_damage(dir) {
        Ok(Some(damage)) => Some(Finding::fail(CHECK, format!("it is damaged: {damage}"), fix)),
        Ok(None) if dir.join("journal").exists() && dir.join("state.redb").exists() => {
            Some(Finding::ok(CHECK, "it is whole, or not needed"))
        }
        Ok(None) | Err(_) => None,
    }
}

/// Whether a store is not to be looked into: another process has it, this user may not read it, or there is none.
fn is_hidden(error: &DaemonError) -> bool {
    let is_denied = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
    match error {
        DaemonError::NoStore(_) | DaemonError::Store(store::Error::InUse(_)) => true,
        DaemonError::Io { source, .. } | DaemonError::Store(store::Error::Io { source, .. }) => is_denied(source),
        _ => false,
    }
}

/// `None` if the daemon has the store, or it has no such log.
fn standby_log(dir: &Path) -> Option<Finding> {
    const CHECK: &str = "standby_log";
    let found = daemon::unapplied(dir).ok().flatten()?;
    Some(match found.damage {
        Some(damage) => {
            let detail = format!("{}: the log {damage}", dir.join("standby").join(&damage.segment).display());
            Finding::fail(CHECK, detail, STANDBY_LOG_CURE)
        }
        None => Finding::ok(CHECK, format!("it is whole; the next start applies {} commits of it", found.commits)),
    })
}

/// `None` if a start goes on: no restore broke off, or the machine copies the store of another one.
fn broken_restore(settings: &Settings, dir: &Path) -> Option<Finding> {
    if settings.standby.of.is_some() || settings.cluster.log.is_some() {
        return None;
    }
    match daemon::refuse_broken_restore(dir, &store::RealDisk::unlocked(dir)) {
        Err(broken @ DaemonError::RestoreBrokeOff(_)) => {
            Some(Finding::fail("store", broken.to_string(), BROKEN_RESTORE_CURE))
        }
        _ => None,
    }
}

/// `None` if the key opens the store, or there is no store to be looked into.
fn master_key(settings: &Settings, dir: &Path) -> Option<Finding> {
    let there = Settings { data_dir: dir.to_owned(), ..settings.clone() };
    match daemon::check_master_key(&there) {
        Err(error @ (DaemonError::Store(store::Error::MasterKey(_)) | DaemonError::Settings(_))) => {
            let fix = "put the key back, or set POSTRIDER_MASTER_KEY or master_key_file as the daemon has it";
            Some(Finding::fail("master_key", error.to_string(), fix))
        }
        _ => None,
    }
}

/// `None` if no other owner has overtaken the store, or there is no store to be looked into.
fn overtaken(settings: &Settings, dir: &Path) -> Option<Finding> {
    let there = Settings { data_dir: dir.to_owned(), ..settings.clone() };
    let error = daemon::refuse_overtaken(&there).err()?;
    let fix = match error {
        DaemonError::Overtaken { .. } => OVERTAKEN_CURE,
        DaemonError::TwoOwners { .. } => TWO_OWNERS_CURE,
        _ => return None,
    };
    Some(Finding::fail("owner", error.to_string(), fix))
}

/// `None` if its mode is right.
fn secret_file(check: &'static str, file: &Path) -> Option<Finding> {
    let shown = file.display();
    match fs::metadata(file) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode();
            let detail = format!("{shown} has mode {:o}: it is not for its owner alone", mode & 0o777);
            let fix = format!("chmod 600 {shown}; if it holds a key that others may have read, make a new one");
            match mode & OTHER_USERS_BITS {
                0 => None,
                open if open & OF_OTHERS == 0 => Some(Finding::warn(check, detail, fix)),
                _ => Some(Finding::fail(check, detail, fix)),
            }
        }
        Err(error) => {
            let fix = "run this as root, or mend the path";
            Some(Finding::warn(check, format!("{shown} cannot be looked at: {error}"), fix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Grade;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn a_directory_or_key_that_others_can_read_is_a_fail() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, key) = (folder.path(), folder.path().join("first-key"));
        fs::write(&key, "secret").expect("a file");
        set_mode(dir, 0o700);
        set_mode(&key, 0o600);
        assert_eq!(data_dir(dir)[0].grade, Grade::Ok);
        set_mode(&key, 0o644);
        let found = data_dir(dir);
        assert_eq!((found.len(), found[0].grade), (1, Grade::Fail));
        assert!(found[0].fix.as_ref().is_some_and(|fix| fix.starts_with("chmod 600 ")), "{found:?}");
        set_mode(&key, 0o640);
        assert_eq!(data_dir(dir)[0].grade, Grade::Warn);
        set_mode(dir, 0o755);
        assert_eq!(data_dir(dir)[0].grade, Grade::Fail);
        assert_eq!(data_dir(&dir.join("nowhere"))[0].grade, Grade::Warn);
        assert_eq!(data_dir(&key)[0].grade, Grade::Fail);
    }
}
