//! Tests a change of the master key on a disk that stops working after each of its writes in turn.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::kv::disk::StorageBackend;

use crate::store::secrets::master_key::*;

const OLD: [u8; KEY_BYTES] = [1; KEY_BYTES];
const NEW: [u8; KEY_BYTES] = [2; KEY_BYTES];
const OTHER: [u8; KEY_BYTES] = [3; KEY_BYTES];

/// Files in memory. After a number of changes no further one has an effect, as after a kill.
#[derive(Debug, Clone, Default)]
struct KeyFiles(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    changes: usize,
    changes_max: Option<usize>,
}

impl KeyFiles {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of the current files, which works until `changes_max` further changes.
    fn copy(&self, changes_max: Option<usize>) -> KeyFiles {
        let files = self.with(|inner| inner.files.clone());
        KeyFiles(Arc::new(Mutex::new(Inner { files, changes: 0, changes_max })))
    }

    fn change<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> io::Result<T> {
        self.with(|inner| {
            if inner.changes_max.is_some_and(|max| inner.changes >= max) {
                return Err(io::Error::other("cut"));
            }
            inner.changes += 1;
            Ok(act(inner))
        })
    }
}

#[derive(Debug)]
struct MemoryFile {
    memory: KeyFiles,
    name: String,
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.memory.with(|inner| act(inner.files.entry(self.name.clone()).or_default()))
    }
}

impl StorageBackend for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|bytes| out.copy_from_slice(&bytes[offset as usize..offset as usize + out.len()]));
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let name = self.name.clone();
        self.memory.change(|inner| inner.files.entry(name).or_default().resize(len as usize, 0))
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let name = self.name.clone();
        self.memory.change(|inner| {
            let bytes = inner.files.entry(name).or_default();
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        })
    }
}

impl Disk for KeyFiles {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        if !create && !self.exists(name)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(MemoryFile { memory: self.clone(), name: name.into() }))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(self.with(|inner| inner.files.contains_key(name)))
    }
    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|inner| drop(inner.files.remove(name)))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            if let Some(bytes) = inner.files.remove(from) {
                inner.files.insert(to.into(), bytes);
            }
        })
    }
    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.with(|inner| inner.files.get(name).map_or(0, Vec::len) as u64))
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn describe(&self) -> String {
        "memory".into()
    }
}

/// A store that `OLD` opens, and its data key.
fn made() -> (KeyFiles, [u8; KEY_BYTES]) {
    let (memory, mut number) = (KeyFiles::default(), 7_u64);
    let mut random = || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        number
    };
    create_state(&memory, &Vault::new(&OLD), &mut random).unwrap();
    let key = read(&memory, &OLD).unwrap();
    (memory, key)
}

fn read(memory: &KeyFiles, master_key: &[u8; KEY_BYTES]) -> Result<[u8; KEY_BYTES]> {
    let state = Arc::new(Segment::open(memory, STATE_FILE, OpenMode::Write, OTHER_CACHE_BYTES)?);
    let key = data_key(&state.snapshot()?, &Vault::new(master_key));
    Arc::into_inner(state).expect("the only handle").close()?;
    key
}

#[test]
fn the_new_key_opens_the_same_data_key_and_the_old_one_nothing() {
    let (memory, key) = made();
    assert_eq!(rewrap(&memory, &OLD, &NEW, [9; 12]).unwrap(), Rewrapped::Now);
    assert_eq!(read(&memory, &NEW).unwrap(), key);
    assert!(matches!(read(&memory, &OLD), Err(Error::MasterKey(_))));
    assert_eq!((opens(&memory, &OLD).unwrap(), opens(&memory, &NEW).unwrap()), (false, true));
    assert_eq!(rewrap(&memory, &OLD, &NEW, [8; 12]).unwrap(), Rewrapped::Before, "again is no change");
}

#[test]
fn a_key_that_does_not_open_it_changes_nothing() {
    let (memory, key) = made();
    let before = memory.with(|inner| inner.files.clone());
    assert!(matches!(rewrap(&memory, &OTHER, &NEW, [9; 12]), Err(Error::MasterKey(_))));
    assert_eq!(memory.with(|inner| inner.files.clone()), before);
    assert_eq!(read(&memory, &OLD).unwrap(), key);
}

#[test]
fn cut_after_any_write_exactly_one_key_opens_it_and_a_second_try_ends_it() {
    let (memory, key) = made();
    let (mut with_old, mut with_new) = (0, 0);
    for changes_max in 0.. {
        let cut = memory.copy(Some(changes_max));
        let ended = rewrap(&cut, &OLD, &NEW, [9; 12]);
        // The files after the cut.
        let left = cut.copy(None);
        let (old, new) = (opens(&left, &OLD).unwrap(), opens(&left, &NEW).unwrap());
        assert!(old != new, "after {changes_max} writes: {old} and {new}");
        assert_eq!(read(&left, if new { &NEW } else { &OLD }).unwrap(), key);
        let again = rewrap(&left, &OLD, &NEW, [8; 12]).unwrap();
        assert_eq!(again, if new { Rewrapped::Before } else { Rewrapped::Now });
        assert_eq!(read(&left, &NEW).unwrap(), key);
        *(if new { &mut with_new } else { &mut with_old }) += 1;
        if ended.is_ok() {
            break;
        }
    }
    assert!(with_old > 3 && with_new > 0, "{with_old} cuts before the change and {with_new} after it");
}
