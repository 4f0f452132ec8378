//! A listener of its own for Prometheus: `/metrics` and nothing else.
//!
//! Invariant: with `metrics.key` only its bearers read, as beside the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;

use crate::api::ApiError;
use crate::api::auth::key_hash;
use crate::api::context::MetricsAccess;
use crate::api::native::meta;
use crate::api::origin::ListenerKind;
use crate::api::problem;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::api::route::metrics_access;
use crate::config::{MetricsSettings, Settings};
use crate::engine::Engine;
use crate::engine::network::Network;
use crate::server::{Admitted, Server, ServerLimits, Service};

use super::DaemonError;
use super::listeners::listen;

/// Maximum connections of the listener for metrics.
const SCRAPERS_MAX: usize = 128;

/// The service of `metrics.listen`.
pub struct MetricsService {
    pub engine: Arc<Engine>,
    /// A reload exchanges it.
    pub access: Arc<ArcSwap<MetricsAccess>>,
}

/// Who may read on this listener: everybody, or the bearers of `metrics.key`.
pub fn access(settings: &MetricsSettings) -> MetricsAccess {
    settings.key.as_ref().map_or(MetricsAccess::Everybody, |key| MetricsAccess::Key(key_hash(key.expose())))
}

/// The server of `metrics.listen`.
pub async fn server(
    settings: &Settings,
    engine: &Arc<Engine>,
    access: &Arc<ArcSwap<MetricsAccess>>,
    (network, limits): (&dyn Network, ServerLimits),
) -> Result<Option<Server>, DaemonError> {
    let Some(at) = &settings.metrics.listen else { return Ok(None) };
    let service = MetricsService { engine: engine.clone(), access: access.clone() };
    let listeners = vec![listen(network, at, settings.server.socket_mode).await?];
    let limits = limits.with_connections(SCRAPERS_MAX.min(limits.connections_max), 0);
    Ok(Some(Server::start(Arc::new(service), listeners, limits)))
}

impl Service for MetricsService {
    type Pass = ();

    fn request_id(&self) -> String {
        "scrape".to_owned()
    }

    fn admit(&self, http_request: &HttpRequest, _: ListenerKind) -> Result<Admitted<()>, Box<HttpResponse>> {
        if http_request.is_get() && http_request.path == "/metrics" {
            let admitted = metrics_access(http_request, **self.access.load());
            return match admitted {
                Ok(()) => Ok(Admitted { pass: (), body_bytes_max: 0, is_known: false }),
                Err(error) => Err(Box::new(problem::render(&error, &http_request.request_id))),
            };
        }
        Err(Box::new(HttpResponse::problem(
            StatusCode::NOT_FOUND,
            "not_found",
            "only GET /metrics is served here",
            &http_request.request_id,
        )))
    }

    async fn call(&self, http_request: HttpRequest, (): ()) -> HttpResponse {
        // Off the runtime's threads: a scrape reads figures of every webhook, and examines rows that are about to expire.
        let (engine, request_id) = (self.engine.clone(), http_request.request_id.clone());
        let text = self.engine.work.run(move || meta::exposition(&http_request, |format| engine.metrics_text(format)));
        text.await.unwrap_or_else(|| problem::render(&ApiError::internal("a scrape panicked"), &request_id))
    }
}
