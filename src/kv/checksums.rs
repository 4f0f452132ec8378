//! The checksum layer: one checksum for every page, between redb and the disk.
//!
//! redb verifies a page only while it repairs a file. On an ordinary read an altered page leads to a wrong answer, a
//! missing row or a panic inside redb. This layer verifies every page before redb sees it and reports an altered one by
//! name.
//!
//! A file consists of groups: one page of checksums, then the 1,024 pages that it covers. A checksum includes the
//! page's number, so a misplaced page is detected too. A checksum of 0 stands for a page that was never written. Every
//! commit writes the first page, redb's header, in place. The header carries its checksum in its own first sector, and
//! its slot among the checksums holds a mark.
//!
//! Invariant: every page that redb may refer to after a power cut is on disk with its checksum. Checksums are written
//! before every sync, and redb's header last.
//!
//! Compaction makes commits of one phase. Such a commit writes its pages together with the header that names them, and
//! redb finds out after a cut which of them are altered. This layer would report those pages as errors, so it delays
//! the header until the pages are synced. redb never overwrites a page that a durable commit refers to. So a torn page
//! of checksums loses none of the checksums of such pages: each of its sectors holds the old or the new ones.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE_BYTES: u64 = 4096;
/// Pages that one page of checksums covers.
const GROUP_PAGES: u64 = 1024;
const GROUP_BYTES: u64 = (1 + GROUP_PAGES) * PAGE_BYTES;
/// Bytes that a disk writes entirely or not at all.
const SECTOR_BYTES: usize = 512;
/// Offset of the first page's own checksum. redb's header is shorter.
const HEAD_BYTES: usize = SECTOR_BYTES - 4;
/// Offset of the byte in redb's header that says which of its two commits counts and how it was made.
const GOD_BYTE: usize = 9;
/// Bit of the commit slot that counts.
const CHOICE: u8 = 1;
/// Bit of a two-phase commit: its pages were synced before the header named it, so it counts without a check. Without
/// this bit the newer commit counts.
const TWO_PHASES: u8 = 4;
/// First word of a page of checksums: names the layout described above.
const MARK: u32 = u32::from_le_bytes(*b"prp1");
/// First word of a file without checksums: redb's own header.
const UNMARKED: u32 = u32::from_le_bytes(*b"redb");

const UNMARKED_WORDS: &str = "its pages have no checksums: a version before 0.1.0 made it, which is not read any more; \
                              use that version, or another data directory";

/// A file with a checksum for every page.
#[derive(Debug)]
pub struct ChecksummedFile {
    beneath: Box<dyn StorageBackend>,
    known: Mutex<CheckedPages>,
}

#[derive(Debug)]
struct CheckedPages {
    /// Length as redb sees it.
    len: u64,
    /// `None` until the group is read.
    groups: Vec<Option<PageGroup>>,
    /// The first sector as redb sees it. `None` until it is read.
    head: Option<[u8; SECTOR_BYTES]>,
    is_head_unwritten: bool,
    /// Whether the pending header selects another commit than the header on disk.
    is_choice_new: bool,
    /// Whether anything but the header changed since the last sync.
    is_unsynced: bool,
}

#[derive(Debug)]
struct PageGroup {
    sums: Box<[u32; GROUP_PAGES as usize]>,
    /// Whether some of the checksums are not written yet.
    is_unwritten: bool,
}

impl ChecksummedFile {
    /// Opens a file that is empty or was written through this layer.
    ///
    /// # Errors
    /// `InvalidData` if the file begins otherwise.
    pub fn open(beneath: Box<dyn StorageBackend>) -> io::Result<ChecksummedFile> {
        let file_bytes = beneath.len()?;
        let known = CheckedPages {
            len: inner_len(file_bytes),
            groups: Vec::new(),
            head: None,
            is_head_unwritten: false,
            is_choice_new: false,
            is_unsynced: false,
        };
        let file = ChecksummedFile { beneath, known: Mutex::new(known) };
        if file_bytes > 0 {
            let mut known = file.lock();
            match file.group(&mut known, 0)?.sums[0] {
                MARK => {}
                UNMARKED => return Err(io::Error::new(io::ErrorKind::InvalidData, UNMARKED_WORDS)),
                _ => return Err(damaged("the first page is not that of a file of this program")),
            }
        }
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, CheckedPages> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checksums of a group. The first use reads them.
    fn group<'a>(&self, known: &'a mut CheckedPages, number: u64) -> io::Result<&'a mut PageGroup> {
        let index = number as usize;
        if known.groups.len() <= index {
            known.groups.resize_with(index + 1, || None);
        }
        if known.groups[index].is_none() {
            known.groups[index] = Some(self.read_group(known.len, number)?);
        }
        Ok(known.groups[index].as_mut().expect("it was just read"))
    }

    fn read_group(&self, len: u64, number: u64) -> io::Result<PageGroup> {
        let mut group = PageGroup { sums: Box::new([0; GROUP_PAGES as usize]), is_unwritten: false };
        if number * GROUP_BYTES < self.beneath.len()? {
            let mut bytes = [0; PAGE_BYTES as usize];
            self.beneath.read(number * GROUP_BYTES, &mut bytes)?;
            for (sum, bytes) in group.sums.iter_mut().zip(bytes.chunks_exact(4)) {
                *sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        } else if number == 0 {
            group.set(0, MARK);
        }
        // Pages that were cut off read as empty when the file grows again.
        let pages = len.div_ceil(PAGE_BYTES).saturating_sub(number * GROUP_PAGES).max(u64::from(number == 0));
        for page in pages..GROUP_PAGES {
            if group.sums[page as usize] != 0 {
                group.set(page as usize, 0);
            }
        }
        Ok(group)
    }

    /// Writes the changed checksums to the file beneath.
    fn write_sums(&self, known: &mut CheckedPages) -> io::Result<()> {
        for (number, group) in known.groups.iter_mut().enumerate() {
            let Some(group) = group.as_mut().filter(|group| group.is_unwritten) else { continue };
            let mut bytes = [0; PAGE_BYTES as usize];
            for (sum, bytes) in group.sums.iter().zip(bytes.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&sum.to_le_bytes());
            }
            self.beneath.write(number as u64 * GROUP_BYTES, &bytes)?;
            group.is_unwritten = false;
        }
        Ok(())
    }

    /// The first sector, verified.
    fn head(&self, known: &mut CheckedPages) -> io::Result<[u8; SECTOR_BYTES]> {
        if let Some(head) = known.head {
            return Ok(head);
        }
        let mut head = [0; SECTOR_BYTES];
        self.beneath.read(place_of(0), &mut head)?;
        if head[HEAD_BYTES..] != head_sum(&head) && head.iter().any(|byte| *byte != 0) {
            return Err(damaged("the header does not have its checksum"));
        }
        known.head = Some(head);
        Ok(head)
    }

    /// Buffers a write of redb to its header until the next sync.
    fn write_head(&self, offset: usize, data: &[u8]) -> io::Result<()> {
        let (inside, beyond) = data.split_at(data.len().min(HEAD_BYTES.saturating_sub(offset)));
        if beyond.iter().any(|byte| *byte != 0) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the header is larger than was thought"));
        }
        let mut known = self.lock();
        let before = self.head(&mut known)?;
        let mut head = before;
        head[offset..offset + inside.len()].copy_from_slice(inside);
        let sum = head_sum(&head);
        head[HEAD_BYTES..].copy_from_slice(&sum);
        let (was, is) = (before[GOD_BYTE], head[GOD_BYTE]);
        known.is_choice_new |= (was ^ is) & CHOICE != 0 || was & is & TWO_PHASES == 0;
        (known.head, known.is_head_unwritten) = (Some(head), true);
        Ok(())
    }

    /// Reads whole pages of one group. The first page is not among them.
    fn read_pages(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        self.beneath.read(place_of(first), out)?;
        for (number, page) in (first..).zip(out.chunks_exact(PAGE_BYTES as usize)) {
            // The sum is computed before the lock is taken, because readers and the writer share the lock.
            let sum = sum_of(number, page);
            if self.group(&mut self.lock(), first / GROUP_PAGES)?.sums[(number % GROUP_PAGES) as usize] != sum {
                return Err(damaged(&format!("page {number} does not have its checksum")));
            }
        }
        Ok(())
    }

    fn write_pages(&self, first: u64, data: &[u8]) -> io::Result<()> {
        self.lock().is_unsynced = true;
        self.beneath.write(place_of(first), data)?;
        for (number, page) in (first..).zip(data.chunks_exact(PAGE_BYTES as usize)) {
            let sum = sum_of(number, page);
            self.group(&mut self.lock(), first / GROUP_PAGES)?.set((number % GROUP_PAGES) as usize, sum);
        }
        Ok(())
    }
}

impl PageGroup {
    fn set(&mut self, page: usize, sum: u32) {
        // An unchanged checksum is written too: a failed sync may have lost the earlier write.
        self.sums[page] = sum;
        self.is_unwritten = true;
    }
}

impl StorageBackend for ChecksummedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.lock().len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut out) = (offset, out);
        while !out.is_empty() {
            let part = part_of(at, out.len());
            let (here, rest) = out.split_at_mut(part.bytes);
            match part.within {
                Within::Head => {
                    let head = self.head(&mut self.lock())?;
                    let shown = head.iter().take(HEAD_BYTES).copied().chain(std::iter::repeat(0));
                    here.iter_mut().zip(shown.skip(at as usize)).for_each(|(to, from)| *to = from);
                }
                Within::Pages => self.read_pages(at / PAGE_BYTES, here)?,
                Within::Page => {
                    let mut page = [0; PAGE_BYTES as usize];
                    self.read_pages(at / PAGE_BYTES, &mut page)?;
                    let from = (at % PAGE_BYTES) as usize;
                    here.copy_from_slice(&page[from..from + here.len()]);
                }
            }
            at += part.bytes as u64;
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut known = self.lock();
        known.is_unsynced = true;
        let pages = len.div_ceil(PAGE_BYTES);
        for number in pages / GROUP_PAGES..known.len.div_ceil(GROUP_PAGES * PAGE_BYTES) {
            let group = self.group(&mut known, number)?;
            let kept = pages.saturating_sub(number * GROUP_PAGES).max(u64::from(number == 0));
            (kept..GROUP_PAGES).for_each(|page| group.set(page as usize, 0));
        }
        self.beneath.set_len(outer_len(len))?;
        known.len = len;
        known.groups.truncate(len.div_ceil(GROUP_PAGES * PAGE_BYTES) as usize);
        if len > 0 && known.groups.is_empty() {
            self.group(&mut known, 0)?.set(0, MARK);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let must_be_first = {
            let mut known = self.lock();
            self.write_sums(&mut known)?;
            // Writes from here on belong to the next sync.
            std::mem::take(&mut known.is_unsynced) && known.is_choice_new
        };
        // The lock is free here, so readers do not wait for the disk.
        if must_be_first {
            self.beneath.sync_data()?;
        }
        let mut known = self.lock();
        if let Some(head) = known.head.filter(|_| known.is_head_unwritten) {
            self.beneath.write(place_of(0), &head)?;
            (known.is_head_unwritten, known.is_choice_new) = (false, false);
        }
        drop(known);
        self.beneath.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset + data.len() as u64 > self.lock().len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut data) = (offset, data);
        while !data.is_empty() {
            let part = part_of(at, data.len());
            let (here, rest) = data.split_at(part.bytes);
            match part.within {
                Within::Head => self.write_head(at as usize, here)?,
                Within::Pages => self.write_pages(at / PAGE_BYTES, here)?,
                Within::Page => {
                    let mut page = [0; PAGE_BYTES as usize];
                    self.read_pages(at / PAGE_BYTES, &mut page)?;
                    let from = (at % PAGE_BYTES) as usize;
                    page[from..from + here.len()].copy_from_slice(here);
                    self.write_pages(at / PAGE_BYTES, &page)?;
                }
            }
            at += part.bytes as u64;
            data = rest;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.beneath.close()
    }
}

/// The first piece of a range that one operation can handle.
struct PagePart {
    within: Within,
    bytes: usize,
}

enum Within {
    /// The first page.
    Head,
    /// Whole pages of one group.
    Pages,
    /// A part of one page.
    Page,
}

fn part_of(at: u64, bytes: usize) -> PagePart {
    let left_in = |unit: u64| (unit - at % unit).min(bytes as u64) as usize;
    if at < PAGE_BYTES {
        return PagePart { within: Within::Head, bytes: left_in(PAGE_BYTES) };
    }
    let in_group = left_in(GROUP_PAGES * PAGE_BYTES);
    let whole = in_group - in_group % PAGE_BYTES as usize;
    match at.is_multiple_of(PAGE_BYTES) && whole > 0 {
        true => PagePart { within: Within::Pages, bytes: whole },
        false => PagePart { within: Within::Page, bytes: left_in(PAGE_BYTES) },
    }
}

/// Offset of a page in the file beneath.
fn place_of(page: u64) -> u64 {
    (page + page / GROUP_PAGES + 1) * PAGE_BYTES
}

/// Length of the file beneath.
fn outer_len(inner: u64) -> u64 {
    inner + inner.div_ceil(GROUP_PAGES * PAGE_BYTES) * PAGE_BYTES
}

fn inner_len(outer: u64) -> u64 {
    outer / GROUP_BYTES * GROUP_PAGES * PAGE_BYTES + (outer % GROUP_BYTES).saturating_sub(PAGE_BYTES)
}

/// The checksum of a page. A page of zeros has 0, like a page that was never written.
fn sum_of(number: u64, page: &[u8]) -> u32 {
    if page.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(page);
    hasher.finalize().max(1)
}

fn head_sum(head: &[u8; SECTOR_BYTES]) -> [u8; 4] {
    crc32fast::hash(&head[..HEAD_BYTES]).to_le_bytes()
}

fn damaged(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {words}"))
}

#[cfg(test)]
mod tests;
