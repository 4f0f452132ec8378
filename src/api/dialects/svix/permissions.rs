//! The permissions of the routes, by scope and kind of token.

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::route::Handler;
use crate::api::route::RouteAccess::{self, Authorized};
use crate::model::Scope;

use super::TokenKind::{Any, Organization};
use super::{permit, portal};

/// One function for each permission, because a route names its permission by a function.
macro_rules! permissions {
    ($($name:ident: $scope:expr, $kind:expr;)*) => {$(
        pub const fn $name(handler: Handler) -> RouteAccess {
            fn authorize(principal: &Principal) -> Result<(), ApiError> {
                permit(principal, $scope, $kind)
            }
            Authorized($scope, authorize, handler)
        }
    )*};
}

permissions! {
    org_apps_read: Scope::AppsRead, Organization;
    org_apps_write: Scope::AppsWrite, Organization;
    org_events_read: Scope::EventsRead, Organization;
    org_events_write: Scope::EventsWrite, Organization;
    org_keys_write: Scope::KeysWrite, Organization;
    org_webhooks_read: Scope::WebhooksRead, Organization;
    org_webhooks_secret: Scope::WebhooksSecret, Organization;
    org_webhooks_write: Scope::WebhooksWrite, Organization;
    apps_read: Scope::AppsRead, Any;
    events_read: Scope::EventsRead, Any;
    retry: portal::RETRY, Any;
    webhooks_read: Scope::WebhooksRead, Any;
    webhooks_write: Scope::WebhooksWrite, Any;
    webhooks_secret: Scope::WebhooksSecret, Any;
}
