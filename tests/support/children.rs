//! Processes that a test starts.
//!
//! A new process holds a copy of every descriptor of this one, locks of directories included, until it runs its program.
//! Invariant: no test locks a directory while another test starts a process. Otherwise the lock that a stopped daemon
//! has released would still be held.

use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider::store::RealDisk;

static STARTING: Mutex<()> = Mutex::new(());

fn starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Comes back when every process that was being started runs its program.
pub fn wait_until_started() {
    drop(starting());
}

/// Starts a process. Comes back when it runs its program.
#[allow(clippy::disallowed_methods, reason = "all processes start here")]
pub fn spawn(command: &mut Command) -> Child {
    let _guard = starting();
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Starts a process with nothing on its stdin, and waits for its end. Its exit code and all that it printed.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn(command).wait_with_output().expect("an end")
}

/// Sends a signal, by its name, to a process that has not been waited for.
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
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                output(Command::new("sh").args(["-c", ":"]));
            }
        });
        let is_refused = |_: &u32| {
            wait_until_started();
            RealDisk::take(folder.path()).is_err()
        };
        let refused = (0..500).filter(is_refused).count();
        is_over.store(true, Ordering::Relaxed);
        refused
    });
    assert_eq!(refused, 0);
}
