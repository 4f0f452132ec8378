//! Direct writes: blocks go from a buffer to the device, past the page cache (`O_DIRECT` of open(2)).
//!
//! A large payload is written once and seldom read. Through the page cache it would take fresh pages, and copying into
//! them costs several times the write itself where the pages of a virtual machine come from its host.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Alignment of offsets, lengths and buffers: that of devices and file systems, or a multiple of it.
pub const BLOCK_BYTES: u64 = 4 << 10;
/// Bytes that one system call writes.
const BUFFER_BYTES: usize = 512 << 10;

/// The next multiple of `BLOCK_BYTES` from `offset` on.
pub fn block_from(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_BYTES)
}

/// A file that is open for direct writes, and the aligned buffer that they come from.
#[derive(Debug)]
pub struct DirectFile {
    file: fs::File,
    buffer: Vec<u8>,
    /// Index of the first aligned byte of `buffer`.
    first: usize,
}

impl DirectFile {
    /// Opens an existing file.
    ///
    /// # Errors
    /// `InvalidInput` if the file system has no direct writes.
    pub fn open(path: &Path) -> io::Result<DirectFile> {
        let file = fs::OpenOptions::new().write(true).custom_flags(DIRECT).open(path)?;
        let buffer = vec![0; BUFFER_BYTES + BLOCK_BYTES as usize];
        let first = buffer.as_ptr().align_offset(BLOCK_BYTES as usize);
        Ok(DirectFile { file, buffer, first })
    }

    /// Writes pieces one behind the other from `offset` on, and zeros from their end to the next block. Returns the bytes
    /// that were written. `offset` is a multiple of `BLOCK_BYTES`.
    ///
    /// # Errors
    /// There is no space, or the disk fails. `InvalidInput` if the device needs larger blocks.
    pub fn write_pieces(&mut self, offset: u64, pieces: &[IoSlice<'_>]) -> io::Result<u64> {
        let (mut at, mut filled) = (offset, 0);
        for piece in pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(BUFFER_BYTES - filled));
                self.buffer[self.first + filled..][..now.len()].copy_from_slice(now);
                (rest, filled) = (later, filled + now.len());
                if filled == BUFFER_BYTES {
                    at = self.write_buffer(at, filled)?;
                    filled = 0;
                }
            }
        }
        let whole = filled.next_multiple_of(BLOCK_BYTES as usize);
        self.buffer[self.first..][filled..whole].fill(0);
        Ok(self.write_buffer(at, whole)? - offset)
    }

    /// Writes the first `bytes` of the buffer. Returns the offset behind them.
    fn write_buffer(&self, offset: u64, bytes: usize) -> io::Result<u64> {
        self.file.write_all_at(&self.buffer[self.first..][..bytes], offset)?;
        Ok(offset + bytes as u64)
    }
}

#[cfg(target_os = "linux")]
const DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
#[cfg(not(target_os = "linux"))]
const DIRECT: i32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lie_one_behind_the_other_and_end_with_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let before = vec![7; 4 * BUFFER_BYTES];
        fs::write(&path, &before).unwrap();
        let mut direct = match DirectFile::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            opened => opened.unwrap(),
        };
        let bytes: Vec<u8> = (0..BUFFER_BYTES + 9_000).map(|n| (n * 31 / 7) as u8).collect();
        let (one, rest) = bytes.split_at(100);
        let (two, three) = rest.split_at(BUFFER_BYTES - 50);
        let pieces = [one, two, three].map(IoSlice::new);
        let whole = bytes.len().next_multiple_of(BLOCK_BYTES as usize);
        let start = BLOCK_BYTES as usize;
        assert_eq!(direct.write_pieces(BLOCK_BYTES, &pieces).unwrap(), whole as u64);
        let found = fs::read(&path).unwrap();
        assert_eq!(found.len(), before.len());
        assert!(found[..start].iter().all(|byte| *byte == 7));
        assert_eq!(found[start..][..bytes.len()], bytes);
        assert!(found[start + bytes.len()..start + whole].iter().all(|byte| *byte == 0));
        assert!(found[start + whole..].iter().all(|byte| *byte == 7));
    }
}
