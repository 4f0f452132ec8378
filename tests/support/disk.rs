//! A disk in memory with the faults of real disks: it keeps synced writes, and loses the rest at random.
//!
//! Invariant: every change that `sync_data` or `rename` acknowledged survives every power cut. Of pages written since,
//! each sector has its synced content or that of any later write, independently of its neighbours. A sector is 512
//! bytes, or a whole page at a time. Of changes to the folder, the first ones survive up to a random number. After a
//! cut every handle is dead.

#![allow(dead_code)] // Three test binaries compile this file. Each uses its own part of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider::store::Disk;
use redb::StorageBackend;

use super::rng::Rng;

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// `None` for a page that was never written and reads as zeros.
type Page = Option<Arc<[u8; PAGE_BYTES]>>;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    platter: Arc<Mutex<Platter>>,
}

#[derive(Debug)]
struct Platter {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    folder_changes: Vec<FolderChange>,
    next_file: u64,
    /// Changes and syncs that still succeed. `None` for all.
    fuse: Option<u64>,
    /// The fuse that is set when a file next gets its final name in this folder.
    tinder: Option<(&'static str, u64)>,
    dead: bool,
    /// Number of syncs before the one that fails once.
    failing_sync: Option<u64>,
    sync_has_failed: bool,
    /// Number of reads before the one that fails once.
    failing_read: Option<u64>,
    /// Whether the disk is full.
    full: bool,
    /// Whether the disk is read-only.
    read_only: bool,
    operations: u64,
    rng: Rng,
}

#[derive(Debug, Clone)]
enum FolderChange {
    Added(String, u64),
    Renamed(String, String),
    Removed(String),
}

/// A file: its current content, its synced content, and the states of each page and of the length since.
#[derive(Debug, Clone, Default)]
struct Content {
    pages: Vec<Page>,
    len: u64,
    durable: Vec<Page>,
    durable_len: u64,
    versions: BTreeMap<usize, Vec<Page>>,
    lens: Vec<u64>,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk::of(BTreeMap::new(), BTreeMap::new(), 0, Rng::new(seed))
    }

    fn of(files: BTreeMap<u64, Content>, names: BTreeMap<String, u64>, next_file: u64, rng: Rng) -> FaultyDisk {
        let platter = Platter {
            files,
            durable_names: names.clone(),
            names,
            folder_changes: Vec::new(),
            next_file,
            fuse: None,
            tinder: None,
            dead: false,
            failing_sync: None,
            sync_has_failed: false,
            failing_read: None,
            full: false,
            read_only: false,
            operations: 0,
            rng,
        };
        FaultyDisk { platter: Arc::new(Mutex::new(platter)) }
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the power fail after this many more changes or syncs. With `None` it does not fail.
    pub fn set_fuse(&self, operations: Option<u64>) {
        self.lock().fuse = operations;
    }

    /// Lets the power fail this many operations after a file has next got its final name in a folder. With `None` it
    /// does not fail.
    pub fn set_fuse_at_rename(&self, tinder: Option<(&'static str, u64)>) {
        self.lock().tinder = tinder;
    }

    /// Lets the sync after `syncs` more fail once.
    pub fn fail_a_sync(&self, syncs: u64) {
        self.lock().failing_sync = Some(syncs);
    }

    /// Lets the read after `reads` more fail once. With `None` no read fails.
    pub fn fail_a_read(&self, reads: Option<u64>) {
        self.lock().failing_read = reads;
    }

    /// Whether the failing sync has not come yet.
    pub fn has_failing_sync(&self) -> bool {
        self.lock().failing_sync.is_some()
    }

    /// Sets whether the disk is full.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Sets whether the disk is read-only.
    pub fn set_read_only(&self, read_only: bool) {
        self.lock().read_only = read_only;
    }

    pub fn is_full(&self) -> bool {
        self.lock().full
    }

    /// Whether the power has failed.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Changes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Ends every handle as a kill of the process does. Written data stays readable, synced or not.
    pub fn kill(&self) -> FaultyDisk {
        let mut platter = self.lock();
        platter.dead = true;
        let left = FaultyDisk::of(platter.files.clone(), platter.names.clone(), platter.next_file, platter.rng.fork());
        let mut again = left.lock();
        again.durable_names = platter.durable_names.clone();
        again.folder_changes = platter.folder_changes.clone();
        drop(again);
        left
    }

    /// A copy of the disk, for a test that damages it.
    pub fn copy(&self) -> FaultyDisk {
        let platter = self.lock();
        FaultyDisk::of(platter.files.clone(), platter.names.clone(), platter.next_file, platter.rng.clone())
    }

    /// Flips one bit of a written page of a file for which `may` is true. Returns its place.
    pub fn flip_a_bit(&self, rng: &mut Rng, may: impl Fn(&str) -> bool) -> String {
        let mut platter = self.lock();
        let names = platter.names.iter().filter(|(name, _)| may(name));
        let names: Vec<(String, u64)> = names.map(|(name, file)| (name.clone(), *file)).collect();
        let (name, file) = names[rng.below(names.len() as u64) as usize].clone();
        let content = platter.files.get_mut(&file).expect("the file of a name");
        let written: Vec<usize> = (0..content.pages.len()).filter(|number| content.pages[*number].is_some()).collect();
        let (number, bit) = (written[rng.below(written.len() as u64) as usize], rng.below(8 * PAGE_BYTES as u64));
        if let Some(page) = &mut content.pages[number] {
            Arc::make_mut(page)[bit as usize / 8] ^= 1 << (bit % 8);
        }
        format!("{name}: page {number}, bit {bit}")
    }

    /// Cuts the power. Returns the disk with the content after the cut.
    pub fn cut(&self) -> FaultyDisk {
        let mut platter = self.lock();
        platter.dead = true;
        let mut rng = platter.rng.fork();
        let kept = rng.below(platter.folder_changes.len() as u64 + 1) as usize;
        let mut names = platter.durable_names.clone();
        platter.folder_changes.iter().take(kept).for_each(|change| change.apply(&mut names));
        let found = names.values().map(|file| (*file, platter.files[file].after_cut(&mut rng))).collect();
        FaultyDisk::of(found, names, platter.next_file, rng)
    }
}

impl FolderChange {
    fn folder(&self) -> &str {
        match self {
            FolderChange::Added(name, _) | FolderChange::Renamed(_, name) | FolderChange::Removed(name) => {
                folder_of(name)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            FolderChange::Added(name, file) => drop(names.insert(name.clone(), *file)),
            FolderChange::Renamed(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            FolderChange::Removed(name) => drop(names.remove(name)),
        }
    }
}

/// A permitted operation.
enum Step {
    Go,
    /// The power fails during it. The operation may be done, and gives no answer.
    Last(bool),
}

impl Platter {
    fn step(&mut self) -> io::Result<Step> {
        self.alive()?;
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.operations += 1;
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                Ok(Step::Last(self.rng.chance(50)))
            }
            Some(left) => {
                *left -= 1;
                Ok(Step::Go)
            }
            None => Ok(Step::Go),
        }
    }

    /// Makes a change, unless the power fails before it. Fails if the power fails during it.
    fn change(&mut self, change: impl FnOnce(&mut Platter)) -> io::Result<()> {
        match self.step()? {
            Step::Go => {
                change(self);
                Ok(())
            }
            Step::Last(done) => {
                if done {
                    change(self);
                }
                Err(lost())
            }
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(lost()) } else { Ok(()) }
    }

    fn file(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn named(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_folder(&mut self, change: FolderChange) {
        change.apply(&mut self.names);
        self.folder_changes.push(change);
    }

    /// Makes the changes in one folder durable, and no others.
    fn sync_folder(&mut self, folder: &str) {
        let changes = std::mem::take(&mut self.folder_changes);
        let (synced, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.folder() == folder);
        synced.iter().for_each(|change| change.apply(&mut self.durable_names));
        self.folder_changes = others;
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        match self.step()? {
            Step::Go => {}
            // Done or not: writes that are not known to be synced are left to chance.
            Step::Last(_) => return Err(lost()),
        }
        let fails = self.failing_sync == Some(0);
        self.failing_sync = if fails { None } else { self.failing_sync.map(|left| left - 1) };
        let mut rng = self.rng.fork();
        let content = self.file(file)?;
        if fails {
            content.sync_badly(&mut rng);
            self.sync_has_failed = true;
            return Err(io::Error::other("the sync failed"));
        }
        content.sync();
        Ok(())
    }
}

impl Content {
    fn write(&mut self, offset: u64, data: &[u8]) {
        let (mut at, mut left) = (offset as usize, data);
        while !left.is_empty() {
            let (number, inside) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let bytes = left.len().min(PAGE_BYTES - inside);
            let mut page = self.pages[number].as_ref().map_or([0; PAGE_BYTES], |page| **page);
            page[inside..inside + bytes].copy_from_slice(&left[..bytes]);
            self.pages[number] = Some(Arc::new(page));
            self.versions.entry(number).or_default().push(self.pages[number].clone());
            at += bytes;
            left = &left[bytes..];
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        let (mut at, mut done) = (offset as usize, 0);
        while done < out.len() {
            let (number, inside) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let bytes = (out.len() - done).min(PAGE_BYTES - inside);
            match &self.pages[number] {
                Some(page) => out[done..done + bytes].copy_from_slice(&page[inside..inside + bytes]),
                None => out[done..done + bytes].fill(0),
            }
            at += bytes;
            done += bytes;
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.resize(pages_of(len), None);
        self.lens.push(len);
    }

    fn sync(&mut self) {
        self.durable.resize(self.pages.len(), None);
        for number in std::mem::take(&mut self.versions).into_keys().filter(|number| *number < self.pages.len()) {
            self.durable[number] = self.pages[number].clone();
        }
        self.durable_len = self.len;
        self.lens.clear();
    }

    /// A sync that fails as on Linux: some pages are written. The others read as before, count as written, and are lost
    /// after a cut unless they are written again.
    fn sync_badly(&mut self, rng: &mut Rng) {
        self.durable.resize(self.pages.len(), None);
        for number in std::mem::take(&mut self.versions).into_keys().filter(|number| *number < self.pages.len()) {
            if rng.chance(50) {
                self.durable[number] = self.pages[number].clone();
            }
        }
        self.durable_len = self.len;
        self.lens.clear();
    }

    /// The content after a power cut.
    fn after_cut(&self, rng: &mut Rng) -> Content {
        let (luck, sectors) = (rng.below(4), rng.chance(50));
        let mut pages = self.durable.clone();
        let len = match luck {
            0 => self.durable_len,
            1 => self.len,
            _ => *self
                .lens
                .iter()
                .chain([&self.durable_len])
                .nth(rng.below(self.lens.len() as u64 + 1) as usize)
                .unwrap_or(&self.len),
        };
        pages.resize(pages_of(len), None);
        for (&number, versions) in self.versions.iter().filter(|(number, _)| **number < pages_of(len)) {
            let mut choose = || match luck {
                0 => 0,
                1 => versions.len(),
                _ => rng.below(versions.len() as u64 + 1) as usize,
            };
            let before = pages[number].clone();
            let version = |chosen: usize| if chosen == 0 { &before } else { &versions[chosen - 1] };
            pages[number] = if sectors { mixed(|| version(choose()).as_ref()) } else { version(choose()).clone() };
        }
        Content { pages: pages.clone(), len, durable: pages, durable_len: len, ..Content::default() }
    }
}

/// A page whose sectors come from different moments.
fn mixed<'a>(mut next: impl FnMut() -> Option<&'a Arc<[u8; PAGE_BYTES]>>) -> Page {
    let mut page = [0; PAGE_BYTES];
    for at in (0..PAGE_BYTES).step_by(SECTOR_BYTES) {
        if let Some(from) = next() {
            page[at..at + SECTOR_BYTES].copy_from_slice(&from[at..at + SECTOR_BYTES]);
        }
    }
    Some(Arc::new(page))
}

/// The folder of a name. Empty for the root.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn pages_of(len: u64) -> usize {
    (len as usize).div_ceil(PAGE_BYTES)
}

fn lost() -> io::Error {
    io::Error::other("the power is off")
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn StorageBackend>> {
        let mut platter = self.lock();
        platter.alive()?;
        let file = match platter.named(name) {
            Ok(file) => file,
            Err(error) if !create => return Err(error),
            Err(_) if platter.full => return Err(full()),
            Err(_) => {
                let file = platter.next_file;
                platter.next_file += 1;
                platter.change(|platter| {
                    platter.files.insert(file, Content::default());
                    platter.change_folder(FolderChange::Added(name.to_owned(), file));
                })?;
                file
            }
        };
        Ok(Box::new(Handle { disk: self.clone(), file }))
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        let platter = self.lock();
        platter.alive()?;
        Ok(platter.names.contains_key(name))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let platter = self.lock();
        platter.alive()?;
        // The folder "" is the disk itself, whose names have no slash before them.
        let inside = |name: &String| match folder {
            "" => Some(name.clone()).filter(|name| !name.contains('/')),
            _ => Some(name.strip_prefix(folder)?.strip_prefix('/')?.to_owned()),
        };
        Ok(platter.names.keys().filter_map(inside).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platter = self.lock();
        platter.named(name)?;
        platter.change(|platter| platter.change_folder(FolderChange::Removed(name.to_owned())))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut platter = self.lock();
        let file = platter.named(from)?;
        platter.sync(file)?;
        platter.change(|platter| platter.change_folder(FolderChange::Renamed(from.to_owned(), to.to_owned())))?;
        match platter.step()? {
            Step::Go => {
                platter.sync_folder(folder_of(to));
                if let Some((_, operations)) = platter.tinder.take_if(|(folder, _)| *folder == folder_of(to)) {
                    platter.fuse = Some(operations);
                }
                Ok(())
            }
            Step::Last(_) => Err(lost()),
        }
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let mut platter = self.lock();
        platter.alive()?;
        let file = platter.named(name)?;
        platter.file(file).map(|content| content.len)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let platter = self.lock();
        platter.alive()?;
        Ok(if platter.full { 0 } else { 1 << 40 })
    }

    fn has_lost_writes(&self) -> bool {
        self.lock().sync_has_failed
    }

    fn describe(&self) -> String {
        "a disk in memory".into()
    }
}

#[derive(Debug)]
struct Handle {
    disk: FaultyDisk,
    file: u64,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut platter = self.disk.lock();
        platter.alive()?;
        platter.file(self.file).map(|content| content.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.disk.lock();
        platter.alive()?;
        let fails = platter.failing_read == Some(0);
        platter.failing_read = if fails { None } else { platter.failing_read.map(|left| left - 1) };
        if fails {
            return Err(io::Error::other("the read failed"));
        }
        let content = platter.file(self.file)?;
        if offset + out.len() as u64 > content.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content.read(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.disk.lock();
        platter.alive()?;
        if platter.full && len > platter.file(self.file)?.len {
            return Err(full());
        }
        let file = self.file;
        platter.change(|platter| {
            if let Ok(content) = platter.file(file) {
                content.set_len(len);
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync(self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.disk.lock();
        platter.alive()?;
        let is_full = platter.full;
        let content = platter.file(self.file)?;
        let end = offset + data.len() as u64;
        let mut numbers = offset as usize / PAGE_BYTES..pages_of(end);
        if is_full && (end > content.len || numbers.any(|number| content.pages[number].is_none())) {
            return Err(full());
        }
        let file = self.file;
        platter.change(|platter| {
            if let Ok(content) = platter.file(file) {
                // A write behind the end makes the file longer, as pwrite(2) does.
                if end > content.len {
                    content.set_len(end);
                }
                content.write(offset, data);
            }
        })
    }
}
