//! Defines the audit row and lists audit entries.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::model::id::{AppId, Id, PortalLinkId};
use crate::model::{KeyId, OrganizationId, Time};

use crate::kv::codec;
use crate::kv::error::Result;
use crate::kv::tables::Table;
use crate::store::command::TenantScope;
use crate::store::read::lists::Store;
use crate::store::read::query::{ListWindow, Page};

/// One line of the audit (`GET /v1/audit`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    pub id: Id<AuditRow>,
    pub at: Time,
    pub org_id: OrganizationId,
    pub key_id: Option<KeyId>,
    pub action: String,
    pub target: String,
    pub remote_addr: Option<String>,
    pub request_id: Option<String>,
    /// JSON text of the changes, without secrets.
    pub changes: Option<String>,
    /// The app that the entry concerns. `None` if it concerns the organization. A key of one app sees its own only.
    #[serde(default)]
    pub app_id: Option<AppId>,
    /// The portal link by which the caller acted for the key.
    #[serde(default)]
    pub portal_link: Option<PortalLinkId>,
}

/// Filters of the audit. A filter that is absent passes every entry.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub key_id: Option<KeyId>,
    /// Exactly this action, or every action that begins with a text that ends in a dot.
    pub action: Option<String>,
    /// Exactly the id of the changed object.
    pub target: Option<String>,
}

/// The fields of a row that filters compare. Its texts are borrowed from the row.
#[derive(Deserialize)]
struct AuditFront<'r> {
    _id: IgnoredAny,
    _at: IgnoredAny,
    org_id: OrganizationId,
    key_id: Option<KeyId>,
    action: &'r str,
    target: &'r str,
    _remote_addr: IgnoredAny,
    _request_id: IgnoredAny,
    _changes: IgnoredAny,
    #[serde(default)]
    app_id: Option<AppId>,
    #[serde(default)]
    _portal_link: IgnoredAny,
}

impl AuditFilter {
    fn passes(&self, row: &AuditFront<'_>) -> bool {
        let has_action =
            |wanted: &String| row.action == *wanted || wanted.ends_with('.') && row.action.starts_with(wanted.as_str());
        self.key_id.is_none_or(|key| row.key_id == Some(key))
            && self.action.as_ref().is_none_or(has_action)
            && self.target.as_ref().is_none_or(|target| row.target == *target)
    }
}

impl Store {
    /// Lists the audit entries within `tenant` that pass `filter`, newest first.
    pub fn audit(&self, tenant: TenantScope, filter: &AuditFilter, window: ListWindow) -> Result<Page<AuditRow>> {
        let is_wanted = |row: &AuditFront<'_>| {
            row.org_id == tenant.org && tenant.app.is_none_or(|own| row.app_id == Some(own)) && filter.passes(row)
        };
        self.state_page_by(Table::Audit, window, |row| {
            if is_wanted(&codec::decode_borrowed(row)?) { codec::decode(row).map(Some) } else { Some(None) }
        })
    }
}
