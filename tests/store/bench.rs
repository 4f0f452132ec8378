//! A store in a temporary directory, with a clock and a caller, for the tests beside this file.

use std::sync::Arc;

use postrider::model::attempt::{AttemptMade, AttemptOutcome, Timings};
use postrider::model::id::{AppId, OrganizationId};
use postrider::model::webhook::*;
use postrider::model::{Scope, Time};
use postrider::store::admin::{CommitAppender, LogMark, LogTail, fold_wal};
use postrider::store::{
    Applied, AppliedBatch, AttemptReport, Caller, Command, Disk, Dispatch, EventInput, FINGERPRINTS_MAX, NewKey,
    Opened, PartitionCommand, Published, ROW_PAYLOAD_BYTES_MAX, RealDisk, Receipt, Rejection, StateCommand,
    StoreOptions, TenantScope, WriteRequest, open, open_in_cluster,
};

use crate::support::memory_log::MemoryLog;

pub const START: Time = Time(1_772_704_800_000);
pub const DAY_MS: i64 = 86_400_000;

pub const MASTER_KEY: [u8; 32] = [7; 32];

pub struct Bench {
    folder: tempfile::TempDir,
    pub opened: Opened,
    pub now: Time,
    pub caller: Caller,
}

fn options() -> StoreOptions {
    StoreOptions {
        retention_ms: 31 * DAY_MS,
        idempotency_window_ms: DAY_MS,
        partition_max_bytes: 1 << 30,
        min_free_bytes: 0,
        row_payload_bytes_max: ROW_PAYLOAD_BYTES_MAX,
        fingerprints_max: FINGERPRINTS_MAX,
    }
}

fn open_at(folder: &tempfile::TempDir, now: Time) -> Opened {
    open_on(Arc::new(RealDisk::lock(folder.path()).unwrap()), now).unwrap()
}

/// Random numbers that follow from the time.
fn random(now: Time) -> Box<dyn FnMut() -> u64 + Send> {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64 ^ now.0 as u64;
    Box::new(move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    })
}

/// Opens a store on a disk, with random numbers that follow from the time.
pub fn open_on(disk: Arc<dyn Disk>, now: Time) -> postrider::store::Result<Opened> {
    open(disk, options(), &MASTER_KEY, now, random(now))
}

/// Opens the closed store on a disk as the owner of a cluster, whose log begins with the store's last commit.
pub fn open_with_log(disk: Arc<dyn Disk>, now: Time, log: &MemoryLog) -> postrider::store::Result<Opened> {
    let last = fold_wal(disk.clone(), options(), &MASTER_KEY, now, random(now))?;
    let mark = LogMark { number: last.number, term: 0, writer: last.run as u64 };
    log.begin(mark);
    let appender = CommitAppender::new(Arc::new(log.clone()), LogTail::after_mark(mark), Arc::default());
    open_in_cluster(disk, options(), &MASTER_KEY, now, random(now), appender)
}

impl Bench {
    pub fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let opened = open_at(&folder, START);
        Bench::of(folder, opened)
    }

    /// A new store on a disk.
    pub fn on(disk: Arc<dyn Disk>) -> Bench {
        Bench::of(tempfile::tempdir().unwrap(), open_on(disk, START).unwrap())
    }

    fn of(folder: tempfile::TempDir, mut opened: Opened) -> Bench {
        assert!(opened.is_new);
        let key = NewKey {
            name: "first".into(),
            scopes: vec![Scope::Admin],
            hash: [1; 32],
            installation: true,
            ..NewKey::default()
        };
        let request = WriteRequest::internal(StateCommand::CreateOrganization { name: "default".into(), key });
        let batch = opened.writer.apply(&[request], START);
        let Ok(Applied { receipt: Receipt::Organization { organization, key, .. }, .. }) = &batch.results[0] else {
            panic!("{:?}", batch.results)
        };
        let tenant = TenantScope { org: organization.id, app: None };
        let caller = Caller { key: key.id, tenant, remote_addr: None, request_id: "r".into(), portal_link: None };
        Bench { folder, opened, now: START, caller }
    }

    pub fn apply(&mut self, command: Command) -> (std::result::Result<Receipt, Rejection>, AppliedBatch) {
        let request = WriteRequest { caller: Some(self.caller.clone()), idempotency: None, command };
        let mut batch = self.opened.writer.apply(&[request], self.now);
        let mut follow = std::mem::take(&mut batch.follow);
        while !follow.is_empty() {
            let mut next = self.opened.writer.apply(&follow, self.now);
            for result in &next.results {
                assert!(result.is_ok(), "{result:?}");
            }
            follow = std::mem::take(&mut next.follow);
            batch.effects.merge(next.effects);
        }
        (batch.results.pop().unwrap().map(|applied| applied.receipt), batch)
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Ends the store as a killed process does. Returns its data directory.
    pub fn kill(self) -> tempfile::TempDir {
        self.folder
    }

    pub fn reopen(&mut self) {
        self.reopen_after(|_| {});
    }

    /// Ends the store as a kill does. Opens it again after `harm` was done to its directory.
    pub fn reopen_after(&mut self, harm: impl FnOnce(&std::path::Path)) {
        let now = self.now;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let spare = tempfile::tempdir().unwrap();
        drop(std::mem::replace(&mut self.opened, open_at(&spare, now)));
        harm(folder.path());
        self.opened = open_at(&folder, now);
        self.folder = folder;
    }

    pub fn webhook(&mut self, change: impl FnOnce(&mut Webhook)) -> Arc<Webhook> {
        let mut webhook = webhook();
        change(&mut webhook);
        match self.apply(Command::State(StateCommand::CreateWebhook { webhook: Box::new(webhook), of_app_max: None })).0
        {
            Ok(Receipt::Webhook(webhook)) => webhook,
            other => panic!("{other:?}"),
        }
    }

    pub fn publish(&mut self, event_type: &str, change: impl FnOnce(&mut EventInput)) -> (Published, AppliedBatch) {
        let mut event = EventInput::new(event_type, "{\"id\":42}");
        change(&mut event);
        match self.apply(Command::Partition(PartitionCommand::Publish(vec![event]))) {
            (Ok(Receipt::Published(mut all)), batch) => (all.pop().unwrap(), batch),
            other => panic!("{other:?}"),
        }
    }

    pub fn record(&mut self, dispatch: &Dispatch, status: u16) -> AppliedBatch {
        let finished = finished(dispatch, self.now, status);
        let (result, batch) = self.apply(Command::Partition(PartitionCommand::Record(Box::new(finished))));
        assert!(matches!(result, Ok(Receipt::Recorded(Some(_)))), "{result:?}");
        batch
    }
}

pub fn webhook() -> Webhook {
    Webhook {
        name: "hook".into(),
        url: "https://hooks.example.com/in".into(),
        retry_schedule_s: vec![5, 300],
        secrets: vec![SigningSecret {
            text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(),
            created_at: START,
            expires_at: None,
        }],
        created_at: START,
        updated_at: START,
        ..Webhook::new(OrganizationId::MIN, AppId::MIN)
    }
}

pub fn finished(dispatch: &Dispatch, at: Time, status: u16) -> AttemptReport {
    let success = (200..300).contains(&status);
    let made = AttemptMade {
        number: dispatch.number,
        trigger: dispatch.trigger,
        url: "https://hooks.example.com/in".into(),
        signed_at: at.seconds(),
        started_at: at,
        finished_at: at.plus_ms(120),
        success,
        outcome: if success { AttemptOutcome::Success } else { AttemptOutcome::HttpStatus },
        status_code: Some(status),
        error: (!success).then(|| "Internal Server Error".into()),
        response_time_ms: Some(120),
        response_body: Some("ok".into()),
        timings: Timings { total: 120, ..Timings::default() },
        ..AttemptMade::default()
    };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}
