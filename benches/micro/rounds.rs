//! Timing: rounds of many calls, their median, one line each.

use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
/// Minimum time of a round of a pure function.
const ROUND_MIN: Duration = Duration::from_millis(20);

pub struct Rounds {
    groups: Vec<String>,
    headed: bool,
}

impl Rounds {
    pub fn new(groups: Vec<String>) -> Rounds {
        Rounds { groups, headed: false }
    }

    /// Whether the group of `name`, which is the word before the colon, was requested.
    pub fn wants(&self, name: &str) -> bool {
        let group = name.split(':').next().unwrap_or_default();
        self.groups.is_empty() || self.groups.iter().any(|word| word == group)
    }

    /// Times a pure function, with as many calls as fill a round.
    pub fn pure<T>(&mut self, name: &str, mut call: impl FnMut() -> T) {
        if !self.wants(name) {
            return;
        }
        let mut calls = 1_u32;
        while elapsed(calls, &mut call) < ROUND_MIN {
            calls *= 2;
        }
        let mut times: Vec<f64> =
            (0..ROUNDS).map(|_| elapsed(calls, &mut call).as_secs_f64() / f64::from(calls)).collect();
        self.print(name, median(&mut times), None, None);
    }

    /// Shows the time and the bytes of `round` for each of `count` things: time on the wall, time on the processor,
    /// bytes written.
    pub fn durable(&mut self, name: &str, count: usize, mut round: impl FnMut() -> u64) {
        if !self.wants(name) {
            return;
        }
        let (mut walls, mut cpus, mut written) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let (began, busy) = (Instant::now(), thread_cpu());
            written += round();
            cpus.push((thread_cpu() - busy).as_secs_f64() / count as f64);
            walls.push(began.elapsed().as_secs_f64() / count as f64);
        }
        let bytes = (written as f64) / (ROUNDS * count) as f64;
        self.print(name, median(&mut walls), Some(median(&mut cpus)), Some(bytes));
    }

    fn print(&mut self, name: &str, wall_s: f64, cpu_s: Option<f64>, bytes: Option<f64>) {
        if !self.headed {
            println!("{:<58}{:>14}{:>14}{:>14}", "", "each", "processor", "written");
            self.headed = true;
        }
        let cpu = cpu_s.map(time_text).unwrap_or_default();
        let bytes = bytes.map(|bytes| format!("{bytes:.0} B")).unwrap_or_default();
        println!("{name:<58}{:>14}{cpu:>14}{bytes:>14}", time_text(wall_s));
    }
}

fn elapsed<T>(calls: u32, call: &mut impl FnMut() -> T) -> Duration {
    let began = Instant::now();
    for _ in 0..calls {
        std::hint::black_box(call());
    }
    began.elapsed()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn time_text(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} µs", s * 1e6),
        s => format!("{:.2} ms", s * 1e3),
    }
}

/// Processor time of this thread (proc(5), `schedstat`).
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}
