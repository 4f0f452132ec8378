//! An organization: the owner of apps, webhooks, events and keys.

use serde::{Deserialize, Serialize};

use super::id::{AppId, OrganizationId};
use super::portal::RevokedPortalLink;
use super::time::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// The app of events and webhooks that name none.
    pub default_app_id: AppId,
    pub created_at: Time,
    /// Portal links that were revoked and have not expired.
    #[serde(default)]
    pub revoked_links: Vec<RevokedPortalLink>,
    /// The app of the operational webhooks, which receive events about the endpoints and messages of all apps. `None`
    /// before the first of them is made. It is an app of its own, so that a key of another app, the default one
    /// included, reads nothing of it.
    #[serde(default)]
    pub operational_app_id: Option<AppId>,
}
