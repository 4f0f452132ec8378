//! The stored form of a record's body in the table of the log: a zstd frame, so that PostgreSQL logs and copies less.
//!
//! The checksum of a record is over its plain body. Invariant: `unpack` returns the body whose checksum the row has, or
//! the stored bytes, which then lack it. Rows of earlier versions contain the plain body.

use std::sync::Arc;

use zstd::bulk;

use crate::store::admin::LogEntry;

/// The fastest level that zstd recommends, because the writer waits for it.
const LEVEL: i32 = 1;
/// Maximum bytes of a plain body. A row whose frame claims more is damaged.
const BODY_BYTES_MAX: usize = 1 << 30;

/// The stored form of a body. An empty body stays empty.
///
/// # Errors
/// The description by zstd, which had no memory.
pub fn pack(body: &[u8]) -> Result<Vec<u8>, String> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    bulk::compress(body, LEVEL).map_err(|error| format!("a record cannot be compressed: {error}"))
}

/// The body of a stored row whose checksum is `sum`. If the row is damaged, or memory is missing, the stored bytes are
/// returned, so that the caller finds a wrong checksum.
pub fn unpack(stored: &[u8], sum: u32) -> Arc<[u8]> {
    let plain = || bulk::decompress(stored, size_of(stored)?).ok();
    let is_plain = stored.is_empty() || LogEntry::sum_of(stored) == sum;
    let unpacked = if is_plain { None } else { plain() };
    unpacked.map_or_else(|| stored.into(), Arc::from)
}

/// Bytes of the plain body, as the frame's head says.
fn size_of(stored: &[u8]) -> Option<usize> {
    let bytes = zstd::zstd_safe::get_frame_content_size(stored).ok()??;
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= BODY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes like those of a batch of events.
    fn body() -> Vec<u8> {
        (0..400)
            .flat_map(|n| {
                format!(r#"{{"type":"order.paid","data":{{"id":{n},"total":{}}}}}"#, n * 37 % 91).into_bytes()
            })
            .collect()
    }

    #[test]
    fn a_body_reads_back_and_takes_less_than_half() {
        let body = body();
        let stored = pack(&body).unwrap();
        assert!(stored.len() < body.len() / 2, "{} of {}", stored.len(), body.len());
        assert_eq!(*unpack(&stored, LogEntry::sum_of(&body)), *body);
        assert_eq!(pack(&[]).unwrap(), [0u8; 0]);
        assert!(unpack(&[], 0).is_empty());
    }

    #[test]
    fn a_plain_body_of_an_earlier_version_reads_back() {
        let body = body();
        assert_eq!(*unpack(&body, LogEntry::sum_of(&body)), *body);
        // A plain body may begin as a frame does.
        let frame = pack(&body).unwrap();
        assert_eq!(*unpack(&frame, LogEntry::sum_of(&frame)), *frame);
    }

    #[test]
    fn a_damaged_row_lacks_its_checksum() {
        let body = body();
        let (stored, sum) = (pack(&body).unwrap(), LogEntry::sum_of(&body));
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << (at % 8);
            let read = unpack(&damaged, sum);
            assert!(*read == *body || LogEntry::sum_of(&read) != sum, "byte {at}");
        }
        assert_ne!(LogEntry::sum_of(&unpack(&stored[..stored.len() / 2], sum)), sum);
    }
}
