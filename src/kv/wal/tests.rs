//! Tests of the write-ahead log on a real disk: order, epochs, torn and damaged records.

use super::*;

fn changes(n: u8) -> Changes {
    let key = |last: u8| Key::from_slice(&[n, last]);
    Changes::from([(key(1), Some(vec![n; 300])), (key(2), None), (key(3), Some(vec![]))])
}

/// A write-ahead log for partition 7, after `epoch`.
fn made(epoch: u64) -> (tempfile::TempDir, crate::kv::disk::RealDisk, Wal) {
    let folder = tempfile::tempdir().unwrap();
    let disk = crate::kv::disk::RealDisk::lock(folder.path()).unwrap();
    let mut wal = Wal::open(&disk).unwrap();
    wal.prepare(&disk, 7, epoch).unwrap();
    wal.reset(7, epoch);
    (folder, disk, wal)
}

/// The records after an epoch, and the epoch of the last one.
fn after(wal: &Wal, partition: u128, epoch: u64) -> Result<(Vec<WalRecord>, u64)> {
    let mut records = Vec::new();
    let end = wal.records_after(partition, epoch, |_, record| records.push(record))?;
    Ok((records, end.map_or(epoch, |end| end.epoch)))
}

#[test]
fn appended_records_are_read_back_in_order_and_only_for_their_epoch_and_partition() {
    let (_folder, _disk, mut wal) = made(0);
    for n in 0..3 {
        assert!(wal.append(&[(Table::Events, &changes(n)), (Table::Due, &changes(n + 9))]).unwrap());
    }
    let (records, epoch) = after(&wal, 7, 0).unwrap();
    assert_eq!((records.len(), epoch), (3, 1));
    assert_eq!(records[1], vec![(Table::Events, changes(1)), (Table::Due, changes(10))]);
    assert!(after(&wal, 7, 1).unwrap().0.is_empty());
    assert!(after(&wal, 8, 0).unwrap().0.is_empty());
    // A shorter epoch overwrites a longer one: the old tail is not read.
    wal.reset(7, 2);
    assert!(wal.append(&[(Table::Events, &changes(5))]).unwrap());
    assert_eq!(after(&wal, 7, 2).unwrap().0.len(), 1);
}

#[test]
fn two_epochs_are_read_in_order_and_nothing_may_be_missing_between_them() {
    let (_folder, _disk, mut wal) = made(4);
    let append = |wal: &mut Wal, n| wal.append(&[(Table::Events, &changes(n))]).unwrap();
    assert!(append(&mut wal, 1) && append(&mut wal, 2));
    let last = half(5) + wal.bytes() / 2;
    wal.rotate();
    assert!(append(&mut wal, 3));
    let tail = after(&wal, 7, 4).unwrap();
    assert_eq!((tail.0.len(), tail.1), (3, 6));
    assert_eq!(tail.0[2], vec![(Table::Events, changes(3))]);
    assert_eq!(after(&wal, 7, 5).unwrap().0.len(), 1);
    // One byte in either record of the epoch before.
    for at in [half(5), last] {
        let mut byte = [0];
        wal.backend().unwrap().read(at + 50, &mut byte).unwrap();
        wal.backend().unwrap().write(at + 50, &[byte[0] ^ 1]).unwrap();
        let found = after(&wal, 7, 4);
        assert!(matches!(found, Err(Error::WalDamaged { .. })), "{found:?}");
        wal.backend().unwrap().write(at + 50, &byte).unwrap();
    }
    assert_eq!(after(&wal, 7, 4).unwrap(), tail);
}

#[test]
fn it_goes_on_behind_the_last_record_after_a_restart() {
    let (_folder, disk, mut wal) = made(0);
    let append = |wal: &mut Wal, n| assert!(wal.append(&[(Table::Events, &changes(n))]).unwrap());
    append(&mut wal, 1);
    wal.rotate();
    append(&mut wal, 2);
    append(&mut wal, 3);
    drop(wal);
    let mut wal = Wal::open(&disk).unwrap();
    let end = wal.records_after(7, 0, |_, _| ()).unwrap().unwrap();
    wal.resume(7, end).unwrap();
    append(&mut wal, 4);
    wal.rotate();
    append(&mut wal, 5);
    // The first epoch is overwritten.
    let (records, epoch) = after(&wal, 7, 1).unwrap();
    assert_eq!((records.len(), epoch), (4, 3));
    assert_eq!(records[3], vec![(Table::Events, changes(5))]);
}

#[test]
fn a_torn_record_ends_the_log() {
    let (_folder, _disk, mut wal) = made(0);
    wal.append(&[(Table::Events, &changes(1))]).unwrap();
    let first = half(1);
    let end = first + wal.bytes();
    wal.append(&[(Table::Events, &changes(2))]).unwrap();
    for at in [end, end + 5, end + 40, first + wal.bytes() - 1] {
        let mut byte = [0];
        wal.backend().unwrap().read(at, &mut byte).unwrap();
        wal.backend().unwrap().write(at, &[byte[0] ^ 0x10]).unwrap();
        // After a kill the head counts the record.
        let found = after(&wal, 7, 0);
        assert!(matches!(found, Err(Error::WalDamaged { .. })), "at {at}: {found:?}");
        // A power cut tears the record before it is synced, and so before the head counts it.
        let counting = wal.head;
        wal.head = counting.map(|head| WalHead { durable: 1, ..head });
        assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 1, "at {at}");
        wal.head = counting;
        wal.backend().unwrap().write(at, &byte).unwrap();
    }
    assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 2);
}

#[test]
fn a_record_that_others_follow_is_damaged_and_not_torn() {
    let (_folder, _disk, mut wal) = made(0);
    wal.append(&[(Table::Events, &changes(1))]).unwrap();
    let second = half(1) + wal.bytes();
    wal.append(&[(Table::Events, &changes(2))]).unwrap();
    let last = half(1) + wal.bytes();
    wal.append(&[(Table::Events, &changes(3))]).unwrap();
    for bit in 8 * second..8 * last {
        let mut byte = [0];
        wal.backend().unwrap().read(bit / 8, &mut byte).unwrap();
        wal.backend().unwrap().write(bit / 8, &[byte[0] ^ 1 << (bit % 8)]).unwrap();
        let found = after(&wal, 7, 0);
        assert!(matches!(found, Err(Error::WalDamaged { .. })), "bit {bit}: {found:?}");
        wal.backend().unwrap().write(bit / 8, &byte).unwrap();
    }
    assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 3);
}

#[test]
fn a_flipped_bit_in_a_large_record_is_damage_as_well() {
    let (_folder, _disk, mut wal) = made(0);
    let large = Changes::from([(Key::from_slice(&[1]), Some(vec![7; 20 * SEARCHED_BYTES]))]);
    assert!(wal.append(&[(Table::Data, &large)]).unwrap());
    let body_bits = 8 * HEAD_BYTES as u64..8 * wal.bytes();
    wal.append(&[(Table::Events, &changes(2))]).unwrap();
    for bit in (0..8 * HEAD_BYTES as u64).chain(body_bits.step_by(1_000_003)) {
        let mut byte = [0];
        let at = half(1) + bit / 8;
        wal.backend().unwrap().read(at, &mut byte).unwrap();
        wal.backend().unwrap().write(at, &[byte[0] ^ 1 << (bit % 8)]).unwrap();
        let found = after(&wal, 7, 0);
        assert!(matches!(found, Err(Error::WalDamaged { .. })), "bit {bit}: {found:?}");
        wal.backend().unwrap().write(at, &byte).unwrap();
    }
    assert_eq!(after(&wal, 7, 0).unwrap().0.len(), 2);
}

#[test]
fn a_record_that_does_not_fit_is_not_written() {
    let (_folder, _disk, mut wal) = made(0);
    let large = Changes::from([(Key::from_slice(&[1]), Some(vec![0; EPOCH_BYTES_MAX as usize]))]);
    assert!(!wal.append(&[(Table::Data, &large)]).unwrap());
    assert_eq!(wal.bytes(), 0);
}
