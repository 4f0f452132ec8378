//! Defines the audit row and lists audit entries.

use serde::{Deserialize, Serialize};

use crate::model::id::{AppId, Id};
use crate::model::{KeyId, OrganizationId, Time};

use crate::kv::error::Result;
use crate::kv::tables::Table;
use crate::store::command::TenantScope;
use crate::store::read::lists::Store;
use crate::store::read::query::{ListWindow, Page};

/// One line of the audit (api.md section 3, `GET /v1/audit`).
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
}

impl Store {
    /// Lists audit entries within `tenant`, newest first.
    pub fn audit(&self, tenant: TenantScope, window: ListWindow) -> Result<Page<AuditRow>> {
        self.state_page(Table::Audit, window, |row: &AuditRow| {
            row.org_id == tenant.org && tenant.app.is_none_or(|own| row.app_id == Some(own))
        })
    }
}
