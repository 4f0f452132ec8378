//! An organization: the owner of apps, webhooks, events and keys.

use serde::{Deserialize, Serialize};

use super::id::{AppId, OrganizationId};
use super::time::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// The app of events and webhooks that name none.
    pub default_app_id: AppId,
    pub created_at: Time,
}
