//! Tests of the checksum layer: reads return writes, an altered byte is an error, a cut leaves the synced state.

use std::sync::Arc;

use crate::kv::checksums::*;

/// A file in memory whose bytes a test may alter.
#[derive(Debug, Clone, Default)]
struct CorruptibleFile(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<Done>>>);

/// An operation that the file received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// A write to the page at this offset.
    Write(u64),
    Sync,
}

impl CorruptibleFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> io::Result<ChecksummedFile> {
        ChecksummedFile::open(Box::new(self.clone()))
    }
}

impl StorageBackend for CorruptibleFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let from = bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.lock().unwrap().push(Done::Sync);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.lock().unwrap().push(Done::Write(offset / PAGE_BYTES));
        self.bytes()[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn read(file: &ChecksummedFile, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0xee; bytes];
    file.read(offset, &mut out).map(|()| out)
}

/// A file of two pages, of which the second is written.
fn small() -> CorruptibleFile {
    let memory = CorruptibleFile::default();
    let file = memory.open().unwrap();
    file.set_len(3 * PAGE_BYTES).unwrap();
    file.write(0, &[7; 320]).unwrap();
    file.write(PAGE_BYTES, &[9; PAGE_BYTES as usize]).unwrap();
    file.sync_data().unwrap();
    memory
}

#[test]
fn written_bytes_are_read_over_groups_and_pieces_and_openings() {
    let memory = CorruptibleFile::default();
    let file = memory.open().unwrap();
    let pages = 2 * GROUP_PAGES + 5;
    file.set_len(pages * PAGE_BYTES).unwrap();
    assert_eq!(file.len().unwrap(), pages * PAGE_BYTES);
    let from = (GROUP_PAGES - 3) * PAGE_BYTES;
    let data: Vec<u8> = (0..8 * PAGE_BYTES).map(|n| (n / 7) as u8).collect();
    file.write(from, &data).unwrap();
    file.write(from + 100, &[1; 5000]).unwrap();
    file.sync_data().unwrap();
    let mut expected = data;
    expected[100..5100].fill(1);
    for file in [file, memory.open().unwrap()] {
        assert_eq!(file.len().unwrap(), pages * PAGE_BYTES);
        assert_eq!(read(&file, from, expected.len()).unwrap(), expected);
        assert_eq!(read(&file, from + 4090, 20).unwrap(), expected[4090..4110]);
        assert_eq!(read(&file, 2 * GROUP_PAGES * PAGE_BYTES, 4096).unwrap(), [0; 4096], "never written");
        assert!(read(&file, pages * PAGE_BYTES - 1, 2).is_err(), "beyond the end");
    }
}

#[test]
fn the_header_is_written_in_place_and_checked() {
    let memory = small();
    let file = memory.open().unwrap();
    file.write(9, &[8]).unwrap();
    assert_eq!(read(&file, 9, 1).unwrap(), [8]);
    assert_eq!(read(&memory.open().unwrap(), 9, 1).unwrap(), [7], "delayed until the next sync");
    file.sync_data().unwrap();
    let file = memory.open().unwrap();
    let head = read(&file, 0, 4096).unwrap();
    assert_eq!((head[8], head[9], head[10], head[320], head[508]), (7, 8, 7, 0, 0));
    assert!(file.write(500, &[1; 9]).is_err(), "where the checksum stands");
}

#[test]
fn a_header_that_names_another_commit_waits_until_its_pages_are_synced() {
    let memory = small();
    let file = memory.open().unwrap();
    let done = |change: &dyn Fn()| {
        memory.1.lock().unwrap().clear();
        change();
        file.sync_data().unwrap();
        memory.1.lock().unwrap().clone()
    };
    let page = || file.write(PAGE_BYTES, &[4; PAGE_BYTES as usize]).unwrap();
    let choose = |god_byte: u8| file.write(9, &[god_byte]).unwrap();
    let (head, sums, first) = (Done::Write(1), Done::Write(0), Done::Write(2));
    // The header arrives first, as redb may order it, and the page after it.
    let one_phase = done(&|| {
        choose(6);
        page();
    });
    assert_eq!(one_phase, [first, sums, Done::Sync, head, Done::Sync]);
    // A two-phase commit costs two syncs.
    let in_another_slot = done(&|| {
        page();
        file.write(70, &[1]).unwrap();
    });
    assert_eq!(in_another_slot, [first, sums, head, Done::Sync]);
    assert_eq!(done(&|| choose(7)), [head, Done::Sync]);
    // After a commit of one phase the newer commit counts, in either slot.
    assert_eq!(done(&|| choose(2)), [head, Done::Sync]);
    let in_another_slot = done(&|| {
        page();
        file.write(70, &[2]).unwrap();
    });
    assert_eq!(in_another_slot, [first, sums, Done::Sync, head, Done::Sync]);
}

#[test]
fn a_checksum_is_written_again_with_its_page_although_it_is_the_same() {
    let memory = small();
    let file = memory.open().unwrap();
    file.write(PAGE_BYTES, &[9; PAGE_BYTES as usize]).unwrap();
    memory.1.lock().unwrap().clear();
    file.sync_data().unwrap();
    assert_eq!(*memory.1.lock().unwrap(), [Done::Write(0), Done::Sync]);
}

#[test]
fn every_flipped_bit_is_an_error_and_never_an_answer() {
    let memory = small();
    let whole = memory.bytes().clone();
    let sound = |memory: &CorruptibleFile| -> io::Result<Vec<u8>> {
        let file = memory.open()?;
        let mut all = read(&file, 0, 508)?;
        all.extend(read(&file, PAGE_BYTES, 2 * PAGE_BYTES as usize)?);
        Ok(all)
    };
    let expected = sound(&memory).unwrap();
    let mut errors = 0;
    for bit in (0..8 * whole.len()).step_by(3) {
        memory.bytes()[bit / 8] ^= 1 << (bit % 8);
        match sound(&memory) {
            Ok(found) => assert_eq!(found, expected, "bit {bit}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                errors += 1;
            }
        }
        memory.bytes()[bit / 8] ^= 1 << (bit % 8);
    }
    // Two pages, the sector of the header, and the four checksums.
    assert!(errors > 2 * 8 * 4096 / 3, "{errors}");
}

#[test]
fn a_page_in_anothers_place_is_noticed() {
    let memory = small();
    let page = memory.bytes()[place_of(1) as usize..place_of(2) as usize].to_vec();
    let sum = memory.bytes()[4..8].to_vec();
    memory.bytes()[place_of(2) as usize..place_of(3) as usize].copy_from_slice(&page);
    memory.bytes()[8..12].copy_from_slice(&sum);
    let file = memory.open().unwrap();
    assert!(read(&file, PAGE_BYTES, 4096).is_ok());
    assert!(read(&file, 2 * PAGE_BYTES, 4096).is_err());
}

#[test]
fn a_file_that_was_cut_off_and_grows_again_reads_as_empty_there() {
    let memory = small();
    let file = memory.open().unwrap();
    file.set_len(PAGE_BYTES).unwrap();
    file.set_len(4 * PAGE_BYTES).unwrap();
    assert_eq!(read(&file, PAGE_BYTES, 4096).unwrap(), [0; 4096]);
    file.sync_data().unwrap();
    assert_eq!(read(&memory.open().unwrap(), PAGE_BYTES, 4096).unwrap(), [0; 4096]);
    // The checksums of the pages that were cut off are still on disk here.
    let memory = small();
    memory.bytes().truncate(place_of(1) as usize);
    let file = memory.open().unwrap();
    file.set_len(2 * PAGE_BYTES).unwrap();
    assert_eq!(read(&file, PAGE_BYTES, 4096).unwrap(), [0; 4096]);
}

#[test]
fn any_other_file_is_not_opened() {
    for bytes in [vec![0; 10], vec![0; 9000], b"redb".repeat(3000)] {
        assert!(CorruptibleFile(Arc::new(Mutex::new(bytes)), Arc::default()).open().is_err());
    }
}
