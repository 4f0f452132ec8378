//! Processes that a test starts, and locks that they must not keep.
//!
//! A new process holds a copy of every descriptor of this one, locks of directories included, until it runs its program.
//! The lock that a stopped daemon of another test has released would still be held. Invariant: a daemon's directory is
//! locked by `lock` only, while no test starts a process.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider::daemon::{DaemonError, lock_folder};
use postrider::store::{Disk, Error};

/// Maximum polls of a lock before it counts as held.
const LOOKS_MAX: u32 = 100_000;

static STARTING: Mutex<()> = Mutex::new(());

fn starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks the directory of a daemon, which another daemon of this process may have released just now.
pub fn lock(data_dir: &Path) -> Arc<dyn Disk> {
    let mut left = LOOKS_MAX;
    loop {
        drop(starting());
        match lock_folder(data_dir) {
            Ok(disk) => return disk,
            // Linux lets this process continue shortly before it has closed the copies.
            Err(DaemonError::Store(Error::InUse(_))) if left > 0 => left -= 1,
            Err(error) => panic!("{}: {error}", data_dir.display()),
        }
        std::thread::yield_now();
    }
}

/// Starts a process, and returns when it runs its program.
#[allow(clippy::disallowed_methods, reason = "all processes start here")]
pub fn spawn(command: &mut Command) -> Child {
    let _guard = starting();
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Starts a process with an empty stdin, and waits for its end. Returns its exit code and its output.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).wait_with_output().expect("an end")
}

/// Sends a signal, by name, to a process that has not been waited for.
pub fn signal(child: &Child, name: &str) {
    assert!(is_sent(&child.id().to_string(), name), "{name} was sent");
}

/// Sends a signal to the process group of a child. Returns whether a process received it.
pub fn signal_group(child: &Child, name: &str) -> bool {
    is_sent(&format!("-{}", child.id()), name)
}

fn is_sent(target: &str, name: &str) -> bool {
    output(Command::new("sh").args(["-c", &format!("kill -{name} {target}")])).status.success()
}

#[test]
fn a_lock_that_was_released_is_free_while_processes_start() {
    let folder = tempfile::tempdir().expect("a directory");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                output(Command::new("sh").args(["-c", ":"]));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            drop(lock(folder.path()));
        }
    });
}
