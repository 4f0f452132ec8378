//! Files whose content the client obeys: a key, the address of a daemon. They are read as ssh reads a private key.
//!
//! Invariant: a file that another user may have planted or changed is never read. Such are files of another owner,
//! symbolic links, and files or directories that other users may write.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Exit;

/// Larger files are no key and no record.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// The bits of a mode that let other users write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Owners other than the caller and root that are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherOwners {
    Refused,
    /// The owner of the file's directory, if the caller is root: a service's directory belongs to its user.
    OfTheDirectoryForRoot,
}

/// The user whom this process acts for.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens a file that only its trusted owner can have written, and reads it. `Ok(None)` if there is none.
///
/// # Errors
/// It cannot be read, or it is not to be trusted: exit code 78 and why.
pub fn read(path: &Path, others: OtherOwners) -> Result<Option<(File, String)>, Exit> {
    let failed = |error: io::Error| Exit::configuration(format!("{}: {error}", path.display()));
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = match fs::OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(None);
        }
        // A file that the caller may not read is another user's.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(distrusted(path, "it is a symbolic link"));
        }
        Err(error) => return Err(failed(error)),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (about, about_folder) = (file.metadata().map_err(failed)?, fs::metadata(folder).map_err(failed)?);
    if !about.is_file() {
        return Err(distrusted(path, "it is no regular file"));
    }
    check(&Standing::of(&about), &Standing::of(&about_folder), own_uid(), others)
        .map_err(|why| distrusted(path, &why))?;
    let mut text = String::new();
    (&file).take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(Some((file, text)))
}

fn distrusted(path: &Path, why: &str) -> Exit {
    Exit::configuration(format!("{} is not to be trusted: {why}", path.display()))
        .hint("check who put it there; a key is also taken from --token or POSTRIDER_TOKEN")
}

/// The owner and the mode of a file.
struct Standing {
    uid: u32,
    mode: u32,
}

impl Standing {
    fn of(about: &fs::Metadata) -> Self {
        Self { uid: about.uid(), mode: about.mode() }
    }
}

fn check(file: &Standing, folder: &Standing, own: u32, others: OtherOwners) -> Result<(), String> {
    let is_of_service = others == OtherOwners::OfTheDirectoryForRoot && own == 0;
    for (place, it) in [("it", file), ("its directory", folder)] {
        if it.uid != own && it.uid != 0 && !(is_of_service && it.uid == folder.uid) {
            return Err(format!("{place} belongs to another user (uid {})", it.uid));
        }
        if it.mode & WRITABLE_BY_OTHERS != 0 {
            return Err(format!("other users may write {place} (mode {:03o})", it.mode & 0o777));
        }
    }
    Ok(())
}

/// A directory of this user for files that last as long as a process: below `XDG_RUNTIME_DIR`, else below the directory
/// for temporary files.
pub fn runtime_dir() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    match given {
        Some(path) => PathBuf::from(path).join("postrider"),
        None => std::env::temp_dir().join(format!("postrider-{}", own_uid())),
    }
}

/// Whether the path is a directory itself, belongs to this user, and only this user may look into it.
pub fn is_own_directory(path: &Path) -> bool {
    let about = fs::symlink_metadata(path);
    about.is_ok_and(|about| about.is_dir() && about.uid() == own_uid() && about.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn standing(uid: u32, mode: u32) -> Standing {
        Standing { uid, mode }
    }

    #[test]
    fn only_the_caller_and_root_are_trusted_and_a_service_by_root() {
        use OtherOwners::{OfTheDirectoryForRoot, Refused};
        let checked = |file, folder, own, others| check(&standing(file, 0o600), &standing(folder, 0o700), own, others);
        assert_eq!(checked(1000, 1000, 1000, Refused), Ok(()));
        assert_eq!(checked(0, 0, 1000, Refused), Ok(()));
        assert!(checked(1001, 1000, 1000, Refused).is_err_and(|why| why.contains("uid 1001")));
        assert!(checked(1000, 1001, 1000, OfTheDirectoryForRoot).is_err(), "the directory is another user's");
        assert!(checked(999, 999, 0, Refused).is_err());
        assert_eq!(checked(999, 999, 0, OfTheDirectoryForRoot), Ok(()));
        assert!(checked(1000, 999, 0, OfTheDirectoryForRoot).is_err(), "neither root's nor the service's");
    }

    #[test]
    fn files_that_others_may_write_are_not_trusted() {
        let checked = |file, folder| check(&standing(7, file), &standing(7, folder), 7, OtherOwners::Refused);
        assert_eq!(checked(0o100_644, 0o40_755), Ok(()));
        assert!(checked(0o100_620, 0o40_700).is_err_and(|why| why.contains("write it (mode 620)")));
        assert!(checked(0o100_600, 0o41_777).is_err_and(|why| why.contains("its directory (mode 777)")));
    }

    #[test]
    fn links_and_writable_files_are_refused_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().expect("a directory");
        let (key, link) = (folder.path().join("key"), folder.path().join("link"));
        let text = |path: &Path| read(path, OtherOwners::Refused).map(|read| read.map(|(_, text)| text));
        assert_eq!(text(&key).expect("no error"), None);
        fs::write(&key, "pr_x\n").expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
        assert_eq!(text(&key).expect("trusted").as_deref(), Some("pr_x\n"));
        std::os::unix::fs::symlink(&key, &link).expect("a link");
        let refused = text(&link).expect_err("a link");
        assert_eq!(refused.code(), 78);
        assert!(refused.text().contains("symbolic link"), "{}", refused.text());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).expect("set");
        assert!(text(&key).is_err());
    }

    #[test]
    fn a_runtime_directory_is_this_users_alone() {
        let folder = tempfile::tempdir().expect("a directory");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("set");
        assert!(is_own_directory(folder.path()));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("a link");
        assert!(!is_own_directory(&link));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
        assert!(!is_own_directory(folder.path()));
    }
}
