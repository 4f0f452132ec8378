//! Compares the store with the oracle, through the store's public reads only.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider::model::figures::{HourFigures, Minute};
use postrider::model::id::{DeliveryId, EventId, Id, WebhookId};
use postrider::model::time::DAY_MS;
use postrider::model::{Attempt, Delivery, DeliveryStatus, Event, Time};
use postrider::store::{
    AuditFilter, DeliveryQuery, Dispatch, Effects, EventName, EventQuery, ListWindow, Page, Store, TenantScope,
};

use super::delivery_life::owner;
use super::drawn_values::{SEES_ALL, attempts, deliveries, events};
use super::oracle::{Made, Oracle, Posted};
use super::{Check, Rng, ensure};

type Read<T> = postrider::store::Result<T>;

/// Beginning of the text of an honest failure.
const READ_FAILED: &str = "a read failed";
const DAMAGED: &str = "damaged";

fn read<T>(what: Read<T>) -> Check<T> {
    what.map_err(|error| format!("{READ_FAILED}: {error}"))
}

/// Compares everything.
pub fn all(oracle: &Oracle, store: &Store, now: Time, rng: &mut Rng) -> Check {
    oracle.events.keys().try_for_each(|id| event(oracle, store, *id))?;
    settings(oracle, store, true)?;
    lists(oracle, store, now, rng, usize::MAX)?;
    due(oracle, store, rng)?;
    figures(oracle, store, now)?;
    event_types(oracle, store, now)?;
    jobs(oracle, store, now)
}

/// Compares everything on a corrupted disk. A read may fail, and must not return wrong data. Returns the number of
/// failed reads.
pub fn honest(oracle: &Oracle, store: &Store, now: Time, rng: &mut Rng) -> Check<u64> {
    let mut failed = 0;
    let mut judge = |checked: Check| match checked {
        Err(problem) if problem.starts_with(READ_FAILED) || problem.starts_with(DAMAGED) => {
            failed += 1;
            Ok(())
        }
        other => other,
    };
    oracle.events.keys().try_for_each(|id| judge(event(oracle, store, *id)))?;
    judge(settings(oracle, store, true))?;
    judge(lists(oracle, store, now, rng, usize::MAX))?;
    judge(due(oracle, store, rng))?;
    judge(figures(oracle, store, now))?;
    judge(event_types(oracle, store, now))?;
    judge(jobs(oracle, store, now))?;
    Ok(failed)
}

/// Compares the objects that changed since the last comparison, and the newest rows of every list.
pub fn touched(oracle: &Oracle, store: &Store, now: Time, rng: &mut Rng) -> Check {
    const ROWS: usize = 12;
    oracle.touched.iter().try_for_each(|id| event(oracle, store, *id))?;
    settings(oracle, store, true)?;
    lists(oracle, store, now, rng, ROWS)?;
    due(oracle, store, rng)?;
    figures(oracle, store, now)
}

/// Compares the state file: organizations, apps, keys, webhooks, saved jobs, and the audit, with or without the actions
/// in partitions.
pub fn settings(oracle: &Oracle, store: &Store, with_deeds: bool) -> Check {
    let registry = store.registry();
    same("organizations", registry.organizations().map(|o| &**o), oracle.organizations.values())?;
    same("apps", registry.apps().map(|a| &**a), oracle.apps.values())?;
    same("keys", registry.keys().map(|k| &**k), oracle.keys.values())?;
    let (found, wanted) = (registry.webhooks().collect::<Vec<_>>(), oracle.webhooks.values());
    ensure!(found.len() == wanted.len(), "webhooks: {found:?} are there, {wanted:?} should be");
    for (found, wanted) in found.into_iter().zip(wanted) {
        ensure!(**found == *wanted, "webhook {}: {} should be {}", wanted.id, json(&**found), json(wanted));
    }
    for app in oracle.apps.keys() {
        let found: Vec<WebhookId> = registry.webhooks_of(*app).map(|w| w.id).collect();
        let wanted: Vec<WebhookId> = oracle.webhooks.values().filter(|w| w.app_id == *app).map(|w| w.id).collect();
        ensure!(found == wanted, "webhooks of app {app}: {found:?} should be {wanted:?}");
    }
    for key in oracle.keys.values() {
        let found = registry.key_by_hash(&key.hash).map(|k| k.id);
        ensure!(found == Some(key.id), "key {} is found by its hash as {found:?}", key.id);
    }
    for (id, job) in &oracle.jobs {
        let found = read(store.job(TenantScope { org: job.org_id, app: None }, *id))?;
        let saved = found.map(|f| (f.status, f.position, f.exhausted, f.matched, f.mark));
        let wanted = Some((job.status, job.position, job.exhausted, job.matched, job.mark));
        ensure!(saved == wanted, "job {id}: {saved:?} should be {wanted:?}");
    }
    audit(oracle, store, with_deeds)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Number of compared rows of the audit. The newest suffice, because it only grows.
const AUDIT_ROWS: usize = 30;

fn audit(oracle: &Oracle, store: &Store, with_deeds: bool) -> Check {
    let shows = |action: &str| with_deeds || !(action.starts_with("delivery.") || action.starts_with("event."));
    for org in oracle.organizations.keys() {
        let tenant = TenantScope { org: *org, app: None };
        let rows = pages(20, AUDIT_ROWS, |window| store.audit(tenant, &AuditFilter::default(), window))?;
        let lines = rows.iter().map(|r| (r.action.as_str(), &r.target, r.request_id.as_ref()));
        let noted = oracle.audit.iter().rev().filter(|noted| noted.org == *org);
        let wanted = noted.map(|n| (n.action, &n.target, n.request_id.as_ref()));
        let found: Vec<_> = lines.filter(|(action, ..)| shows(action)).take(AUDIT_ROWS / 2).collect();
        let wanted: Vec<_> = wanted.filter(|(action, ..)| shows(action)).take(found.len().max(1)).collect();
        ensure!(found == wanted, "the audit: {}", difference(&found, &wanted));
    }
    Ok(())
}

/// Compares one partition.
pub fn partition(oracle: &Oracle, store: &Store, first: u128) -> Check {
    let here = oracle.events.keys().filter(|id| oracle.home_of(**id) == first);
    here.copied().try_for_each(|id| event(oracle, store, id))
}

/// Compares an event with its bytes, its deliveries and their attempts.
fn event(oracle: &Oracle, store: &Store, id: EventId) -> Check {
    let Some(posted) = oracle.events.get(&id) else { return Ok(()) };
    let event = &posted.event;
    let tenant = TenantScope { org: event.org_id, app: None };
    let found = read(store.event(tenant, event.id, SEES_ALL))?;
    ensure!(found.as_ref() == Some(event), "event {}: {found:?} should be {event:?}", event.id);
    let data = read(store.data(event.id, SEES_ALL))?;
    let wanted = event.erased_at.is_none().then_some(&posted.data);
    ensure!(data.as_ref() == wanted, "the data of {} is not the posted data", event.id);
    let made: Vec<Delivery> = oracle.deliveries_of(event.id).map(|made| oracle.shown(&made.row)).collect();
    let found = read(store.deliveries_of(event.id, SEES_ALL))?;
    same("deliveries of an event", found.iter(), made.iter())?;
    for delivery in &made {
        let found = read(store.attempts_of(delivery, SEES_ALL))?;
        same("attempts of a delivery", found.iter(), oracle.attempts_of(delivery).into_iter())?;
    }
    Ok(())
}

/// Compares lists, of everything and by webhook, as of `now`: the first `rows` rows.
fn lists(oracle: &Oracle, store: &Store, now: Time, rng: &mut Rng, rows: usize) -> Check {
    let mut limit = || 1 + rng.below(30) as usize;
    for org in oracle.organizations.keys() {
        let tenant = TenantScope { org: *org, app: None };
        let found = pages(limit(), rows, |w| store.events(&events(tenant, w), now))?;
        let kept =
            oracle.events.values().rev().map(|p| &p.event).filter(|e| e.org_id == *org && oracle.is_kept(e.id, now));
        same("events", found.iter().take(rows), kept.take(rows))?;
        let found = pages(limit(), rows, |w| store.deliveries(&deliveries(tenant, None, w), now))?;
        let made = of_webhook(oracle, now, |d| d.org_id == *org);
        same("deliveries", found.iter().take(rows), made.iter().rev().take(rows))?;
        failed(oracle, store, now, &deliveries(tenant, None, window(limit())), |d| d.org_id == *org)?;
        named(oracle, store, now, &events(tenant, window(limit())))?;
        let found = pages(limit(), rows, |w| store.attempts(&attempts(tenant, None, w), now))?;
        let kept = oracle.attempts.values().rev().filter(|a| a.org_id == *org && oracle.is_kept(a.event_id, now));
        same("attempts", found.iter().take(rows), kept.take(rows))?;
    }
    for app in oracle.apps.values() {
        let tenant = TenantScope { org: app.org_id, app: Some(app.id) };
        failed(oracle, store, now, &deliveries(tenant, None, window(limit())), |d| d.app_id == app.id)?;
    }
    for webhook in oracle.webhooks.values() {
        let tenant = TenantScope { org: webhook.org_id, app: None };
        let own = deliveries(tenant, Some(webhook.id), window(limit()));
        failed(oracle, store, now, &own, |d| d.webhook_id == webhook.id)?;
        let made = of_webhook(oracle, now, |d| d.webhook_id == webhook.id);
        let found = pages(limit(), rows, |w| store.deliveries(&deliveries(tenant, Some(webhook.id), w), now))?;
        same("deliveries of a webhook", found.iter().take(rows), made.iter().rev().take(rows))?;
        let found = pages(limit(), rows, |w| store.attempts(&attempts(tenant, Some(webhook.id), w), now))?;
        let kept = |a: &&Attempt| a.webhook_id == webhook.id && oracle.is_kept(a.event_id, now);
        let tried = oracle.attempts.values().rev().filter(kept);
        same("attempts of a webhook", found.iter().take(rows), tried.take(rows))?;
        let after = made.iter().rev().nth(rows.min(made.len())).map(|d| d.id);
        let fed = made.iter().filter(|d| after.is_none_or(|after| d.id > after));
        same("the feed", feed(store, webhook.id, after, limit(), now)?.iter(), fed)?;
    }
    Ok(())
}

const fn window(limit: usize) -> ListWindow {
    ListWindow::newest(limit)
}

/// Names of the newest events that are looked up.
const NAMES: usize = 5;

/// The events with the `event_id` and the `subject` of some of them.
fn named(oracle: &Oracle, store: &Store, now: Time, query: &EventQuery) -> Check {
    let events = oracle.events.values().rev().map(|posted| &posted.event);
    let own: Vec<&Event> = events.filter(|event| event.org_id == query.tenant.org).collect();
    for event in own.iter().take(NAMES) {
        let attributes = &event.attributes;
        for (event_id, subject) in [(attributes.event_id.clone(), None), (None, attributes.subject.clone())] {
            let by_id = event_id.as_deref().map(EventName::EventId);
            let Some(name) = by_id.or(subject.as_deref().map(EventName::Subject)) else { continue };
            let query = EventQuery { event_id: event_id.clone(), subject: subject.clone(), ..query.clone() };
            let found = pages(query.window.limit, usize::MAX, |window| {
                let page = store.named_events(&EventQuery { window, ..query.clone() }, name, now)?;
                Ok(Page { rows: page.rows, next: page.next })
            })?;
            let has_name = |event: &Event| match name {
                EventName::EventId(text) => event.attributes.event_id.as_deref() == Some(text),
                EventName::Subject(text) => event.attributes.subject.as_deref() == Some(text),
            };
            let wanted = own.iter().copied().filter(|event| has_name(event) && oracle.is_kept(event.id, now));
            same("events by name", found.iter(), wanted)?;
        }
    }
    Ok(())
}

/// The failed deliveries, latest end first.
fn failed(
    oracle: &Oracle,
    store: &Store,
    now: Time,
    query: &DeliveryQuery,
    wanted: impl Fn(&Delivery) -> bool,
) -> Check {
    let mut made = of_webhook(oracle, now, |d| d.status == DeliveryStatus::Failed && wanted(d));
    made.sort_by_key(|d| std::cmp::Reverse((d.completed_at, d.id)));
    let (mut found, mut position) = (Vec::new(), None);
    loop {
        let page = read(store.failed_deliveries(query, position, now))?;
        ensure!(page.indexed_from.is_none(), "the index of a new store begins at {:?}", page.indexed_from);
        ensure!(page.next.is_none() || !page.rows.is_empty(), "an empty page of failed deliveries with a cursor");
        found.extend(page.rows);
        match page.next {
            Some(next) => position = Some(next),
            None => return same("failed deliveries", found.iter(), made.iter()),
        }
    }
}

fn of_webhook(oracle: &Oracle, now: Time, wanted: impl Fn(&Delivery) -> bool) -> Vec<Delivery> {
    let rows = oracle.deliveries.values().map(|made| &made.row);
    rows.filter(|row| wanted(row) && oracle.is_kept(row.event_id, now)).map(|row| oracle.shown(row)).collect()
}

fn feed(store: &Store, webhook: WebhookId, after: Option<DeliveryId>, limit: usize, now: Time) -> Check<Vec<Delivery>> {
    let mut all: Vec<Delivery> = Vec::new();
    loop {
        let page = read(store.feed(webhook, all.last().map(|d| d.id).or(after), limit, now))?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// Joins the first pages of a list, until there are `enough` rows.
fn pages<T>(limit: usize, enough: usize, mut list: impl FnMut(ListWindow) -> Read<Page<T>>) -> Check<Vec<T>> {
    let mut window = ListWindow::newest(limit);
    let mut rows = Vec::new();
    loop {
        let page = read(list(window))?;
        ensure!(page.rows.len() <= limit, "a page of {limit} rows has {}", page.rows.len());
        rows.extend(page.rows);
        match page.next.filter(|_| rows.len() < enough) {
            Some(next) => window.before = Some(next),
            None => return Ok(rows),
        }
    }
}

/// Compares all deliveries that may be sent at any time, in the order of the scheduler.
fn due(oracle: &Oracle, store: &Store, rng: &mut Rng) -> Check {
    let wanted = oracle.due();
    let heads: BTreeMap<WebhookId, Time> =
        read(store.due_heads())?.into_iter().rev().fold(BTreeMap::new(), |mut all, (id, at)| {
            all.entry(id).and_modify(|known: &mut Time| *known = at.min(*known)).or_insert(at);
            all
        });
    let firsts: BTreeMap<WebhookId, Time> = wanted.iter().map(|(id, of_one)| (*id, of_one[0].0)).collect();
    ensure!(heads == firsts, "due first: {heads:?} should be {firsts:?}");
    for (webhook, wanted) in &wanted {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let slice = read(store.due(*webhook, after, Time::MAX, 1 + rng.below(6) as usize, 20_000))?;
            ensure!(slice.damaged.is_empty(), "{DAMAGED}: {:?}", slice.damaged);
            for dispatch in &slice.ready {
                dispatched(oracle, &payload(store, dispatch)?, dispatch)?;
                found.push((dispatch.due, dispatch.delivery_id));
            }
            if slice.next.is_none() {
                break;
            }
            ensure!(slice.last.is_some(), "a slice of {webhook} makes no progress");
            after = slice.last;
        }
        ensure!(found == *wanted, "due for {webhook}: {found:?} should be {wanted:?}");
    }
    let open = oracle.deliveries.values().filter(|made| !made.row.status.is_final());
    let hooks: BTreeSet<WebhookId> = open.map(|made| made.row.webhook_id).collect();
    for webhook in hooks.into_iter().filter(|id| oracle.webhooks.contains_key(id)) {
        waiting(oracle, store, webhook, 1 + rng.below(6) as usize)?;
    }
    let (found, next) = read(store.expired(Time::MAX, usize::MAX))?;
    let found: BTreeSet<DeliveryId> = found.into_iter().map(|ended| ended.delivery).collect();
    let wanted: BTreeSet<DeliveryId> = oracle.ends().into_keys().collect();
    ensure!(found == wanted && next.is_none(), "ending: {found:?} should be {wanted:?}");
    Ok(())
}

/// Every open delivery of a webhook is listed once: due ones by their time, the others with the delivery before them.
fn waiting(oracle: &Oracle, store: &Store, webhook: WebhookId, limit: usize) -> Check {
    let (mut found, mut position) = (Vec::new(), None);
    loop {
        let page = read(store.waiting(webhook, position, limit, SEES_ALL))?;
        ensure!(page.next.is_none() || !page.rows.is_empty(), "an empty page of waiting deliveries with a cursor");
        found.extend(page.rows);
        match page.next {
            Some(next) => position = Some(next),
            None => break,
        }
    }
    // Rows show the end of a hold. Their order is that of their own times.
    let own_time = |id: DeliveryId| oracle.deliveries.get(&id).and_then(|made| made.row.next_attempt_at);
    let due: Vec<(Option<Time>, DeliveryId)> =
        found.iter().filter(|(_, behind)| behind.is_none()).map(|(row, _)| (own_time(row.id), row.id)).collect();
    ensure!(due.is_sorted(), "waiting deliveries are not in the order of their due times: {due:?}");
    for (row, behind) in &found {
        let before = read(store.standing_before(row))?;
        ensure!(before == *behind, "{} stands behind {before:?}, and is listed behind {behind:?}", row.id);
    }
    let found: BTreeSet<DeliveryId> = found.iter().map(|(row, _)| row.id).collect();
    let made = oracle.deliveries.values().map(|made| &made.row);
    let wanted: BTreeSet<DeliveryId> =
        made.filter(|row| row.webhook_id == webhook && !row.status.is_final()).map(|row| row.id).collect();
    ensure!(found == wanted, "waiting for {webhook}: {found:?} should be {wanted:?}");
    Ok(())
}

/// The payload of a dispatch, which a slice leaves out if it is large.
fn payload(store: &Store, dispatch: &Dispatch) -> Result<Bytes, String> {
    if !dispatch.lacks_data() {
        return Ok(dispatch.data.clone());
    }
    Ok(read(store.data(dispatch.event.id, dispatch.event.received_at))?.unwrap_or_default())
}

/// Compares a dispatch and its payload with its delivery and event.
fn dispatched(oracle: &Oracle, data: &Bytes, dispatch: &Dispatch) -> Check {
    let id = dispatch.delivery_id;
    let made = oracle.deliveries.get(&id).ok_or_else(|| format!("{id} is sent and is not known"))?;
    let posted = oracle.events.get(&made.row.event_id).ok_or_else(|| format!("{id} is sent without an event"))?;
    let is_again = made.row.replay_of.is_some() || made.row.job_id.is_some() || made.row.resend;
    let trigger = match (made.row.manual, made.row.attempts) {
        (true, _) => "Manual",
        (false, 1..) => "Retry",
        (false, 0) if is_again => "Replay",
        (false, 0) => "Event",
    };
    let retention_end = posted.event.received_at.plus_ms(oracle.retention_ms);
    let end = made.row.expires_at.map_or(retention_end, |end| end.min(retention_end));
    let found = (dispatch.number, format!("{:?}", dispatch.trigger), dispatch.retry_of, dispatch.end, data);
    let wanted = (made.row.attempts + 1, trigger.to_owned(), made.row.last_attempt_id, end, &posted.data);
    ensure!(found == wanted, "{id} is sent as {found:?}, not as {wanted:?}");
    ensure!(
        dispatch.event.id == posted.event.id && dispatch.webhook_id == made.row.webhook_id,
        "{id} is sent elsewhere"
    );
    Ok(())
}

fn figures(oracle: &Oracle, store: &Store, now: Time) -> Check {
    let due = oracle.due();
    for webhook in oracle.webhooks.keys() {
        let found = read(store.figures(*webhook, now))?;
        let kept = |made: &&Made| oracle.is_kept(made.row.event_id, now);
        let open = || oracle.deliveries.values().filter(|m| m.row.webhook_id == *webhook && !m.row.status.is_final());
        let mut wanted = oracle.lifetime(*webhook);
        // They are failed when their partition is dropped.
        wanted.failed += open().filter(|made| !kept(made)).count() as u64;
        ensure!(found.sums == wanted, "figures of {webhook}: {:?} should be {wanted:?}", found.sums);
        let hours = oracle.hours_of(*webhook);
        let span = read(store.webhook_hours(*webhook, Time::ZERO))?;
        ensure!(span.complete_from.is_none(), "the figures of a new store begin at {:?}", span.complete_from);
        ensure!(span.hours == hours, "hours of {webhook}: {:?} should be {hours:?}", span.hours);
        let wanted = last_day(&hours, now);
        ensure!(found.minutes == wanted, "minutes of {webhook}: {:?} should be {wanted:?}", found.minutes);
        let state = store.state(*webhook);
        let wanted = oracle.states.get(webhook).copied().unwrap_or_default();
        ensure!(state == wanted, "state of {webhook}: {state:?} should be {wanted:?}");
        let backlog = read(store.backlog(&[*webhook], now))?;
        let open = open().filter(kept).count();
        ensure!(backlog.waiting == open as u64, "{} wait for {webhook}, {open} should", backlog.waiting);
        let kept_due = |(_, id): &&(Time, DeliveryId)| kept(&&oracle.deliveries[id]);
        let first = due.get(webhook).and_then(|due| due.iter().find(kept_due)).map(|(at, _)| *at);
        let first = first.filter(|at| *at <= now);
        ensure!(backlog.oldest_due == first, "oldest due of {webhook}: {:?} should be {first:?}", backlog.oldest_due);
    }
    for org in oracle.organizations.keys() {
        tenant_figures(oracle, store, TenantScope { org: *org, app: None }, now)?;
    }
    for app in oracle.apps.values() {
        tenant_figures(oracle, store, TenantScope { org: app.org_id, app: Some(app.id) }, now)?;
    }
    Ok(())
}

/// The minutes of the last 24 hours.
fn last_day(hours: &BTreeMap<u32, HourFigures>, now: Time) -> Vec<(u32, Minute)> {
    let day = now.minus_ms(DAY_MS).minute() + 1..=now.minute();
    let minutes = hours.iter().flat_map(|(hour, figures)| {
        figures.minutes.iter().map(move |(minute, counts)| (hour * 60 + u32::from(*minute), *counts))
    });
    minutes.filter(|(minute, _)| day.contains(minute)).collect()
}

/// Compares the figures of an organization or an app: the sums of its webhooks, removed ones included.
fn tenant_figures(oracle: &Oracle, store: &Store, tenant: TenantScope, now: Time) -> Check {
    let owner = tenant.app.map_or(owner(tenant.org), owner);
    let within = |row: &Delivery| tenant.covers(row.org_id, row.app_id);
    let open = || oracle.deliveries.values().filter(|made| !made.row.status.is_final() && within(&made.row));
    let mut wanted = oracle.lifetime(owner);
    let mut hours = oracle.hours_of(owner);
    let mut waiting = 0;
    for made in open() {
        match oracle.removed.get(&made.row.webhook_id) {
            // They are failed when their partition is dropped.
            _ if !oracle.is_kept(made.row.event_id, now) => wanted.failed += 1,
            Some(at) => {
                wanted.cancelled += 1;
                hours.entry(at.hour()).or_default().minute((at.minute() % 60) as u8).cancelled += 1;
            }
            None => waiting += 1,
        }
    }
    let found = read(store.tenant_figures(tenant, now))?;
    ensure!(found.sums == wanted, "figures of {owner}: {:?} should be {wanted:?}", found.sums);
    let day = last_day(&hours, now);
    ensure!(found.minutes == day, "minutes of {owner}: {:?} should be {day:?}", found.minutes);
    let span = read(store.tenant_hours(tenant, Time::ZERO, now))?;
    ensure!(span.hours == hours, "hours of {owner}: {:?} should be {hours:?}", span.hours);
    let backlog = read(store.tenant_backlog(tenant, now))?;
    ensure!(backlog.waiting == waiting, "{} wait within {owner}, {waiting} should", backlog.waiting);
    let due = oracle.deliveries.values().filter(|made| made.due && within(&made.row));
    let due = due.filter(|m| oracle.is_kept(m.row.event_id, now) && oracle.webhooks.contains_key(&m.row.webhook_id));
    let first = due.filter_map(|made| made.row.next_attempt_at).map(|at| at.max(Time::ZERO)).min();
    let first = first.filter(|at| *at <= now);
    ensure!(backlog.oldest_due == first, "oldest due within {owner}: {:?} should be {first:?}", backlog.oldest_due);
    Ok(())
}

/// Compares the event types of every app and organization with those of the events.
fn event_types(oracle: &Oracle, store: &Store, now: Time) -> Check {
    let apps = oracle.apps.values().map(|app| TenantScope { org: app.org_id, app: Some(app.id) });
    let organizations = oracle.organizations.keys().map(|org| TenantScope { org: *org, app: None });
    let oldest = now.minus_ms(oracle.retention_ms).minute();
    let day = now.minus_ms(DAY_MS).minute() + 1..=now.minute();
    for tenant in apps.chain(organizations) {
        let mut wanted: BTreeMap<String, (u32, u64)> = BTreeMap::new();
        for Posted { event, .. } in oracle.events.values().filter(|p| tenant.covers(p.event.org_id, p.event.app_id)) {
            let (minute, counted) = (event.received_at.minute(), day.contains(&event.received_at.minute()));
            let (last, count) = wanted.entry(event.attributes.event_type.clone()).or_default();
            (*last, *count) = ((*last).max(minute), *count + u64::from(counted));
        }
        wanted.retain(|_, (last, _)| *last >= oldest);
        let (mut found, mut after) = (BTreeMap::new(), None);
        loop {
            let page = read(store.event_types(tenant, after.as_deref(), 3, now))?;
            ensure!(page.indexed_from.is_none(), "types are missing before {:?}", page.indexed_from);
            found.extend(page.rows.into_iter().map(|row| (row.event_type, (row.last_seen.minute(), row.last_24h))));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        ensure!(found == wanted, "event types of {tenant:?}: {found:?} should be {wanted:?}");
    }
    Ok(())
}

fn jobs(oracle: &Oracle, store: &Store, now: Time) -> Check {
    for (id, job) in &oracle.jobs {
        let tenant = TenantScope { org: job.org_id, app: None };
        let found = read(store.job(tenant, *id))?;
        let wanted = oracle.job_shown(*id);
        ensure!(found == wanted, "job {id}: {found:?} should be {wanted:?}");
        let count = read(store.matching(tenant, &job.spec, now))?;
        ensure!(!count.at_least, "job {id}: {} of so few rows are no end", count.matched);
        let (found, wanted) = (count.matched, oracle.matching(tenant, &job.spec, now));
        ensure!(found == wanted, "job {id} would match {found}, not {wanted}: {:?}", job.spec);
    }
    Ok(())
}

/// Compares the effects of a batch: everything that became due, and everything that must not be sent.
pub fn effects(oracle: &Oracle, effects: &Effects, now: Time) -> Check {
    for dispatch in &effects.fresh {
        let made = oracle.deliveries.get(&dispatch.delivery_id);
        // A delivery that was made and became final in the same batch is withdrawn as well.
        if made.is_some_and(|made| made.due) {
            dispatched(oracle, &dispatch.data, dispatch)?;
            ensure!(dispatch.due <= now, "{} is dispatched before it is due", dispatch.delivery_id);
        } else {
            let withdrawn = effects.withdrawn.iter().any(|(_, id)| *id == dispatch.delivery_id);
            ensure!(withdrawn, "{} may not go", dispatch.delivery_id);
        }
    }
    let found: BTreeSet<DeliveryId> = effects.withdrawn.iter().map(|(_, id)| *id).collect();
    let wanted: BTreeSet<DeliveryId> = oracle.withdrawn.iter().copied().collect();
    ensure!(found == wanted, "withdrawn: {found:?} should be {wanted:?}");
    Ok(())
}

/// Checks that the scheduler hears of every delivery that becomes due, even if a commit failed and is on disk.
pub fn told(oracle: &Oracle, effects: &Effects) -> Check {
    for (webhook, at, id) in &oracle.newly_due {
        let still = oracle.deliveries.get(id).is_some_and(|made| made.due && made.row.next_attempt_at == Some(*at));
        let told = effects.fresh.iter().any(|dispatch| dispatch.delivery_id == *id)
            || effects.due.iter().any(|(other, from)| other == webhook && *from <= (*at).max(Time::ZERO));
        ensure!(told || !still, "{id} is due at {at} and the scheduler was not told");
    }
    Ok(())
}

/// Compares two lists. The error describes the first difference.
fn same<'a, T: PartialEq + std::fmt::Debug + 'a>(
    what: &str,
    found: impl Iterator<Item = &'a T>,
    wanted: impl Iterator<Item = &'a T>,
) -> Check {
    let (found, wanted): (Vec<&T>, Vec<&T>) = (found.collect(), wanted.collect());
    if let Some((found, wanted)) = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted) {
        return Err(format!("{what}: {}", difference(found, wanted)));
    }
    ensure!(found.len() == wanted.len(), "{what}: {} are there, {} should be", found.len(), wanted.len());
    Ok(())
}

/// The difference, line by line.
pub fn difference(found: &impl std::fmt::Debug, wanted: &impl std::fmt::Debug) -> String {
    let (found, wanted) = (format!("{found:#?}"), format!("{wanted:#?}"));
    let (found, wanted): (Vec<&str>, Vec<&str>) = (found.lines().collect(), wanted.lines().collect());
    let differs = |line: &&&str, other: &[&str]| !other.contains(line);
    let only_found: Vec<&str> = found.iter().filter(|line| differs(line, &wanted)).map(|line| line.trim()).collect();
    let only_wanted: Vec<&str> = wanted.iter().filter(|line| differs(line, &found)).map(|line| line.trim()).collect();
    format!(
        "{}: {only_found:?} should be {only_wanted:?}",
        found.iter().take(3).map(|line| line.trim()).collect::<String>()
    )
}

/// Checks that rows whose retention has ended are hidden to the millisecond.
pub fn hidden(oracle: &Oracle, store: &Store) -> Check {
    let Some(posted) = oracle.events.values().next() else { return Ok(()) };
    let event = &posted.event;
    let tenant = TenantScope { org: event.org_id, app: None };
    let end = event.received_at.plus_ms(oracle.retention_ms);
    let last = Time(end.0 - 1);
    ensure!(read(store.event(tenant, event.id, last))?.is_some(), "{} is hidden too early", event.id);
    ensure!(read(store.event(tenant, event.id, end))?.is_none(), "{} is shown too long", event.id);
    ensure!(read(store.data(event.id, end))?.is_none(), "the data of {} is shown too long", event.id);
    for made in oracle.deliveries_of(event.id) {
        let id = made.row.id;
        ensure!(read(store.delivery(tenant, id, last))?.is_some(), "{id} is hidden too early");
        ensure!(read(store.delivery(tenant, id, end))?.is_none(), "{id} is shown too long");
    }
    let gone = TenantScope { org: Id::MAX, app: None };
    ensure!(read(store.event(gone, event.id, last))?.is_none(), "{} is shown to every caller", event.id);
    Ok(())
}
