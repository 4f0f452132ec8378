//! A separate listener for Prometheus, which serves `/metrics` only.

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::api::native::meta;
use crate::api::origin::ListenerKind;
use crate::api::request::HttpRequest;
use crate::api::response::HttpResponse;
use crate::engine::Engine;
use crate::server::{Admitted, Service};

pub struct MetricsService(pub Arc<Engine>);

impl Service for MetricsService {
    type Pass = ();

    fn request_id(&self) -> String {
        "scrape".to_owned()
    }

    fn admit(&self, http_request: &HttpRequest, _: ListenerKind) -> Result<Admitted<()>, Box<HttpResponse>> {
        if http_request.method == Method::GET && http_request.path == "/metrics" {
            return Ok(Admitted { pass: (), body_bytes_max: 0 });
        }
        Err(Box::new(HttpResponse::problem(
            StatusCode::NOT_FOUND,
            "not_found",
            "only GET /metrics is served here",
            &http_request.request_id,
        )))
    }

    async fn call(&self, http_request: HttpRequest, (): ()) -> HttpResponse {
        meta::exposition(&http_request, |format| self.0.metrics_text(format))
    }
}
