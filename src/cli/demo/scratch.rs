//! A private directory for one run. It is removed when the run ends, even by an error or a panic.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Exit;
use crate::engine::clock::{Random as _, SystemRandomness};

/// The directory, which is removed on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new directory below the system's temporary one. Its name cannot be guessed, and it is refused if it is there
    /// already, so that it is never a link of another user. The name holds `purpose`.
    pub fn new(purpose: &str) -> Result<Self, Exit> {
        let mut random = [0; 8];
        SystemRandomness::default().fill(&mut random);
        let name = format!("postrider-{purpose}-{:016x}", u64::from_be_bytes(random));
        let path = std::env::temp_dir().join(name);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) => Err(Exit::failed(format!("cannot make the directory {}: {error}", path.display()))
                .hint("TMPDIR names the place for temporary directories")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory now, and reports a failure.
    pub fn remove(self) -> Result<(), Exit> {
        fs::remove_dir_all(&self.path)
            .map_err(|error| Exit::failed(format!("{} could not be removed: {error}", self.path.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failure is not reported: `remove` has removed the directory, or has reported why it could not.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_private_and_gone_afterwards_with_all_that_is_in_it() {
        let (one, other) = (Scratch::new("test").expect("one"), Scratch::new("test").expect("another"));
        let (path, other_path) = (one.path().to_owned(), other.path().to_owned());
        assert_ne!(path, other_path);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("below")).and_then(|()| fs::write(path.join("below/file"), "x")).expect("written");
        drop(one);
        other.remove().expect("removed");
        assert!(!path.exists() && !other_path.exists());
    }

    #[test]
    fn it_is_gone_after_a_panic() {
        let kept = std::sync::Mutex::new(PathBuf::new());
        let unwound = std::panic::catch_unwind(|| {
            let scratch = Scratch::new("test").expect("a directory");
            scratch.path().clone_into(&mut kept.lock().expect("unpoisoned"));
            std::panic::resume_unwind(Box::new("as if it had panicked"));
        });
        assert!(unwound.is_err());
        assert!(!kept.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).exists());
    }
}
