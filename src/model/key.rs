//! API keys: the credential of a caller and its permissions.

use serde::{Deserialize, Serialize};

use super::id::{AppId, KeyId, OrganizationId};
use super::time::Time;

/// A stored key: only the SHA-256 of its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: KeyId,
    pub org_id: OrganizationId,
    /// The only app that the key may access. `None` for the whole organization.
    pub app_id: Option<AppId>,
    pub name: String,
    pub scopes: Vec<Scope>,
    /// SHA-256 of the key's text.
    pub hash: [u8; 32],
    pub created_at: Time,
    pub expires_at: Option<Time>,
    /// Requests per second. `None` for no limit.
    pub rate_per_s: Option<f64>,
    /// Whether it is the installation's own key, which may create organizations.
    #[serde(default)]
    pub installation: bool,
    /// The rates of the keys that made this one, which it draws from too.
    #[serde(default)]
    pub makers: Vec<MakerRate>,
    /// The feature flags of the key's holder. With a key of one app they choose the event types that it is shown.
    #[serde(default)]
    pub feature_flags: Vec<String>,
    /// Whether it is a token of an app's portal, which goes once it has expired.
    #[serde(default)]
    pub portal: bool,
}

/// The rate of a key that made another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MakerRate {
    pub key: KeyId,
    /// Requests per second.
    pub per_s: f64,
}

/// One permission. `Admin` has all of its organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "events:read")]
    EventsRead,
    #[serde(rename = "events:write")]
    EventsWrite,
    /// Sending published events again. `EventsWrite` contains it.
    #[serde(rename = "deliveries:retry")]
    DeliveriesRetry,
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
    /// Reads every commit of the installation, as a standby does.
    #[serde(rename = "replicate")]
    Replicate,
}

impl Scope {
    /// The scopes of a client that publishes for all apps of its organization and manages them.
    pub const ALL_APPS: [Scope; 8] = [
        Scope::AppsRead,
        Scope::AppsWrite,
        Scope::WebhooksRead,
        Scope::WebhooksWrite,
        Scope::WebhooksSecret,
        Scope::EventsRead,
        Scope::EventsWrite,
        Scope::KeysWrite,
    ];

    pub const ALL: [Scope; 12] = [
        Scope::EventsRead,
        Scope::EventsWrite,
        Scope::DeliveriesRetry,
        Scope::WebhooksRead,
        Scope::WebhooksWrite,
        Scope::WebhooksSecret,
        Scope::AppsRead,
        Scope::AppsWrite,
        Scope::KeysRead,
        Scope::KeysWrite,
        Scope::Admin,
        Scope::Replicate,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::EventsRead => "events:read",
            Scope::EventsWrite => "events:write",
            Scope::DeliveriesRetry => "deliveries:retry",
            Scope::WebhooksRead => "webhooks:read",
            Scope::WebhooksWrite => "webhooks:write",
            Scope::WebhooksSecret => "webhooks:secret",
            Scope::AppsRead => "apps:read",
            Scope::AppsWrite => "apps:write",
            Scope::KeysRead => "keys:read",
            Scope::KeysWrite => "keys:write",
            Scope::Admin => "admin",
            Scope::Replicate => "replicate",
        }
    }

    /// Whether the scope permits everything that `other` permits.
    pub fn contains(self, other: Scope) -> bool {
        // `Admin` of an organization has nothing of other organizations.
        let is_all = self == Scope::Admin && other != Scope::Replicate;
        self == other || is_all || (self == Scope::EventsWrite && other == Scope::DeliveriesRetry)
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

impl ApiKey {
    /// Whether the key has `scope`, directly or through a scope that contains it.
    pub fn may(&self, scope: Scope) -> bool {
        let is_of_installation = scope == Scope::Replicate && self.installation;
        is_of_installation || self.scopes.iter().any(|own| own.contains(scope))
    }

    /// Whether the key has expired at `now`.
    pub fn expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}
