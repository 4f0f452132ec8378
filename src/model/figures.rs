//! Figures of a webhook, an app or an organization: sums that survive retention, and hours by the minute.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attempt::AttemptOutcome;
use super::delivery::DeliveryStatus;
use super::time::Time;

/// Sums over the deliveries and attempts of an owner of figures, of one partition or of all time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Deliveries made by publishing or replaying.
    #[serde(rename = "d", default)]
    pub deliveries: u64,
    /// Deliveries with at least one attempt: `total_events`.
    #[serde(rename = "b", default)]
    pub started: u64,
    #[serde(rename = "o", default)]
    pub delivered: u64,
    /// Deliveries that ended failed.
    #[serde(rename = "x", default)]
    pub failed: u64,
    #[serde(rename = "c", default)]
    pub cancelled: u64,
    #[serde(rename = "t", default)]
    pub attempts: u64,
    /// Failed attempts: `failed_deliveries`.
    #[serde(rename = "f", default)]
    pub attempts_failed: u64,
    /// Attempts with an HTTP response, and the sum of their milliseconds.
    #[serde(rename = "r", default)]
    pub responses: u64,
    #[serde(rename = "m", default)]
    pub response_ms: u64,
    #[serde(rename = "l", default)]
    pub last_attempt_at: Option<Time>,
    /// Response times by bucket: `(bucket, count)`, sorted, without empty buckets.
    #[serde(rename = "h", default)]
    pub histogram: Vec<(u8, u64)>,
}

impl Sums {
    /// Deliveries that are not final.
    pub fn open(&self) -> u64 {
        self.deliveries.saturating_sub(self.delivered + self.failed + self.cancelled)
    }

    /// Attempts that succeeded. Some of them belong to deliveries that were cancelled meanwhile. An earlier version did not
    /// count all attempts, but all deliveries.
    pub fn attempts_succeeded(&self) -> u64 {
        self.attempts.saturating_sub(self.attempts_failed).max(self.delivered)
    }

    pub fn add(&mut self, other: &Sums) {
        self.deliveries += other.deliveries;
        self.started += other.started;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.attempts += other.attempts;
        self.attempts_failed += other.attempts_failed;
        self.responses += other.responses;
        self.response_ms += other.response_ms;
        self.last_attempt_at = self.last_attempt_at.max(other.last_attempt_at);
        for &(bucket, count) in &other.histogram {
            self.tally(bucket, count);
        }
    }

    /// Reverts `add`. Before a partition changes, its sums leave the totals.
    pub fn subtract(&mut self, other: &Sums) {
        self.deliveries = self.deliveries.saturating_sub(other.deliveries);
        self.started = self.started.saturating_sub(other.started);
        self.delivered = self.delivered.saturating_sub(other.delivered);
        self.failed = self.failed.saturating_sub(other.failed);
        self.cancelled = self.cancelled.saturating_sub(other.cancelled);
        self.attempts = self.attempts.saturating_sub(other.attempts);
        self.attempts_failed = self.attempts_failed.saturating_sub(other.attempts_failed);
        self.responses = self.responses.saturating_sub(other.responses);
        self.response_ms = self.response_ms.saturating_sub(other.response_ms);
        for &(bucket, count) in &other.histogram {
            if let Ok(at) = self.histogram.binary_search_by_key(&bucket, |&(b, _)| b) {
                self.histogram[at].1 = self.histogram[at].1.saturating_sub(count);
            }
        }
        self.histogram.retain(|&(_, count)| count > 0);
    }

    /// Counts `count` response times of a bucket.
    pub fn tally(&mut self, bucket: u8, count: u64) {
        match self.histogram.binary_search_by_key(&bucket, |&(b, _)| b) {
            Ok(at) => self.histogram[at].1 += count,
            Err(at) => self.histogram.insert(at, (bucket, count)),
        }
    }
}

/// Counts of an owner of figures within one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// Deliveries first attempted.
    pub started: u32,
    pub attempts: u32,
    pub failures: u32,
    /// Deliveries made by publishing or replaying.
    pub made: u32,
    /// Deliveries that ended, by their status.
    pub delivered: u32,
    pub failed: u32,
    pub cancelled: u32,
}

impl Minute {
    pub fn add(&mut self, other: Minute) {
        self.started += other.started;
        self.attempts += other.attempts;
        self.failures += other.failures;
        self.made += other.made;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
    }

    /// Deliveries that ended.
    pub const fn ended(&self) -> u32 {
        self.delivered + self.failed + self.cancelled
    }

    /// Counts a delivery that ended with `status`. A status that is not final is ignored.
    pub const fn end(&mut self, status: DeliveryStatus) {
        match status {
            DeliveryStatus::Delivered => self.delivered += 1,
            DeliveryStatus::Failed => self.failed += 1,
            DeliveryStatus::Cancelled => self.cancelled += 1,
            DeliveryStatus::Pending | DeliveryStatus::Retrying => {}
        }
    }
}

/// Counts of an owner of figures within one hour.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HourFigures {
    /// Counts by the minute of the hour, sorted, without empty minutes.
    pub minutes: Vec<(u8, Minute)>,
    /// Attempts by `AttemptOutcome::code`, sorted.
    pub outcomes: Vec<(u8, u32)>,
    /// Response times of the attempts by bucket, sorted, and their sum in milliseconds.
    pub histogram: Vec<(u8, u32)>,
    pub response_ms: u64,
}

impl HourFigures {
    /// The counts of a minute of the hour, to be changed.
    pub fn minute(&mut self, minute: u8) -> &mut Minute {
        let place = match self.minutes.binary_search_by_key(&minute, |m| m.0) {
            Ok(place) => place,
            Err(place) => {
                self.minutes.insert(place, (minute, Minute::default()));
                place
            }
        };
        &mut self.minutes[place].1
    }

    /// Counts the outcome of an attempt, and its response time if it had a response.
    pub fn attempt(&mut self, outcome: AttemptOutcome, response: Option<(u8, u32)>) {
        tally(&mut self.outcomes, outcome.code(), 1);
        if let Some((bucket, ms)) = response {
            tally(&mut self.histogram, bucket, 1);
            self.response_ms += u64::from(ms);
        }
    }

    pub fn add(&mut self, other: &HourFigures) {
        for (minute, counts) in &other.minutes {
            self.minute(*minute).add(*counts);
        }
        for &(code, count) in &other.outcomes {
            tally(&mut self.outcomes, code, count);
        }
        for &(bucket, count) in &other.histogram {
            tally(&mut self.histogram, bucket, count);
        }
        self.response_ms += other.response_ms;
    }

    /// The counts of the whole hour.
    pub fn total(&self) -> Minute {
        let mut total = Minute::default();
        self.minutes.iter().for_each(|(_, counts)| total.add(*counts));
        total
    }
}

fn tally(counts: &mut Vec<(u8, u32)>, key: u8, count: u32) {
    match counts.binary_search_by_key(&key, |&(k, _)| k) {
        Ok(at) => counts[at].1 += count,
        Err(at) => counts.insert(at, (key, count)),
    }
}

/// The version that a stored hour begins with. Hours of the first version have none: they are a list of
/// `(minute, started, attempts, failures)`.
const HOUR_VERSION: u8 = 2;
/// A stored minute: the minute of the hour and the seven counts of `Minute`, in their order.
type MinuteRow = (u8, u32, u32, u32, u32, u32, u32, u32);

impl Serialize for HourFigures {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let row = |&(minute, m): &(u8, Minute)| -> MinuteRow {
            (minute, m.started, m.attempts, m.failures, m.made, m.delivered, m.failed, m.cancelled)
        };
        let minutes: Vec<MinuteRow> = self.minutes.iter().map(row).collect();
        (HOUR_VERSION, minutes, &self.outcomes, &self.histogram, self.response_ms).serialize(to)
    }
}

impl<'de> Deserialize<'de> for HourFigures {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(HourVisitor)
    }
}

struct HourVisitor;

impl<'de> Visitor<'de> for HourVisitor {
    type Value = HourFigures;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the figures of an hour")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HourFigures, A::Error> {
        let mut hour = HourFigures::default();
        let mut head = seq.next_element::<HourHead>()?;
        if matches!(head, Some(HourHead::Version)) {
            let missing = || A::Error::custom("an hour lacks a member");
            for (minute, started, attempts, failures, made, delivered, failed, cancelled) in
                seq.next_element::<Vec<MinuteRow>>()?.ok_or_else(missing)?
            {
                let counts = Minute { started, attempts, failures, made, delivered, failed, cancelled };
                hour.minutes.push((minute, counts));
            }
            hour.outcomes = seq.next_element()?.ok_or_else(missing)?;
            hour.histogram = seq.next_element()?.ok_or_else(missing)?;
            hour.response_ms = seq.next_element()?.ok_or_else(missing)?;
            return Ok(hour);
        }
        while let Some(HourHead::Minute(minute, started, attempts, failures)) = head {
            hour.minutes.push((minute, Minute { started, attempts, failures, ..Minute::default() }));
            head = seq.next_element::<HourHead>()?;
        }
        match head {
            None => Ok(hour),
            Some(_) => Err(A::Error::custom("a version stands behind minutes")),
        }
    }
}

/// The first element of a stored hour: its version, or a minute of the first version.
enum HourHead {
    Version,
    Minute(u8, u32, u32, u32),
}

impl<'de> Deserialize<'de> for HourHead {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(HeadVisitor)
    }
}

struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = HourHead;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a version or a minute")
    }

    fn visit_u64<E: Error>(self, version: u64) -> Result<HourHead, E> {
        match version == u64::from(HOUR_VERSION) {
            true => Ok(HourHead::Version),
            false => Err(E::custom("an unknown version of an hour")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HourHead, A::Error> {
        let missing = || A::Error::custom("a minute lacks a count");
        let minute = seq.next_element()?.ok_or_else(missing)?;
        let mut count = || seq.next_element()?.ok_or_else(missing);
        Ok(HourHead::Minute(minute, count()?, count()?, count()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_the_first_version_is_read_and_lacks_the_later_counts() {
        let old: Vec<(u8, u32, u32, u32)> = vec![(3, 1, 2, 1), (59, 0, 70_000, 0)];
        let hour: HourFigures = rmp_serde::from_slice(&rmp_serde::to_vec(&old).unwrap()).unwrap();
        let minute = |started, attempts, failures| Minute { started, attempts, failures, ..Minute::default() };
        assert_eq!(hour.minutes, [(3, minute(1, 2, 1)), (59, minute(0, 70_000, 0))]);
        assert_eq!(HourFigures { minutes: Vec::new(), ..hour }, HourFigures::default());
        let none: Vec<(u8, u32, u32, u32)> = Vec::new();
        let empty: HourFigures = rmp_serde::from_slice(&rmp_serde::to_vec(&none).unwrap()).unwrap();
        assert_eq!(empty, HourFigures::default());
    }

    #[test]
    fn an_hour_reads_back_as_it_was_written() {
        let mut hour = HourFigures::default();
        hour.minute(7).made += 300;
        hour.minute(0).end(DeliveryStatus::Failed);
        hour.attempt(AttemptOutcome::TlsError, None);
        hour.attempt(AttemptOutcome::Success, Some((42, 99)));
        let row = rmp_serde::to_vec(&hour).unwrap();
        assert_eq!(rmp_serde::from_slice::<HourFigures>(&row).unwrap(), hour);
        for bytes in 1..row.len() {
            assert!(rmp_serde::from_slice::<HourFigures>(&row[..bytes]).is_err(), "{bytes} bytes");
        }
        assert!(rmp_serde::from_slice::<HourFigures>(&rmp_serde::to_vec(&(3_u8, 0_u8)).unwrap()).is_err());
    }
}
