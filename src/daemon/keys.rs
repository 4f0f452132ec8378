//! The two keys of an installation: the master key that seals secrets, and the first key that callers use.
//!
//! Invariant: an existing store is never opened with a master key that was just made, because a lost key must be
//! noticed.

use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::api::auth::{key_hash, key_text};
use crate::config::{SecretSetting, Settings};
use crate::engine::Engine;
use crate::engine::clock::Random;
use crate::model::Scope;
use crate::store::admin::{self, MasterKey};
use crate::store::{self, Applied, Caller, Disk, NewKey, Receipt, Rejection, StateCommand, TenantScope, WriteRequest};

use super::DaemonError;

pub(super) const MASTER_KEY_FILE: &str = "master.key";
/// Suffix of the name of a key that is about to replace another.
const NEXT: &str = "next";
pub(super) const FIRST_KEY_FILE: &str = "first-key";
/// The bits of a mode that let other users write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The bits of a mode that give other users anything.
const READABLE_BY_OTHERS: u32 = 0o077;

/// A key that was made at the first start.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstKey {
    pub text: String,
    pub file: PathBuf,
}

impl fmt::Debug for FirstKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstKey").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The key that wraps the store's data key: from the settings, or from `data_dir/master.key`, made for a new store.
pub(super) fn master_key(settings: &Settings, disk: &dyn Disk, random: &dyn Random) -> Result<MasterKey, DaemonError> {
    if let Some(text) = &settings.master_key {
        return Ok(key_hash(text.expose()));
    }
    let file = settings.data_dir.join(MASTER_KEY_FILE);
    settle(&file, disk)?;
    let is_new = !admin::has_store(disk).map_err(|source| DaemonError::Io { context: disk.describe(), source })?;
    if is_new && !file.exists() {
        write_private(&file, &made_master_key(random))?;
    }
    read_key(&file)
}

/// The key of an existing store for reading. An interrupted change of the key stays as it is.
pub(super) fn stored_master_key(settings: &Settings, disk: &dyn Disk) -> Result<MasterKey, DaemonError> {
    if let Some(text) = &settings.master_key {
        return Ok(key_hash(text.expose()));
    }
    let file = settings.data_dir.join(MASTER_KEY_FILE);
    if let Ok(next) = read_key(&file.with_extension(NEXT))
        && admin::opens(disk, &next).is_ok_and(|opens| opens)
    {
        return Ok(next);
    }
    read_key(&file)
}

/// Refuses the store on a disk if the key in force does not open it.
///
/// # Errors
/// The key is missing or another one, or the store cannot be read. The error names the place of the key.
pub(super) fn check_master_key(settings: &Settings, disk: &dyn Disk) -> Result<(), DaemonError> {
    let key = stored_master_key(settings, disk)?;
    if admin::opens(disk, &key)? {
        return Ok(());
    }
    let place = match (&settings.master_key_file, &settings.master_key) {
        (Some(file), _) => file.display().to_string(),
        (None, Some(_)) => "the settings".to_owned(),
        (None, None) => settings.data_dir.join(MASTER_KEY_FILE).display().to_string(),
    };
    let dir = settings.data_dir.display();
    let words =
        format!("{place}: this master key does not open the store in {dir}; give the one that it was made with");
    Err(store::Error::MasterKey(words).into())
}

fn read_key(file: &Path) -> Result<MasterKey, DaemonError> {
    match read_own(file, WRITABLE_BY_OTHERS)? {
        Some(text) => Ok(key_hash(text.trim())),
        None => {
            let words = format!(
                "{} is missing: the secrets in this store cannot be opened without the key it held",
                file.display()
            );
            Err(store::Error::MasterKey(words).into())
        }
    }
}

/// Completes an interrupted change of the master key. If the store is wrapped by the next key already, that key
/// replaces the old one. Otherwise it is removed.
fn settle(file: &Path, disk: &dyn Disk) -> Result<(), DaemonError> {
    let next = file.with_extension(NEXT);
    let failed = |source| DaemonError::Io { context: next.display().to_string(), source };
    let Some(text) = read_own(&next, WRITABLE_BY_OTHERS)? else { return Ok(()) };
    match admin::opens(disk, &key_hash(text.trim()))? {
        true => rename_private(&next, file),
        false => fs::remove_file(&next).map_err(failed),
    }
}

/// The key that opens the store after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyRotation {
    /// A new key, which is in this file.
    Made(PathBuf),
    /// The given key, which the caller must now put into the settings.
    Given,
}

/// Wraps the store's data key by another master key while no process has the store open. Without `new` a key is made,
/// if the key in force is the data directory's own. After a crash either the old or the new key is in force.
///
/// # Errors
/// The key in force does not open the store, or comes from the settings while no new one is given. Nothing is changed.
pub(super) fn rotate_master(
    settings: &Settings,
    new: Option<&SecretSetting>,
    disk: &dyn Disk,
    random: &dyn Random,
) -> Result<KeyRotation, DaemonError> {
    let old = master_key(settings, disk, random)?;
    let nonce = || {
        let mut nonce = [0; 12];
        random.fill(&mut nonce);
        nonce
    };
    if let Some(new) = new {
        admin::rewrap(disk, &old, &key_hash(new.expose()), nonce())?;
        return Ok(KeyRotation::Given);
    }
    if settings.master_key.is_some() {
        let words = "the master key comes from the settings: give the new one in a file";
        return Err(DaemonError::Settings(words.into()));
    }
    let file = settings.data_dir.join(MASTER_KEY_FILE);
    let text = made_master_key(random);
    write_private(&file.with_extension(NEXT), &text)?;
    admin::rewrap(disk, &old, &key_hash(&text), nonce())?;
    rename_private(&file.with_extension(NEXT), &file)?;
    Ok(KeyRotation::Made(file))
}

fn made_master_key(random: &dyn Random) -> String {
    let mut bytes = MasterKey::default();
    random.fill(&mut bytes);
    STANDARD.encode(bytes)
}

/// Makes the first organization and key of an empty store, and the administrator's key if the settings have one.
pub(super) async fn first_key(
    settings: &Settings,
    engine: &Arc<Engine>,
    is_new: bool,
) -> Result<Option<FirstKey>, DaemonError> {
    let given = settings.admin_key.as_ref().map(|key| key.expose().to_owned());
    if !is_new {
        if let Some(text) = given {
            admit_admin(engine, &text).await?;
        }
        return Ok(None);
    }
    let made = match &given {
        Some(_) => None,
        None => Some(reuse_or_make(&settings.data_dir.join(FIRST_KEY_FILE), &*engine.random)?),
    };
    let text = given.or_else(|| made.as_ref().map(|key| key.text.clone())).unwrap_or_default();
    let name = if made.is_some() { "first" } else { "admin" };
    let request = WriteRequest::internal(StateCommand::CreateOrganization {
        name: "default".into(),
        key: installation_key(name, &text),
    });
    done(engine.apply(Box::new(request)).await)?;
    Ok(made)
}

/// Uses a key file again that a start left behind before the store had the key.
fn reuse_or_make(file: &Path, random: &dyn Random) -> Result<FirstKey, DaemonError> {
    if let Some(text) = read_own(file, READABLE_BY_OTHERS)?
        && !text.trim().is_empty()
    {
        return Ok(FirstKey { text: text.trim().to_owned(), file: file.to_owned() });
    }
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    let text = key_text(bytes);
    write_private(file, &text)?;
    Ok(FirstKey { text, file: file.to_owned() })
}

/// The administrator's key from the settings, if the store does not know it yet.
async fn admit_admin(engine: &Arc<Engine>, text: &str) -> Result<(), DaemonError> {
    let registry = engine.store.registry();
    if registry.key_by_hash(&key_hash(text)).is_some() {
        return Ok(());
    }
    let Some(organization) = registry.organizations().next() else { return Ok(()) };
    let by = Caller {
        key: crate::model::KeyId::MIN,
        tenant: TenantScope { org: organization.id, app: None },
        remote_addr: None,
        request_id: "start".into(),
        portal_link: None,
    };
    let command = StateCommand::CreateKey { key: installation_key("admin", text) };
    done(engine.apply(Box::new(WriteRequest { caller: Some(by), idempotency: None, command: command.into() })).await)
}

fn installation_key(name: &str, text: &str) -> NewKey {
    NewKey {
        name: name.into(),
        scopes: vec![Scope::Admin],
        hash: key_hash(text),
        installation: true,
        ..NewKey::default()
    }
}

fn done(result: Result<Result<Applied, Rejection>, crate::engine::write_queue::Busy>) -> Result<(), DaemonError> {
    match result {
        Ok(Ok(applied)) => {
            debug_assert!(matches!(applied.receipt, Receipt::Organization { .. } | Receipt::Key(_)));
            Ok(())
        }
        Ok(Err(refusal)) => Err(DaemonError::Engine(format!("the first key could not be kept: {refusal}"))),
        Err(_) => Err(DaemonError::Engine("stopped while starting".into())),
    }
}

/// Reads a file of keys as ssh does, and never through a symbolic link. It must be a regular file of this user or of
/// root, whose mode has none of the bits `refused`. `None` if there is no file.
///
/// # Errors
/// The file is not to be trusted, or cannot be read.
fn read_own(file: &Path, refused: u32) -> Result<Option<String>, DaemonError> {
    let failed = |source| DaemonError::Io { context: file.display().to_string(), source };
    let distrusted = |why: &str| {
        let words = format!("{} is not to be trusted: {why}; check who put it there", file.display());
        DaemonError::Settings(words)
    };
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let mut opened = match fs::OpenOptions::new().read(true).custom_flags(nofollow).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(distrusted("it is a symbolic link"));
        }
        Err(source) => return Err(failed(source)),
    };
    let about = opened.metadata().map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_file() {
        return Err(distrusted("it is no regular file"));
    }
    if about.uid() != own && about.uid() != 0 && own != 0 {
        return Err(distrusted(&format!("it belongs to another user (uid {})", about.uid())));
    }
    let refused =
        file.parent().map_or(refused, |dir| fs::metadata(dir).map_or(refused, |dir| refused & !group_bits(&dir)));
    if about.mode() & refused != 0 {
        return Err(distrusted(&format!("its mode is {:03o}, which gives other users too much", about.mode() & 0o777)));
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// The bits of a mode that a file in the directory may give to its group. 0 unless the directory has the bit setgid and
/// belongs to a group of this process.
///
/// Kubernetes gives a volume to `fsGroup` in this way, and opens every file in it to the group.
fn group_bits(dir: &fs::Metadata) -> u32 {
    const SETGID: u32 = 0o2000;
    let is_own =
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == dir.gid()));
    if dir.mode() & SETGID != 0 && (rustix::process::getegid().as_raw() == dir.gid() || is_own()) { 0o070 } else { 0 }
}

/// Refuses a data directory that other users may write: they could plant or exchange its files.
///
/// # Errors
/// The directory is such a one.
pub(super) fn check_data_dir(data_dir: &Path) -> Result<(), DaemonError> {
    // A missing one is made later, for this user alone.
    let Ok(about) = fs::metadata(data_dir) else { return Ok(()) };
    if about.mode() & WRITABLE_BY_OTHERS & !group_bits(&about) == 0 {
        return Ok(());
    }
    let (dir, mode) = (data_dir.display(), about.mode() & 0o777);
    let words = format!("other users may write the data directory {dir} (mode {mode:03o}): chmod go-w {dir}");
    Err(DaemonError::Settings(words))
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(file: &Path, text: &str) -> Result<(), DaemonError> {
    let failed = |source| DaemonError::Io { context: file.display().to_string(), source };
    let temporary = file.with_extension("new");
    // A file that a cut has left, or that another user has planted, is not written into.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    let mut out = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
    out.sync_all().map_err(failed)?;
    rename_private(&temporary, file)
}

/// Renames over `to`, durably.
fn rename_private(from: &Path, to: &Path) -> Result<(), DaemonError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let renamed = fs::rename(from, to).and_then(|()| fs::File::open(folder)?.sync_all());
    renamed.map_err(|source| DaemonError::Io { context: to.display().to_string(), source })
}
