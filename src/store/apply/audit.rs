//! Audit lines: the action, its caller, time and address, and the audit that contains it.
//!
//! Invariant: a line contains names of changed fields and no value that may be secret.

use serde_json::json;

use crate::model::id::{AppId, Id, OrganizationId};
use crate::model::webhook::Webhook;
use crate::model::{ApiKey, App, Event};

use crate::kv::tables::{self, Table};
use crate::store::apply::ApplyResult;
use crate::store::apply::retry_waits;
use crate::store::apply::state::StateBatch;
use crate::store::command::{AuditEntry, Caller, Receipt};
use crate::store::effects::AuditLine;
use crate::store::partitions::last_seen;
use crate::store::read::audit::AuditRow;

impl StateBatch<'_> {
    /// Writes an audit line.
    pub(in crate::store) fn note(
        &mut self,
        by: Option<&Caller>,
        about: AuditSubject,
        action: &str,
        target: &str,
        changes: serde_json::Value,
    ) {
        let id: Id<AuditRow> = self.inputs.id();
        let row = AuditRow {
            id,
            at: self.inputs.now,
            org_id: about.org,
            key_id: by.map(|by| by.key),
            action: action.to_owned(),
            target: target.to_owned(),
            remote_addr: by.and_then(|by| by.remote_addr).map(|addr| addr.to_string()),
            request_id: by.map(|by| by.request_id.clone()),
            changes: Some(changes.to_string()),
            app_id: about.app,
            portal_link: by.and_then(|by| by.portal_link),
        };
        if let Some(by) = by {
            self.effects.audit.push(AuditLine {
                action: row.action.clone(),
                target: row.target.clone(),
                request_id: by.request_id.clone(),
                key_id: by.key,
            });
        }
        self.write_batch.put(Table::Audit, tables::one(id), &row);
    }

    /// Writes the audit line of a change in a partition.
    pub(in crate::store) fn audit_entry(&mut self, by: Option<&Caller>, deed: &AuditEntry) -> ApplyResult<Receipt> {
        let about = AuditSubject { org: deed.org, app: deed.app };
        self.note(by, about, deed.action, &deed.target, json!({}));
        Ok(Receipt::Done)
    }

    /// Confirms the clock, and requests that the waits in open partitions are shortened. The next start does not judge
    /// the clock by earlier ids or by the stored time.
    ///
    /// The clock is the daemon's and not an organization's, so the audit line goes to the caller's organization.
    pub(in crate::store) fn accept_clock(&mut self, by: Option<&Caller>) -> ApplyResult<Receipt> {
        if let Some(by) = by {
            self.note(Some(by), AuditSubject::organization(by.tenant.org), "clock.accept", "clock", json!({}));
        }
        let newest = self.inputs.id::<Event>().time();
        last_seen::forget(&mut self.write_batch, newest);
        self.follow
            .extend(self.partition_set.open_partitions().iter().map(|partition| retry_waits::shorten(partition.first)));
        self.effects.clock_accepted = true;
        Ok(Receipt::Done)
    }

    /// Writes the audit line of a stored answer with a secret that was sent again, which is a read of that secret. A
    /// receipt without a secret gets no line.
    pub(in crate::store) fn audit_shown_again(&mut self, by: Option<&Caller>, receipt: &Receipt) {
        let (about, action, target) = match receipt {
            Receipt::Webhook(webhook) => {
                (AuditSubject::webhook(webhook), "webhook.read_secret", webhook.id.to_string())
            }
            Receipt::Key(key) => (AuditSubject::key(key), "key.read", key.id.to_string()),
            Receipt::Organization { organization, key, .. } => {
                let reader = by.map_or(organization.id, |by| by.tenant.org);
                (AuditSubject::organization(reader), "key.read", key.id.to_string())
            }
            _ => return,
        };
        self.note(by, about, action, &target, json!({ "replayed": true }));
    }
}

/// The organization and app that an audit line concerns, which decide who may read it.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct AuditSubject {
    pub org: OrganizationId,
    pub app: Option<AppId>,
}

impl AuditSubject {
    pub fn organization(org: OrganizationId) -> AuditSubject {
        AuditSubject { org, app: None }
    }

    pub fn app(app: &App) -> AuditSubject {
        AuditSubject { org: app.org_id, app: Some(app.id) }
    }

    pub fn key(key: &ApiKey) -> AuditSubject {
        AuditSubject { org: key.org_id, app: key.app_id }
    }

    pub fn webhook(webhook: &Webhook) -> AuditSubject {
        AuditSubject { org: webhook.org_id, app: Some(webhook.app_id) }
    }
}
