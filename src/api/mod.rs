//! The HTTP API as pure functions: a request comes in, a step comes out. No IO, no clock, no tokio.
//!
//! Order of checks (docs/api.md), of which the server does those that need a socket: `Api::find`, then
//! `MatchedRoute::identify` (401), the server's `Host` 421 and `Origin` 403, then `MatchedRoute::admit` (403, 404, 405,
//! 415 and the limit of the body), the body, and `MatchedRoute::handle`. Every refusal is an `ApiError`, which
//! `MatchedRoute::render` puts into the envelope of its mount.

pub mod auth;
pub mod context;
pub mod cursor;
pub mod dialects;
pub mod doc;
pub mod error;
pub mod fields;
pub mod idempotency;
pub mod jwt;
pub mod limits;
pub mod link;
pub mod logins;
pub mod media;
pub mod native;
pub mod openapi;
pub mod origin;
pub mod params;
pub mod portal_token;
pub mod problem;
pub mod request;
pub mod request_context;
pub mod response;
pub mod route;
pub mod step;
pub mod stored_answers;

pub use auth::Principal;
pub use context::{ApiContext, ApiSettings, HealthIssue, HealthSource, MetricsAccess, QuotaUse};
pub use error::{ApiError, FieldError};
pub use request::HttpRequest;
pub use request_context::RequestContext;
pub use response::HttpResponse;
pub use route::{Api, ApiMount, ErrorContext, MatchedRoute};
pub use step::{Step, TestSend};
