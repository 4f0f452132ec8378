//! Verifies `state.redb` and collects the values that partitions are checked against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::segment::{FIRST_SCHEMA, SCHEMA};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, STATE_TABLES, Table};
use crate::model::feed_consumer::FeedConsumer;
use crate::model::figures::Sums;
use crate::model::id::{AppId, OrganizationId, WebhookId};
use crate::model::job::Job;
use crate::model::webhook::{Webhook, WebhookState};
use crate::model::{ApiKey, App, EventType, Organization, Time};
use crate::store::command::Receipt;
use crate::store::figures::FiguresOwner;
use crate::store::idempotency::answers::AnswerRow;
use crate::store::partitions::set::PartitionRow;
use crate::store::read::audit::AuditRow;
use crate::store::secrets::vault::Vault;
use crate::store::verify::VerifyWalk;

/// Small tables of `state.redb` and sums over the partitions.
#[derive(Debug, Default)]
pub(in crate::store) struct StateWalk {
    pub partitions: BTreeMap<u128, PartitionRow>,
    pub organizations: BTreeSet<OrganizationId>,
    pub apps: BTreeMap<AppId, OrganizationId>,
    pub default_apps: BTreeSet<AppId>,
    pub webhooks: BTreeSet<WebhookId>,
    pub removed: BTreeSet<WebhookId>,
    pub totals: HashMap<FiguresOwner, Sums>,
    pub states: HashMap<WebhookId, WebhookState>,
    /// Sums of the archived partitions.
    pub counted: HashMap<FiguresOwner, Sums>,
}

/// The check of one row. The error describes its defect.
type SoundRow = std::result::Result<(), String>;

/// Walks all tables of `state.redb`.
pub(in crate::store) fn walk(walk: &mut VerifyWalk<'_>, snapshot: &Snapshot, vault: &Vault) -> Result<StateWalk> {
    let mut view = StateWalk::default();
    for table in STATE_TABLES {
        let mut rows = 0;
        snapshot.scan(table, (Bound::Unbounded, Bound::Unbounded), Direction::Up, |key, value| {
            walk.row();
            rows += 1;
            if let Err(detail) = read(&mut view, vault, table, key, value) {
                walk.problem(table, key, &detail);
            }
            Ok(ScanStep::Go)
        })?;
        if rows != snapshot.rows(table)? {
            walk.problem(table, &[], &format!("{rows} rows are found, {} are counted", snapshot.rows(table)?));
        }
    }
    check_list(walk, &view);
    Ok(view)
}

fn read(view: &mut StateWalk, vault: &Vault, table: Table, key: &[u8], value: &[u8]) -> SoundRow {
    match table {
        Table::Meta => return meta(key, value),
        Table::Organizations => {
            let organization: Organization = whole(value)?;
            same(key == organization.id.as_bytes())?;
            view.organizations.insert(organization.id);
            view.default_apps.insert(organization.default_app_id);
        }
        Table::Apps => {
            let app: App = whole(value)?;
            same(key == app.id.as_bytes())?;
            known(view.organizations.contains(&app.org_id), "organization")?;
            view.apps.insert(app.id, app.org_id);
        }
        Table::Keys => {
            let api_key: ApiKey = whole(value)?;
            same(key == api_key.id.as_bytes())?;
            known(view.organizations.contains(&api_key.org_id), "organization")?;
            known(api_key.app_id.is_none_or(|app| view.apps.contains_key(&app)), "app")?;
        }
        Table::Webhooks => return webhook(view, vault, key, value),
        Table::Tombstones => {
            let _: Time = whole(value)?;
            let id = tables::first_id(key).filter(|_| key.len() == 16).ok_or("the key is no webhook")?;
            if view.webhooks.contains(&id) {
                return Err("the removed webhook is there".into());
            }
            view.removed.insert(id);
        }
        Table::Partitions => {
            let first = u128::from_be_bytes(key.try_into().map_err(|_| "the key is no partition")?);
            view.partitions.insert(first, whole(value)?);
        }
        Table::Totals => drop(view.totals.insert(owner(key)?, whole(value)?)),
        Table::States => {
            let id = owner(key)?;
            known(view.webhooks.contains(&id) || view.removed.contains(&id), "webhook")?;
            view.states.insert(id, whole(value)?);
        }
        Table::StateAnswers => return answer(vault, key, value).map(drop),
        Table::Jobs => {
            let job: Job = whole(value)?;
            same(key == job.id.as_bytes())?;
            known(view.organizations.contains(&job.org_id), "organization")?;
        }
        Table::Audit => {
            let line: AuditRow = whole(value)?;
            same(key == line.id.as_bytes())?;
            known(view.organizations.contains(&line.org_id), "organization")?;
        }
        Table::EventTypeRegistry => return event_type(view, key, value),
        Table::RemovedOfApp => return removed_of_app(view, key, value),
        Table::Consumers => return consumer(view, key, value),
        _ => return Err("the table is not of this file".into()),
    }
    Ok(())
}

/// Checks a row of `removed_of_app`.
fn removed_of_app(view: &StateWalk, key: &[u8], value: &[u8]) -> SoundRow {
    let _: Time = whole(value)?;
    let wrong = "the key is no app and webhook";
    let app = tables::first_id(key).filter(|_| key.len() == 32).ok_or(wrong)?;
    known(view.apps.contains_key(&app), "app")?;
    match view.webhooks.contains(&tables::last_id(key).ok_or(wrong)?) {
        true => Err("the removed webhook is there".into()),
        false => Ok(()),
    }
}

/// Checks a row of `consumers`.
fn consumer(view: &StateWalk, key: &[u8], value: &[u8]) -> SoundRow {
    let _: FeedConsumer = whole(value)?;
    let id = tables::first_id(key).filter(|_| key.len() > 16).ok_or("the key is no consumer")?;
    known(view.webhooks.contains(&id), "webhook")
}

/// Checks a row of `event_types`.
fn event_type(view: &StateWalk, key: &[u8], value: &[u8]) -> SoundRow {
    let event_type: EventType = whole(value)?;
    let name = &event_type.definition.name;
    same(key == tables::registered_type(event_type.org_id, name).as_slice())?;
    known(view.organizations.contains(&event_type.org_id), "organization")
}

/// Checks a sealed row of `webhooks`.
fn webhook(view: &mut StateWalk, vault: &Vault, key: &[u8], value: &[u8]) -> SoundRow {
    let sealed = codec::decode_bytes(value).ok_or("does not read back")?;
    let plain = vault.open(key, sealed).ok_or("does not open with this key")?;
    let webhook: Webhook = rmp_serde::from_slice(&plain).map_err(|_| "is no webhook inside")?;
    same(key == webhook.id.as_bytes())?;
    known(view.apps.get(&webhook.app_id) == Some(&webhook.org_id), "app")?;
    view.webhooks.insert(webhook.id);
    Ok(())
}

/// Checks a row of `meta`, in either kind of file.
pub(in crate::store) fn meta(key: &[u8], value: &[u8]) -> SoundRow {
    match key {
        b"schema" if (FIRST_SCHEMA..=SCHEMA).contains(&whole::<u32>(value)?) => Ok(()),
        b"schema" => Err(format!("the schema is not {FIRST_SCHEMA} to {SCHEMA}")),
        _ => codec::decode_bytes(value).map(drop).ok_or_else(|| "does not read back".into()),
    }
}

/// Decodes a stored answer, in either kind of file.
pub(in crate::store) fn answer(vault: &Vault, key: &[u8], value: &[u8]) -> std::result::Result<Receipt, String> {
    let answer: AnswerRow = whole(value)?;
    let plain = vault.open(key, &answer.answer).ok_or("does not open with this key")?;
    let inside = rmp_serde::from_slice::<(Receipt, Option<Bytes>)>(&plain);
    inside.map(|(receipt, _)| receipt).map_err(|_| "is no receipt inside".to_owned())
}

/// Decodes the value of a row.
pub(in crate::store) fn whole<T: DeserializeOwned>(value: &[u8]) -> std::result::Result<T, String> {
    codec::decode(value).ok_or_else(|| "does not read back".to_owned())
}

fn owner(key: &[u8]) -> std::result::Result<FiguresOwner, String> {
    tables::first_id(key).filter(|_| key.len() == 16).ok_or_else(|| "the key is no id".to_owned())
}

fn same(yes: bool) -> SoundRow {
    if yes { Ok(()) } else { Err("the row is another one's".to_owned()) }
}

fn known(yes: bool, detail: &str) -> SoundRow {
    if yes { Ok(()) } else { Err(format!("its {detail} is not there")) }
}

/// Checks that exactly the newest partition is not sealed.
fn check_list(walk: &mut VerifyWalk<'_>, view: &StateWalk) {
    let newest = view.partitions.keys().next_back().copied();
    for (&first, row) in &view.partitions {
        let key = tables::partition(first);
        if row.sealed == (Some(first) == newest) {
            walk.problem(Table::Partitions, &key, "the newest partition is the one that is not sealed");
        }
        if row.archived && (!row.sealed || row.last.is_none()) {
            walk.problem(Table::Partitions, &key, "counted, but not sealed or without its last id");
        }
    }
}

/// Checks that the totals are at least the sums of the archived partitions that still exist.
pub(in crate::store) fn compare_totals(walk: &mut VerifyWalk<'_>, view: &StateWalk) {
    crate::store::partitions::set::STATE_FILE.clone_into(&mut walk.file);
    for (owner, sums) in &view.counted {
        let none = Sums::default();
        let totals = view.totals.get(owner).unwrap_or(&none);
        let pairs = [
            ("deliveries", totals.deliveries, sums.deliveries),
            ("started", totals.started, sums.started),
            ("delivered", totals.delivered, sums.delivered),
            ("failed", totals.failed, sums.failed),
            ("cancelled", totals.cancelled, sums.cancelled),
            ("attempts", totals.attempts, sums.attempts),
            ("attempts_failed", totals.attempts_failed, sums.attempts_failed),
            ("responses", totals.responses, sums.responses),
            ("response_ms", totals.response_ms, sums.response_ms),
        ];
        for (name, total, counted) in pairs.into_iter().filter(|(_, total, counted)| total < counted) {
            let detail = format!("{name}: {total} in all, but {counted} in the counted partitions");
            walk.problem(Table::Totals, owner.as_bytes(), &detail);
        }
    }
}
