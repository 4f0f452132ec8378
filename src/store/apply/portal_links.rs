//! Revokes portal links: the organization's row lists them until they have expired.

use serde_json::json;

use crate::kv::tables::{self, Table};
use crate::model::Time;
use crate::model::id::{AppId, PortalLinkId};
use crate::model::portal::RevokedPortalLink;
use crate::store::apply::ApplyResult;
use crate::store::apply::audit::AuditSubject;
use crate::store::apply::deliveries::conflict;
use crate::store::apply::state::StateBatch;
use crate::store::command::{Caller, Receipt, Rejection};

/// Maximum number of an organization's revoked links that have not expired.
const REVOKED_LINKS_MAX: usize = 10_000;

impl StateBatch<'_> {
    pub(super) fn revoke_portal_link(
        &mut self,
        by: Option<&Caller>,
        id: PortalLinkId,
        app: AppId,
        until: Time,
    ) -> ApplyResult<Receipt> {
        let by = by.ok_or(Rejection::NotFound("organization"))?;
        let org = by.tenant.org;
        let found = self.registry.organization(org).ok_or(Rejection::NotFound("organization"))?;
        let (now, mut organization) = (self.inputs.now, (**found).clone());
        organization.revoked_links.retain(|link| link.until > now && link.id != id);
        if organization.revoked_links.len() >= REVOKED_LINKS_MAX {
            let detail = format!("{REVOKED_LINKS_MAX} revoked links have not expired; revoke the key that made them");
            return Err(conflict("too_many_revoked_links", &detail));
        }
        organization.revoked_links.push(RevokedPortalLink { id, until });
        self.write_batch.put(Table::Organizations, tables::one(org), &organization);
        self.registry.put_organization(organization);
        self.effects.registry_changed = true;
        let about = AuditSubject { org, app: Some(app) };
        self.note(Some(by), about, "portal_link.revoke", &id.to_string(), json!({}));
        Ok(Receipt::Done)
    }
}
