//! Readers see every acknowledged event, also while the active partition is being opened again.

use std::sync::mpsc;
use std::time::Duration;

use postrider::store::{Error, EventQuery, ListWindow, Store};

use crate::store::bench::{Bench, START};
use crate::store::hooked_disk::HookedDisk;

/// Time that a reader gets to answer while a partition is not open yet. A reader that waits for the partition uses all
/// of it.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// Asks in a thread of its own while the active partition is opened again. Returns its answer.
fn answer_while_reopening<T: Send + 'static>(
    bench: &mut Bench,
    disk: &HookedDisk,
    ask: impl FnOnce(&Store) -> T + Send + 'static,
) -> T {
    let (tell, answers) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let store = bench.opened.store.clone();
    disk.at_journal_read(move || {
        std::thread::spawn(move || {
            tell.send(ask(&store)).unwrap();
            // The hook may have stopped waiting.
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(ANSWER_WAIT);
    });
    let failure = Error::Io { file: "journal".into(), source: std::io::Error::other("a failed checkpoint") };
    bench.opened.writer.checkpoint_failed(&failure);
    answers.recv().expect("an answer")
}

#[test]
fn an_acknowledged_event_is_found_while_its_partition_is_opened_again() {
    let disk = HookedDisk::new();
    let mut bench = Bench::on(disk.clone());
    let webhook = bench.webhook(|_| {});
    let (published, _) = bench.publish("a", |_| {});
    let id = published.event.id;
    let tenant = bench.caller.tenant;
    let found = answer_while_reopening(&mut bench, &disk, move |store| store.event(tenant, id, START));
    assert!(found.unwrap().is_some(), "the lookup by id");
    let found = answer_while_reopening(&mut bench, &disk, move |store| {
        let window = ListWindow::newest(10);
        let query = EventQuery { tenant, event_type: None, event_id: None, subject: None, search: None, window };
        store.events(&query, START).map(|page| page.rows.len())
    });
    assert_eq!(found.unwrap(), 1, "the list of events");
    let found = answer_while_reopening(&mut bench, &disk, move |store| store.feed(webhook.id, None, 10, START));
    assert_eq!(found.unwrap().len(), 1, "the feed");
    let found = answer_while_reopening(&mut bench, &disk, |store| store.due_heads());
    assert_eq!(found.unwrap().len(), 1, "the due entries");
}
