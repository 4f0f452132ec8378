//! Registers, changes, archives and removes event types.

use serde_json::json;

use crate::kv::tables::{self, Table};
use crate::model::event_type::{EventType, EventTypeChange, EventTypeDefinition};
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, Receipt, Rejection};

/// Maximum number of an organization's registered event types. All are in memory.
const REGISTERED_TYPES_MAX: usize = 5_000;

/// The action of the audit log for a type that is registered, for the first time or after it was archived.
const REGISTERED: &str = "event_type.create";

impl StateBatch<'_> {
    pub(super) fn create_event_type(
        &mut self,
        by: Option<&Caller>,
        definition: &EventTypeDefinition,
    ) -> ApplyResult<Receipt> {
        let org = by.ok_or(Rejection::NotFound("organization"))?.tenant.org;
        if self.registry.event_type(org, &definition.name).is_some_and(|live| !live.definition.archived) {
            return Err(conflict("event_type_exists", "an event type of this name is registered already"));
        }
        self.write_event_type(by, definition, REGISTERED)
    }

    pub(super) fn put_event_type(
        &mut self,
        by: Option<&Caller>,
        definition: &EventTypeDefinition,
    ) -> ApplyResult<Receipt> {
        let org = by.ok_or(Rejection::NotFound("organization"))?.tenant.org;
        let is_new = self.registry.event_type(org, &definition.name).is_none();
        self.write_event_type(by, definition, if is_new { REGISTERED } else { "event_type.update" })
    }

    pub(super) fn update_event_type(
        &mut self,
        by: Option<&Caller>,
        name: &str,
        change: &EventTypeChange,
    ) -> ApplyResult<Receipt> {
        let org = by.ok_or(Rejection::NotFound("organization"))?.tenant.org;
        let known = self.registry.event_type(org, name).ok_or(Rejection::NotFound("event type"))?;
        let mut definition = known.definition.clone();
        change.apply(&mut definition);
        self.write_event_type(by, &definition, "event_type.update")
    }

    pub(super) fn remove_event_type(&mut self, by: Option<&Caller>, name: &str, expunge: bool) -> ApplyResult<Receipt> {
        let caller = by.ok_or(Rejection::NotFound("organization"))?;
        let org = caller.tenant.org;
        let known = self.registry.event_type(org, name).ok_or(Rejection::NotFound("event type"))?;
        if !expunge {
            let definition = EventTypeDefinition { archived: true, ..known.definition.clone() };
            self.write_event_type(by, &definition, "event_type.archive")?;
            return Ok(Receipt::Done);
        }
        self.write_batch.remove(Table::EventTypeRegistry, tables::registered_type(org, name));
        self.registry.remove_event_type(org, name);
        self.effects.registry_changed = true;
        self.note(by, AuditSubject { org, app: None }, "event_type.delete", name, json!({}));
        Ok(Receipt::Done)
    }

    /// Writes the row of an event type. A change keeps the time at which it was registered.
    fn write_event_type(
        &mut self,
        by: Option<&Caller>,
        definition: &EventTypeDefinition,
        action: &'static str,
    ) -> ApplyResult<Receipt> {
        let org = by.ok_or(Rejection::NotFound("organization"))?.tenant.org;
        let (now, name) = (self.inputs.now, &definition.name);
        let known = self.registry.event_type(org, name).map(|known| known.created_at);
        if known.is_none() && self.registry.event_types(org, None).count() >= REGISTERED_TYPES_MAX {
            let detail = format!("an organization has at most {REGISTERED_TYPES_MAX} registered event types");
            return Err(conflict("event_types_full", &detail));
        }
        let event_type = EventType {
            org_id: org,
            created_at: known.filter(|_| action != REGISTERED).unwrap_or(now),
            updated_at: now,
            definition: definition.clone(),
        };
        self.write_batch.put(Table::EventTypeRegistry, tables::registered_type(org, name), &event_type);
        self.registry.put_event_type(event_type.clone());
        self.effects.registry_changed = true;
        let detail = json!({ "archived": definition.archived, "deprecated": definition.deprecated });
        self.note(by, AuditSubject { org, app: None }, action, name, detail);
        Ok(Receipt::EventType { event_type: Box::new(event_type), is_new: known.is_none() })
    }
}
