//! The metrics of the process, read from procfs.
//!
//! The names follow "Process metrics" in the guidelines for Prometheus client libraries. A value that cannot be read is
//! omitted.

use std::fmt::Write as _;
use std::fs;

/// The values read from `/proc/self`. `None` if a value cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Process {
    open_fds: Option<u64>,
    fds_max: Option<u64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
}

/// The process metrics in Prometheus' text format.
pub fn text() -> String {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
    render(&read(open_fds, &limits, &status))
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

/// The soft limit of `Max open files`. `None` if unlimited.
fn fds_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn render(process: &Process) -> String {
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
    fn missing_values_of_procfs_are_omitted() {
        let process = read(Some(12), LIMITS, STATUS);
        let expected = Process {
            open_fds: Some(12),
            fds_max: Some(1_024),
            resident_bytes: Some(12_345 * 1_024),
            threads: Some(7),
        };
        assert_eq!(process, expected);
        assert!(render(&process).contains("\nprocess_max_fds 1024\n"), "{}", render(&process));
        let nothing = read(None, "Max open files  unlimited unlimited files", "");
        assert_eq!(nothing, Process::default());
        assert_eq!(render(&nothing), "");
    }
}
