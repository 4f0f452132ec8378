//! The HTTP API as pure functions: a call comes in, a step comes out. Floor 3: no IO, no clock, no tokio.
//!
//! Order of judgement (api.md section 2), of which the server does what needs a socket: `Api::find`, then
//! `Found::identify` (401), the server's `Host` 421 and `Origin` 403, then `Found::admit` (403, 404, 405, 415 and how
//! long a body may be), the body, and `Found::handle`. Every refusal on the way is a `Fault`, put into the words of the
//! surface it happened on by `Found::render`.

pub mod auth;
pub mod context;
pub mod cursor;
pub mod dialects;
pub mod doc;
pub mod error;
pub mod fields;
pub mod idempotency;
pub mod media;
pub mod native;
pub mod openapi;
pub mod origin;
pub mod params;
pub mod problem;
pub mod request;
pub mod request_context;
pub mod response;
pub mod route;
pub mod step;

pub use auth::Principal;
pub use context::{ApiContext, ApiSettings, HealthIssue, HealthSource, MetricsAccess};
pub use error::{ApiError, FieldError};
pub use request::HttpRequest;
pub use request_context::RequestContext;
pub use response::HttpResponse;
pub use route::{Api, ApiMount, ErrorContext, MatchedRoute};
pub use step::{Step, TestSend};
