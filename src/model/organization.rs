//! Who runs producers; owns everything below.

use serde::{Deserialize, Serialize};

use super::id::{AppId, OrganizationId};
use super::time::Time;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    /// The app of everything that names none.
    pub default_app_id: AppId,
    pub created_at: Time,
}
