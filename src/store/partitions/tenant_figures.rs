//! Figures of apps and organizations in a store of an earlier version, which has only those of webhooks.
//!
//! The first round of maintenance adds up the sums of the webhooks, in `totals` and in every partition that may change.
//! From then on every batch counts under the app and the organization too. Hours before that time have the attempts of
//! webhooks only.
//!
//! Invariant: until the start is stored, no batch counts under an app or an organization, and adding up again after a
//! crash gives the same rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::scan::{Direction, ScanStep};
use crate::kv::snapshot::Snapshot;
use crate::kv::tables::{self, Key, Table};
use crate::kv::write_batch::WriteBatch;
use crate::model::figures::Sums;
use crate::model::id::{DeliveryId, Id, WebhookId};
use crate::model::{Delivery, Time};

use crate::store::commit::CommitTarget;
use crate::store::figures::{FiguresOwner, SumsRow, owner_of, tenants_of};
use crate::store::partitions::set::PartitionSet;
use crate::store::read::lookup::{decoded, sums_of};
use crate::store::registry::Registry;
use crate::store::writer::Writer;

/// Key in `meta` of `state.redb`. A store of an earlier version lacks the row until its first round of maintenance.
pub(in crate::store) const FIGURES_START_KEY: &[u8] = b"tenant_figures";

/// The time since which figures are complete, and the first id of the newest partition that has older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct FiguresStart {
    pub at: Time,
    pub partition: u128,
}

impl FiguresStart {
    /// The row of a new store: complete from its beginning.
    pub fn new_store_row() -> Vec<u8> {
        codec::encode(&(Time::ZERO, 0_u128))
    }

    /// Whether a partition may have deliveries and attempts that were counted only under their webhooks.
    pub const fn lacks_counts(&self, first: u128) -> bool {
        first <= self.partition
    }
}

/// The stored start. `None` if apps and organizations have no figures yet.
pub(in crate::store) fn stored(partition_set: &PartitionSet) -> Result<Option<FiguresStart>> {
    let state = partition_set.state()?.snapshot()?;
    let row = state.get(Table::Meta, FIGURES_START_KEY, codec::decode::<(Time, u128)>)?.flatten();
    Ok(row.map(|(at, partition)| FiguresStart { at, partition }))
}

/// The app and the organization of the webhook behind an owner in one partition. `None` for a job, and if neither the
/// webhook nor a delivery of it is there.
pub(in crate::store) fn tenants_in(
    registry: &Registry,
    snapshot: &Snapshot,
    webhook: WebhookId,
) -> Result<Option<[FiguresOwner; 2]>> {
    if let Some(webhook) = registry.webhooks.get(&webhook) {
        return Ok(Some([owner_of(webhook.app_id), owner_of(webhook.org_id)]));
    }
    let mut one: Option<DeliveryId> = None;
    let (from, to) = (tables::pair(webhook, DeliveryId::MIN), tables::pair(webhook, DeliveryId::MAX));
    snapshot.scan(
        Table::DeliveriesByWebhook,
        (Bound::Included(&from), Bound::Included(&to)),
        Direction::Down,
        |key, _| {
            one = tables::last_id(key);
            Ok(ScanStep::Stop)
        },
    )?;
    let Some(id) = one else { return Ok(None) };
    Ok(decoded::<Delivery>(snapshot, Table::Deliveries, id.as_bytes())?.map(|delivery| tenants_of(&delivery)))
}

impl Writer {
    /// Adds up the figures of apps and organizations, if the store lacks them.
    pub(in crate::store) fn start_tenant_figures(&mut self, now: Time) -> Result<()> {
        if self.counts_tenants {
            return Ok(());
        }
        for partition in self.partition_set.partitions().into_iter().filter(|partition| !partition.row().archived) {
            let file = self.open_for_writing(&partition)?;
            let mut write_batch = WriteBatch::on(file.snapshot()?);
            for (owner, sums) in self.added_up(write_batch.base())? {
                let row = SumsRow { sums, ..SumsRow::default() };
                write_batch.put(Table::Figures, tables::figures(owner, 0), &row);
            }
            if !write_batch.is_empty() {
                self.commit(CommitTarget::Partition(partition.first, &file), write_batch)?;
            }
        }
        let state = self.partition_set.state()?.snapshot()?;
        let mut totals: BTreeMap<FiguresOwner, Sums> = BTreeMap::new();
        let registry = self.partition_set.registry();
        for webhook in registry.webhooks.values() {
            let Some(sums) = decoded::<Sums>(&state, Table::Totals, webhook.id.as_bytes())? else { continue };
            for owner in [owner_of(webhook.app_id), owner_of(webhook.org_id)] {
                totals.entry(owner).or_default().add(&sums);
            }
        }
        let mut write_batch = WriteBatch::on(state);
        totals.into_iter().for_each(|(owner, sums)| write_batch.put(Table::Totals, tables::one(owner), &sums));
        write_batch.put(Table::Meta, Key::from_slice(FIGURES_START_KEY), &(now, self.active));
        self.commit(CommitTarget::State, write_batch)?;
        self.counts_tenants = true;
        self.figures.clear();
        Ok(())
    }

    /// The sums of the apps and organizations of a partition, from those of its webhooks.
    fn added_up(&self, snapshot: &Snapshot) -> Result<BTreeMap<FiguresOwner, Sums>> {
        let registry = self.partition_set.registry();
        let is_tenant = |owner: FiguresOwner| {
            registry.apps.contains_key(&Id::from_u128(owner.as_u128()))
                || registry.organizations.contains_key(&Id::from_u128(owner.as_u128()))
        };
        let mut added: BTreeMap<FiguresOwner, Sums> = BTreeMap::new();
        for (owner, row) in sums_of(snapshot)?.into_iter().filter(|(owner, _)| !is_tenant(*owner)) {
            for tenant in tenants_in(&registry, snapshot, owner)?.into_iter().flatten() {
                added.entry(tenant).or_default().add(&row.sums);
            }
        }
        Ok(added)
    }
}
