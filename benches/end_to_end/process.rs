//! The kernel's figures of a process: processor time, memory, bytes written to disk (proc(5)).

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The unit of `utime` and `stime`: fixed at 100 per second for user space on every Linux platform that Postrider is
/// built for.
const TICKS_PER_S: u64 = 100;

/// A reading. Fields that the kernel does not show are 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub cpu: Duration,
    pub rss_bytes: u64,
    /// The maximum since the process began.
    pub peak_rss_bytes: u64,
    /// Bytes that it caused to be written to the block layer. Files on tmpfs do not count.
    pub written_bytes: u64,
}

pub fn read(pid: u32) -> Reading {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (status, io) = (file("status"), file("io"));
    Reading {
        cpu: cpu(&file("stat")).unwrap_or_default(),
        rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
        peak_rss_bytes: field(&status, "VmHWM:").unwrap_or(0) * 1024,
        written_bytes: field(&io, "write_bytes:").unwrap_or(0),
    }
}

fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the name in brackets and may contain spaces. The third field follows the last bracket.
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = rest.get(11)?.parse::<u64>().ok()? + rest.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Processor time of the current threads, to the nanosecond, for a process that is nearly idle.
pub fn fine_cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// `perf stat` on a process (perf-stat(1)), which counts its instructions in user space and in the kernel.
pub struct InstructionCount(Child);

impl InstructionCount {
    /// Begins to count. `None` without `perf`, and on a machine whose processor does not let it count, as in many
    /// virtual machines.
    pub fn begin(pid: u32) -> Option<InstructionCount> {
        let perf = || {
            let mut command = Command::new("perf");
            command.args(["stat", "-x", ",", "-e", "instructions"]).stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let tried = perf().args(["--", "true"]).output().ok()?;
        counted(&String::from_utf8_lossy(&tried.stderr))?;
        perf().args(["-p", &pid.to_string()]).stderr(Stdio::piped()).spawn().ok().map(InstructionCount)
    }

    /// Ends the count.
    pub fn end(mut self) -> Option<u64> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).ok()?;
        let mut text = String::new();
        self.0.stderr.take()?.read_to_string(&mut text).ok()?;
        let _ = self.0.wait();
        counted(&text)
    }
}

/// The count in a line such as `123456,,instructions,…`.
fn counted(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(",instructions"))?;
    line.split(',').next()?.parse().ok()
}

/// Processor time that the whole machine was busy since it started, stolen time included.
pub fn machine_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let columns = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    // user nice system [idle iowait] irq softirq steal. The later columns are contained in user.
    let busy = columns.take(8).enumerate().filter(|(column, _)| !matches!(column, 3 | 4));
    let ticks: u64 = busy.filter_map(|(_, text)| text.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_S)
}

/// A description of the machine in a line or two, without which no figure can be read.
pub fn machine(data: &Path) -> Vec<String> {
    let file = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_gib = field(&file("/proc/meminfo"), "MemTotal:").unwrap_or(0) as f64 / f64::from(1 << 20);
    let load = file("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let sync = sync_ms(data).map_or("unknown".to_owned(), |ms| format!("{ms:.2} ms"));
    let mut lines = vec![
        format!(
            "{cores} cores, {}, {memory_gib:.0} GiB, Linux {}",
            model.trim_start_matches([' ', '\t', ':']).trim(),
            file("/proc/sys/kernel/osrelease").trim()
        ),
        format!("data in {} (4 KiB write + fdatasync: {sync} median); load before: {load}", data.display()),
    ];
    if load.parse::<f64>().is_ok_and(|load| load > 0.5) {
        lines.push("note: something else runs on this machine; ratios suffer, absolute figures more".into());
    }
    lines
}

/// The median of a few small durable writes into the folder of the data.
fn sync_ms(folder: &Path) -> Option<f64> {
    use std::io::{Seek as _, Write as _};
    let path = folder.join("sync-probe");
    let mut file = fs::File::create(&path).ok()?;
    let mut times = Vec::new();
    for _ in 0..32 {
        let began = std::time::Instant::now();
        file.rewind().ok()?;
        file.write_all(&[7; 4096]).ok()?;
        file.sync_data().ok()?;
        times.push(began.elapsed());
    }
    let _ = fs::remove_file(&path);
    times.sort_unstable();
    Some(times[times.len() / 2].as_secs_f64() * 1e3)
}

/// Bytes in all files below a folder.
pub fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
