//! A disk whose syncs fail for some files of a process. Loaded before the process's own libraries (`LD_PRELOAD`), it
//! replaces `fdatasync` (POSIX). While the file that FAILING_SYNC_ORDER names exists, a sync of a file whose path
//! begins with the content of that file returns EIO and does nothing. Every other sync is done.
//!
//! The path decides and not the descriptor, whose number depends on the other open files.

use std::ffi::c_int;
use std::{env, fs};

const EIO: c_int = 5;

unsafe extern "C" {
    fn fsync(descriptor: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

/// # Safety
/// As safe as the C library's function: any number may be given as a descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    if is_refused(descriptor) {
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // More than requested: `fsync` also writes all attributes.
    unsafe { fsync(descriptor) }
}

fn is_refused(descriptor: c_int) -> bool {
    let Some(order) = env::var_os("FAILING_SYNC_ORDER") else { return false };
    let Ok(refused) = fs::read_to_string(order) else { return false };
    fs::read_link(format!("/proc/self/fd/{descriptor}")).is_ok_and(|file| file.to_string_lossy().starts_with(&refused))
}
