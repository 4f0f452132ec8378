//! The compiler of `.cargo/config.toml`: optimised builds use the profile of their compiler, and all others none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use crate::source::root;

/// A process that starts holds the files of this one open, and Linux runs no script that is open for writing.
static STARTING: Mutex<()> = Mutex::new(());

/// `.cargo/rustc` in a directory of its own, with a profile for version 1.2.3 and a compiler that prints its arguments.
struct Compiling {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Compiling {
    fn new() -> Compiling {
        let alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = TempDir::new().expect("a directory");
        fs::copy(root().join(".cargo/rustc"), folder.path().join("rustc")).expect("a copy");
        fs::write(folder.path().join("profile-1.2.3.profdata"), "").expect("a profile");
        Compiling { folder, _alone: alone }
    }

    /// The arguments that a compiler of a version is given, in one line.
    #[allow(clippy::disallowed_methods, reason = "no test of this binary locks a directory")]
    fn arguments(&self, version: &str, given: &str) -> String {
        let compiler = self.compiler(version);
        let done = Command::new(self.folder.path().join("rustc"))
            .arg(compiler)
            .args(given.split(' '))
            .envs([("CARGO_PKG_NAME", "letters"), ("CARGO_PKG_VERSION", "4.5.6")])
            .env_remove("POSTRIDER_TRAIN")
            .output()
            .expect("a run");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).expect("text").trim_end().to_owned()
    }

    fn compiler(&self, version: &str) -> PathBuf {
        let path = self.folder.path().join("compiler");
        let script = format!(
            "#!/bin/sh\nif [ \"$*\" = --version ]; then echo 'rustc {version} (0 1970-01-01)'; else echo \"$@\"; fi\n"
        );
        fs::write(&path, script).expect("a compiler");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }

    fn profile(&self) -> String {
        let path: &Path = self.folder.path();
        format!(
            "-Cprofile-use={}/profile-1.2.3.profdata -Cllvm-args=-no-pgo-warn-mismatch",
            path.to_str().expect("a path of text")
        )
    }
}

const OPTIMISED: &str = "--crate-name letters -C opt-level=3 -C metadata=0123 -C extra-filename=-89 src/lib.rs";
const STABLE: &str = "--crate-name letters -C opt-level=3 -C metadata=letters-4.5 -C extra-filename=-89 src/lib.rs";

#[test]
fn an_optimised_build_uses_the_profile_of_its_compiler() {
    let compiling = Compiling::new();
    assert_eq!(compiling.arguments("1.2.3", OPTIMISED), format!("{STABLE} {}", compiling.profile()));
}

#[test]
fn a_compiler_without_a_profile_builds_without_one() {
    for version in ["1.2.4", "1.2", "1.2.3-nightly", ""] {
        assert_eq!(Compiling::new().arguments(version, OPTIMISED), STABLE, "{version}");
    }
}

#[test]
fn a_build_with_checks_has_the_names_of_an_optimised_one_and_no_profile() {
    let checked = |given: &str| format!("{given} -C debug-assertions=on");
    assert_eq!(Compiling::new().arguments("1.2.3", &checked(OPTIMISED)), checked(STABLE));
}

#[test]
fn questions_to_the_compiler_and_other_builds_pass_unchanged() {
    for given in ["-vV", "--version", "--crate-name letters -C metadata=0123 --test src/lib.rs"] {
        let expected = if given == "--version" { "rustc 1.2.3 (0 1970-01-01)" } else { given };
        assert_eq!(Compiling::new().arguments("1.2.3", given), expected);
    }
}

#[test]
fn a_compiler_for_this_repository_is_the_one_of_its_settings() {
    let settings = fs::read_to_string(root().join(".cargo/config.toml")).expect("the settings");
    let settings: toml::Table = settings.parse().expect("TOML");
    assert_eq!(settings["build"]["rustc-wrapper"].as_str(), Some(".cargo/rustc"));
    let mode = fs::metadata(root().join(".cargo/rustc")).expect("the script").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "cargo cannot run it");
}
