//! The process itself, under the names that Prometheus' client libraries give it ("Process metrics" in their guidelines),
//! from procfs. What cannot be read is left out.

use std::fmt::Write as _;
use std::fs;

/// What is read of `/proc/self`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Process {
    open_fds: Option<u64>,
    fds_max: Option<u64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
}

/// The figures in Prometheus' text format.
pub fn text() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
    written(&read(open_fds, &limits, &status))
}

fn read(open_fds: Option<u64>, limits: &str, status: &str) -> Process {
    let of_status = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Process {
        open_fds,
        fds_max: fds_max(limits),
        resident_bytes: of_status("VmRSS:").map(|kib| kib * 1_024),
        threads: of_status("Threads:"),
    }
}

/// The soft limit of `Max open files`; unlimited is none.
fn fds_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn written(process: &Process) -> String {
    let rows = [
        ("process_open_fds", "Open file descriptors", process.open_fds),
        ("process_max_fds", "File descriptors that may be open", process.fds_max),
        ("process_resident_memory_bytes", "Resident memory", process.resident_bytes),
        ("process_threads", "Threads", process.threads),
    ];
    let mut text = String::new();
    for (name, help, value) in rows {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max processes             63387                63387                processes \n\
        Max open files            1024                 1048576              files     \n";
    const STATUS: &str = "Name:\tpostrider\nVmRSS:\t   12345 kB\nThreads:\t7\n";

    #[test]
    fn procfs_is_read_and_what_is_missing_left_out() {
        let process = read(Some(12), LIMITS, STATUS);
        let expected = Process {
            open_fds: Some(12),
            fds_max: Some(1_024),
            resident_bytes: Some(12_345 * 1_024),
            threads: Some(7),
        };
        assert_eq!(process, expected);
        assert!(written(&process).contains("\nprocess_max_fds 1024\n"), "{}", written(&process));
        let nothing = read(None, "Max open files  unlimited unlimited files", "");
        assert_eq!(nothing, Process::default());
        assert_eq!(written(&nothing), "");
    }
}
