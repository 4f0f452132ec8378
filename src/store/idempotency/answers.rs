//! The idempotency record: the stored first answer to an `Idempotency-Key`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::tables::Table;
use crate::model::Time;
use crate::model::id::EventId;

use crate::store::command::{Applied, IdempotencyKey, Receipt, Rejection};
use crate::store::partitions::set::PartitionSet;
use crate::store::read::lists::Store;

/// Time that an answer with a secret is replayed, in milliseconds.
const PRIVATE_ANSWER_MS: i64 = 600_000;

/// The stored first answer to an `Idempotency-Key`, as a row.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerRow {
    pub request: Vec<u8>,
    pub at: Time,
    /// Sealed encoding of the `Receipt` and `IdempotencyKey::extra`.
    pub answer: Vec<u8>,
    /// Whether the answer contains a secret and expires after `PRIVATE_ANSWER_MS`.
    pub private: bool,
}

/// Checks a stored answer against a request with the same key. `None` if the request is to be executed.
///
/// # Errors
/// `Conflict` if the key was used with another request, or if the answer contained a secret and has expired.
pub fn check_stored(
    partition_set: &PartitionSet,
    found: Option<AnswerRow>,
    idempotency: &IdempotencyKey,
    now: Time,
) -> std::result::Result<Option<Applied>, Rejection> {
    let Some(row) = found else { return Ok(None) };
    let age_ms = now.since(row.at);
    if age_ms >= partition_set.options.idempotency_window_ms {
        return Ok(None);
    }
    if row.request != idempotency.request {
        let detail = "this Idempotency-Key was used with another request".to_owned();
        return Err(Rejection::Conflict { code: "idempotency_key_reused", detail, pointer: None });
    }
    if row.private && age_ms >= PRIVATE_ANSWER_MS {
        let detail = "the first answer held a secret and is no longer kept".to_owned();
        return Err(Rejection::Conflict { code: "answer_expired", detail, pointer: None });
    }
    let answer = partition_set.vault.open(&idempotency.key, &row.answer);
    match answer.and_then(|bytes| rmp_serde::from_slice::<(Receipt, Option<Bytes>)>(&bytes).ok()) {
        Some((receipt, extra)) => Ok(Some(Applied { receipt, replayed: true, extra })),
        None => Err(Rejection::Failed("a stored answer does not open".into())),
    }
}

impl Store {
    /// Whether a request with this key was answered within the window, so that it is not executed again.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn has_answer(&self, idempotency: &IdempotencyKey, now: Time) -> Result<bool> {
        let horizon = now.minus_ms(self.partition_set.options.idempotency_window_ms);
        let is_retained = |value: &[u8]| codec::decode::<AnswerRow>(value).is_some_and(|row| row.at > horizon);
        let state = self.partition_set.state()?.snapshot()?;
        if state.get(Table::StateAnswers, &idempotency.key, is_retained)? == Some(true) {
            return Ok(true);
        }
        for partition in self.partition_set.partitions().iter().rev() {
            let snapshot = self.partition_set.snapshot(partition)?;
            if snapshot.get(Table::Answers, &idempotency.key, is_retained)? == Some(true) {
                return Ok(true);
            }
            if EventId::from_u128(partition.first).time() < horizon {
                break;
            }
        }
        Ok(false)
    }
}

/// Builds the row of an answer. The answer is always sealed, because a receipt may contain a secret.
pub fn answer_row(
    partition_set: &PartitionSet,
    idempotency: &IdempotencyKey,
    receipt: &Receipt,
    now: Time,
    nonce: [u8; 12],
) -> AnswerRow {
    let plain = rmp_serde::to_vec(&(receipt, &idempotency.extra)).expect("a receipt always encodes");
    AnswerRow {
        request: idempotency.request.to_vec(),
        at: now,
        answer: partition_set.vault.seal(&idempotency.key, &plain, nonce),
        private: idempotency.secret,
    }
}
