//! API keys: what a caller shows, and what it may do with it.

use serde::{Deserialize, Serialize};

use super::id::{AppId, KeyId, OrganizationId};
use super::time::Time;

/// A key as it is kept: never the key itself, only its SHA-256.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: KeyId,
    pub org_id: OrganizationId,
    /// The one app it is confined to; none: the whole organization.
    pub app_id: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// SHA-256 of the key's text.
    pub hash: [u8; 32],
    pub created_at: Time,
    pub expires_at: Option<Time>,
    /// Requests per second that the key may make; none: no limit of its own.
    pub rate_per_s: Option<f64>,
    /// May create organizations: the installation's own key.
    #[serde(default)]
    pub installation: bool,
}

/// One permission (api.md section 3). `Admin` has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "events:read")]
    EventsRead,
    #[serde(rename = "events:write")]
    EventsWrite,
    #[serde(rename = "webhooks:read")]
    WebhooksRead,
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    #[serde(rename = "webhooks:secret")]
    WebhooksSecret,
    #[serde(rename = "apps:read")]
    AppsRead,
    #[serde(rename = "apps:write")]
    AppsWrite,
    #[serde(rename = "keys:read")]
    KeysRead,
    #[serde(rename = "keys:write")]
    KeysWrite,
    #[serde(rename = "admin")]
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 10] = [
        Scope::EventsRead,
        Scope::EventsWrite,
        Scope::WebhooksRead,
        Scope::WebhooksWrite,
        Scope::WebhooksSecret,
        Scope::AppsRead,
        Scope::AppsWrite,
        Scope::KeysRead,
        Scope::KeysWrite,
        Scope::Admin,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::EventsRead => "events:read",
            Scope::EventsWrite => "events:write",
            Scope::WebhooksRead => "webhooks:read",
            Scope::WebhooksWrite => "webhooks:write",
            Scope::WebhooksSecret => "webhooks:secret",
            Scope::AppsRead => "apps:read",
            Scope::AppsWrite => "apps:write",
            Scope::KeysRead => "keys:read",
            Scope::KeysWrite => "keys:write",
            Scope::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

impl ApiKey {
    /// Whether the key holds `scope`, itself or through `admin`.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|s| *s == scope || *s == Scope::Admin)
    }

    /// Whether the key is past its end at `now`.
    pub fn expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}
