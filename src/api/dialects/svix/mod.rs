//! Svix: the API of the open-source Svix server, 1.100 (api.svix.com/docs), over apps, webhooks, events and attempts.
//!
//! Its SDKs of the generations 1.x and 2.x send more members and parameters than it knows, so unknown ones are ignored.

mod apps;
mod attempts;
mod destinations;
mod docs;
mod endpoint_form;
mod endpoints;
mod errors;
mod event_type_routes;
mod event_types;
mod expunge;
mod fetching_routes;
mod foreign_tokens;
mod forms;
mod headers;
mod health;
mod ids;
mod iterator;
mod list;
mod messages;
mod operational;
mod operational_routes;
mod permissions;
mod poller;
mod portal;
mod query;
mod resend;
mod routes;
mod secrets;
mod stats;
mod tasks;

use crate::api::auth::Principal;
use crate::api::error::ApiError;
use crate::api::route::LenientRules;
use crate::model::Scope;

use crate::api::dialects::{Dialect, WebhookPreset};

pub static DIALECT: Dialect = Dialect {
    name: "svix",
    prefix: "/api/v1",
    routes: routes::ROUTES,
    identify: foreign_tokens::identify,
    render: errors::render,
    doc: &docs::DOC,
    lenient: Some(LenientRules { absent }),
    preset: Some(WebhookPreset { apply: endpoint_form::preset, receivers: include_str!("receivers.md") }),
    read_id: ids::object,
};

/// Paths of Svix that are deliberately not served: a part of the path, and the reason.
const ABSENT: [(&str, &str); 9] = [
    ("/stream", "streams are absent: GET /v1/webhooks/{id}/feed is the native feed of an endpoint"),
    ("/auth/stream", "streams are absent: GET /v1/webhooks/{id}/feed is the native feed of an endpoint"),
    ("/ingest", "ingest is absent: webhooks of others are not received here"),
    ("/connector", "connectors are absent: a webhook has filters and body shapes instead"),
    ("/environment", "import and export of environments are absent: use the API's lists"),
    ("/transformation", "transformations are absent: no code of users runs here"),
    ("/event-type/import/openapi", "the import of an OpenAPI document is absent: make event types one by one"),
    ("/stats/usage", "usage statistics are absent: GET /v1/stats has the native figures"),
    ("/integration", "integrations are absent: make a key for the app instead"),
];

/// The reason why a path is not served.
fn absent(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix(DIALECT.prefix)?;
    let names = |part: &str| match part {
        "/transformation" | "/integration" => path.starts_with("/app/") && path.contains(part),
        _ => path.starts_with(part),
    };
    ABSENT.iter().find(|(part, _)| names(part)).map(|(_, why)| *why)
}

/// The tokens that a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    /// Tokens of an organization.
    Organization,
    /// Also tokens of the app's portal.
    Any,
}

fn permit(principal: &Principal, scope: Scope, kind: TokenKind) -> Result<(), ApiError> {
    if kind == TokenKind::Organization && principal.tenant.app.is_some() {
        return Err(ApiError::forbidden("organization_only", "the token of an app's portal may not do this"));
    }
    principal.need(scope)
}

fn unexpected() -> ApiError {
    ApiError::internal("the store answered something else than was asked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_served_on_purpose_has_its_reason() {
        for path in [
            "/api/v1/stream",
            "/api/v1/ingest/api/v1/source",
            "/api/v1/app/a/endpoint/b/transformation",
            "/api/v1/app/a/integration",
            "/api/v1/auth/stream/sink",
        ] {
            assert!(absent(path).is_some(), "{path}");
        }
        for path in ["/api/v1", "/api/v1/app", "/api/v1/x/stream", "/v1/stream", "/api/v1/integration"] {
            assert!(absent(path).is_none(), "{path}");
        }
    }
}
