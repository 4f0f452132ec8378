//! A disk whose syncs fail, for some files of a process: loaded into it before its own libraries (`LD_PRELOAD`), it takes
//! the place of `fdatasync` (POSIX). While the file that FAILING_SYNC_ORDER names is there, a sync of a file whose path begins with
//! what that file says answers EIO and does nothing; every other sync is done.
//!
//! By path and not by descriptor: which number a file is opened at depends on what else is open at that moment.

use std::ffi::c_int;
use std::{env, fs};

const EIO: c_int = 5;

unsafe extern "C" {
    fn fsync(descriptor: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

/// # Safety
/// As safe as the C library's: any number may be given for a descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(descriptor: c_int) -> c_int {
    if is_refused(descriptor) {
        unsafe { *__errno_location() = EIO };
        return -1;
    }
    // More than was asked for: data and all of its attributes.
    unsafe { fsync(descriptor) }
}

fn is_refused(descriptor: c_int) -> bool {
    let Some(order) = env::var_os("FAILING_SYNC_ORDER") else { return false };
    let Ok(refused) = fs::read_to_string(order) else { return false };
    fs::read_link(format!("/proc/self/fd/{descriptor}")).is_ok_and(|file| file.to_string_lossy().starts_with(&refused))
}
