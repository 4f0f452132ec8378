//! The fuzz targets' entry points on a stable toolchain, over their seeds and deterministic mutations of them. It runs
//! with every `cargo test`. `fuzz/` searches deeper.

mod answers;
mod entries;
mod requests;
mod seeds;

use entries::ENTRIES;

/// Mutations of each entry. The requests and the answers cost most.
const ROUNDS: usize = 10_000;
const ROUNDS_WITH_A_STORE: usize = 1_000;
const INPUT_BYTES_MAX: usize = 4 << 10;

/// Deterministic numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Another input, a few changes away from a known one.
fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut input = numbers.pick(seeds).clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        let end = (at + numbers.below(12)).min(input.len());
        match numbers.below(7) {
            0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            1 => drop(input.drain(at..end)),
            2 => drop(input.splice(at..at, [numbers.next() as u8])),
            3 => drop(input.splice(at..end, numbers.pick(words).iter().copied())),
            4 => {
                let again = input[at..end].repeat(1 + numbers.below(40));
                drop(input.splice(at..at, again));
            }
            5 => {
                let other = numbers.pick(seeds);
                let from = numbers.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => drop(input.splice(at..at, numbers.pick(words).iter().copied())),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Runs one entry over all inputs. An input that it fails on is printed in full.
fn smoke(name: &str, rounds: usize) {
    let (_, run) = ENTRIES.iter().find(|(known, _)| *known == name).expect("an entry");
    let (seeds, words) = (seeds::seeds(name), seeds::words());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let more = (0..rounds).map(|_| mutated(&mut numbers, &seeds, &words)).collect::<Vec<_>>();
    for input in [Vec::new()].iter().chain(&seeds).chain(&words).chain(&more) {
        if std::panic::catch_unwind(|| run(input)).is_err() {
            panic!("{name} did not survive {:?}", String::from_utf8_lossy(input));
        }
    }
}

#[test]
fn urls() {
    smoke("url", ROUNDS);
}

#[test]
fn rows() {
    smoke("rows", ROUNDS);
}

#[test]
fn write_ahead_logs() {
    smoke("wal", ROUNDS);
}

#[test]
fn cursors() {
    smoke("cursors", ROUNDS);
}

#[test]
fn filters() {
    smoke("filters", ROUNDS);
}

#[test]
fn json() {
    smoke("json", ROUNDS);
}

#[test]
fn cloudevents() {
    smoke("cloudevents", ROUNDS);
}

#[test]
fn requests_on_any_path() {
    smoke("requests", ROUNDS_WITH_A_STORE);
}

#[test]
fn requests_on_each_mount() {
    smoke("mounts", requests::mounts().len() * ROUNDS_WITH_A_STORE);
}

#[test]
fn answers_of_receivers() {
    smoke("answers", ROUNDS_WITH_A_STORE);
}

/// The smoke run has an effect: mutations are inputs that no seed is, and seeds pass the first checks of their entry.
#[test]
fn mutations_are_new_inputs_and_seeds_pass_the_first_checks() {
    let mut numbers = Numbers(1);
    let (seeds, words) = (seeds::seeds("cursors"), seeds::words());
    let inputs: Vec<_> = (0..500).map(|_| mutated(&mut numbers, &seeds, &words)).collect();
    assert!(inputs.iter().filter(|input| !seeds.contains(input)).count() > 300);
    let read = |text: &str| postrider::api::cursor::read(postrider::api::cursor::CursorKind::Events, text);
    assert!(seeds.iter().any(|seed| read(&String::from_utf8_lossy(seed)).is_some()));
    let calls = seeds::seeds("requests");
    assert!(calls.iter().filter(|seed| requests::call_of(seed).is_some()).count() > 150, "requests are requests");
}
