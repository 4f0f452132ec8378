//! Readers see every acknowledged event, also while the active partition is being opened again.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider::store::{Disk, Error, EventQuery, ListWindow, Store};
use redb::StorageBackend;

use crate::store::bench::{Bench, START};
use crate::support::disk::FaultyDisk;

/// Time that a reader gets to answer while a partition is not open yet. A reader that waits for the partition uses all of
/// it.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that runs a hook at the next read of the write-ahead log.
#[derive(Clone)]
struct HookedDisk {
    disk: FaultyDisk,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedDisk")
    }
}

impl Disk for HookedDisk {
    fn open(&self, name: &str, create: bool) -> std::io::Result<Box<dyn StorageBackend>> {
        let file = self.disk.open(name, create)?;
        let hook = if name == "journal" { self.hook.clone() } else { Arc::default() };
        Ok(Box::new(HookedFile { file, hook }))
    }

    fn exists(&self, name: &str) -> std::io::Result<bool> {
        self.disk.exists(name)
    }

    fn list(&self, folder: &str) -> std::io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn len(&self, name: &str) -> std::io::Result<u64> {
        self.disk.len(name)
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }

    fn describe(&self) -> String {
        self.disk.describe()
    }
}

struct HookedFile {
    file: Box<dyn StorageBackend>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl std::fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookedFile")
    }
}

impl StorageBackend for HookedFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(hook) = hook {
            hook();
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.file.write(offset, data)
    }
}

/// A bench on a disk in memory and the disk, to set its hook.
fn bench() -> (Bench, HookedDisk) {
    let disk = HookedDisk { disk: FaultyDisk::new(1), hook: Arc::default() };
    (Bench::on(Arc::new(disk.clone())), disk)
}

/// Asks in a thread of its own while the active partition is opened again. Returns its answer.
fn answer_while_reopening<T: Send + 'static>(
    bench: &mut Bench,
    disk: &HookedDisk,
    ask: impl FnOnce(&Store) -> T + Send + 'static,
) -> T {
    let (tell, answers) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let store = bench.opened.store.clone();
    *disk.hook.lock().unwrap() = Some(Box::new(move || {
        std::thread::spawn(move || {
            tell.send(ask(&store)).unwrap();
            // The hook may have stopped waiting.
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(ANSWER_WAIT);
    }));
    let failure = Error::Io { file: "journal".into(), source: std::io::Error::other("a failed checkpoint") };
    bench.opened.writer.checkpoint_failed(&failure);
    answers.recv().expect("an answer")
}

#[test]
fn an_acknowledged_event_is_found_while_its_partition_is_opened_again() {
    let (mut bench, disk) = bench();
    let webhook = bench.webhook(|_| {});
    let (published, _) = bench.publish("a", |_| {});
    let id = published.event.id;
    let tenant = bench.caller.tenant;
    let found = answer_while_reopening(&mut bench, &disk, move |store| store.event(tenant, id, START));
    assert!(found.unwrap().is_some(), "the lookup by id");
    let found = answer_while_reopening(&mut bench, &disk, move |store| {
        let window = ListWindow { from: None, to: None, before: None, limit: 10 };
        let query = EventQuery { tenant, event_type: None, subject: None, search: None, window };
        store.events(&query, START).map(|page| page.rows.len())
    });
    assert_eq!(found.unwrap(), 1, "the list of events");
    let found = answer_while_reopening(&mut bench, &disk, move |store| store.feed(webhook.id, None, 10, START));
    assert_eq!(found.unwrap().len(), 1, "the feed");
    let found = answer_while_reopening(&mut bench, &disk, |store| store.due_heads());
    assert_eq!(found.unwrap().len(), 1, "the due entries");
}
