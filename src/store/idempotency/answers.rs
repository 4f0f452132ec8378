//! The idempotency record: the stored first answer to an `Idempotency-Key`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::Time;

use crate::store::command::{Applied, IdempotencyKey, Receipt, Rejection};
use crate::store::partitions::set::PartitionSet;

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
) -> Result<Option<Applied>, Rejection> {
    let Some(row) = found else { return Ok(None) };
    let age_ms = now.since(row.at);
    if age_ms >= partition_set.options.idempotency_window_ms {
        return Ok(None);
    }
    if row.request != idempotency.request {
        let detail = "this Idempotency-Key was used with another request".to_owned();
        return Err(Rejection::Conflict { code: "idempotency_key_reused", detail });
    }
    if row.private && age_ms >= PRIVATE_ANSWER_MS {
        let detail = "the first answer held a secret and is no longer kept".to_owned();
        return Err(Rejection::Conflict { code: "answer_expired", detail });
    }
    let answer = partition_set.vault.open(&idempotency.key, &row.answer);
    match answer.and_then(|bytes| rmp_serde::from_slice::<(Receipt, Option<Bytes>)>(&bytes).ok()) {
        Some((receipt, extra)) => Ok(Some(Applied { receipt, replayed: true, extra })),
        None => Err(Rejection::Failed("a kept answer does not open".into())),
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
