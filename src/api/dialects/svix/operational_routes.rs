//! The routes of operational webhooks, for tokens of an organization.

use crate::api::doc::{answer, done, ok};
use crate::api::media::BodyRule;
use crate::api::route::{Route, RouteMethod};

use super::endpoints::{self, SvixOperationalEndpoint};
use super::headers::{self, SvixHeaders};
use super::list::SvixList;
use super::operational;
use super::permissions::*;
use super::routes::route;
use super::secrets::{self, SvixSecret};
use super::{docs, query};
use crate::api::dialects::doc::doc;

pub const LIST: Route = route(
    RouteMethod::Get,
    "/api/v1/operational-webhook/endpoint",
    org_webhooks_read(operational::list),
    BodyRule::None,
    doc(
        "svixListOperationalEndpoints",
        "List operational webhooks",
        &[ok::<SvixList<SvixOperationalEndpoint>>("A page.")],
    ),
)
.with_query(&[query::LIMIT, query::ITERATOR, query::ORDER]);

pub const CREATE: Route = route(
    RouteMethod::Post,
    "/api/v1/operational-webhook/endpoint",
    org_webhooks_write(operational::create),
    BodyRule::AnyType,
    doc(
        "svixCreateOperationalEndpoint",
        "Create an operational webhook",
        &[answer::<SvixOperationalEndpoint>(201, "The webhook.")],
    )
    .takes("SvixOperationalEndpointIn"),
);

pub const GET: Route = route(
    RouteMethod::Get,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}",
    org_webhooks_read(endpoints::get),
    BodyRule::None,
    doc("svixGetOperationalEndpoint", "Read an operational webhook", &[ok::<SvixOperationalEndpoint>("The webhook.")]),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const REPLACE: Route = route(
    RouteMethod::Put,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}",
    org_webhooks_write(operational::replace),
    BodyRule::AnyType,
    doc(
        "svixUpdateOperationalEndpoint",
        "Replace an operational webhook, or create it",
        &[ok::<SvixOperationalEndpoint>("The webhook."), answer::<SvixOperationalEndpoint>(201, "The new webhook.")],
    )
    .takes("SvixOperationalEndpointIn"),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const PATCH: Route = route(
    RouteMethod::Patch,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}",
    org_webhooks_write(endpoints::patch),
    BodyRule::AnyType,
    doc(
        "svixPatchOperationalEndpoint",
        "Change an operational webhook",
        &[ok::<SvixOperationalEndpoint>("The webhook.")],
    )
    .takes("SvixOperationalEndpointPatch"),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const REMOVE: Route = route(
    RouteMethod::Delete,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}",
    org_webhooks_write(endpoints::remove),
    BodyRule::None,
    doc("svixDeleteOperationalEndpoint", "Remove an operational webhook", &[done("It is gone.")]),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const HEADERS: Route = route(
    RouteMethod::Get,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
    org_webhooks_read(headers::get),
    BodyRule::None,
    doc("svixGetOperationalHeaders", "Read the headers of its requests", &[ok::<SvixHeaders>("The headers.")]),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const REPLACE_HEADERS: Route = route(
    RouteMethod::Put,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
    org_webhooks_write(headers::replace),
    BodyRule::AnyType,
    doc("svixUpdateOperationalHeaders", "Replace all headers", &[done("They are replaced.")]).takes("SvixHeadersIn"),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const PATCH_HEADERS: Route = route(
    RouteMethod::Patch,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
    org_webhooks_write(headers::patch),
    BodyRule::AnyType,
    doc("svixPatchOperationalHeaders", "Change some headers", &[done("They are changed.")]).takes("SvixHeadersPatch"),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const SECRET: Route = route(
    RouteMethod::Get,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret",
    org_webhooks_secret(secrets::get),
    BodyRule::None,
    doc(
        "svixGetOperationalSecret",
        "Read the signing secret; each reading is audited",
        &[ok::<SvixSecret>("The secret.")],
    ),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);

pub const ROTATE: Route = route(
    RouteMethod::Post,
    "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret/rotate",
    org_webhooks_secret(secrets::rotate),
    BodyRule::AnyType,
    doc("svixRotateOperationalSecret", "Make or set a new signing secret", &[ok::<SvixSecret>("The new secret.")])
        .may_take("SvixRotateIn"),
)
.with_segments(&[docs::SEG_ENDPOINT_ID]);
