//! Portal links: time-limited access of one app to its own pages.

use serde::{Deserialize, Serialize};

use super::id::{AppId, KeyId, PortalLinkId};
use super::key::Scope;
use super::time::Time;

/// A link with the fields of its signed token. The store has only the revoked ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalLink {
    pub id: PortalLinkId,
    /// The key that made the link, which ends with it.
    pub key_id: KeyId,
    /// The first bytes of that key's hash.
    pub key_hash: [u8; PortalLink::HASH_BYTES],
    pub app_id: AppId,
    pub scopes: Vec<Scope>,
    /// The time until which the link opens the portal.
    pub enter_by: Time,
    /// The time at which the access ends.
    pub expires_at: Time,
    /// The page of the operator that the portal links back to.
    pub return_url: Option<String>,
    /// The name of the dialect whose defaults the webhooks have that are made by this link. `None` for the native ones.
    pub preset: Option<String>,
}

impl PortalLink {
    /// Bytes of a key's hash in a link.
    pub const HASH_BYTES: usize = 8;
    /// The scopes that a link may have. Their order is the order of the bits in a token, so a new one stands last.
    pub const SCOPES: [Scope; 6] = [
        Scope::EventsRead,
        Scope::EventsWrite,
        Scope::WebhooksRead,
        Scope::WebhooksWrite,
        Scope::WebhooksSecret,
        Scope::DeliveriesRetry,
    ];
}

/// A link that was revoked before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedPortalLink {
    pub id: PortalLinkId,
    /// The time from which the link has expired in any case, so that this entry may go.
    pub until: Time,
}
