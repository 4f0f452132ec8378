//! A dialect of nobody's, to show what one takes: this file, and one line in a list of dialects.

use http::{Method, StatusCode};
use postrider::api::dialects::{DIALECTS, Dialect};
use postrider::api::media::BodyRule;
use postrider::api::route::{Route, RouteAccess, RouteMethod};
use postrider::api::{
    ApiContext, ApiError, ErrorContext, HttpRequest, HttpResponse, Principal, RequestContext, Step, auth,
};
use postrider::model::{Scope, Time, WebhookId};
use postrider::store::Registry;
use serde_json::json;

use crate::bench::{ADMIN, Bench, json as body_of, ok};

static SIXTH: Dialect = Dialect { name: "sixth", prefix: "/hooks/2026", routes: ROUTES, identify, render };

static ROUTES: &[Route] =
    &[Route::new(RouteMethod::Get, "/hooks/2026/{id}", RouteAccess::Judged(may_read, read), BodyRule::None)];

fn read(context: &mut ApiContext<'_>, request: &RequestContext<'_>) -> Result<Step, ApiError> {
    let id: WebhookId = request.path.get("id").parse().map_err(|_| ApiError::not_found("hook"))?;
    let webhook = context.registry.webhook(request.tenant(), id).ok_or_else(|| ApiError::not_found("hook"))?;
    let figures = context.store.figures(id, context.now)?;
    let shown = json!({ "hook": webhook.url, "sent": figures.sums.started });
    Ok(Step::Reply(HttpResponse::json(StatusCode::OK, &shown)))
}

fn may_read(principal: &Principal) -> Result<(), ApiError> {
    principal.need(Scope::WebhooksRead)
}

fn identify(http_request: &HttpRequest, registry: &Registry, now: Time) -> Result<Principal, ApiError> {
    let shown = http_request.headers.get("x-sixth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Principal::new(auth::key_of(shown, registry, now)?, http_request))
}

fn render(api_error: &ApiError, occasion: &ErrorContext<'_>) -> HttpResponse {
    HttpResponse::json(api_error.status, &json!({ "oops": api_error.detail, "at": occasion.now }))
}

#[test]
fn a_sixth_dialect_is_one_file_and_one_line() {
    let mut bench = Bench::new(Time(1_772_704_800_000));
    let hook = bench.webhook(|_| {});
    bench.mount(&[DIALECTS.as_slice(), &[&SIXTH]].concat());
    let path = format!("/hooks/2026/{}", hook.id);
    let response = bench.get(&path, &[("x-sixth", ADMIN)]);
    assert_eq!(ok(&response), json!({ "hook": "https://hooks.example.com/in", "sent": 0 }));
    for (method, path, key, status) in [
        (Method::GET, path.as_str(), "", 401),
        (Method::GET, "/hooks/2026/x", ADMIN, 404),
        (Method::GET, "/hooks/2026/a/b", ADMIN, 404),
        (Method::POST, &path, ADMIN, 405),
    ] {
        let response = bench.call(method, path, &[("x-sixth", key)], "");
        assert_eq!(response.status.as_u16(), status, "{path}");
        assert!(body_of(&response)["oops"].is_string(), "{path}");
    }
    // The others are as they were.
    let bearer = format!("Bearer {ADMIN}");
    assert_eq!(bench.get("/webhooks", &[("authorization", &bearer)]).status, 200);
    assert_eq!(bench.get("/v1/webhooks", &[("authorization", &bearer)]).status, 200);
}
