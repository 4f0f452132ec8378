//! An app: a tenant inside an organization (sent.dm's profile, Devdraft's and Svix's app).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{AppId, OrganizationId};
use super::time::Time;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    pub org_id: OrganizationId,
    pub name: String,
    /// The caller's own name for the app, unique within the organization. Usable wherever an app's id is.
    pub uid: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
    /// The caller's own data. Postrider reads none of it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Requests per second to all webhooks of the app together. `None` for no limit.
    #[serde(default)]
    pub throttle_rate_per_s: Option<f64>,
    /// Its id in the system that it was imported from, unique within the organization. Paths of the Svix shape take it.
    #[serde(default)]
    pub alias: Option<String>,
    /// Portal links that were made up to this time have ended. `None` if none was ended so.
    #[serde(default)]
    pub portal_ended_at: Option<Time>,
}
