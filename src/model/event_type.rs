//! An event type as an organization describes it, beside the types that its events merely have.

use serde::{Deserialize, Serialize};

use super::id::OrganizationId;
use super::time::Time;

/// A registered event type. Its name is unique within the organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventType {
    pub org_id: OrganizationId,
    pub created_at: Time,
    pub updated_at: Time,
    pub definition: EventTypeDefinition,
}

/// The part of an event type that callers set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventTypeDefinition {
    pub name: String,
    pub description: String,
    /// An archived type stays readable. No webhook should begin to name it.
    pub archived: bool,
    pub deprecated: bool,
    /// JSON Schemas by version, as the JSON object that was given. They are not enforced.
    pub schemas: Option<String>,
    /// A key of one app is shown the type only if it has one of these. Empty for every key.
    pub feature_flags: Vec<String>,
    /// The heading under which types are grouped for people.
    pub group_name: Option<String>,
}

impl EventType {
    /// Whether the holder of `flags` is shown the type.
    pub fn is_shown_to(&self, flags: &[String]) -> bool {
        let wanted = &self.definition.feature_flags;
        wanted.is_empty() || wanted.iter().any(|flag| flags.contains(flag))
    }
}

/// A change of an event type. `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventTypeChange {
    pub description: Option<String>,
    pub archived: Option<bool>,
    pub deprecated: Option<bool>,
    pub schemas: Option<Option<String>>,
    pub feature_flags: Option<Vec<String>>,
    pub group_name: Option<Option<String>>,
}

impl EventTypeChange {
    pub fn apply(&self, to: &mut EventTypeDefinition) {
        let EventTypeChange { description, archived, deprecated, schemas, feature_flags, group_name } = self.clone();
        to.description = description.unwrap_or_else(|| std::mem::take(&mut to.description));
        to.archived = archived.unwrap_or(to.archived);
        to.deprecated = deprecated.unwrap_or(to.deprecated);
        to.schemas = schemas.unwrap_or_else(|| to.schemas.take());
        to.feature_flags = feature_flags.unwrap_or_else(|| std::mem::take(&mut to.feature_flags));
        to.group_name = group_name.unwrap_or_else(|| to.group_name.take());
    }
}
