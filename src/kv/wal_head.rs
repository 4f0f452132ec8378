//! The head of the write-ahead log: for which partition and epoch the log is, and how many records of it are durable.
//!
//! Two slots behind the halves contain heads in turn, so that a torn one leaves the one before. A head fills one
//! sector.

/// Bytes of a slot: a page, so that no write of one slot touches the other.
const SLOT_BYTES: u64 = 4096;
/// Number of slots.
pub(in crate::kv) const SLOTS: u64 = 2;
/// Bytes of all slots.
pub(in crate::kv) const HEADS_BYTES: u64 = SLOTS * SLOT_BYTES;
/// First bytes of every head.
const MAGIC: [u8; 8] = *b"PRWALHD2";
/// First bytes of a head of earlier versions, which lacks `durable`.
const OLD_MAGIC: [u8; 8] = *b"PRWALHD1";
/// Bytes of a head: the magic, five numbers of 8 or 16 bytes in the order of the fields, and a CRC-32.
pub(in crate::kv) const WAL_HEAD_BYTES: usize = OLD_BYTES + 8;
const OLD_BYTES: usize = 8 + 8 + 16 + 16 + 8 + 8 + 4;

/// One head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kv) struct WalHead {
    /// Rises by one with each head. The readable head with the greater one counts.
    pub sequence: u64,
    /// The first id of the partition whose records follow.
    pub partition: u128,
    /// The first id of the partition before it, which redb contains entirely. 0 if there was none. The list of
    /// partitions names the new one later than the head does.
    pub previous: u128,
    /// The epoch of the records that were written when the head was.
    pub epoch: u64,
    /// The number of that epoch's first record.
    pub number: u64,
    /// The number of the first record that was not durable when the head was written. All before it were synced.
    pub durable: u64,
}

impl WalHead {
    pub(in crate::kv) fn encode(&self) -> [u8; WAL_HEAD_BYTES] {
        let mut bytes = [0; WAL_HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.partition.to_be_bytes());
        bytes[32..48].copy_from_slice(&self.previous.to_be_bytes());
        bytes[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.number.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.durable.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..72]);
        bytes[72..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` for bytes that are no head.
    pub(in crate::kv) fn decode(bytes: &[u8; WAL_HEAD_BYTES]) -> Option<WalHead> {
        let is_old = bytes[..8] == OLD_MAGIC;
        let sum_at = if is_old { OLD_BYTES } else { WAL_HEAD_BYTES } - 4;
        let is_whole = crc32fast::hash(&bytes[..sum_at]).to_le_bytes() == bytes[sum_at..sum_at + 4];
        if !is_whole || !(is_old || bytes[..8] == MAGIC) {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
        let id = |at: usize| u128::from_be_bytes(std::array::from_fn(|n| bytes[at + n]));
        Some(WalHead {
            sequence: number(8),
            partition: id(16),
            previous: id(32),
            epoch: number(48),
            number: number(56),
            // Everything before an epoch was synced when it began.
            durable: number(if is_old { 56 } else { 64 }),
        })
    }

    /// Offset of the slot of the head with this sequence number, from the first slot on.
    pub(in crate::kv) fn slot(sequence: u64) -> u64 {
        sequence % SLOTS * SLOT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_any_flipped_bit_makes_it_unreadable() {
        let head =
            WalHead { sequence: 3, partition: 7 << 90, previous: 6 << 90, epoch: 9, number: 4_000, durable: 4_007 };
        let bytes = head.encode();
        assert_eq!(WalHead::decode(&bytes), Some(head));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(WalHead::decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_head_of_an_earlier_version_reads_back() {
        let head =
            WalHead { sequence: 3, partition: 7 << 90, previous: 6 << 90, epoch: 9, number: 4_000, durable: 4_000 };
        let mut bytes = head.encode();
        bytes[..8].copy_from_slice(&OLD_MAGIC);
        let sum = crc32fast::hash(&bytes[..64]);
        bytes[64..68].copy_from_slice(&sum.to_le_bytes());
        bytes[68..].fill(0);
        assert_eq!(WalHead::decode(&bytes), Some(head));
    }

    #[test]
    fn successive_heads_lie_in_different_pages() {
        assert_eq!([WalHead::slot(0), WalHead::slot(1), WalHead::slot(2)], [0, SLOT_BYTES, 0]);
        assert_eq!(WalHead::slot(1) + SLOT_BYTES, HEADS_BYTES);
    }
}
