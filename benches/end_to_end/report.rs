//! The tables: the measurements, and their targets.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::cell::Measured;

/// The target of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At least this much: floor, goal.
    AtLeast(f64, f64),
    /// At most this much: floor, goal.
    AtMost(f64, f64),
}

/// A figure that has a target.
#[derive(Debug, Clone)]
struct Judged {
    what: String,
    value: Option<f64>,
    unit: &'static str,
    target: Target,
}

#[derive(Default)]
pub struct Report {
    rows: Vec<Measured>,
    shown: usize,
    judged: Vec<Judged>,
    notes: Vec<String>,
}

const HEADER: [&str; 15] = [
    "",
    "acks/s",
    "ack p50",
    "p99 ms",
    "deliv/s",
    "meanwhile",
    "lag p50",
    "p99 ms",
    "CPU µs/ev",
    "instr/ev",
    "peak MB",
    "disk B/ev",
    "others %",
    "refused",
    "lost/dup/bad",
];

impl Report {
    pub fn add(&mut self, row: &Measured) {
        self.rows.push(row.clone());
    }

    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        println!("  {text}");
        self.notes.push(text);
    }

    pub fn judge(&mut self, what: impl Into<String>, value: Option<f64>, unit: &'static str, target: Target) {
        self.judged.push(Judged { what: what.into(), value, unit, target });
    }

    /// Adds a ratio of one run: `ours` to `theirs`.
    pub fn judge_ratio(&mut self, what: impl Into<String>, ours: Option<f64>, theirs: Option<f64>, target: Target) {
        self.judge(what, ratio(ours, theirs), "×", target);
    }

    /// Adds the median of such ratios, one of each round.
    pub fn judge_rounds(&mut self, what: impl Into<String>, ratios: &[Option<f64>], target: Target) {
        let what = what.into();
        let mut known: Vec<f64> = ratios.iter().copied().flatten().collect();
        if known.len() > 1 {
            let all = known.iter().map(|ratio| short(*ratio)).collect::<Vec<_>>().join(", ");
            self.note(format!("{what}: {all}"));
        }
        known.sort_unstable_by(f64::total_cmp);
        self.judge(what, known.get(known.len() / 2).copied(), "×", target);
    }

    /// Prints the rows that were added since the last time, as a table.
    pub fn show_rows(&mut self) {
        let new = &self.rows[self.shown..];
        if new.is_empty() {
            return;
        }
        let lines: Vec<[String; 15]> = new.iter().map(cells).collect();
        let header = HEADER.map(str::to_owned);
        let widths: [usize; 15] = std::array::from_fn(|column| {
            let all = lines.iter().chain([&header]);
            all.map(|line| line[column].chars().count()).max().unwrap_or(0)
        });
        for line in [&header].into_iter().chain(&lines) {
            let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        self.shown = self.rows.len();
    }

    /// Prints the targets, and every violation of the counts that must be 0.
    pub fn show_targets(&self) {
        if !self.judged.is_empty() {
            println!("\ntargets");
        }
        let widest = self.judged.iter().map(|one| one.what.chars().count()).max().unwrap_or(0);
        for one in &self.judged {
            let (floor, goal, sign) = match one.target {
                Target::AtLeast(floor, goal) => (floor, goal, "≥"),
                Target::AtMost(floor, goal) => (floor, goal, "≤"),
            };
            let value = one.value.map_or("-".to_owned(), |value| short(value) + one.unit);
            let asked = format!("{sign} {} / {}{}", short(floor), short(goal), one.unit);
            println!("  {:<widest$}  {value:>12}  {asked:<20}  {}", one.what, one.verdict());
        }
        for row in self.rows.iter().filter(|row| row.late > 0) {
            println!("  NOT DRAINED in {}: {} deliveries were still to come when waiting ended", row.name, row.late);
        }
        for row in self.rows.iter().filter(|row| !row.is_sound()) {
            println!(
                "  WRONG in {}: lost {}, duplicates {}, bad signatures {}, errors {}",
                row.name, row.lost, row.duplicates, row.bad_signatures, row.errors
            );
        }
    }

    /// Whether no delivery was lost, repeated or wrongly signed.
    pub fn is_sound(&self) -> bool {
        self.rows.iter().all(Measured::is_sound)
    }

    /// Whether every floor is held.
    pub fn holds_floors(&self) -> bool {
        self.judged.iter().all(|one| matches!(one.verdict(), "goal" | "ok"))
    }

    /// Writes all figures as JSON.
    pub fn write(&self, file: &Path, machine: &[String]) -> io::Result<()> {
        let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
        let targets: Vec<Value> = self.judged.iter().map(Judged::json).collect();
        let all = json!({ "machine": machine, "cells": rows, "targets": targets, "notes": self.notes });
        std::fs::write(file, serde_json::to_vec_pretty(&all)?)
    }
}

impl Measured {
    fn is_sound(&self) -> bool {
        (self.lost, self.duplicates, self.bad_signatures, self.errors) == (0, 0, 0, 0)
    }
}

impl Judged {
    fn verdict(&self) -> &'static str {
        let Some(value) = self.value else { return "not measured" };
        let (floor, goal) = match self.target {
            Target::AtLeast(floor, goal) => (value >= floor, value >= goal),
            Target::AtMost(floor, goal) => (value <= floor, value <= goal),
        };
        match (floor, goal) {
            (_, true) => "goal",
            (true, false) => "ok",
            (false, false) => "BELOW",
        }
    }

    fn json(&self) -> Value {
        let (Target::AtLeast(floor, goal) | Target::AtMost(floor, goal)) = self.target;
        json!({
            "what": self.what, "value": self.value, "unit": self.unit.trim(),
            "floor": floor, "goal": goal, "verdict": self.verdict(),
        })
    }
}

fn cells(row: &Measured) -> [String; 15] {
    let maybe = |value: Option<f64>| value.map_or("-".to_owned(), short);
    [
        row.name.clone(),
        short(row.acks_per_s),
        maybe(row.ack_p50_ms),
        maybe(row.ack_p99_ms),
        maybe(row.delivered_per_s),
        maybe(row.arrived_per_s),
        maybe(row.arrival_p50_ms),
        maybe(row.arrival_p99_ms),
        maybe(row.cpu_us_per_event),
        maybe(row.instructions_per_event),
        maybe(row.peak_rss_mb),
        maybe(row.written_bytes_per_event),
        maybe(row.others_percent),
        row.refused.to_string(),
        format!("{}/{}/{}", row.lost, row.duplicates, row.bad_signatures),
    ]
}

fn row_json(row: &Measured) -> Value {
    json!({
        "name": row.name, "events": row.events, "acks_per_s": row.acks_per_s,
        "ack_p50_ms": row.ack_p50_ms, "ack_p99_ms": row.ack_p99_ms,
        "delivered_per_s": row.delivered_per_s, "arrived_per_s_meanwhile": row.arrived_per_s,
        "arrival_p50_ms": row.arrival_p50_ms, "arrival_p99_ms": row.arrival_p99_ms,
        "cpu_us_per_event": row.cpu_us_per_event, "instructions_per_event": row.instructions_per_event,
        "peak_rss_mb": row.peak_rss_mb,
        "written_bytes_per_event": row.written_bytes_per_event, "others_percent": row.others_percent, "refused": row.refused, "errors": row.errors,
        "lost": row.lost, "late": row.late, "duplicates": row.duplicates, "bad_signatures": row.bad_signatures,
    })
}

/// `ours` to `theirs`. `None` unless both are known.
pub fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    ours.zip(theirs).filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs)
}

/// A number with three significant digits and separated thousands.
pub fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 || value == 0.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 0.095 {
        2
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    if value.abs() < 10_000.0 {
        return text;
    }
    let mut grouped = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
