//! The API of a standby: liveness, readiness and metrics. The answer to every other request names the owner.

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::{ENDED, SharedStatus};
use crate::api::context::MetricsAccess;
use crate::api::native::meta;
use crate::api::origin::ListenerKind;
use crate::api::problem;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::api::route::metrics_access;
use crate::rules::exposition::ExpositionFormat;
use crate::server::{Admitted, Service};

/// Header with the URL of the owner.
const OWNER_HEADER: HeaderName = HeaderName::from_static("postrider-owner");
/// `Retry-After` seconds of a standby, which may become the owner.
const RETRY_S: u32 = 5;

/// The service of a standby.
pub struct StandbyService {
    pub status: SharedStatus,
    /// Returns the URL of the owner. Empty if none is known: the engine of the cluster is not reached, or no node is the owner.
    pub owner: Box<dyn Fn() -> String + Send + Sync>,
    pub access: Arc<ArcSwap<MetricsAccess>>,
}

impl StandbyService {
    fn ready(&self) -> HttpResponse {
        let (status, owner) = (self.status.get(), (self.owner)());
        let detail = match (status.is_connected, status.is_whole) {
            _ if status.has_ended => ENDED.to_owned(),
            (false, _) if owner.is_empty() => "this node stands by, and PostgreSQL is not reached".to_owned(),
            _ if owner.is_empty() => "this node stands by, and no node owns the store".to_owned(),
            (true, true) => format!("this is the standby of {owner}, {} commits behind", status.lag_commits()),
            (true, false) => format!("this is the standby of {owner}, whose store is being copied"),
            (false, _) => format!("this is the standby of {owner}, which is not reached"),
        };
        let answer = json!({
            "status": "unready",
            "reasons": [{ "code": "standby", "detail": detail }],
            "warnings": [],
        });
        self.naming_owner(HttpResponse::json(StatusCode::SERVICE_UNAVAILABLE, &answer))
    }

    /// The refusal of a request that only the owner serves.
    fn refusal(&self) -> String {
        match (self.owner)() {
            _ if self.status.get().has_ended => ENDED.to_owned(),
            owner if owner.is_empty() => "this is a standby, and no owner is known now".to_owned(),
            owner => format!("this is a standby; the owner is {owner}"),
        }
    }

    fn naming_owner(&self, mut response: HttpResponse) -> HttpResponse {
        response.headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_S));
        let owner = (self.owner)();
        if let (false, Ok(owner)) = (owner.is_empty(), HeaderValue::from_str(&owner)) {
            response.headers.insert(OWNER_HEADER, owner);
        }
        response
    }

    fn metrics(&self, format: ExpositionFormat) -> String {
        let status = self.status.get();
        let gauges = [
            ("standby", "Whether this is a standby", 1.0),
            ("standby_connected", "Whether the owner is followed", f64::from(u8::from(status.is_connected))),
            (
                "standby_whole",
                "Whether there is a whole copy, which can be promoted",
                f64::from(u8::from(status.is_whole)),
            ),
            ("standby_applied", "Number of the last commit that is durable here", status.applied as f64),
            (
                "standby_behind_commits",
                "Commits that the owner has and this standby lacks",
                status.lag_commits() as f64,
            ),
            (
                "standby_behind_seconds",
                "Time since this standby had everything that the owner had said",
                status.lag().as_secs_f64(),
            ),
            ("term", "Term of the store", status.term as f64),
            ("ready", "Whether /readyz says ready", 0.0),
        ];
        let mut text = String::new();
        for (name, help, value) in gauges {
            let _ = write!(
                text,
                "# HELP postrider_{name} {help}.\n# TYPE postrider_{name} gauge\npostrider_{name} {value}\n"
            );
        }
        if format == ExpositionFormat::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

impl Service for StandbyService {
    type Pass = ();

    fn request_id(&self) -> String {
        "standby".to_owned()
    }

    fn admit(&self, http_request: &HttpRequest, _: ListenerKind) -> Result<Admitted<()>, Box<HttpResponse>> {
        let admitted = Ok(Admitted { pass: (), body_bytes_max: 0, is_known: false });
        match (http_request.is_get(), http_request.path.as_str()) {
            (true, "/healthz" | "/readyz") => admitted,
            (true, "/metrics") => match metrics_access(http_request, **self.access.load()) {
                Ok(()) => admitted,
                Err(error) => Err(Box::new(problem::render(&error, &http_request.request_id))),
            },
            _ => Err(Box::new(self.naming_owner(HttpResponse::problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "standby",
                &self.refusal(),
                &http_request.request_id,
            )))),
        }
    }

    async fn call(&self, http_request: HttpRequest, (): ()) -> HttpResponse {
        match http_request.path.as_str() {
            "/healthz" => HttpResponse::json(StatusCode::OK, &json!({ "status": "ok" })),
            "/readyz" => self.ready(),
            _ => meta::exposition(&http_request, |format| self.metrics(format)),
        }
    }
}
