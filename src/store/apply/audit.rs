//! The lines of the audit: who did what, when, from where, and whose audit it stands in.
//!
//! Invariant: a line holds the names of what changed and no value that may be secret.

use serde_json::json;

use crate::model::id::{AppId, Id, OrganizationId};
use crate::model::webhook::Webhook;
use crate::model::{ApiKey, App};

use super::super::command::{Caller, Deed, Receipt};
use super::super::effects::Noted;
use super::super::reads::AuditRow;
use super::super::tables::{self, Table};
use super::Judged;
use super::state::OnState;

impl OnState<'_> {
    /// Writes a line of the audit.
    pub(super) fn note(
        &mut self,
        by: Option<&Caller>,
        about: About,
        action: &str,
        target: &str,
        changes: serde_json::Value,
    ) {
        let id: Id<AuditRow> = self.draw.id();
        let row = AuditRow {
            id,
            at: self.draw.now,
            org_id: about.org,
            key_id: by.map(|by| by.key),
            action: action.to_owned(),
            target: target.to_owned(),
            remote_addr: by.and_then(|by| by.remote_addr).map(|addr| addr.to_string()),
            request_id: by.map(|by| by.request_id.clone()),
            changes: Some(changes.to_string()),
            app_id: about.app,
        };
        if let Some(by) = by {
            self.effects.noted.push(Noted {
                action: row.action.clone(),
                target: row.target.clone(),
                request_id: by.request_id.clone(),
                key_id: by.key,
            });
        }
        self.draft.put(Table::Audit, tables::one(id), &row);
    }

    /// Writes the audit's line of a deed that was done in a partition.
    pub(super) fn note_deed(&mut self, by: Option<&Caller>, deed: &Deed) -> Judged<Receipt> {
        let about = About { org: deed.org, app: Some(deed.app) };
        self.note(by, about, deed.action, &deed.target, json!({}));
        Ok(Receipt::Done)
    }

    /// It is the daemon's clock, and so stands in the audit of whoever says it.
    pub(super) fn accept_clock(&mut self, by: Option<&Caller>) -> Judged<Receipt> {
        if let Some(by) = by {
            self.note(Some(by), About::organization(by.reach.org), "clock.accept", "clock", json!({}));
        }
        self.effects.clock_accepted = true;
        Ok(Receipt::Done)
    }

    /// A kept answer that shows a secret is shown again: that is a reading like any other.
    pub(super) fn note_shown_again(&mut self, by: Option<&Caller>, receipt: &Receipt) {
        let (about, action, target) = match receipt {
            Receipt::Webhook(webhook) => (About::webhook(webhook), "webhook.read_secret", webhook.id.to_string()),
            Receipt::Key(key) => (About::key(key), "key.read", key.id.to_string()),
            Receipt::Organization { organization, key, .. } => {
                let reader = by.map_or(organization.id, |by| by.reach.org);
                (About::organization(reader), "key.read", key.id.to_string())
            }
            _ => return,
        };
        self.note(by, about, action, &target, json!({ "replayed": true }));
    }
}

/// Whom a line of the audit concerns, and so who may read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub org: OrganizationId,
    pub app: Option<AppId>,
}

impl About {
    pub fn organization(org: OrganizationId) -> About {
        About { org, app: None }
    }

    pub fn app(app: &App) -> About {
        About { org: app.org_id, app: Some(app.id) }
    }

    pub fn key(key: &ApiKey) -> About {
        About { org: key.org_id, app: key.app_id }
    }

    pub fn webhook(webhook: &Webhook) -> About {
        About { org: webhook.org_id, app: Some(webhook.app_id) }
    }
}
